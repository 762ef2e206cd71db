#include "pg/postgres.hpp"

#include "pg/apply.hpp"

#include "pg/counters.hpp"
#include "pg/holds.hpp"
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
 * The turn at a counter, a lock that is for nothing else than to wait in line. In the
 * line for a row's lock, one is woken twice, and has to evaluate its update anew for
 * the row as it is then: with 16 sessions on a counter, that costs a quarter of the
 * throughput. And to see that it is taken costs less than to try the row.
 *
 * Whoever has the turn may wait for whoever has the row. So it is not for a transaction
 * that may have the row already, and that is any that has written something.
 */
LOCKTAG turn_at(Datum account_id, TimestampTz period_start)
{
    return period_lock(lock_turn, DatumGetUUIDP(account_id)->data, period_start);
}

void wait_for_turn(Datum account_id, TimestampTz period_start)
{
    const LOCKTAG turn = turn_at(account_id, period_start);
    if (LockAcquire(&turn, ExclusiveLock, false, true) == LOCKACQUIRE_NOT_AVAIL) {
        count(Stat::lock_waits);
        (void)LockAcquire(&turn, ExclusiveLock, false, false);
    }
}

/* Takes a counter's row, and the turn before it, if nobody has either. */
bool try_lock_in_turn(Datum account_id, TimestampTz period_start)
{
    const LOCKTAG turn = turn_at(account_id, period_start);
    if (LockAcquire(&turn, ExclusiveLock, false, true) == LOCKACQUIRE_NOT_AVAIL) {
        return false;
    }
    if (!try_lock_counter(account_id, period_start)) {
        (void)LockRelease(&turn, ExclusiveLock, false);
        return false;
    }
    return true;
}

/*
 * Whether a settler is to add to the counter. If not, an adaptive call has its row; an
 * immediate one, if this is its transaction's first write, the turn.
 */
bool is_left_to_settler(Datum account_id, TimestampTz period_start, bool is_first_write)
{
    switch (settlement) {
    case settlement_deferred:
        return true;
    case settlement_adaptive:
        return is_first_write ? !try_lock_in_turn(account_id, period_start)
                              : !try_lock_counter(account_id, period_start);
    }
    if (is_first_write) {
        wait_for_turn(account_id, period_start);
    }
    return false;
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
    if (is_left_to_settler(account_id, period_start, is_first_write)) {
        return queue(account_id, period_start, payload);
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
    if (is_left_to_settler(account_id, period_start, false)) {
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
