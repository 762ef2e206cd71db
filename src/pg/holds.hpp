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

/* The levels of a scope as an array, from the whole account to the scope itself. */
Datum levels_of(std::string_view scope);

/* Adds the hold of a key to its standing. What it finds stays true if the limit is locked. */
void find_hold(const Claim &claim, Standing *standing);

/* Inserts the hold of a key, and sets it in the standing. False: the key has a hold already. */
bool try_insert_hold(const Claim &claim, Standing *standing);

/* Replaces the hold of a key, if it has one, there too. REQUIRES: the limit is locked. */
void replace_hold(const Claim &claim, Standing *standing);

/* Subtracts a hold from what its levels hold, and adds another. REQUIRES: the limit is locked. */
void move_hold(Datum account_id, const Hold &added, const Hold &subtracted);

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
