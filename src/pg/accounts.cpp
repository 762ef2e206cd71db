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

/*
 * Named in full, as in pg_timezone_names. Not as AT TIME ZONE has it, which takes CET
 * and its like for abbreviations, and those know no daylight saving. Null: unknown.
 */
pg_tz *find_time_zone(Datum name)
{
    const char *spelt = TextDatumGetCString(name);
    return strlen(spelt) <= TZ_STRLEN_MAX ? pg_tzset(spelt) : nullptr;
}

[[noreturn]] void raise_out_of_range()
{
    ereport(ERROR,
            (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE), errmsg("timestamp out of range")));
    pg_unreachable();
}

/* What the clocks of a time zone show at a time. */
Timestamp local_time(TimestampTz time, pg_tz *zone)
{
    int offset_s;
    pg_tm tm;
    fsec_t fsec;
    Timestamp local;
    if (timestamp2tm(time, &offset_s, &tm, &fsec, nullptr, zone) != 0 ||
        tm2timestamp(&tm, fsec, nullptr, &local) != 0) {
        raise_out_of_range();
    }
    return local;
}

/* The time at which they show that, or would, if they did not skip it. */
TimestampTz time_of_local(Timestamp local, pg_tz *zone)
{
    pg_tm tm;
    fsec_t fsec;
    if (timestamp2tm(local, nullptr, &tm, &fsec, nullptr, nullptr) != 0) {
        raise_out_of_range();
    }
    int offset_s = DetermineTimeZoneOffset(&tm, zone);
    TimestampTz time;
    if (tm2timestamp(&tm, fsec, &offset_s, &time) != 0) {
        raise_out_of_range();
    }
    return time;
}

/*
 * Midnight of Monday, 1 January 2001, 366 days after the epoch, on local clocks: a cycle
 * of months, years, ISO weeks or days that is anchored there runs with the calendar.
 */
constexpr Timestamp calendar_anchor = 366 * USECS_PER_DAY;

core::PeriodLength period_length_of(Datum interval)
{
    const Interval *length = DatumGetIntervalP(interval);
    return {length->month, length->day, length->time};
}

} // namespace

void register_accounts(const Datum *account_ids, size_t count)
{
    const Datum arguments[] = {
        make_array(count, UUIDOID, [&](size_t i) { return account_ids[i]; }),
        TimestampTzGetDatum(calendar_anchor), /* in UTC */
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
           core::anchor_is_valid(cycle.period_anchor) && find_time_zone(cycle.time_zone) != nullptr;
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

    pg_tz *zone = find_time_zone(cycle.time_zone);
    const Timestamp local = DatumGetTimestamp(DirectFunctionCall2(
        timestamp_pl_interval, TimestampGetDatum(local_time(cycle.period_anchor, zone)),
        IntervalPGetDatum(&calendar_part)));
    return time_of_local(local, zone) + cycle.period_length.time_us * n;
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
    pg_tz *zone = find_time_zone(cycle.time_zone);
    if (zone == nullptr) {
        raise_invalid_argument(account_id, "time zone is unknown",
                               psprintf("time zone %s", quoted_text(cycle.time_zone)),
                               "Pass a name from pg_timezone_names.");
    }
    cycle.period_anchor =
        PG_ARGISNULL(2) ? time_of_local(calendar_anchor, zone) : PG_GETARG_TIMESTAMPTZ(2);
    if (!core::anchor_is_valid(cycle.period_anchor)) {
        raise_invalid_argument(account_id, "period anchor is outside its limits",
                               time_text(cycle.period_anchor),
                               "Pass a time of the years 1 to 9999 when some period starts, or "
                               "NULL for the calendar's.");
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
