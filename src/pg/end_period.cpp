/*
 * end_period.cpp: end_usage_period, which moves the end of a period to an earlier time.
 *
 * It locks the account, so no other period is opened or ended in the meantime, and then the
 * period as a close does. So it sees every event of the period but those whose sessions do not
 * have the counter yet. Those sessions compare the period's end with their event's time when they
 * have it, and count the event in the next period if it comes after the end.
 */
#include "pg/postgres.hpp"

#include <algorithm>

#include "pg/accounts.hpp"
#include "pg/arguments.hpp"
#include "pg/errors.hpp"
#include "pg/period_cache.hpp"
#include "pg/periods.hpp"
#include "pg/settlement.hpp"
#include "pg/spi.hpp"

namespace usage_ledger
{

namespace
{

/* The end that a period gets now. */
TimestampTz end_of_now()
{
    return core::millisecond_after(GetCurrentTimestamp() - 1);
}

void check_end(Datum account_id, TimestampTz end)
{
    if (TIMESTAMP_NOT_FINITE(end) || !core::is_whole_milliseconds(end)) {
        raise_invalid_argument(account_id, "end of a period must be finite, in whole milliseconds",
                               psprintf("end at %s", time_text(end)),
                               "Truncate the time to a millisecond, as clients may do when they "
                               "pass it back, or pass NULL for now.");
    }
}

/*
 * Finds the period that covers a time, or else the last one that ended before. One that ends at
 * the time comes first: the call that has ended it may be retried.
 */
Period find_period_to_end(Datum account_id, TimestampTz time)
{
    Period period;
    if (find_period_at_or_before(account_id, time - 1, &period) && period.end == time) {
        return period;
    }
    if (!find_period_at_or_before(account_id, time, &period)) {
        ereport(ERROR,
                (errcode(errcode_no_account_or_period), errmsg("there is no billing period to end"),
                 errdetail("Account %s has no period that starts by %s.",
                           account_text({account_id, false}), time_text(time)),
                 errhint("Pass the account and a time of a row of usage_totals.")));
    }
    return period;
}

/* The time of the last event in a period, voided or not; if it has none, its start. */
TimestampTz last_event_time(const core::CounterId &period)
{
    static Statement statement = {"usage_events",
                                  "SELECT pg_catalog.max(occurred_at) FROM %s" WHERE_COUNTER,
                                  {UUIDOID, TIMESTAMPTZOID}};
    const Datum arguments[] = {account_of(period), TimestampTzGetDatum(period.period_start)};
    /* The transaction's own snapshot may be from before events that are pending. */
    run_in_snapshot(&statement, arguments, GetLatestSnapshot());
    return column_is_null(1) ? period.period_start : DatumGetTimestampTz(required_column(1));
}

/* Checks an end that was asked for against a period that it would shorten. */
void check_can_end(const core::CounterId &period, TimestampTz end, TimestampTz last_event)
{
    const Datum account_id = account_of(period);
    if (end > end_of_now()) {
        raise_invalid_argument(account_id, "period must not end in the future",
                               psprintf("end at %s,\nthe server's clock is at %s", time_text(end),
                                        time_text(GetCurrentTimestamp())),
                               "Pass a time that has passed, or NULL for now.");
    }
    if (end <= period.period_start || end <= last_event) {
        const char *bounds =
            psprintf("end at %s,\nperiod from %s", time_text(end), time_text(period.period_start));
        raise_invalid_argument(
            account_id, "period must end after its start and its last event",
            last_event == period.period_start
                ? bounds
                : psprintf("%s,\nlast event at %s", bounds, time_text(last_event)),
            "Pass a later time, or NULL for now or just after the last event.");
    }
}

Datum set_period_end(const core::CounterId &period, TimestampTz end)
{
    static Statement statement = {"usage_periods",
                                  "UPDATE %s SET period_end = $3" WHERE_COUNTER " RETURNING *",
                                  {UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID}};
    const Datum arguments[] = {account_of(period), TimestampTzGetDatum(period.period_start),
                               TimestampTzGetDatum(end)};
    run(&statement, arguments);
    return returned_row("usage_periods");
}

/* wanted_end: null for now. */
Datum end_period(Datum account_id, const NullableDatum &wanted_end)
{
    Cycle cycle;
    lock_accounts(&account_id, &cycle, 1);
    const Period period =
        find_period_to_end(account_id, wanted_end.isnull ? GetCurrentTimestamp()
                                                         : DatumGetTimestampTz(wanted_end.value));
    const core::CounterId id = counter_id(account_id, period.start);
    if (!wanted_end.isnull && DatumGetTimestampTz(wanted_end.value) >= period.end) {
        return row_of_period(id);
    }
    (void)lock_period(id);
    const TimestampTz last_event = last_event_time(id);
    TimestampTz end = DatumGetTimestampTz(wanted_end.value);
    if (wanted_end.isnull) {
        end = std::max(end_of_now(), core::millisecond_after(last_event));
    } else {
        check_can_end(id, end, last_event);
    }
    if (end >= period.end) {
        return row_of_period(id);
    }
    clear_all_period_caches();
    return set_period_end(id, end);
}

} // namespace

} // namespace usage_ledger

extern "C" {

PG_FUNCTION_INFO_V1(usage_ledger_end_usage_period);

Datum usage_ledger_end_usage_period(PG_FUNCTION_ARGS)
{
    using namespace usage_ledger;

    static const char *const names[] = {"account"};
    check_no_null(fcinfo, names, lengthof(names));
    const Datum account_id = PG_GETARG_DATUM(0);
    if (!PG_ARGISNULL(1)) {
        check_end(account_id, PG_GETARG_TIMESTAMPTZ(1));
    }

    SPI_connect();
    const Datum row = end_period(account_id, fcinfo->args[1]);
    SPI_finish();

    PG_RETURN_DATUM(row);
}
}
