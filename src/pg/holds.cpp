#include "pg/postgres.hpp"

#include "pg/holds.hpp"

#include "core/limits.hpp"
#include "pg/breakdowns.hpp"
#include "pg/spi.hpp"
#include "pg/stats.hpp"

namespace usage_ledger
{

namespace
{

struct DeadHold {
    core::CounterId account; /* without a period */
    ItemPointerData tid;
    bool is_expired; /* or its key has an event */
    Datum key;       /* this and the next: only where the ledger is distributed */
    Datum expires_at;
};

/*
 * Finds dead holds. The subquery is not pulled up: it looks each key up by the index of
 * usage_events.
 */
#define SELECT_DEAD_HOLDS(condition)                                                               \
    "SELECT h.account_id, h.ctid, e.account_id FROM %1$s AS h"                                     \
    " LEFT JOIN LATERAL"                                                                           \
    " (SELECT e.account_id FROM %2$s AS e"                                                         \
    " WHERE e.account_id OPERATOR(pg_catalog.=) h.account_id"                                      \
    " AND e.idempotency_key OPERATOR(pg_catalog.=) h.idempotency_key OFFSET 0) AS e ON true"       \
    " WHERE " condition                                                                            \
    " AND (h.expires_at OPERATOR(pg_catalog.<=) $2 OR e.account_id IS NOT NULL)"                   \
    " ORDER BY h.account_id, h.idempotency_key LIMIT $3"
#define SELECT_DISTRIBUTED_DEAD_HOLDS(condition)                                                   \
    "SELECT h.account_id, " NO_TID ", e.account_id, h.idempotency_key, h.expires_at"               \
    " FROM %1$s AS h LEFT JOIN %2$s AS e ON e.account_id OPERATOR(pg_catalog.=) h.account_id"      \
    " AND e.idempotency_key OPERATOR(pg_catalog.=) h.idempotency_key"                              \
    " WHERE " condition                                                                            \
    " AND (h.expires_at OPERATOR(pg_catalog.<=) $2 OR e.account_id IS NOT NULL)"                   \
    " ORDER BY h.account_id, h.idempotency_key LIMIT $3"

struct DeadHolds {
    DeadHold *holds;
    size_t count;
};

DeadHolds find_dead_holds(Statement *statement, const Datum *arguments)
{
    const uint64 count = run_in_snapshot(statement, arguments, GetLatestSnapshot());
    const DeadHolds dead = {static_cast<DeadHold *>(palloc(count * sizeof(DeadHold))), count};
    for (uint64 row = 0; row < count; row++) {
        dead.holds[row] = {counter_id(required_column(1, row), 0), tid_column(2, row),
                           column_is_null(3, row), 0, 0};
        if (is_distributed()) {
            dead.holds[row].key = PointerGetDatum(DatumGetTextPCopy(required_column(4, row)));
            dead.holds[row].expires_at = required_column(5, row);
        }
    }
    free_rows();
    return dead;
}

/*
 * Deletes holds of accounts whose limits are locked. The returned rows are theirs. A hold that
 * has been renewed since it was found is in another place and has another expiry, and is left.
 */
uint64 delete_holds(const DeadHolds &dead)
{
    static Statement statement = {
        "usage_holds",
        "DELETE FROM %s WHERE ctid OPERATOR(pg_catalog.=) ANY ($1) RETURNING account_id, tokens, "
        "scope",
        {TIDARRAYOID},
        {},
        "DELETE FROM %s"
        " WHERE account_id OPERATOR(pg_catalog.=) $2 AND idempotency_key OPERATOR(pg_catalog.=) $3"
        " AND expires_at OPERATOR(pg_catalog.=) $4 RETURNING account_id, tokens, scope",
        {UUIDOID, TEXTOID, TIMESTAMPTZOID}};
    if (dead.count == 0) {
        return 0;
    }
    uint64 expired_count = 0;
    const Datum arguments[] = {
        make_array(dead.count, TIDOID,
                   [&](size_t i) {
                       expired_count += dead.holds[i].is_expired ? 1 : 0;
                       return PointerGetDatum(&dead.holds[i].tid);
                   }),
        name_array(dead.count, UUIDOID,
                   [&](size_t i) { return account_of(dead.holds[i].account); }),
        name_array(dead.count, TEXTOID, [&](size_t i) { return dead.holds[i].key; }),
        name_array(dead.count, TIMESTAMPTZOID, [&](size_t i) { return dead.holds[i].expires_at; }),
    };
    count_stat(Stat::expired_holds, expired_count);
    return run(&statement, arguments);
}

/* Keeps those holds whose account's limit it can lock. */
void try_lock_limits(DeadHolds *dead)
{
    static Statement statement = {
        "usage_limits",
        "SELECT k.ordinal FROM pg_catalog.unnest($1) WITH ORDINALITY AS k (account_id, ordinal)"
        " CROSS JOIN LATERAL"
        " (SELECT l.account_id FROM %s AS l WHERE l.account_id OPERATOR(pg_catalog.=) k.account_id"
        " AND l.scope OPERATOR(pg_catalog.=) '' FOR NO KEY UPDATE SKIP LOCKED) AS l",
        {UUIDARRAYOID},
        {},
        "SELECT $2 FROM %s WHERE account_id OPERATOR(pg_catalog.=) $1"
        " AND scope OPERATOR(pg_catalog.=) '' FOR NO KEY UPDATE SKIP LOCKED"};
    const Datum accounts = make_array(dead->count, UUIDOID,
                                      [&](size_t i) { return account_of(dead->holds[i].account); });
    lock_for_write(&statement);
    const uint64 locked_count = run(&statement, &accounts);
    for (uint64 row = 0; row < locked_count; row++) {
        /* The rows come in the order of the holds, without those that are left. */
        dead->holds[row] = dead->holds[DatumGetInt64(required_column(1, row)) - 1];
    }
    dead->count = locked_count;
    free_rows();
}

/* Calls a function with each level of a scope, from the whole account to the scope itself. */
template <typename Function> void for_each_level(std::string_view scope, Function function)
{
    function(std::string_view());
    for (size_t i = 1; i <= scope.size(); i++) {
        if (i == scope.size() || scope[i] == '/') {
            function(scope.substr(0, i));
        }
    }
}

/* Subtracts the tokens of returned holds from what their levels hold. */
void subtract_from_limits(uint64 hold_count)
{
    static Statement statement = {
        "usage_limits",
        "UPDATE %s AS l SET tokens_held = l.tokens_held OPERATOR(pg_catalog.-) k.tokens,"
        " version = l.version OPERATOR(pg_catalog.+) 1"
        " FROM (SELECT k.account_id, k.scope, pg_catalog.sum(k.tokens)::pg_catalog.int8 AS tokens"
        " FROM unnest($1, $2, $3) AS k (account_id, scope, tokens)"
        " GROUP BY k.account_id, k.scope) AS k"
        " WHERE l.account_id OPERATOR(pg_catalog.=) k.account_id"
        " AND l.scope OPERATOR(pg_catalog.=) k.scope",
        {UUIDARRAYOID, TEXTARRAYOID, INT8ARRAYOID},
        {},
        "UPDATE %s SET tokens_held = tokens_held OPERATOR(pg_catalog.-) $3,"
        " version = version OPERATOR(pg_catalog.+) 1 WHERE account_id OPERATOR(pg_catalog.=) $1"
        " AND scope OPERATOR(pg_catalog.=) $2"};
    struct Share {
        uint64 row;
        std::string_view level;
    };
    size_t count = 0;
    for (uint64 row = 0; row < hold_count; row++) {
        for_each_level(text_view(required_column(3, row)), [&](std::string_view) { count++; });
    }
    if (count == 0) {
        return;
    }
    auto *shares = allocate<Share>(count);
    count = 0;
    for (uint64 row = 0; row < hold_count; row++) {
        for_each_level(text_view(required_column(3, row)), [&](std::string_view level) {
            shares[count++] = {row, level};
        });
    }
    const Datum arguments[] = {
        make_array(count, UUIDOID, [&](size_t i) { return required_column(1, shares[i].row); }),
        make_array(count, TEXTOID, [&](size_t i) { return text_datum(shares[i].level); }),
        make_array(count, INT8OID, [&](size_t i) { return required_column(2, shares[i].row); }),
    };
    run(&statement, arguments);
}

/* The columns of usage_holds. */
enum HoldColumn : AttrNumber {
    hold_account_id = 1,
    hold_expires_at,
    hold_tokens,
    hold_idempotency_key,
    hold_scope
};
constexpr int hold_column_count = hold_scope;

/* Returns the columns of find_hold's statement. */
int64 find_hold_row(const RowCall &call)
{
    static const AttrNumber columns[] = {hold_scope, hold_tokens, hold_expires_at};
    const Key key[] = {{UUIDOID, call.arguments[0]}, {TEXTOID, call.arguments[1]}};
    return return_row(find_row(call, {key, lengthof(key)}), {columns, lengthof(columns)});
}

/* The arguments are those of try_insert_hold's statement. */
int64 insert_hold_row(const RowCall &call)
{
    const Datum *arguments = call.arguments;
    const NullableDatum columns[] = {{arguments[0], false},
                                     {arguments[3], false},
                                     {arguments[2], false},
                                     {arguments[1], false},
                                     {text_datum({}), false}};
    return insert_row(call, {columns, lengthof(columns)});
}

} // namespace

void find_hold(const Claim &claim, Standing *standing)
{
    static Statement statement = {"usage_holds",
                                  "SELECT scope, tokens, expires_at FROM %s"
                                  " WHERE account_id OPERATOR(pg_catalog.=) $1"
                                  " AND idempotency_key OPERATOR(pg_catalog.=) $2",
                                  {UUIDOID, TEXTOID},
                                  {},
                                  nullptr,
                                  {},
                                  {ACL_SELECT, hold_column_count, find_hold_row}};
    const Datum arguments[] = {claim.account_id, claim.idempotency_key};
    lock_for_write(&statement);
    standing->has_hold = run_in_snapshot(&statement, arguments, GetLatestSnapshot()) == 1;
    if (standing->has_hold) {
        standing->hold = {text_view(required_column(1)), DatumGetInt64(required_column(2)),
                          DatumGetTimestampTz(required_column(3))};
    }
}

bool try_insert_hold(const Claim &claim, Standing *standing)
{
    static Statement statement = {
        "usage_holds",
        "INSERT INTO %s (account_id, idempotency_key, tokens, expires_at)"
        " VALUES ($1, $2, $3, $4) ON CONFLICT (account_id, idempotency_key) DO NOTHING",
        {UUIDOID, TEXTOID, INT8OID, TIMESTAMPTZOID},
        {},
        nullptr,
        {},
        {ACL_INSERT | ACL_SELECT, hold_column_count, insert_hold_row}};
    Assert(claim.scope.empty());
    standing->hold.expires_at = standing->now + claim.length_us;
    const Datum arguments[] = {claim.account_id, claim.idempotency_key, Int64GetDatum(claim.tokens),
                               TimestampTzGetDatum(standing->hold.expires_at)};
    return run(&statement, arguments) == 1;
}

Datum levels_of(std::string_view scope)
{
    auto *levels = allocate<Datum>(scope.size() + 1);
    size_t count = 0;
    for_each_level(scope, [&](std::string_view level) { levels[count++] = text_datum(level); });
    return make_array(count, TEXTOID, [&](size_t i) { return levels[i]; });
}

void move_hold(Datum account_id, const Hold &added, const Hold &subtracted)
{
    static Statement statement = {
        "usage_limits",
        "UPDATE %s SET tokens_held = tokens_held"
        " OPERATOR(pg_catalog.+) CASE WHEN scope OPERATOR(pg_catalog.=) ANY ($2) THEN $3 ELSE 0 END"
        " OPERATOR(pg_catalog.-) CASE WHEN scope OPERATOR(pg_catalog.=) ANY ($4) THEN $5 ELSE 0 END"
        " WHERE account_id OPERATOR(pg_catalog.=) $1"
        " AND scope OPERATOR(pg_catalog.=) ANY ($2 OPERATOR(pg_catalog.||) $4)",
        {UUIDOID, TEXTARRAYOID, INT8OID, TEXTARRAYOID, INT8OID}};
    const Datum arguments[] = {account_id, levels_of(added.scope), Int64GetDatum(added.tokens),
                               levels_of(subtracted.scope), Int64GetDatum(subtracted.tokens)};
    run(&statement, arguments);
}

void replace_hold(const Claim &claim, Standing *standing)
{
    static Statement statement = {
        "usage_holds",
        "INSERT INTO %s (account_id, idempotency_key, tokens, expires_at, scope)"
        " VALUES ($1, $2, $3, $4, $5) ON CONFLICT (account_id, idempotency_key) DO UPDATE"
        " SET tokens = excluded.tokens, expires_at = excluded.expires_at, scope = excluded.scope",
        {UUIDOID, TEXTOID, INT8OID, TIMESTAMPTZOID, TEXTOID}};
    const Hold hold = {claim.scope, claim.tokens, standing->now + claim.length_us};
    move_hold(claim.account_id, hold,
              standing->has_hold ? standing->hold : Hold{claim.scope, 0, 0});
    const Datum arguments[] = {claim.account_id, claim.idempotency_key, Int64GetDatum(hold.tokens),
                               TimestampTzGetDatum(hold.expires_at), text_datum(hold.scope)};
    run(&statement, arguments);
    standing->hold = hold;
}

void delete_hold(Datum account_id, Datum idempotency_key)
{
    static Statement statement = {
        "usage_holds",
        "DELETE FROM %s"
        " WHERE account_id OPERATOR(pg_catalog.=) $1 AND idempotency_key OPERATOR(pg_catalog.=) $2"
        " RETURNING account_id, tokens, scope",
        {UUIDOID, TEXTOID}};
    const Datum arguments[] = {account_id, idempotency_key};
    subtract_from_limits(run(&statement, arguments));
}

#define OTHERS_OF_ACCOUNT                                                                          \
    "h.account_id OPERATOR(pg_catalog.=) $1 AND h.idempotency_key OPERATOR(pg_catalog.<>) $4"

bool delete_dead_holds(Datum account_id, Datum kept_key, TimestampTz now)
{
    static Statement statement = {"usage_holds",
                                  SELECT_DEAD_HOLDS(OTHERS_OF_ACCOUNT),
                                  {UUIDOID, TIMESTAMPTZOID, INT8OID, TEXTOID},
                                  {"usage_events"},
                                  SELECT_DISTRIBUTED_DEAD_HOLDS(OTHERS_OF_ACCOUNT)};
    const Datum arguments[] = {account_id, TimestampTzGetDatum(now),
                               Int64GetDatum(core::dead_holds_max), kept_key};
    const DeadHolds dead = find_dead_holds(&statement, arguments);
    const uint64 deleted_count = delete_holds(dead);
    subtract_from_limits(deleted_count);
    return deleted_count > 0;
}

#define FROM_ACCOUNT "h.account_id OPERATOR(pg_catalog.>=) $1"

bool sweep_dead_holds(core::CounterId *from)
{
    static Statement statement = {"usage_holds",
                                  SELECT_DEAD_HOLDS(FROM_ACCOUNT),
                                  {UUIDOID, TIMESTAMPTZOID, INT8OID},
                                  {"usage_events"},
                                  SELECT_DISTRIBUTED_DEAD_HOLDS(FROM_ACCOUNT)};
    const Datum arguments[] = {account_of(*from), TimestampTzGetDatum(GetCurrentTimestamp()),
                               Int64GetDatum(core::dead_holds_max)};
    lock_for_write(&statement);
    DeadHolds dead = find_dead_holds(&statement, arguments);
    if (dead.count == 0) {
        return false;
    }
    const bool has_more = dead.count == core::dead_holds_max;
    *from = dead.holds[dead.count - 1].account;
    try_lock_limits(&dead);
    const bool is_last_locked = dead.count > 0 && dead.holds[dead.count - 1].account == *from;
    subtract_from_limits(delete_holds(dead));
    return has_more && (is_last_locked || core::next_account(from));
}

} // namespace usage_ledger
