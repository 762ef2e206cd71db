/*
 * limits.hpp: the limits, which are the rows of usage_limits, and taking room in them.
 *
 * A call reads what is used before it has the limit's lock, and tests what is held under it. What
 * is counted in between does not matter: it was counted without a hold, or it has a hold, which is
 * still part of what is held. Deleting dead holds and spending would break this, so they change
 * the version of the row, which a call tests too.
 *
 * Scopes below the account have rows of their own. They are read and changed under the lock of
 * the account's row, whose scope is empty, so nobody waits for one of them.
 */
#pragma once

#include "pg/postgres.hpp"

#include <string_view>

#include "core/balance.hpp"
#include "pg/periods.hpp"

namespace usage_ledger
{

/* What a call wants of the limits of an account, for a key. */
struct Claim {
    Datum account_id;
    Datum idempotency_key;
    std::string_view scope;
    int64 tokens;
    TimestampTz earliest; /* the key may be counted from here on, */
    int64 length_us;      /* until its hold expires, or if it needs none, only there */
};

/* A level above or at a claim's scope, but not the whole account, that has a limit. */
struct Level {
    std::string_view scope;
    core::Balance balance;
};

struct Hold {
    std::string_view scope;
    int64 tokens;
    TimestampTz expires_at;
};

/* How an account and a key of it stand, as of now. */
struct Standing {
    TimestampTz now;                /* when it was read, or earlier */
    bool is_counted;                /* the key has an event */
    bool is_unlimited;              /* the account as a whole has no limit */
    int64 version;                  /* of the limit's row */
    core::Balance balance;          /* of the whole account */
    TimestampTz first_period_start; /* of the periods that the key may be counted in. The */
    TimestampTz last_period_start;  /* usage is that of the period that has used most. */
    bool has_period;                /* one covers the claim's earliest time */
    Period period;
    Level *levels;
    size_t level_count;
    bool has_hold; /* the key, once that is looked up */
    Hold hold;
    int64 tokens_remaining;      /* once room was taken or refused */
    std::string_view refused_by; /* the level, a part of the claim's scope */
};

/*
 * Reads it, without levels and hold, in one statement, so that no usage is missed that a settler
 * moves from the queue to its counter in the meantime. It sees what is committed, also where the
 * transaction's own snapshot is older: what others have counted and spent since takes room too.
 * False: the account has no row of usage_limits.
 */
bool find_standing(const Claim &claim, Standing *standing);

/* Whether the key has a hold that is not dead. */
bool has_live_hold(const Standing &standing);

enum class Room { counted, unlimited, refused, taken };

/* What a call takes room for: a hold, or an event that it counts in this transaction. */
enum class Use { hold, count };

/*
 * Takes room, for a hold or for an event that the caller counts in this transaction, and writes
 * the hold. Nothing is locked or written if the key is counted, in whatever snapshot, or no level
 * of the claim has a limit. Where there is no room otherwise, deletes dead holds of the account.
 * Sets the standing that it has judged by.
 */
Room take_room(const Claim &claim, Use use, Standing *standing);

/* Gives an account a limit, or none if that is negative, if it has no row of usage_limits yet. */
void create_limit(Datum account_id, int64 token_limit);

/* Locks the limit of an account until the end of the transaction. False: it has no row. */
bool lock_limit(Datum account_id);

} // namespace usage_ledger
