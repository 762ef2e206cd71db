/*
 * holds.hpp: the holds, which are the rows of usage_holds. They are written and deleted only
 * under the lock of their account's limit.
 */
#pragma once

#include "pg/postgres.hpp"

#include "core/counter.hpp"
#include "pg/limits.hpp"

namespace usage_ledger
{

/*
 * Sets the hold of a key, and adds a change to what its account holds. False: the limit's row is
 * no longer in this version, and nothing was written.
 */
bool write_hold(const Claim &claim, TimestampTz expires_at, int64 change, TransactionId version);

/* Deletes the hold of a key. REQUIRES: the limit is locked. */
void delete_hold(Datum account_id, Datum idempotency_key);

/*
 * Deletes dead holds of an account, but not that of a key: at most core::dead_holds_max of them.
 * False: there are none.
 *
 * now: from before the usage is read that the caller judges by. So what was counted before a hold
 * expired is part of that usage.
 *
 * REQUIRES: the limit is locked.
 */
bool delete_dead_holds(Datum account_id, Datum kept_key, TimestampTz now);

/*
 * Deletes dead holds of all accounts, from an account on: at most core::dead_holds_max of them.
 * Never waits: those of an account whose limit another session has locked are left. Returns
 * whether there are more, and sets the account to go on with.
 */
bool sweep_dead_holds(core::CounterId *from);

} // namespace usage_ledger
