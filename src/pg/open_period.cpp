/*
 * open_period.cpp: open_usage_period, which opens one period by hand.
 */
#include "pg/postgres.hpp"

#include "core/limits.hpp"
#include "pg/accounts.hpp"
#include "pg/arguments.hpp"
#include "pg/errors.hpp"
#include "pg/events.hpp"
#include "pg/periods.hpp"
#include "pg/spi.hpp"

namespace usage_ledger
{

namespace
{

void check_bounds(Datum account_id, const Period &period)
{
    if (TIMESTAMP_NOT_FINITE(period.start) || TIMESTAMP_NOT_FINITE(period.end) ||
        period.start >= period.end) {
        raise_invalid_argument(
            account_id, "period must end after it starts, both at finite times",
            psprintf("period from %s to %s", time_text(period.start), time_text(period.end)),
            "Pass the first instant of the period and the first after it.");
    }
    if (!core::is_whole_milliseconds(period.start) || !core::is_whole_milliseconds(period.end)) {
        raise_invalid_argument(
            account_id, "bounds of a period must be whole milliseconds",
            psprintf("period from %s to %s", time_text(period.start), time_text(period.end)),
            "Truncate the bounds to a millisecond, as clients may do when they pass them back.");
    }
}

void check_totals(Datum account_id, const core::Usage &totals)
{
    if (totals.tokens < 0 || totals.reports < 0 || totals.reports > core::opening_count_max ||
        totals.chats < 0 || totals.chats > core::opening_count_max) {
        raise_invalid_argument(
            account_id, "opening totals are outside their limits", usage_text(totals),
            psprintf("Pass none below 0, and reports and chats up to " INT64_FORMAT ".",
                     core::opening_count_max));
    }
}

/* The idempotency key of the event that records the opening totals. */
Datum opening_key(const Period &period)
{
    return CStringGetTextDatum(psprintf("opening:%s", time_text(period.start)));
}

/* Whether a period that exists was opened with these bounds and totals. */
bool was_opened_so(Datum account_id, const Period &existing, const Period &period,
                   const core::Usage &totals)
{
    CountedEvent opening = {};
    (void)find_counted_event(account_id, opening_key(period), &opening);
    return existing.start == period.start && existing.end == period.end &&
           opening.payload == core::Payload{totals};
}

[[noreturn]] void raise_overlap(Datum account_id, const Period &existing)
{
    ereport(ERROR,
            (errcode(ERRCODE_EXCLUSION_VIOLATION),
             errmsg("billing period overlaps one that exists"),
             errdetail("Account %s: period from %s to %s.", account_text({account_id, false}),
                       time_text(existing.start), time_text(existing.end)),
             errhint("Open the period in a gap between the periods that exist.")));
}

/* Inserts a period and returns its row. */
Datum insert_period(Datum account_id, const Period &period, const core::Usage &totals)
{
    static Statement statement = {
        "usage_periods",
        "INSERT INTO %s (account_id, period_start, period_end,"
        " tokens_used, reports_used, chats_used)"
        " VALUES ($1, $2, $3, $4, $5, $6) RETURNING *",
        {UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, INT8OID, INT8OID}};
    const Datum arguments[] = {account_id,
                               TimestampTzGetDatum(period.start),
                               TimestampTzGetDatum(period.end),
                               Int64GetDatum(totals.tokens),
                               Int64GetDatum(totals.reports),
                               Int64GetDatum(totals.chats)};
    run(&statement, arguments);
    return returned_row("usage_periods");
}

/* Records the totals as an event, because a counter must be the sum of its events. */
void record_opening_totals(Datum account_id, const Period &period, const core::Usage &totals)
{
    if (totals == core::Usage{0, 0, 0}) {
        return;
    }
    const Event event = {
        account_id,
        opening_key(period),
        {totals},
        period.start,
    };
    if (record_event(event, period.start)) {
        return;
    }
    ereport(ERROR, (errcode(errcode_conflict),
                    errmsg("idempotency key of the opening totals is already used"),
                    errdetail("%s.", event_text(name_of(event))),
                    errhint("Open the period without totals and count them with increment_usage "
                            "under a key of your own.")));
}

Datum open_period(Datum account_id, const Period &period, const core::Usage &totals)
{
    Cycle cycle;
    register_and_lock_accounts(&account_id, &cycle, 1);
    /* Of the periods that start before the new one ends, only the last can overlap it. */
    Period existing;
    if (find_period_at_or_before(account_id, period.end - 1, &existing) &&
        existing.end > period.start) {
        if (was_opened_so(account_id, existing, period, totals)) {
            return row_of_period(counter_id(account_id, period.start));
        }
        raise_overlap(account_id, existing);
    }
    record_opening_totals(account_id, period, totals);
    return insert_period(account_id, period, totals);
}

} // namespace

} // namespace usage_ledger

extern "C" {

PG_FUNCTION_INFO_V1(usage_ledger_open_usage_period);

Datum usage_ledger_open_usage_period(PG_FUNCTION_ARGS)
{
    using namespace usage_ledger;

    static const char *const names[] = {"account", "period start", "period end",
                                        "tokens",  "reports",      "chats"};
    check_no_null(fcinfo, names, lengthof(names));
    const Datum account_id = PG_GETARG_DATUM(0);
    const Period period = {PG_GETARG_TIMESTAMPTZ(1), PG_GETARG_TIMESTAMPTZ(2), false};
    const core::Usage totals = {PG_GETARG_INT64(3), PG_GETARG_INT64(4), PG_GETARG_INT64(5)};
    check_bounds(account_id, period);
    check_totals(account_id, totals);

    SPI_connect();
    const Datum row = open_period(account_id, period, totals);
    SPI_finish();

    PG_RETURN_DATUM(row);
}
}
