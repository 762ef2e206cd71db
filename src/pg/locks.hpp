/*
 * locks.hpp: the order of all locks, and the functions for those that are not row locks.
 *
 * A session waits for locks in this order, and for several of one kind in the order of
 * core::compare_counters or core::compare_keys. All are held until the end of the transaction,
 * unless said otherwise.
 *
 * 0. Limit: the row of usage_limits for the whole account, FOR NO KEY UPDATE to reserve, release,
 *    spend, set or erase a limit; before it, its waiter lock, as 4 is for 5. It comes first,
 *    because a call that spends has it before it counts. So in one transaction one reserves
 *    before one counts.
 * 1. Account: the row of usage_accounts, FOR UPDATE or as an upsert, to open periods, end one, set
 *    a cycle, or erase the account. Sessions that do so for the same account wait for each other.
 * 2. Key: the unique index entry of usage_events. The second session that inserts a key waits
 *    for the first, and for a session that is voiding or deleting the event of that key.
 * 3. Hold lock: advisory, of a period or, beyond 32 periods in a transaction, of all periods.
 *    Sessions that queue usage, or may have to, share it. They never wait for it: a session
 *    that cannot share it immediately, or that finds a close announced, gives it back and holds
 *    the period by the counter's row (5). A close takes each of the two exclusively, to wait
 *    for the sessions that share it, and gives it back immediately. To end a period is a close
 *    in all that is said of closes here, and to erase an account is one of all its periods.
 * 4. Waiter lock: advisory, of a counter, exclusive. One session waits for the counter's row;
 *    the others wait here. Only a call that is the first to write in its transaction takes it,
 *    so its holder has no row yet (compare LockTuple() in PostgreSQL's README.tuplock, which
 *    has the same exception for sessions that hold the row already).
 * 5. Counter: the row of usage_periods. FOR NO KEY UPDATE to add to it, settle, void, credit or
 *    prune; FOR KEY SHARE to hold its period open; FOR UPDATE to close, end or erase it, which no
 *    statement may take (lock_counter_to_close() says why). KEY SHARE waits only for a close, so
 *    sessions that add and sessions that hold do not wait for each other.
 * 6. Hold and limit of a scope: changed or deleted only under the lock of their account's limit,
 *    so nobody waits for one. Row of a breakdown: made or changed only under its counter's row
 *    lock, so nobody waits for one. Then event and pending row: changed or deleted only under
 *    that lock, so nobody waits for one either, except for the key of an event (2).
 * 7. Page range of usage_pending: the lock of its first page, by settlers.
 *
 * What is only tried, out of this order, cannot be part of a circle: settlers try limits, counters
 * and page ranges, adaptive calls try the waiter lock and the counter, a prune tries counters. A
 * call whose event turns out to come after the end of its period has that counter, and goes on
 * to the next period: it tries the account if it must open that, and waits for the counter,
 * which is later in order. A batch that has a still later counter only tries it.
 * (Where other sessions hold a period FOR KEY SHARE, SKIP LOCKED may still wait for the one
 * commit that makes the row's next version: calls and prunes do that as level 5.) A close
 * announces itself by one more lock, which no session waits for.
 *
 * So a session that waits holds only locks that come before the one that it waits for, and
 * calls that are each a transaction of their own cannot deadlock. A close that waits for a hold
 * lock holds nothing that a session with that lock could wait for, unless its transaction has
 * closed other periods before; then both take the periods in the same order. Transactions of
 * several calls can deadlock if they use the same accounts in different orders
 * (docs/reference.md, Deadlocks).
 *
 * Where Citus distributes the ledger, 3 and 4 are not taken, because they are locks of one node.
 * Sessions hold periods by the counter's row (5), and a close waits for them there. The close
 * locks the row by SELECT FOR UPDATE, so it can be the victim of a deadlock with sessions that hold
 * and sessions that add. Settlers have no page ranges (7), and lock counters in their order.
 */
#pragma once

#include "pg/postgres.hpp"

#include "core/counter.hpp"

namespace usage_ledger
{

/*
 * Shares the hold lock of a period, if it is free and no close is announced. False: the
 * caller must hold the period by its row.
 *
 * REQUIRES: has_hold_locks_left().
 */
bool try_hold_period(const core::CounterId &counter);

/* Whether the transaction may take more hold locks of single periods. */
bool has_hold_locks_left();

/* Shares the hold lock of all periods, on the same conditions. */
bool try_hold_all_periods();

/* For a close, before it locks the counter: announces it and waits for the holders. */
void wait_for_holders(const core::CounterId &counter);

/*
 * Takes the waiter lock of a counter or limit. REQUIRES: this call is the first to write in its
 * transaction.
 */
void lock_waiter(const core::CounterId &counter);
bool try_lock_waiter(const core::CounterId &counter);
void unlock_waiter(const core::CounterId &counter);

/* To be called once, when the library is loaded. */
void register_lock_callbacks();

} // namespace usage_ledger
