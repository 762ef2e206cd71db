/*
 * limits.hpp: the limits, which are the rows of usage_limits, and taking room in them.
 *
 * A call reads what is used before it has the limit's lock, and tests what is held under it. What
 * is counted in between does not matter: it was counted without a hold, or it has a hold, which is
 * still part of what is held. Deleting dead holds and spending would break this, so they change
 * the version of the row, which a call tests too.
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
    TimestampTz now;   /* when it was read, or earlier */
    bool is_counted;   /* the key has an event */
    bool is_unlimited; /* the account has no limit */
    int64 version;     /* of the limit's row */
    int64 token_limit;
    int64 tokens_held; /* the sum of the account's holds, dead ones too */
    int64 tokens_used; /* in that period that the key may be counted in, which has used most */
    TimestampTz last_period_start; /* of those periods */
    bool has_period;               /* one covers the claim's earliest time */
    Period period;
    int64 tokens_remaining; /* once room was taken or refused */
    bool has_hold;          /* the key, once that is looked up */
    int64 hold_tokens;
    TimestampTz hold_expires_at;
};

/*
 * Reads it, without the hold, in one statement, so that no usage is missed that a settler moves
 * from the queue to its counter in the meantime. It sees what is committed, also where the
 * transaction's own snapshot is older: what others have counted and spent since takes room too.
 * False: the account has no row of usage_limits.
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
 * take: calls take_from_limit(), and writes what the room is taken for. False: not as claimed, so
 * the claim is judged again.
 */
using Take = bool (*)(const Claim &claim, Standing *standing);
Room take_room(const Claim &claim, Take take, Standing *standing);

/* How many more tokens a claim takes than its key holds. */
int64 more_tokens(const Claim &claim, const Standing &standing);

/* What a call takes room for: a hold, or an event that it counts in this transaction. */
enum class Use { hold, count };

/*
 * Takes the room of a claim, and sets what remains. False: the limit, or what is held, has
 * changed too much since the standing was read.
 */
bool take_from_limit(const Claim &claim, Use use, Standing *standing);

/* Gives an account a limit, if it has no row of usage_limits yet. */
void create_limit(Datum account_id, int64 token_limit);

/* Locks the limit of an account until the end of the transaction. False: it has no row. */
bool lock_limit(Datum account_id);

} // namespace usage_ledger
