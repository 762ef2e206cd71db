/*
 * locks.hpp: the order of all locks, and those of them that are not a row's.
 *
 * Every call takes the locks that it needs in this order, and several of one kind in the
 * order of core::compare_counters or core::compare_keys. All are held until the end of the
 * transaction, unless said otherwise.
 *
 * 1. Account: the row of usage_accounts, FOR UPDATE. Sessions that open periods or set a
 *    cycle; others that do so for that account wait.
 * 2. Key: the unique index entry of usage_events. The second session that inserts a key waits
 *    for the first, and for a session that voids or deletes the event of that key.
 * 3. Hold lock: advisory, of a period or, beyond 32 periods in a transaction, of all of them.
 *    Sessions that queue usage share it. They never wait for it: a session that cannot share
 *    it immediately, or that finds a close announced, gives it back and holds the period by
 *    the counter's row (5). A close takes each of the two exclusively, to wait for the
 *    sessions that share it, and gives it back immediately.
 * 4. Waiter lock: advisory, of a counter, exclusive. One session waits for the counter's row;
 *    the others wait here. Only the first write of a transaction takes it, so its holder has
 *    no row yet (compare LockTuple() in PostgreSQL's README.tuplock, which has the same
 *    exception for sessions that hold the row already).
 * 5. Counter: the row of usage_periods. FOR NO KEY UPDATE to add to it, to void an event or
 *    to prune; FOR KEY SHARE to hold its period open; FOR UPDATE to close it. KEY SHARE waits
 *    only for a close, so sessions that add and sessions that hold do not wait for each other.
 * 6. Event and pending row of a counter: changed or deleted only under the counter's row lock,
 *    so no session waits for one, but for the key of an event (2).
 * 7. Page range of usage_pending: the lock of its first page, taken only if it is free, by
 *    settlers.
 *
 * Settlers wait for no lock: they pass over what another session has. A close announces itself
 * by one more lock, which no session waits for.
 *
 * So a call that waits holds only locks that come earlier in the order than the one that it
 * waits for, and calls that are each a transaction of their own cannot deadlock. The exception
 * is a close that waits for a hold lock and may hold the rows of periods that its transaction
 * has closed before: no session that holds periods waits for those, as long as both go through
 * them in the same order. Transactions of several calls can deadlock if they use the same
 * accounts in different orders (README.md, Errors).
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

/* Takes a counter's waiter lock. REQUIRES: the transaction has written nothing before. */
void lock_waiter(const core::CounterId &counter);
bool try_lock_waiter(const core::CounterId &counter);
void unlock_waiter(const core::CounterId &counter);

/* To be called once, when the library is loaded. */
void register_lock_callbacks();

} // namespace usage_ledger
