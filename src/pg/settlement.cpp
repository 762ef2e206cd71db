#include "pg/postgres.hpp"

#include "pg/settlement.hpp"

#include "pg/breakdowns.hpp"
#include "pg/errors.hpp"
#include "pg/locks.hpp"
#include "pg/pending.hpp"
#include "pg/settings.hpp"
#include "pg/stats.hpp"
#include "pg/worker.hpp"

namespace usage_ledger
{

namespace
{

/*
 * Sessions queue for a counter on its waiter lock rather than on its row. A session that
 * waits for a row lock is woken twice and must evaluate its UPDATE again on the newest row
 * version; with 16 sessions on a counter that costs a quarter of the throughput. And a failed
 * try of the waiter lock costs less than a failed try of the row.
 */
void wait_for_counter(const core::CounterId &counter)
{
    if (!try_lock_waiter(counter)) {
        count_stat(Stat::lock_waits);
        lock_waiter(counter);
    }
}

bool try_lock_counter_and_waiter(const core::CounterId &counter)
{
    if (!try_lock_waiter(counter)) {
        return false;
    }
    if (!try_lock_counter(counter)) {
        unlock_waiter(counter);
        return false;
    }
    return true;
}

/*
 * Takes what the settlement needs before it adds to the counter: adaptive, the counter's row;
 * immediate, the waiter lock. In a transaction that has written, the session may hold the row
 * already, so it must not take the waiter lock. False: leave the usage to a settler.
 */
bool take_counter(const core::CounterId &counter, bool is_first_write)
{
    switch (settlement_mode) {
    case settlement_deferred:
        return false;
    case settlement_adaptive:
        return is_first_write ? try_lock_counter_and_waiter(counter) : try_lock_counter(counter);
    }
    if (is_first_write) {
        wait_for_counter(counter);
    }
    return true;
}

Settlement queue_usage(const Event &event, const core::CounterId &counter)
{
    hold_periods_open(&counter, 1);
    const Settlement settlement =
        settlement_of(event, read_counter_now(counter), core::Outcome::queued);
    if (settlement.outcome == core::Outcome::queued) {
        enqueue(counter, event.payload);
        note_queued_rows(1);
    }
    return settlement;
}

} // namespace

Settlement settlement_of(const Event &event, const CounterReading &counter, core::Outcome outcome)
{
    if (event.occurred_at >= counter.period_end) {
        return {core::Outcome::undecided, counter};
    }
    return {counter.is_closed ? core::Outcome::closed : outcome, counter};
}

Settlement add_usage(const Event &event, const core::CounterId &counter, bool is_first_write)
{
    if (!take_counter(counter, is_first_write)) {
        return queue_usage(event, counter);
    }
    const Settlement settlement =
        settlement_of(event, add_to_counter(event, counter), core::Outcome::applied);
    if (settlement.outcome == core::Outcome::applied && event.payload.breakdown != nullptr) {
        add_to_breakdown(name_of(event), counter, *event.payload.breakdown);
    }
    return settlement;
}

void hold_periods_open(const core::CounterId *counters, size_t count)
{
    size_t i = 0;
    while (i < count && has_hold_locks_left() && try_hold_period(counters[i])) {
        i++;
    }
    if (i < count && (has_hold_locks_left() || !try_hold_all_periods())) {
        hold_counters(&counters[i], count - i);
    }
}

CounterState lock_period(const core::CounterId &counter)
{
    CounterState state;
    wait_for_holders(counter);
    if (!lock_counter_to_close(counter, &state)) {
        ereport(ERROR,
                (errcode(errcode_no_account_or_period), errmsg("billing period does not exist"),
                 errdetail("%s.", period_text(counter)),
                 errhint("Pass the account and period_start of a row of usage_totals.")));
    }
    return state;
}

} // namespace usage_ledger
