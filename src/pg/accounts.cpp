#include "pg/postgres.hpp"

#include "pg/accounts.hpp"

#include "core/period.hpp"
#include "pg/arrays.hpp"
#include "pg/errors.hpp"
#include "pg/statements.hpp"

namespace usage_ledger
{

namespace
{

/* Named in full, as in pg_timezone_names: an abbreviation knows no daylight saving. */
bool time_zone_is_known(Datum time_zone)
{
    char *name = TextDatumGetCString(time_zone);
    return strlen(name) <= TZ_STRLEN_MAX && pg_tzset(name) != nullptr;
}

/*
 * Midnight of Monday, 1 January 2001 in a time zone: a cycle of months, years,
 * ISO weeks or days that is anchored there runs with the calendar.
 */
TimestampTz calendar_anchor(Datum time_zone)
{
    const Timestamp local = (date2j(2001, 1, 1) - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY;
    return DatumGetTimestampTz(
        DirectFunctionCall2(timestamp_zone, time_zone, TimestampGetDatum(local)));
}

core::PeriodLength period_length_of(Datum interval)
{
    const Interval *length = DatumGetIntervalP(interval);
    return {length->month, length->day, length->time};
}

} // namespace

void register_accounts(const Datum *account_ids, size_t count)
{
    Datum utc = CStringGetTextDatum("UTC");
    const Datum arguments[] = {
        make_array(count, UUIDOID, [&](size_t i) { return account_ids[i]; }),
        TimestampTzGetDatum(calendar_anchor(utc)),
    };
    run(Statement::register_accounts, arguments);
}

void lock_accounts(const Datum *account_ids, Cycle *cycles, size_t count)
{
    const Datum ids = make_array(count, UUIDOID, [&](size_t i) { return account_ids[i]; });
    const uint64 locked_count = run(Statement::lock_accounts, &ids);
    for (size_t i = 0; i < count; i++) {
        cycles[i].is_known = false;
    }
    for (uint64 row = 0; row < locked_count; row++) {
        cycles[DatumGetInt64(required_column(1, row)) - 1] = {
            true, period_length_of(required_column(3, row)),
            DatumGetTimestampTz(required_column(4, row)), required_column(5, row)};
    }
    const Datum rows =
        make_array(locked_count, TIDOID, [&](size_t row) { return required_column(2, row); });
    run(Statement::mark_accounts, &rows);
}

bool cycle_is_valid(const Cycle &cycle)
{
    return core::period_length_is_valid(cycle.period_length) &&
           !TIMESTAMP_NOT_FINITE(cycle.period_anchor) && time_zone_is_known(cycle.time_zone);
}

/*
 * As timestamptz + interval reckons in a session of the cycle's time zone:
 * months and days on the local clock, so that daylight saving does not shift the
 * hour, and what is shorter in elapsed time.
 */
TimestampTz cycle_boundary(const Cycle &cycle, int64 n)
{
    Interval calendar_part = {};
    calendar_part.month = static_cast<int32>(cycle.period_length.months * n);
    calendar_part.day = static_cast<int32>(cycle.period_length.days * n);

    Datum local = DirectFunctionCall2(timestamptz_zone, cycle.time_zone,
                                      TimestampTzGetDatum(cycle.period_anchor));
    local = DirectFunctionCall2(timestamp_pl_interval, local, IntervalPGetDatum(&calendar_part));
    TimestampTz boundary =
        DatumGetTimestampTz(DirectFunctionCall2(timestamp_zone, cycle.time_zone, local));
    return boundary + cycle.period_length.time_us * n;
}

} // namespace usage_ledger

extern "C" {

PG_FUNCTION_INFO_V1(usage_ledger_set_usage_cycle);

Datum usage_ledger_set_usage_cycle(PG_FUNCTION_ARGS)
{
    using namespace usage_ledger;

    static const char *const names[] = {"account", "period length", nullptr, "time zone"};
    for (int i = 0; i < static_cast<int>(lengthof(names)); i++) {
        if (names[i] != nullptr && PG_ARGISNULL(i)) {
            raise_null_argument(names[i], fcinfo->args[0]);
        }
    }

    Datum account_id = PG_GETARG_DATUM(0);
    Cycle cycle = {};
    cycle.period_length = period_length_of(PG_GETARG_DATUM(1));
    cycle.time_zone = PointerGetDatum(PG_GETARG_TEXT_PP(3));

    if (!core::period_length_is_valid(cycle.period_length)) {
        raise_invalid_argument(
            account_id, "period length is outside its limits",
            DatumGetCString(DirectFunctionCall1(interval_out, PG_GETARG_DATUM(1))),
            "Pass 1 second to 100 years, with no field negative.");
    }
    if (!time_zone_is_known(cycle.time_zone)) {
        raise_invalid_argument(account_id, "time zone is unknown",
                               psprintf("time zone %s", quoted_text(cycle.time_zone)),
                               "Pass a name from pg_timezone_names.");
    }
    cycle.period_anchor =
        PG_ARGISNULL(2) ? calendar_anchor(cycle.time_zone) : PG_GETARG_TIMESTAMPTZ(2);
    if (TIMESTAMP_NOT_FINITE(cycle.period_anchor)) {
        raise_invalid_argument(account_id, "period anchor must be finite",
                               time_text(cycle.period_anchor),
                               "Pass a time when some period starts, or NULL for the calendar's.");
    }

    SPI_connect();
    const Datum arguments[] = {account_id, PG_GETARG_DATUM(1),
                               TimestampTzGetDatum(cycle.period_anchor), cycle.time_zone};
    run(Statement::set_cycle, arguments);
    Datum account = SPI_datumTransfer(required_column(1), false, -1);
    SPI_finish();

    PG_RETURN_DATUM(account);
}
}
