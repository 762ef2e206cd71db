/*
 * limits.hpp: the limits, which are the rows of usage_limits, and taking room in them.
 *
 * Every call that takes or gives room writes its account's row. So one whose row has not changed
 * since it was read, has the room that was read.
 */
#pragma once

#include "pg/postgres.hpp"

#include "core/balance.hpp"
#include "pg/periods.hpp"

namespace usage_ledger
{

/* What a call wants of a limit, for a key. */
struct Claim {
    Datum account_id;
    Datum idempotency_key;
    int64 tokens;
    TimestampTz earliest; /* the key may be counted from here on, */
    int64 length_us;      /* until its hold expires, or if it needs none, only there */
};

/* How an account and a key of it stand, as of now. */
struct Standing {
    TimestampTz now;       /* when it was read, or earlier */
    bool is_counted;       /* the key has an event */
    bool is_unlimited;     /* the account has no limit */
    TransactionId version; /* the transaction that has written the limit's row */
    int64 token_limit;
    int64 tokens_held; /* the sum of the account's holds, dead ones too */
    int64 tokens_used; /* in that period that the key may be counted in, which has used most */
    TimestampTz last_period_start; /* of those periods */
    bool has_hold;                 /* the key */
    int64 hold_tokens;
    TimestampTz hold_expires_at;
    bool has_period; /* one covers the claim's earliest time */
    Period period;
};

/*
 * Reads it in one statement, so that no usage is missed that a settler moves from the queue to its
 * counter in the meantime. It sees what is committed, also where the transaction's own snapshot is
 * older: what others have counted and spent since takes room too. False: the account has no row of
 * usage_limits.
 */
bool find_standing(const Claim &claim, Standing *standing);

/* Whether the key has a hold that is not dead. */
bool has_live_hold(const Standing &standing);

/* What the key may take. */
core::Balance balance_of(const Standing &standing);

enum class Room { counted, unlimited, refused, taken };

/*
 * Takes room. Nothing is locked or written if the key is counted, in whatever snapshot, or the
 * account has no limit. Where there is no room otherwise, deletes dead holds of the account.
 * Sets the standing that it has judged by.
 *
 * take: writes the limit's row, if that is still in the version of the standing; or returns
 * false.
 */
using Take = bool (*)(const Claim &claim, const Standing &standing);
Room take_room(const Claim &claim, Take take, Standing *standing);

/* Writes the row of a limit without a change to it, if it has this version. */
bool touch_limit(Datum account_id, TransactionId version);

/* Gives an account a limit, if it has no row of usage_limits yet. */
void create_limit(Datum account_id, int64 token_limit);

/* Locks the limit of an account until the end of the transaction. False: it has no row. */
bool lock_limit(Datum account_id);

} // namespace usage_ledger
