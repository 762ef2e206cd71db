/*
 * limits.hpp: the limits, which are the rows of usage_limits, and what is left of them.
 *
 * One that a call has locked says what the account holds: holds change only under the lock of
 * their account's limit (locks.hpp, level 0).
 */
#pragma once

#include "pg/postgres.hpp"

#include "core/balance.hpp"
#include "pg/events.hpp"
#include "pg/periods.hpp"

namespace usage_ledger
{

/* A limit, as it was when it was locked. */
struct Limit {
    bool is_unlimited; /* its row says so */
    int64 token_limit;
    int64 tokens_held; /* the sum of the account's holds, dead ones too; changed with them */
    int64 stored_tokens_held;
};

enum class LimitAccess {
    counted,   /* nothing is locked: the key has an event */
    unlimited, /* nothing is locked: the account has no limit */
    locked,
};

/*
 * Locks the limit of an account until the end of the transaction, if it has one. Makes the
 * default one where that is set. A key whose event is committed needs no limit, in whatever
 * snapshot the transaction is.
 */
LimitAccess lock_limit(Datum account_id, Datum idempotency_key, Limit *limit);

/* Gives an account a limit, if it has no row of usage_limits yet. */
void create_limit(Datum account_id, int64 token_limit);

/* Locks the limit of an account if it has a row. False: it has none, and so no holds. */
bool lock_existing_limit(Datum account_id, Limit *limit);

/* Stores tokens_held, if it has changed. REQUIRES: the limit is locked. */
void store_tokens_held(Datum account_id, const Limit &limit);

/* What a call wants of a limit. */
struct Claim {
    Datum account_id;
    Datum idempotency_key;
    int64 tokens;
    TimestampTz now;      /* the time of the call: older than what it reads */
    TimestampTz earliest; /* when the key may be counted: */
    TimestampTz latest;
};

/* What an account has used, and what a key of it holds, as it is now. */
struct Standing {
    bool is_counted; /* the key has an event */
    bool has_hold;
    int64 tokens_held; /* by the key's hold, or 0 */
    TimestampTz expires_at;
    int64 tokens_used; /* in that period that the key may be counted in, which has used most */
    bool has_period;   /* one covers the time of the call */
    Period period;
};

Standing read_standing(const Claim &claim);

/* Whether the key has a hold that is not dead. */
bool has_live_hold(const Standing &standing, TimestampTz now);

core::Balance balance_of(const Limit &limit, const Standing &standing);

/*
 * Whether a limit has room for a claim, or the key is counted and needs none. Deletes dead holds
 * of the account if there is no room otherwise. Reads the standing.
 *
 * REQUIRES: the limit is locked.
 */
bool make_room(const Claim &claim, Limit *limit, Standing *standing);

} // namespace usage_ledger
