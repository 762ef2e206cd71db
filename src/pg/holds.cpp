/*
 * holds.cpp: how a period is held open, cheaply where it matters.
 *
 * A holder shares a lock of the period, in the server's lock table, which costs
 * next to nothing and scales on a hot account. But the table is small, so a
 * transaction holds its first periods in this way, and all others by one lock of the
 * whole ledger. Nobody takes that against them: who closes a period only waits for
 * those transactions that have it.
 *
 * Nor does closing keep a period's lock, so that a transaction may close any number
 * of periods. It takes the lock to wait for the holders, and gives it up once it has
 * the counter's row, FOR UPDATE. While any transaction that closes something goes
 * on, which is announced by one more lock, new holders hold by the row, FOR KEY
 * SHARE, and so wait for the close of their own period and of no other. (At other
 * times that would be dear: a write for each hold, and a multixact for several.)
 *
 * Everybody takes a period's lock before its row, and one period after the other in
 * counters' order, so holders, writers and who closes do not wait in a circle.
 */
#include "pg/postgres.hpp"

#include "pg/holds.hpp"

#include "pg/counters.hpp"
#include "pg/locks.hpp"

namespace usage_ledger
{

namespace
{

/* By default the lock table has room for 64 locks a session, of all kinds. */
constexpr int locked_periods_max = 32;

/* Of this transaction; too high, at worst, after a rollback to a savepoint. */
int locked_period_count;

/*
 * To be asked with a fresh lock in hand: who closes announces it before looking for
 * the holders of locks, so one of the two sees the other.
 */
bool closing_is_announced()
{
    const LOCKTAG tag = ledger_lock(lock_closing);
    int count;
    pfree(GetLockConflicts(&tag, ShareLock, &count));
    return count > 0;
}

/* Holds a period by its lock. False: the transaction has enough of them. */
bool hold_by_period(const core::Addition &addition)
{
    if (locked_period_count >= locked_periods_max) {
        return false;
    }
    const LOCKTAG tag =
        period_lock(lock_period_held_open, addition.account_id, addition.period_start);
    if (LockAcquire(&tag, ShareLock, false, false) == LOCKACQUIRE_OK) {
        locked_period_count++;
        if (closing_is_announced()) {
            hold_counter(account_of(addition), addition.period_start);
        }
    }
    return true;
}

/* Holds all periods by the ledger's lock. False: some may be being closed. */
bool hold_by_ledger()
{
    const LOCKTAG tag = ledger_lock(lock_periods_held_open);
    if (LockAcquire(&tag, ShareLock, false, false) != LOCKACQUIRE_OK || !closing_is_announced()) {
        return true;
    }
    (void)LockRelease(&tag, ShareLock, false);
    return false;
}

void forget_locks(XactEvent event, void *)
{
    if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE) {
        locked_period_count = 0;
    }
}

} // namespace

bool hold_open(Datum account_id, TimestampTz period_start)
{
    core::Addition addition = {};
    memcpy(addition.account_id, DatumGetUUIDP(account_id), core::account_id_size);
    addition.period_start = period_start;
    addition.row_count = 1;
    hold_all_open(&addition, 1);
    return !period_is_closed_now(account_id, period_start);
}

void hold_all_open(const core::Addition *additions, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (additions[i].row_count > 0 && !hold_by_period(additions[i])) {
            if (!hold_by_ledger()) {
                hold_counters(additions + i, count - i);
            }
            return;
        }
    }
}

void shut_out_holders(Datum account_id, TimestampTz period_start)
{
    const LOCKTAG announcement = ledger_lock(lock_closing);
    const LOCKTAG ledger = ledger_lock(lock_periods_held_open);
    const LOCKTAG period =
        period_lock(lock_period_held_open, DatumGetUUIDP(account_id)->data, period_start);
    (void)LockAcquire(&announcement, RowExclusiveLock, false, false);
    (void)LockAcquire(&period, ExclusiveLock, false, false);
    VirtualTransactionId *holders = GetLockConflicts(&ledger, ExclusiveLock, nullptr);
    for (; VirtualTransactionIdIsValid(*holders); holders++) {
        (void)VirtualXactLock(*holders, true);
    }
}

void let_holders_in(Datum account_id, TimestampTz period_start)
{
    const LOCKTAG period =
        period_lock(lock_period_held_open, DatumGetUUIDP(account_id)->data, period_start);
    (void)LockRelease(&period, ExclusiveLock, false);
}

void watch_holds()
{
    RegisterXactCallback(forget_locks, nullptr);
}

} // namespace usage_ledger
