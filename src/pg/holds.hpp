/*
 * holds.hpp: the holds, which are the rows of usage_holds. They are written and deleted only
 * under the lock of their account's limit.
 */
#pragma once

#include "pg/postgres.hpp"

#include "core/counter.hpp"

namespace usage_ledger
{

/* Sets the hold of a key, and what its account holds. */
void write_hold(Datum account_id, Datum idempotency_key, int64 tokens, TimestampTz expires_at,
                int64 tokens_held);

void delete_hold(Datum account_id, Datum idempotency_key);

/*
 * Deletes dead holds of an account, but not that of a key: at most dead_holds_max of them.
 * Returns how many, and adds up their tokens.
 *
 * now: older than what the caller has read and will read again. A hold that expired before that
 * was not counted in time.
 */
uint64 delete_dead_holds(Datum account_id, Datum kept_key, TimestampTz now, int64 *tokens);

} // namespace usage_ledger
