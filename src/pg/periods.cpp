#include "pg/postgres.hpp"

#include "pg/periods.hpp"

#include <algorithm>

#include "core/period.hpp"
#include "pg/accounts.hpp"
#include "pg/counters.hpp"
#include "pg/period_cache.hpp"
#include "pg/settings.hpp"
#include "pg/spi.hpp"

namespace usage_ledger
{

namespace
{

bool is_same_account(const PeriodLookup &a, const PeriodLookup &b)
{
    return memcmp(DatumGetUUIDP(a.account_id), DatumGetUUIDP(b.account_id), UUID_LEN) == 0;
}

[[maybe_unused]] bool comes_before(const PeriodLookup &a, const PeriodLookup &b)
{
    const int order = memcmp(DatumGetUUIDP(a.account_id), DatumGetUUIDP(b.account_id), UUID_LEN);
    return order != 0 ? order < 0 : a.time < b.time;
}

/* The start of the first period after each time, or infinity. */
TimestampTz *next_period_starts(const PeriodLookup *lookups, size_t count)
{
    static Statement statement = {
        "usage_periods",
        "SELECT k.ordinal, p.period_start"
        " FROM unnest($1, $2) WITH ORDINALITY AS k (account_id, time, ordinal)"
        " CROSS JOIN LATERAL"
        " (SELECT p.period_start FROM %s AS p"
        " WHERE p.account_id OPERATOR(pg_catalog.=) k.account_id"
        " AND p.period_start OPERATOR(pg_catalog.>) k.time"
        " ORDER BY p.period_start LIMIT 1) AS p",
        {UUIDARRAYOID, TIMESTAMPTZARRAYOID},
        {},
        "SELECT $3, period_start FROM %s WHERE account_id OPERATOR(pg_catalog.=) $1"
        " AND period_start OPERATOR(pg_catalog.>) $2 ORDER BY period_start LIMIT 1"};
    const Datum arguments[] = {
        make_array(count, UUIDOID, [&](size_t i) { return lookups[i].account_id; }),
        make_array(count, TIMESTAMPTZOID,
                   [&](size_t i) { return TimestampTzGetDatum(lookups[i].time); }),
    };
    auto *starts = static_cast<TimestampTz *>(palloc(count * sizeof(TimestampTz)));
    std::fill_n(starts, count, DT_NOEND);
    const uint64 row_count = run(&statement, arguments);
    for (uint64 row = 0; row < row_count; row++) {
        starts[DatumGetInt64(required_column(1, row)) - 1] =
            DatumGetTimestampTz(required_column(2, row));
    }
    return starts;
}

/* Locks the accounts of a list, and returns a cycle for each of its elements. */
Cycle *lock_cycles(const PeriodLookup *lookups, size_t count, LockWaitPolicy wait_policy)
{
    auto *account_ids = static_cast<Datum *>(palloc(count * sizeof(Datum)));
    auto *cycles = static_cast<Cycle *>(palloc(count * sizeof(Cycle)));
    size_t account_count = 0;
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || !is_same_account(lookups[i - 1], lookups[i])) {
            account_ids[account_count++] = lookups[i].account_id;
        }
    }
    const bool waits = wait_policy == LockWaitBlock;
    if (waits && unknown_account == unknown_account_register) {
        register_and_lock_accounts(account_ids, cycles, account_count);
    } else {
        lock_accounts(account_ids, cycles, account_count, wait_policy);
    }
    if (!waits && !std::all_of(cycles, cycles + account_count,
                               [](const Cycle &cycle) { return cycle.is_known; })) {
        raise_ended_concurrently();
    }

    /* From one for each account to one for each element, backwards and in place. */
    for (size_t i = count; i-- > 0;) {
        cycles[i] = cycles[account_count - 1];
        if (i > 0 && !is_same_account(lookups[i - 1], lookups[i])) {
            account_count--;
        }
    }
    return cycles;
}

Period compute_period(const Cycle &cycle, TimestampTz time, const core::Span &gap)
{
    core::Span span = core::period_covering(
        time, core::estimate_period(time, cycle.period_anchor, cycle.period_length),
        [&cycle](int64 n) { return cycle_boundary(cycle, n); });
    span = core::clip(span, gap);
    Assert(span.start <= time && time < span.end);
    return {span.start, span.end, false};
}

void insert_periods(const PeriodLookup *opened, size_t count)
{
    static Statement statement = {
        "usage_periods",
        "INSERT INTO %s (account_id, period_start, period_end) SELECT * FROM unnest($1, $2, $3)",
        {UUIDARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID},
        {},
        "INSERT INTO %s (account_id, period_start, period_end) VALUES ($1, $2, $3)"};
    const Datum arguments[] = {
        make_array(count, UUIDOID, [&](size_t i) { return opened[i].account_id; }),
        make_array(count, TIMESTAMPTZOID,
                   [&](size_t i) { return TimestampTzGetDatum(opened[i].period.start); }),
        make_array(count, TIMESTAMPTZOID,
                   [&](size_t i) { return TimestampTzGetDatum(opened[i].period.end); }),
    };
    run(&statement, arguments);
}

[[noreturn]] void raise_unknown_account(const EventName &event)
{
    ereport(ERROR, (errcode(errcode_no_account_or_period), errmsg("%s", message_unknown_account),
                    errdetail("%s.", event_text(event)),
                    errhint("Register the account with set_usage_cycle, or set "
                            "usage_ledger.unknown_account to \"register\".")));
}

[[noreturn]] void raise_no_period(const EventName &event, TimestampTz time)
{
    ereport(ERROR, (errcode(errcode_no_account_or_period), errmsg("%s", message_no_period),
                    errdetail("%s:\noccurred at %s.", event_text(event), time_text(time)),
                    errhint("Fix the account's cycle with set_usage_cycle, or open a period with "
                            "open_usage_period.")));
}

/* Returns the columns of the statement below. */
int64 find_period_row(const RowCall &call)
{
    static const AttrNumber columns[] = {period_start_column, period_end_column, closed_at_column,
                                         MinTransactionIdAttributeNumber};
    const Key key[] = {{UUIDOID, call.arguments[0]},
                       {TIMESTAMPTZOID, call.arguments[1], BTLessEqualStrategyNumber}};
    return return_row(find_row(call, {key, lengthof(key)}, BackwardScanDirection),
                      {columns, lengthof(columns)});
}

} // namespace

bool find_period_at_or_before(Datum account_id, TimestampTz time, Period *period)
{
    /* Its first row is the result. To stop there costs less than a LIMIT. */
    static Statement statement = {
        "usage_periods",
        "SELECT period_start, period_end, closed_at, xmin FROM %s"
        " WHERE account_id OPERATOR(pg_catalog.=) $1 AND period_start OPERATOR(pg_catalog.<=) $2"
        " ORDER BY period_start DESC",
        {UUIDOID, TIMESTAMPTZOID},
        {},
        "SELECT period_start, period_end, closed_at, xmin FROM %s"
        " WHERE account_id OPERATOR(pg_catalog.=) $1 AND period_start OPERATOR(pg_catalog.<=) $2"
        " ORDER BY period_start DESC LIMIT 1",
        {},
        {ACL_SELECT, counter_column_count, find_period_row}};
    const Datum arguments[] = {account_id, TimestampTzGetDatum(time)};
    lock_for_write(&statement);
    if (run(&statement, arguments, nullptr, 1) == 0) {
        return false;
    }
    *period = {DatumGetTimestampTz(required_column(1)), DatumGetTimestampTz(required_column(2)),
               !column_is_null(3)};
    return true;
}

bool find_period(Datum account_id, TimestampTz time, Period *period)
{
    core::Span cached;
    if (find_cached_period(account_id, time, &cached)) {
        *period = {cached.start, cached.end, false};
        return true;
    }
    if (!find_period_at_or_before(account_id, time, period) || period->end <= time) {
        return false;
    }
    if (!period->is_closed) {
        cache_period(account_id, {period->start, period->end},
                     DatumGetTransactionId(required_column(4)));
    }
    return true;
}

void find_periods(PeriodLookup *lookups, size_t count)
{
    static Statement statement = {
        "usage_periods",
        "SELECT k.ordinal, p.period_start, p.period_end, p.closed_at, p.pruned_at, p.xmin"
        " FROM unnest($1, $2) WITH ORDINALITY AS k (account_id, time, ordinal)"
        " CROSS JOIN LATERAL"
        " (SELECT p.period_start, p.period_end, p.closed_at, p.pruned_at, p.xmin FROM %s AS p"
        " WHERE p.account_id OPERATOR(pg_catalog.=) k.account_id"
        " AND p.period_start OPERATOR(pg_catalog.<=) k.time"
        " ORDER BY p.period_start DESC LIMIT 1) AS p",
        {UUIDARRAYOID, TIMESTAMPTZARRAYOID},
        {},
        "SELECT $3, period_start, period_end, closed_at, pruned_at, xmin FROM %s"
        " WHERE account_id OPERATOR(pg_catalog.=) $1 AND period_start OPERATOR(pg_catalog.<=) $2"
        " ORDER BY period_start DESC LIMIT 1"};

    auto *uncached = static_cast<PeriodLookup **>(palloc(count * sizeof(PeriodLookup *)));
    size_t uncached_count = 0;
    for (size_t i = 0; i < count; i++) {
        core::Span cached;
        lookups[i].previous_end = DT_NOBEGIN;
        if (find_cached_period(lookups[i].account_id, lookups[i].time, &cached)) {
            lookups[i].state = core::PeriodState::open;
            lookups[i].period = {cached.start, cached.end, false};
        } else {
            lookups[i].state = core::PeriodState::missing;
            uncached[uncached_count++] = &lookups[i];
        }
    }
    if (uncached_count == 0) {
        return;
    }

    const Datum arguments[] = {
        make_array(uncached_count, UUIDOID, [&](size_t i) { return uncached[i]->account_id; }),
        make_array(uncached_count, TIMESTAMPTZOID,
                   [&](size_t i) { return TimestampTzGetDatum(uncached[i]->time); }),
    };
    lock_for_write(&statement);
    const uint64 row_count = run(&statement, arguments);
    for (uint64 row = 0; row < row_count; row++) {
        PeriodLookup *lookup = uncached[DatumGetInt64(required_column(1, row)) - 1];
        const Period period = {DatumGetTimestampTz(required_column(2, row)),
                               DatumGetTimestampTz(required_column(3, row)),
                               !column_is_null(4, row)};
        if (period.end <= lookup->time) {
            lookup->previous_end = period.end;
            continue;
        }
        lookup->state = !period.is_closed        ? core::PeriodState::open
                        : column_is_null(5, row) ? core::PeriodState::closed
                                                 : core::PeriodState::pruned;
        lookup->period = period;
        if (!period.is_closed) {
            cache_period(lookup->account_id, {period.start, period.end},
                         DatumGetTransactionId(required_column(6, row)));
        }
    }
}

namespace
{

void open_with(LockWaitPolicy wait_policy, PeriodLookup *lookups, size_t count)
{
    Assert(std::is_sorted(lookups, lookups + count, comes_before));
    const Cycle *cycles = lock_cycles(lookups, count, wait_policy);

    /* The sessions that had the locks before may have opened them. */
    find_periods(lookups, count);
    const TimestampTz *next_starts = next_period_starts(lookups, count);

    auto *opened = static_cast<PeriodLookup *>(palloc(count * sizeof(PeriodLookup)));
    size_t opened_count = 0;
    for (size_t i = 0; i < count; i++) {
        PeriodLookup *lookup = &lookups[i];
        if (lookup->state != core::PeriodState::missing) {
            continue;
        }
        if (!cycles[i].is_known || !cycle_is_valid(cycles[i])) {
            lookup->state = cycles[i].is_known ? core::PeriodState::no_cycle
                                               : core::PeriodState::unknown_account;
            continue;
        }
        lookup->state = core::PeriodState::open;
        core::Span gap = {lookup->previous_end, next_starts[i]};
        /* Times ascend, so only the last period opened here can cover the time or limit the gap. */
        const PeriodLookup *last = opened_count > 0 ? &opened[opened_count - 1] : nullptr;
        if (last != nullptr && is_same_account(*last, *lookup)) {
            if (lookup->time < last->period.end) {
                lookup->period = last->period;
                continue;
            }
            gap.start = Max(gap.start, last->period.end);
        }
        lookup->period = compute_period(cycles[i], lookup->time, gap);
        opened[opened_count++] = *lookup;
    }
    if (opened_count > 0) {
        insert_periods(opened, opened_count);
    }
}

} // namespace

void open_periods(PeriodLookup *lookups, size_t count)
{
    open_with(LockWaitBlock, lookups, count);
}

void try_open_periods(PeriodLookup *lookups, size_t count)
{
    open_with(LockWaitSkip, lookups, count);
}

void forget_ended_periods()
{
    clear_period_cache();
    if (IsolationUsesXactSnapshot()) {
        raise_ended_concurrently();
    }
}

void raise_ended_concurrently()
{
    ereport(ERROR,
            (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
             errmsg("could not serialize access due to a concurrently ended billing period"),
             errdetail("The transaction's snapshot is from before the end, or another session has "
                       "the account or the next counter."),
             errhint("Retry the transaction.")));
}

Period open_period_covering(const EventName &event, TimestampTz time, LockWaitPolicy wait_policy)
{
    PeriodLookup lookup = {event.account_id.value, time, core::PeriodState::missing, {}, 0};
    open_with(wait_policy, &lookup, 1);
    switch (lookup.state) {
    case core::PeriodState::open:
    case core::PeriodState::closed:
    case core::PeriodState::pruned:
        break;
    case core::PeriodState::unknown_account:
        raise_unknown_account(event);
    case core::PeriodState::missing:
    case core::PeriodState::no_cycle:
        raise_no_period(event, time);
    }
    return lookup.period;
}

void check_can_open(const EventName &event, TimestampTz time)
{
    Cycle cycle;
    read_cycle(event.account_id.value, &cycle);
    if (!cycle.is_known && unknown_account == unknown_account_reject) {
        raise_unknown_account(event);
    }
    if (cycle.is_known && !cycle_is_valid(cycle)) {
        raise_no_period(event, time);
    }
}

Datum row_of_period(const core::CounterId &counter)
{
    static Statement statement = {
        "usage_periods", "SELECT * FROM %s" WHERE_COUNTER, {UUIDOID, TIMESTAMPTZOID}};
    run_for_counter(&statement, counter);
    return returned_row("usage_periods");
}

} // namespace usage_ledger
