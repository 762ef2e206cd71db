/*
 * locks.hpp: our locks in the server's lock table, where they are advisory locks of
 * classes that pg_advisory_lock does not have (it has 1 and 2).
 */
#pragma once

#include "pg/postgres.hpp"

#include "core/addition.hpp"

namespace usage_ledger
{

enum LockClass : uint16 {
    lock_period_held_open = 0x554C, /* a period's: shared by who holds it open */
    lock_periods_held_open, /* the ledger's: shared by who holds more than it has locks for */
    lock_closing,           /* the ledger's: shared by who closes periods */
    lock_turn,              /* a period's: of whose turn it is to wait for the counter */
};

inline LOCKTAG period_lock(LockClass lock_class, const uint8_t *account_id,
                           TimestampTz period_start)
{
    const uint64 hash =
        hash_bytes_extended(account_id, core::account_id_size, static_cast<uint64>(period_start));
    LOCKTAG tag;
    SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, static_cast<uint32>(hash >> 32),
                         static_cast<uint32>(hash), lock_class);
    return tag;
}

inline LOCKTAG ledger_lock(LockClass lock_class)
{
    LOCKTAG tag;
    SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 0, 0, lock_class);
    return tag;
}

} // namespace usage_ledger
