#include "pg/postgres.hpp"

#include "pg/limits.hpp"

#include "pg/counters.hpp"
#include "pg/events.hpp"
#include "pg/holds.hpp"
#include "pg/locks.hpp"
#include "pg/settings.hpp"
#include "pg/spi.hpp"

namespace usage_ledger
{

namespace
{

/* The waiter lock of a limit is that of a counter which no account has. */
core::CounterId waiter_id(Datum account_id)
{
    return counter_id(account_id, DT_NOBEGIN);
}

void read_period(const Claim &claim, uint64 row, Standing *standing)
{
    const Period period = {DatumGetTimestampTz(required_column(7, row)),
                           DatumGetTimestampTz(required_column(8, row)), !column_is_null(9, row)};
    if (period.end <= claim.earliest) {
        return; /* it has been ended since it was found */
    }
    standing->last_period_start = Max(standing->last_period_start, period.start);
    standing->tokens_used = Max(standing->tokens_used, DatumGetInt64(required_column(10, row)));
    if (period.start <= claim.earliest) {
        standing->has_period = true;
        standing->period = period;
    }
}

} // namespace

bool find_standing(const Claim &claim, Standing *standing)
{
    static Statement statement = {
        "usage_limits",
        "SELECT EXISTS (SELECT FROM %2$s AS e"
        " WHERE e.account_id OPERATOR(pg_catalog.=) $1"
        " AND e.idempotency_key OPERATOR(pg_catalog.=) $2),"
        " l.xmin, l.tokens_held, l.token_limit, h.tokens, h.expires_at,"
        " p.period_start, p.period_end, p.closed_at,"
        " LEAST(p.tokens_used OPERATOR(pg_catalog.+) COALESCE("
        "(SELECT pg_catalog.sum(q.tokens) FROM %5$s AS q"
        " WHERE q.account_id OPERATOR(pg_catalog.=) $1"
        " AND q.period_start OPERATOR(pg_catalog.=) p.period_start), 0),"
        " 9223372036854775807)::pg_catalog.int8"
        " FROM %1$s AS l"
        " LEFT JOIN %3$s AS h ON h.account_id OPERATOR(pg_catalog.=) $1"
        " AND h.idempotency_key OPERATOR(pg_catalog.=) $2"
        " LEFT JOIN %4$s AS p ON p.account_id OPERATOR(pg_catalog.=) $1"
        " AND p.period_start OPERATOR(pg_catalog.>=) $3"
        " AND p.period_start OPERATOR(pg_catalog.<=) $4"
        " WHERE l.account_id OPERATOR(pg_catalog.=) $1 AND l.scope OPERATOR(pg_catalog.=) ''",
        {UUIDOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID},
        {"usage_events", "usage_holds", "usage_periods", "usage_pending"}};
    Period first = {claim.earliest, claim.earliest, false};
    (void)find_period(claim.account_id, claim.earliest, &first);
    *standing = {};
    standing->now = GetCurrentTimestamp();
    const TimestampTz latest =
        claim.length_us > 0 ? standing->now + claim.length_us - 1 : claim.earliest;
    const Datum arguments[] = {claim.account_id, claim.idempotency_key,
                               TimestampTzGetDatum(first.start), TimestampTzGetDatum(latest)};
    lock_for_write(&statement);
    const uint64 row_count = run_in_snapshot(&statement, arguments, GetLatestSnapshot());
    if (row_count == 0) {
        return false;
    }
    standing->is_counted = DatumGetBool(required_column(1));
    standing->version = DatumGetTransactionId(required_column(2));
    standing->tokens_held = DatumGetInt64(required_column(3));
    standing->is_unlimited = column_is_null(4);
    standing->token_limit = standing->is_unlimited ? 0 : DatumGetInt64(required_column(4));
    standing->has_hold = !column_is_null(5);
    if (standing->has_hold) {
        standing->hold_tokens = DatumGetInt64(required_column(5));
        standing->hold_expires_at = DatumGetTimestampTz(required_column(6));
    }
    for (uint64 row = 0; row < row_count && !column_is_null(7, row); row++) {
        read_period(claim, row, standing);
    }
    return true;
}

namespace
{

/* Gives an account without a limit the default one, if that is set. */
Standing read_standing(const Claim &claim)
{
    Standing standing;
    while (!find_standing(claim, &standing)) {
        CountedEvent counted;
        standing.is_counted =
            find_counted_event(claim.account_id, claim.idempotency_key, &counted, true);
        standing.is_unlimited = default_token_limit < 0;
        if (standing.is_counted || standing.is_unlimited) {
            break;
        }
        create_limit(claim.account_id, default_token_limit);
        CHECK_FOR_INTERRUPTS(); /* if an erase has deleted it in the meantime */
    }
    return standing;
}

} // namespace

bool has_live_hold(const Standing &standing)
{
    return standing.has_hold && standing.hold_expires_at > standing.now && !standing.is_counted;
}

core::Balance balance_of(const Standing &standing)
{
    return {standing.token_limit, standing.tokens_used,
            standing.tokens_held - standing.hold_tokens};
}

namespace
{

/* A hold is no claim to a period that it would not have lived to see. */
int64 tokens_already_held(const Standing &standing)
{
    return has_live_hold(standing) && standing.last_period_start < standing.hold_expires_at
               ? standing.hold_tokens
               : 0;
}

} // namespace

Room take_room(const Claim &claim, Take take, Standing *standing)
{
    const core::CounterId waiter = waiter_id(claim.account_id);
    const bool is_first_write = !TransactionIdIsValid(GetTopTransactionIdIfAny());
    bool is_in_line = is_first_write && try_lock_waiter(waiter);
    bool is_locked = false;
    for (;;) {
        CHECK_FOR_INTERRUPTS();
        *standing = read_standing(claim);
        if (standing->is_counted || standing->is_unlimited) {
            if (is_in_line) {
                unlock_waiter(waiter);
            }
            return standing->is_counted ? Room::counted : Room::unlimited;
        }
        const bool fits =
            core::fits(balance_of(*standing), claim.tokens, tokens_already_held(*standing));
        if (is_first_write && !is_in_line) {
            lock_waiter(waiter);
            is_in_line = true;
        } else if (fits && take(claim, *standing)) {
            return Room::taken;
        } else if (!is_locked) {
            is_locked = lock_limit(claim.account_id);
        } else if (!fits &&
                   !delete_dead_holds(claim.account_id, claim.idempotency_key, standing->now)) {
            return Room::refused;
        }
    }
}

#define WHERE_LIMIT                                                                                \
    " WHERE account_id OPERATOR(pg_catalog.=) $1 AND scope OPERATOR(pg_catalog.=) ''"

bool touch_limit(Datum account_id, TransactionId version)
{
    static Statement statement = {"usage_limits",
                                  "UPDATE %s SET tokens_held = tokens_held" WHERE_LIMIT
                                  " AND xmin OPERATOR(pg_catalog.=) $2",
                                  {UUIDOID, XIDOID}};
    const Datum arguments[] = {account_id, TransactionIdGetDatum(version)};
    return run(&statement, arguments) == 1;
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

bool lock_limit(Datum account_id)
{
    static Statement statement = {
        "usage_limits", "SELECT FROM %s" WHERE_LIMIT " FOR NO KEY UPDATE", {UUIDOID}};
    lock_for_write(&statement);
    if (run(&statement, &account_id) == 1) {
        return true;
    }
    if (IsolationUsesXactSnapshot()) {
        ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                        errmsg("could not serialize access due to a concurrently set limit"),
                        errdetail("Account %s: its limit is newer than the transaction's snapshot.",
                                  account_text({account_id, false})),
                        errhint("Retry the transaction.")));
    }
    return false;
}

} // namespace usage_ledger
