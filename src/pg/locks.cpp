/*
 * locks.cpp: advisory locks of classes that pg_advisory_lock does not use (it has 1 and 2).
 *
 * A hold lock costs almost nothing and scales on a hot account, but the server's lock table
 * is small. So a transaction holds its first 32 periods by a lock each, and all others by
 * one lock of the whole ledger. A close waits for the transactions that hold either.
 *
 * A close keeps neither lock, so a transaction may close any number of periods. While a
 * transaction that closes a period goes on, others hold periods by the counter's row, and
 * wait only for the close of their own. At other times a row lock would cost too much: a
 * write for each hold, and a multixact for several.
 */
#include "pg/postgres.hpp"

#include "pg/locks.hpp"

#include "pg/spi.hpp"

namespace usage_ledger
{

namespace
{

enum class LockClass : uint16 {
    hold = 0x554C, /* of a period */
    hold_all,      /* of the ledger */
    closing,       /* of the ledger: announces a close */
    waiter,        /* of a counter */
};

/* By default the lock table has room for 64 locks a session, of all kinds. */
constexpr int period_holds_max = 32;

/* Of this transaction. After a rollback to a savepoint it may be too high. */
int period_hold_count;

LOCKTAG counter_lock(LockClass lock_class, const core::CounterId &counter)
{
    uint64 account_id[2];
    static_assert(sizeof(account_id) == core::account_id_size);
    memcpy(account_id, counter.account_id, sizeof(account_id));
    const uint64 hash = hash_combine64(hash_combine64(account_id[0], account_id[1]),
                                       static_cast<uint64>(counter.period_start));
    LOCKTAG tag;
    SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, static_cast<uint32>(hash >> 32),
                         static_cast<uint32>(hash), static_cast<uint16>(lock_class));
    return tag;
}

LOCKTAG ledger_lock(LockClass lock_class)
{
    LOCKTAG tag;
    SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 0, 0, static_cast<uint16>(lock_class));
    return tag;
}

void lock(const LOCKTAG &tag, LOCKMODE mode)
{
    (void)LockAcquire(&tag, mode, false, false);
}

void unlock(const LOCKTAG &tag, LOCKMODE mode)
{
    (void)LockRelease(&tag, mode, false);
}

bool close_is_announced()
{
    const LOCKTAG tag = ledger_lock(LockClass::closing);
    int count;
    pfree(GetLockConflicts(&tag, ShareLock, &count));
    return count > 0;
}

/*
 * Shares a hold lock. A close announces itself before it waits for hold locks, and this looks
 * for the announcement after it has taken one, so at least one of the two sees the other.
 */
LockAcquireResult try_share(const LOCKTAG &tag)
{
    const LockAcquireResult result = LockAcquire(&tag, ShareLock, false, true);
    if (result == LOCKACQUIRE_OK && close_is_announced()) {
        unlock(tag, ShareLock);
        return LOCKACQUIRE_NOT_AVAIL;
    }
    return result;
}

void wait_for_sharers(const LOCKTAG &tag)
{
    lock(tag, ExclusiveLock);
    unlock(tag, ExclusiveLock);
}

void forget_holds(XactEvent event, void *)
{
    if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE) {
        period_hold_count = 0;
    }
}

} // namespace

bool try_hold_period(const core::CounterId &counter)
{
    Assert(has_hold_locks_left());
    if (is_distributed()) {
        return false;
    }
    const LockAcquireResult result = try_share(counter_lock(LockClass::hold, counter));
    period_hold_count += result == LOCKACQUIRE_OK ? 1 : 0;
    return result != LOCKACQUIRE_NOT_AVAIL;
}

bool has_hold_locks_left()
{
    return period_hold_count < period_holds_max;
}

bool try_hold_all_periods()
{
    return !is_distributed() &&
           try_share(ledger_lock(LockClass::hold_all)) != LOCKACQUIRE_NOT_AVAIL;
}

void wait_for_holders(const core::CounterId &counter)
{
    if (is_distributed()) {
        return;
    }
    lock(ledger_lock(LockClass::closing), RowExclusiveLock);
    wait_for_sharers(counter_lock(LockClass::hold, counter));
    wait_for_sharers(ledger_lock(LockClass::hold_all));
}

/*
 * None is taken of a distributed ledger: a transaction that has written on other nodes only does
 * not know that it has written, and may hold the row already.
 */
void lock_waiter(const core::CounterId &counter)
{
    if (is_distributed()) {
        return;
    }
    lock(counter_lock(LockClass::waiter, counter), ExclusiveLock);
}

bool try_lock_waiter(const core::CounterId &counter)
{
    if (is_distributed()) {
        return true;
    }
    const LOCKTAG tag = counter_lock(LockClass::waiter, counter);
    return LockAcquire(&tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
}

void unlock_waiter(const core::CounterId &counter)
{
    if (is_distributed()) {
        return;
    }
    unlock(counter_lock(LockClass::waiter, counter), ExclusiveLock);
}

void register_lock_callbacks()
{
    RegisterXactCallback(forget_holds, nullptr);
}

} // namespace usage_ledger
