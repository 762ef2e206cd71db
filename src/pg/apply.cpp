#include "pg/postgres.hpp"

#include "pg/apply.hpp"

#include "pg/counters.hpp"
#include "pg/holds.hpp"
#include "pg/locks.hpp"
#include "pg/pending.hpp"
#include "pg/settings.hpp"
#include "pg/worker.hpp"

namespace usage_ledger
{

namespace
{

/* Whether the counter is to be left to a settler; if not, its lock may be taken already. */
bool is_left_to_settler(Datum account_id, TimestampTz period_start)
{
    return settlement == settlement_deferred ||
           (settlement == settlement_adaptive && !try_lock_counter(account_id, period_start));
}

/*
 * Waits in line for a counter, by a lock that is for nothing else. In the line for a
 * row's lock, one is woken twice, and has to evaluate its update anew for the row as it
 * is then: with 16 sessions on a counter, that costs a quarter of the throughput.
 *
 * Whoever has the turn waits for whoever has the row. So it is not for a transaction
 * that may have the row already, and that is any that has written something.
 */
void wait_for_turn(Datum account_id, TimestampTz period_start)
{
    const LOCKTAG tag = period_lock(lock_turn, DatumGetUUIDP(account_id)->data, period_start);
    (void)LockAcquire(&tag, ExclusiveLock, false, false);
}

Applied queue(Datum account_id, TimestampTz period_start, const core::Payload &payload)
{
    if (!hold_open(account_id, period_start)) {
        return {ApplyResult::closed, 0};
    }
    enqueue(account_id, period_start, payload);
    note_queued_rows(1);
    return {ApplyResult::queued, 0};
}

} // namespace

Applied apply(const EventName &event, TimestampTz period_start, const core::Payload &payload,
              bool is_first_write)
{
    const Datum account_id = event.account_id.value;
    if (is_left_to_settler(account_id, period_start)) {
        return queue(account_id, period_start, payload);
    }
    if (is_first_write && settlement == settlement_immediate) {
        wait_for_turn(account_id, period_start);
    }
    int64 tokens_used;
    if (!add_to_counter(event, period_start, payload, &tokens_used)) {
        return {ApplyResult::closed, 0};
    }
    return {ApplyResult::applied, tokens_used};
}

Applied take_back(const EventName &event, TimestampTz period_start, const core::Payload &payload)
{
    const Datum account_id = event.account_id.value;
    if (is_left_to_settler(account_id, period_start)) {
        return queue(account_id, period_start, -payload);
    }
    int64 tokens_used;
    if (take_from_counter(account_id, period_start, payload, &tokens_used)) {
        return {ApplyResult::applied, tokens_used};
    }
    if (read_counter(account_id, period_start).is_closed) {
        return {ApplyResult::closed, 0};
    }
    /* It is not in the counter yet, so the two are settled together. */
    return queue(account_id, period_start, -payload);
}

} // namespace usage_ledger
