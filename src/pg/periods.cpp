#include "pg/postgres.hpp"

#include "pg/periods.hpp"

#include "core/addition.hpp"
#include "core/limits.hpp"
#include "core/period.hpp"
#include "pg/accounts.hpp"
#include "pg/arrays.hpp"
#include "pg/events.hpp"
#include "pg/period_cache.hpp"
#include "pg/settings.hpp"
#include "pg/statements.hpp"

namespace usage_ledger
{

namespace
{

/* The last period that starts at a time or before it: the only one that may cover it. */
bool find_period_at_or_before(Datum account_id, TimestampTz time, Period *period)
{
    const Datum arguments[] = {account_id, TimestampTzGetDatum(time)};
    if (run(Statement::period_at_or_before, arguments, nullptr, 1) == 0) {
        return false;
    }
    period->start = DatumGetTimestampTz(required_column(1));
    period->end = DatumGetTimestampTz(required_column(2));
    period->is_closed = !column_is_null(3);
    return true;
}

Datum account_ids_of(const WantedPeriod *wanted, size_t count)
{
    return make_array(count, UUIDOID, [&](size_t i) { return wanted[i].account_id; });
}

Datum times_of(const WantedPeriod *wanted, size_t count)
{
    return make_array(count, TIMESTAMPTZOID,
                      [&](size_t i) { return TimestampTzGetDatum(wanted[i].time); });
}

/* The start of the first period after each time, or infinity. */
TimestampTz *next_period_starts(const WantedPeriod *wanted, size_t count)
{
    auto *starts = static_cast<TimestampTz *>(palloc(count * sizeof(TimestampTz)));
    for (size_t i = 0; i < count; i++) {
        starts[i] = DT_NOEND;
    }
    const Datum arguments[] = {account_ids_of(wanted, count), times_of(wanted, count)};
    const uint64 row_count = run(Statement::periods_after, arguments);
    for (uint64 row = 0; row < row_count; row++) {
        starts[DatumGetInt64(required_column(1, row)) - 1] =
            DatumGetTimestampTz(required_column(2, row));
    }
    return starts;
}

bool is_same_account(const WantedPeriod &a, const WantedPeriod &b)
{
    return memcmp(DatumGetUUIDP(a.account_id), DatumGetUUIDP(b.account_id), UUID_LEN) == 0;
}

/* The locked cycles of the accounts in a list, one for each of its elements. */
Cycle *lock_cycles(const WantedPeriod *wanted, size_t count)
{
    auto *account_ids = static_cast<Datum *>(palloc(count * sizeof(Datum)));
    auto *cycles = static_cast<Cycle *>(palloc(count * sizeof(Cycle)));
    size_t account_count = 0;
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || !is_same_account(wanted[i - 1], wanted[i])) {
            account_ids[account_count++] = wanted[i].account_id;
        }
    }
    if (unknown_account == unknown_account_register) {
        register_accounts(account_ids, account_count);
    }
    lock_accounts(account_ids, cycles, account_count);

    /* From one an account to one an element, the last first. */
    for (size_t i = count; i-- > 0;) {
        cycles[i] = cycles[account_count - 1];
        if (i > 0 && !is_same_account(wanted[i - 1], wanted[i])) {
            account_count--;
        }
    }
    return cycles;
}

Period reckon_period(const Cycle &cycle, TimestampTz time, const core::Span &gap)
{
    core::Span span = core::period_covering(
        time, core::estimate_period(time, cycle.period_anchor, cycle.period_length),
        [&cycle](int64 n) { return cycle_boundary(cycle, n); });
    span = core::clip(span, gap);
    Assert(span.start <= time && time < span.end);
    return {span.start, span.end, false};
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
    if (find_cached_period(account_id, time, period)) {
        return true;
    }
    if (!find_period_at_or_before(account_id, time, period) || period->end <= time) {
        return false;
    }
    cache_period(account_id, *period);
    return true;
}

void find_periods(WantedPeriod *wanted, size_t count)
{
    auto *sought = static_cast<WantedPeriod **>(palloc(count * sizeof(WantedPeriod *)));
    size_t sought_count = 0;
    for (size_t i = 0; i < count; i++) {
        wanted[i].previous_end = DT_NOBEGIN;
        if (find_cached_period(wanted[i].account_id, wanted[i].time, &wanted[i].period)) {
            wanted[i].state = PeriodState::found;
        } else {
            wanted[i].state = PeriodState::missing;
            sought[sought_count++] = &wanted[i];
        }
    }
    if (sought_count == 0) {
        return;
    }

    const Datum arguments[] = {
        make_array(sought_count, UUIDOID, [&](size_t i) { return sought[i]->account_id; }),
        make_array(sought_count, TIMESTAMPTZOID,
                   [&](size_t i) { return TimestampTzGetDatum(sought[i]->time); }),
    };
    const uint64 row_count = run(Statement::periods_at_or_before, arguments);
    for (uint64 row = 0; row < row_count; row++) {
        WantedPeriod *found = sought[DatumGetInt64(required_column(1, row)) - 1];
        found->period = {DatumGetTimestampTz(required_column(2, row)),
                         DatumGetTimestampTz(required_column(3, row)), !column_is_null(4, row)};
        if (found->period.end > found->time) {
            found->state = PeriodState::found;
            cache_period(found->account_id, found->period);
        } else {
            found->previous_end = found->period.end;
        }
    }
}

void open_periods(WantedPeriod *wanted, size_t count)
{
    suspend_period_cache();
    const Cycle *cycles = lock_cycles(wanted, count);

    /* Whoever held the locks before may have opened them. */
    find_periods(wanted, count);
    const TimestampTz *next_starts = next_period_starts(wanted, count);

    auto *opened = static_cast<WantedPeriod *>(palloc(count * sizeof(WantedPeriod)));
    size_t opened_count = 0;
    for (size_t i = 0; i < count; i++) {
        if (wanted[i].state == PeriodState::found) {
            continue;
        }
        if (!cycles[i].is_known || !cycle_is_valid(cycles[i])) {
            wanted[i].state =
                cycles[i].is_known ? PeriodState::no_cycle : PeriodState::unknown_account;
            continue;
        }
        if (!wanted[i].is_opened) {
            continue;
        }
        /* Times ascend, so the last one opened here is the nearest before. */
        core::Span gap = {wanted[i].previous_end, next_starts[i]};
        const WantedPeriod *last = opened_count > 0 ? &opened[opened_count - 1] : nullptr;
        if (last != nullptr && is_same_account(*last, wanted[i])) {
            gap.start = Max(gap.start, last->period.end);
        }
        wanted[i].state = PeriodState::found;
        if (last != nullptr && gap.start > wanted[i].time) {
            wanted[i].period = last->period;
            continue;
        }
        wanted[i].period = reckon_period(cycles[i], wanted[i].time, gap);
        opened[opened_count++] = wanted[i];
    }

    const Datum arguments[] = {
        account_ids_of(opened, opened_count),
        make_array(opened_count, TIMESTAMPTZOID,
                   [&](size_t i) { return TimestampTzGetDatum(opened[i].period.start); }),
        make_array(opened_count, TIMESTAMPTZOID,
                   [&](size_t i) { return TimestampTzGetDatum(opened[i].period.end); }),
    };
    run(Statement::open_periods, arguments);
}

Period open_period_covering(const EventName &event, TimestampTz time)
{
    WantedPeriod wanted = {event.account_id.value, time, PeriodState::missing, {}, 0, true};
    open_periods(&wanted, 1);
    switch (wanted.state) {
    case PeriodState::found:
        break;
    case PeriodState::unknown_account:
        raise_unknown_account(event);
    case PeriodState::missing:
    case PeriodState::no_cycle:
        raise_no_period(event, time);
    }
    return wanted.period;
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

    suspend_period_cache();
    SPI_connect();
    register_accounts(&account_id, 1);
    Cycle cycle;
    lock_accounts(&account_id, &cycle, 1);
    Assert(cycle.is_known);

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
