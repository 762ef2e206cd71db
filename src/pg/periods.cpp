#include "pg/postgres.hpp"

#include "pg/periods.hpp"

#include "core/addition.hpp"
#include "core/limits.hpp"
#include "core/period.hpp"
#include "pg/accounts.hpp"
#include "pg/events.hpp"
#include "pg/settings.hpp"
#include "pg/statements.hpp"

namespace usage_ledger
{

namespace
{

/* The last period that starts at a time or before it. */
bool find_period_at_or_before(Datum account_id, TimestampTz time, Period *period)
{
    const Datum arguments[] = {account_id, TimestampTzGetDatum(time)};
    if (run(Statement::period_at_or_before, arguments) == 0) {
        return false;
    }
    period->start = DatumGetTimestampTz(required_column(1));
    period->end = DatumGetTimestampTz(required_column(2));
    period->is_closed = !column_is_null(3);
    return true;
}

/* The start of the first period after a time, or infinity. */
TimestampTz next_period_start(Datum account_id, TimestampTz time)
{
    const Datum arguments[] = {account_id, TimestampTzGetDatum(time)};
    if (run(Statement::period_after, arguments) == 0) {
        return DT_NOEND;
    }
    return DatumGetTimestampTz(required_column(1));
}

/* Inserts a period's row, which is then the statement's column 1. */
void insert_period(Datum account_id, const Period &period, const core::Totals &totals)
{
    const Datum arguments[] = {account_id,
                               TimestampTzGetDatum(period.start),
                               TimestampTzGetDatum(period.end),
                               Int64GetDatum(totals.tokens),
                               Int64GetDatum(totals.reports),
                               Int64GetDatum(totals.chats)};
    run(Statement::open_period, arguments);
}

void check_period(Datum account_id, const Period &period)
{
    if (TIMESTAMP_NOT_FINITE(period.start) || TIMESTAMP_NOT_FINITE(period.end) ||
        period.start >= period.end) {
        raise_invalid_argument(
            account_id, "period must end after it starts, both at finite times",
            psprintf("period from %s to %s", time_text(period.start), time_text(period.end)),
            "Pass the first instant of the period and the first after it.");
    }
}

void check_totals(Datum account_id, const core::Totals &totals)
{
    if (totals.tokens < 0 || totals.reports < 0 || totals.reports > core::opening_count_max ||
        totals.chats < 0 || totals.chats > core::opening_count_max) {
        raise_invalid_argument(
            account_id, "opening totals are outside their limits",
            psprintf(INT64_FORMAT " tokens, " INT64_FORMAT " reports, " INT64_FORMAT " chats",
                     totals.tokens, totals.reports, totals.chats),
            psprintf("Pass none below 0, and reports and chats up to " INT64_FORMAT ".",
                     core::opening_count_max));
    }
}

/* Totals without an event would be a counter that nothing explains. */
void record_opening_totals(Datum account_id, const Period &period, const core::Totals &totals)
{
    if (totals.tokens == 0 && totals.reports == 0 && totals.chats == 0) {
        return;
    }
    const Event event = {
        account_id,
        CStringGetTextDatum(psprintf("opening:%s", time_text(period.start))),
        {totals.tokens, static_cast<int32>(totals.reports), static_cast<int32>(totals.chats)},
        period.start,
    };
    if (!record_event(event, period.start)) {
        raise_opening_key_taken(name_of(event));
    }
}

} // namespace

bool find_period(Datum account_id, TimestampTz time, Period *period)
{
    /* Periods do not overlap, so the last one to start is the only candidate. */
    return find_period_at_or_before(account_id, time, period) && period->end > time;
}

Period open_period_covering(const EventName &event, TimestampTz time)
{
    Datum account_id = event.account_id.value;
    if (unknown_account == unknown_account_register) {
        register_account(account_id);
    }
    Cycle cycle;
    if (!lock_account(account_id, &cycle)) {
        raise_unknown_account(event);
    }

    /* Whoever held the lock before may have opened the period. */
    Period neighbour;
    core::Span gap = {DT_NOBEGIN, DT_NOEND};
    if (find_period_at_or_before(account_id, time, &neighbour)) {
        if (neighbour.end > time) {
            return neighbour;
        }
        gap.start = neighbour.end;
    }
    gap.end = next_period_start(account_id, time);

    if (!cycle_is_valid(cycle)) {
        raise_no_period(event, time);
    }
    core::Span span = core::period_covering(
        time,
        core::estimate_period(
            time, cycle.period_anchor,
            {cycle.period_length->month, cycle.period_length->day, cycle.period_length->time}),
        [&cycle](int64 n) { return cycle_boundary(cycle, n); });
    span = core::clip(span, gap);
    Assert(span.start <= time && time < span.end);

    Period period = {span.start, span.end, false};
    insert_period(account_id, period, {0, 0, 0});
    return period;
}

} // namespace usage_ledger

extern "C" {

PG_FUNCTION_INFO_V1(usage_ledger_open_usage_period);

Datum usage_ledger_open_usage_period(PG_FUNCTION_ARGS)
{
    using namespace usage_ledger;

    static const char *const names[] = {"account", "period start", "period end",
                                        "tokens",  "reports",      "chats"};
    for (int i = 0; i < static_cast<int>(lengthof(names)); i++) {
        if (PG_ARGISNULL(i)) {
            raise_null_argument(names[i], fcinfo->args[0]);
        }
    }

    Datum account_id = PG_GETARG_DATUM(0);
    const Period period = {PG_GETARG_TIMESTAMPTZ(1), PG_GETARG_TIMESTAMPTZ(2), false};
    const core::Totals totals = {PG_GETARG_INT64(3), PG_GETARG_INT64(4), PG_GETARG_INT64(5)};
    check_period(account_id, period);
    check_totals(account_id, totals);

    SPI_connect();
    register_account(account_id);
    Cycle cycle;
    bool is_known PG_USED_FOR_ASSERTS_ONLY = lock_account(account_id, &cycle);
    Assert(is_known);

    /* The only one that can overlap: the last to start before the new one ends. */
    Period neighbour;
    if (find_period_at_or_before(account_id, period.end - 1, &neighbour) &&
        neighbour.end > period.start) {
        raise_period_overlap(account_id, neighbour.start, neighbour.end);
    }
    insert_period(account_id, period, totals);
    Datum row = SPI_datumTransfer(required_column(1), false, -1);
    record_opening_totals(account_id, period, totals);
    SPI_finish();

    PG_RETURN_DATUM(row);
}
}
