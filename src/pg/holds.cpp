#include "pg/postgres.hpp"

#include "pg/holds.hpp"

#include "core/limits.hpp"
#include "pg/spi.hpp"
#include "pg/stats.hpp"

namespace usage_ledger
{

void write_hold(Datum account_id, Datum idempotency_key, int64 tokens, TimestampTz expires_at,
                int64 tokens_held)
{
    static Statement statement = {
        "usage_limits",
        "WITH hold AS (INSERT INTO %2$s (account_id, idempotency_key, tokens, expires_at)"
        " VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (account_id, idempotency_key)"
        " DO UPDATE SET tokens = excluded.tokens, expires_at = excluded.expires_at)"
        " UPDATE %1$s SET tokens_held = $5"
        " WHERE account_id OPERATOR(pg_catalog.=) $1 AND scope OPERATOR(pg_catalog.=) ''",
        {UUIDOID, TEXTOID, INT8OID, TIMESTAMPTZOID, INT8OID},
        {"usage_holds"}};
    const Datum arguments[] = {account_id, idempotency_key, Int64GetDatum(tokens),
                               TimestampTzGetDatum(expires_at), Int64GetDatum(tokens_held)};
    run(&statement, arguments);
}

void delete_hold(Datum account_id, Datum idempotency_key)
{
    static Statement statement = {
        "usage_holds",
        "DELETE FROM %s"
        " WHERE account_id OPERATOR(pg_catalog.=) $1 AND idempotency_key OPERATOR(pg_catalog.=) $2",
        {UUIDOID, TEXTOID}};
    const Datum arguments[] = {account_id, idempotency_key};
    run(&statement, arguments);
}

uint64 delete_dead_holds(Datum account_id, Datum kept_key, TimestampTz now, int64 *tokens)
{
    /* The subquery is not pulled up: it looks each key up by the index of usage_events. */
    static Statement find = {
        "usage_holds",
        "SELECT h.ctid, h.tokens, e.account_id FROM %1$s AS h"
        " LEFT JOIN LATERAL"
        " (SELECT e.account_id FROM %2$s AS e"
        " WHERE e.account_id OPERATOR(pg_catalog.=) h.account_id"
        " AND e.idempotency_key OPERATOR(pg_catalog.=) h.idempotency_key OFFSET 0) AS e ON true"
        " WHERE h.account_id OPERATOR(pg_catalog.=) $1"
        " AND h.idempotency_key OPERATOR(pg_catalog.<>) $2"
        " AND (h.expires_at OPERATOR(pg_catalog.<=) $3 OR e.account_id IS NOT NULL)"
        " ORDER BY h.idempotency_key LIMIT $4",
        {UUIDOID, TEXTOID, TIMESTAMPTZOID, INT8OID},
        {"usage_events"}};
    static Statement remove = {
        "usage_holds", "DELETE FROM %s WHERE ctid OPERATOR(pg_catalog.=) ANY ($1)", {TIDARRAYOID}};
    const Datum arguments[] = {account_id, kept_key, TimestampTzGetDatum(now),
                               Int64GetDatum(core::dead_holds_max)};
    const uint64 count = run_in_snapshot(&find, arguments, GetLatestSnapshot());
    if (count == 0) {
        return 0;
    }
    uint64 expired_count = 0;
    for (uint64 row = 0; row < count; row++) {
        *tokens += DatumGetInt64(required_column(2, row));
        expired_count += column_is_null(3, row) ? 1 : 0;
    }
    const Datum tids = make_array(
        count, TIDOID, [](size_t row) { return required_column(1, static_cast<uint64>(row)); });
    free_rows();
    const uint64 deleted_count = run(&remove, &tids);
    if (deleted_count != count) {
        elog(ERROR, "deleted " UINT64_FORMAT " holds instead of " UINT64_FORMAT, deleted_count,
             count);
    }
    (void)expired_count;
    return count;
}

} // namespace usage_ledger
