#include "pg/postgres.hpp"

#include "pg/limits.hpp"

#include "pg/holds.hpp"
#include "pg/settings.hpp"
#include "pg/spi.hpp"

namespace usage_ledger
{

namespace
{

#define WHERE_LIMIT                                                                                \
    " WHERE account_id OPERATOR(pg_catalog.=) $1 AND scope OPERATOR(pg_catalog.=) ''"

/* What is known of a limit before it is locked. */
struct LimitGlance {
    bool is_counted; /* the key has an event */
    bool has_row;
    bool is_unlimited; /* the row says so */
};

LimitGlance glance_at_limit(Datum account_id, Datum idempotency_key)
{
    static Statement statement = {
        "usage_limits",
        "SELECT EXISTS (SELECT FROM %2$s AS e"
        " WHERE e.account_id OPERATOR(pg_catalog.=) $1"
        " AND e.idempotency_key OPERATOR(pg_catalog.=) $2),"
        " l.account_id, l.token_limit"
        " FROM (VALUES (1)) AS one LEFT JOIN %1$s AS l"
        " ON l.account_id OPERATOR(pg_catalog.=) $1 AND l.scope OPERATOR(pg_catalog.=) ''",
        {UUIDOID, TEXTOID},
        {"usage_events"}};
    const Datum arguments[] = {account_id, idempotency_key};
    lock_for_write(&statement);
    run_in_snapshot(&statement, arguments, GetLatestSnapshot());
    return {DatumGetBool(required_column(1)), !column_is_null(2), column_is_null(3)};
}

} // namespace

bool lock_existing_limit(Datum account_id, Limit *limit)
{
    static Statement statement = {"usage_limits",
                                  "SELECT tokens_held, token_limit FROM %s" WHERE_LIMIT
                                  " FOR NO KEY UPDATE",
                                  {UUIDOID}};
    lock_for_write(&statement);
    if (run(&statement, &account_id) == 0) {
        return false;
    }
    const int64 tokens_held = DatumGetInt64(required_column(1));
    const bool is_unlimited = column_is_null(2);
    *limit = {is_unlimited, is_unlimited ? 0 : DatumGetInt64(required_column(2)), tokens_held,
              tokens_held};
    return true;
}

void create_limit(Datum account_id, int64 token_limit)
{
    static Statement statement = {"usage_limits",
                                  "INSERT INTO %s (account_id, token_limit) VALUES ($1, $2)"
                                  " ON CONFLICT (account_id, scope) DO NOTHING",
                                  {UUIDOID, INT8OID}};
    const Datum arguments[] = {account_id, Int64GetDatum(token_limit)};
    run(&statement, arguments);
}

LimitAccess lock_limit(Datum account_id, Datum idempotency_key, Limit *limit)
{
    for (;;) {
        const LimitGlance glance = glance_at_limit(account_id, idempotency_key);
        if (glance.is_counted) {
            return LimitAccess::counted;
        }
        if (glance.has_row ? glance.is_unlimited : default_token_limit < 0) {
            return LimitAccess::unlimited;
        }
        if (!glance.has_row) {
            create_limit(account_id, default_token_limit);
        }
        if (lock_existing_limit(account_id, limit)) {
            return limit->is_unlimited ? LimitAccess::unlimited : LimitAccess::locked;
        }
        if (IsolationUsesXactSnapshot()) {
            ereport(ERROR,
                    (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                     errmsg("could not serialize access due to a concurrently set limit"),
                     errdetail("Account %s: the limit is newer than the transaction's snapshot.",
                               account_text({account_id, false})),
                     errhint("Retry the transaction.")));
        }
        CHECK_FOR_INTERRUPTS(); /* another session has deleted it in the meantime */
    }
}

void store_tokens_held(Datum account_id, const Limit &limit)
{
    static Statement statement = {
        "usage_limits", "UPDATE %s SET tokens_held = $2" WHERE_LIMIT, {UUIDOID, INT8OID}};
    const Datum arguments[] = {account_id, Int64GetDatum(limit.tokens_held)};
    if (limit.tokens_held != limit.stored_tokens_held) {
        run(&statement, arguments);
    }
}

/*
 * One statement, so that no usage is missed that a settler moves from the queue to its counter in
 * the meantime. It shows what is committed when it starts, also to a transaction whose own
 * snapshot is older: what others have counted and spent since takes room too.
 */
Standing read_standing(const Claim &claim)
{
    static Statement statement = {
        "usage_holds",
        "SELECT EXISTS (SELECT FROM %2$s AS e"
        " WHERE e.account_id OPERATOR(pg_catalog.=) $1"
        " AND e.idempotency_key OPERATOR(pg_catalog.=) $2),"
        " h.tokens, h.expires_at, p.period_start, p.period_end, p.closed_at,"
        " LEAST(p.tokens_used OPERATOR(pg_catalog.+) COALESCE("
        "(SELECT pg_catalog.sum(q.tokens) FROM %4$s AS q"
        " WHERE q.account_id OPERATOR(pg_catalog.=) $1"
        " AND q.period_start OPERATOR(pg_catalog.=) p.period_start), 0),"
        " 9223372036854775807)::pg_catalog.int8"
        " FROM (VALUES (1)) AS one"
        " LEFT JOIN %1$s AS h ON h.account_id OPERATOR(pg_catalog.=) $1"
        " AND h.idempotency_key OPERATOR(pg_catalog.=) $2"
        " LEFT JOIN %3$s AS p ON p.account_id OPERATOR(pg_catalog.=) $1"
        " AND p.period_start OPERATOR(pg_catalog.>=) $3"
        " AND p.period_start OPERATOR(pg_catalog.<=) $4",
        {UUIDOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID},
        {"usage_events", "usage_periods", "usage_pending"}};
    Period first = {claim.earliest, claim.earliest, false};
    (void)find_period(claim.account_id, claim.earliest, &first);
    const Datum arguments[] = {claim.account_id, claim.idempotency_key,
                               TimestampTzGetDatum(first.start), TimestampTzGetDatum(claim.latest)};
    lock_for_write(&statement);
    const uint64 row_count = run_in_snapshot(&statement, arguments, GetLatestSnapshot());

    Standing standing = {};
    standing.is_counted = DatumGetBool(required_column(1));
    standing.has_hold = !column_is_null(2);
    if (standing.has_hold) {
        standing.tokens_held = DatumGetInt64(required_column(2));
        standing.expires_at = DatumGetTimestampTz(required_column(3));
    }
    for (uint64 row = 0; row < row_count && !column_is_null(4, row); row++) {
        const Period period = {DatumGetTimestampTz(required_column(4, row)),
                               DatumGetTimestampTz(required_column(5, row)),
                               !column_is_null(6, row)};
        if (period.end <= claim.earliest) {
            continue; /* it has been ended since it was found */
        }
        standing.tokens_used = Max(standing.tokens_used, DatumGetInt64(required_column(7, row)));
        if (period.start <= claim.now && claim.now < period.end) {
            standing.has_period = true;
            standing.period = period;
        }
    }
    return standing;
}

bool has_live_hold(const Standing &standing, TimestampTz now)
{
    return standing.has_hold && standing.expires_at > now && !standing.is_counted;
}

core::Balance balance_of(const Limit &limit, const Standing &standing)
{
    return {limit.token_limit, standing.tokens_used, limit.tokens_held - standing.tokens_held};
}

bool make_room(const Claim &claim, Limit *limit, Standing *standing)
{
    for (;;) {
        CHECK_FOR_INTERRUPTS();
        /* After holds were deleted, the usage that has killed them is read with the rest. */
        *standing = read_standing(claim);
        const int64 own_tokens = has_live_hold(*standing, claim.now) ? standing->tokens_held : 0;
        if (standing->is_counted ||
            core::fits(balance_of(*limit, *standing), claim.tokens, own_tokens)) {
            return true;
        }
        int64 dead_tokens = 0;
        if (delete_dead_holds(claim.account_id, claim.idempotency_key, claim.now, &dead_tokens) ==
            0) {
            return false;
        }
        limit->tokens_held -= dead_tokens;
    }
}

} // namespace usage_ledger
