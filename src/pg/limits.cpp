#include "pg/postgres.hpp"

#include "pg/limits.hpp"

#include "pg/breakdowns.hpp"
#include "pg/counters.hpp"
#include "pg/events.hpp"
#include "pg/holds.hpp"
#include "pg/locks.hpp"
#include "pg/settings.hpp"
#include "pg/spi.hpp"

namespace usage_ledger
{

#define WHERE_LIMIT                                                                                \
    " WHERE account_id OPERATOR(pg_catalog.=) $1 AND scope OPERATOR(pg_catalog.=) ''"

namespace
{

/* Whether the rows after this one are of periods that the key may be counted in. */
bool has_earlier_period(const Claim &claim, uint64 row)
{
    return !column_is_null(5, row) && DatumGetTimestampTz(required_column(5, row)) > claim.earliest;
}

void read_period(const Claim &claim, uint64 row, Standing *standing)
{
    const Period period = {DatumGetTimestampTz(required_column(5, row)),
                           DatumGetTimestampTz(required_column(6, row)), !column_is_null(7, row)};
    if (period.end <= claim.earliest) {
        return; /* it has been ended since it was found */
    }
    standing->first_period_start = Min(standing->first_period_start, period.start);
    standing->last_period_start = Max(standing->last_period_start, period.start);
    standing->balance.tokens_used =
        Max(standing->balance.tokens_used, DatumGetInt64(required_column(8, row)));
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
        " l.version, l.tokens_held, l.token_limit, p.period_start, p.period_end, p.closed_at,"
        " LEAST(p.tokens_used OPERATOR(pg_catalog.+) COALESCE("
        "(SELECT pg_catalog.sum(q.tokens) FROM %4$s AS q"
        " WHERE q.account_id OPERATOR(pg_catalog.=) $1"
        " AND q.period_start OPERATOR(pg_catalog.=) p.period_start), 0),"
        " 9223372036854775807)::pg_catalog.int8"
        " FROM %1$s AS l LEFT JOIN LATERAL"
        " (SELECT p.period_start, p.period_end, p.closed_at, p.tokens_used FROM %3$s AS p"
        " WHERE p.account_id OPERATOR(pg_catalog.=) $1"
        " AND p.period_start OPERATOR(pg_catalog.<=) $3"
        " ORDER BY p.period_start DESC OFFSET 0) AS p ON true"
        " WHERE l.account_id OPERATOR(pg_catalog.=) $1 AND l.scope OPERATOR(pg_catalog.=) ''",
        {UUIDOID, TEXTOID, TIMESTAMPTZOID},
        {"usage_events", "usage_periods", "usage_pending"}};
    *standing = {};
    standing->first_period_start = DT_NOEND;
    standing->last_period_start = DT_NOBEGIN;
    standing->now = GetCurrentTimestamp();
    const TimestampTz latest =
        claim.length_us > 0 ? standing->now + claim.length_us - 1 : claim.earliest;
    const Datum arguments[] = {claim.account_id, claim.idempotency_key,
                               TimestampTzGetDatum(latest)};
    lock_for_write(&statement);
    uint64 row_count_max = 1; /* nearly always, the last period is the only one */
    uint64 row_count;
    while ((row_count = run_in_snapshot(&statement, arguments, GetLatestSnapshot(),
                                        row_count_max)) == row_count_max &&
           has_earlier_period(claim, row_count - 1)) {
        row_count_max *= 16;
    }
    if (row_count == 0) {
        return false;
    }
    standing->is_counted = DatumGetBool(required_column(1));
    standing->version = DatumGetInt64(required_column(2));
    standing->balance.tokens_held = DatumGetInt64(required_column(3));
    standing->is_unlimited = column_is_null(4);
    standing->balance.token_limit = standing->is_unlimited ? 0 : DatumGetInt64(required_column(4));
    for (uint64 row = 0; row < row_count && !column_is_null(5, row); row++) {
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
    return standing.has_hold && standing.hold.expires_at > standing.now && !standing.is_counted;
}

namespace
{

/* Reads the levels of a claim, which has a scope, in the periods of a standing. */
void read_levels(const Claim &claim, Standing *standing)
{
    static Statement statement = {
        "usage_limits",
        "SELECT l.scope, l.token_limit, l.tokens_held, LEAST(COALESCE("
        "(SELECT pg_catalog.max(t.tokens_used) FROM %2$s AS t"
        " WHERE t.account_id OPERATOR(pg_catalog.=) $1"
        " AND t.scope OPERATOR(pg_catalog.=) l.scope"
        " AND t.period_start OPERATOR(pg_catalog.>=) $3"
        " AND t.period_start OPERATOR(pg_catalog.<=) $4), 0),"
        " 9223372036854775807)::pg_catalog.int8"
        " FROM %1$s AS l WHERE l.account_id OPERATOR(pg_catalog.=) $1"
        " AND l.scope OPERATOR(pg_catalog.<>) '' AND l.token_limit IS NOT NULL"
        " AND l.scope OPERATOR(pg_catalog.=) ANY ($2) ORDER BY l.scope",
        {UUIDOID, TEXTARRAYOID, TIMESTAMPTZOID, TIMESTAMPTZOID},
        {"usage_scope_totals", "usage_breakdown"}, /* the view locks only itself */
        "SELECT l.scope, l.token_limit, l.tokens_held, LEAST(COALESCE("
        "pg_catalog.max(t.tokens_used), 0), 9223372036854775807)::pg_catalog.int8"
        " FROM %1$s AS l LEFT JOIN (SELECT account_id, scope, tokens_used FROM %2$s"
        " WHERE account_id OPERATOR(pg_catalog.=) $1"
        " AND period_start OPERATOR(pg_catalog.>=) $3"
        " AND period_start OPERATOR(pg_catalog.<=) $4) AS t"
        " ON t.account_id OPERATOR(pg_catalog.=) l.account_id"
        " AND t.scope OPERATOR(pg_catalog.=) l.scope"
        " WHERE l.account_id OPERATOR(pg_catalog.=) $1"
        " AND l.scope OPERATOR(pg_catalog.<>) '' AND l.token_limit IS NOT NULL"
        " AND l.scope OPERATOR(pg_catalog.=) $2"
        " GROUP BY l.scope, l.token_limit, l.tokens_held"};
    const Datum arguments[] = {claim.account_id, levels_of(claim.scope),
                               TimestampTzGetDatum(standing->first_period_start),
                               TimestampTzGetDatum(standing->last_period_start)};
    lock_for_write(&statement);
    standing->level_count = run_in_snapshot(&statement, arguments, GetLatestSnapshot());
    standing->levels = static_cast<Level *>(palloc(Max(standing->level_count, 1) * sizeof(Level)));
    for (size_t i = 0; i < standing->level_count; i++) {
        standing->levels[i] = {text_view(required_column(1, i)),
                               {DatumGetInt64(required_column(2, i)),
                                DatumGetInt64(required_column(4, i)),
                                DatumGetInt64(required_column(3, i))}};
    }
}

/* A sum of what is not negative, or the largest number. */
int64 capped_sum(int64 left, int64 right)
{
    int64 sum;
    return pg_add_s64_overflow(left, right, &sum) ? PG_INT64_MAX : sum;
}

/* A session that has written may have the row already, so it must not wait in line. */
void stand_in_line(Datum account_id)
{
    if (!TransactionIdIsValid(GetTopTransactionIdIfAny())) {
        /* The waiter lock of a limit is that of a counter which no account has. */
        lock_waiter(counter_id(account_id, DT_NOBEGIN));
    }
}

void note_spending(Datum account_id)
{
    static Statement statement = {
        "usage_limits",
        "UPDATE %s SET version = version OPERATOR(pg_catalog.+) 1" WHERE_LIMIT,
        {UUIDOID}};
    run(&statement, &account_id);
}

/* The columns of usage_limits. */
enum LimitColumn : AttrNumber {
    limit_account_id = 1,
    limit_token_limit,
    limit_tokens_held,
    limit_version,
    limit_scope
};
constexpr int limit_column_count = limit_scope;

/* The arguments are those of take_from_limit's statement. */
int64 take_from_row(const RowCall &call)
{
    static const AttrNumber returned[] = {limit_token_limit, limit_tokens_held};
    const Datum *arguments = call.arguments;
    const Key key[] = {{UUIDOID, arguments[0]}, {TEXTOID, text_datum({})}};
    TupleTableSlot *row = find_row(call, {key, lengthof(key)});
    if (row == nullptr) {
        return 0;
    }
    bool has_no_limit;
    const int64 limit = DatumGetInt64(slot_getattr(row, limit_token_limit, &has_no_limit));
    const int64 held = int64_column(row, limit_tokens_held);
    const int64 version = int64_column(row, limit_version);
    const int64 needed = DatumGetInt64(arguments[2]), added = DatumGetInt64(arguments[3]);
    int64 count = 0;
    int64 room, sum;
    if (!has_no_limit && version == DatumGetInt64(arguments[1]) &&
        !pg_sub_s64_overflow(limit, held, &room) && room >= needed) {
        const bool fits = !pg_add_s64_overflow(held, added, &sum);
        const Change changes[] = {
            {limit_tokens_held, Int64GetDatum(sum)},
            {limit_version, Int64GetDatum(version + DatumGetInt64(arguments[4]))}};
        count = fits ? update_row(call, row, {changes, lengthof(changes)},
                                  {returned, lengthof(returned)})
                     : not_taken;
    }
    ExecDropSingleTupleTableSlot(row);
    return count;
}

/*
 * Takes the room of a claim without a scope, and sets what remains. False: the limit, or what is
 * held, has changed too much since the standing was read.
 */
bool take_from_limit(const Claim &claim, Use use, Standing *standing)
{
    static Statement statement = {
        "usage_limits",
        "UPDATE %s SET tokens_held = tokens_held OPERATOR(pg_catalog.+) $4,"
        " version = version OPERATOR(pg_catalog.+) $5" WHERE_LIMIT
        " AND version OPERATOR(pg_catalog.=) $2"
        " AND token_limit OPERATOR(pg_catalog.-) tokens_held OPERATOR(pg_catalog.>=) $3"
        " RETURNING token_limit, tokens_held",
        {UUIDOID, INT8OID, INT8OID, INT8OID, INT8OID},
        {},
        nullptr,
        {},
        {ACL_SELECT | ACL_UPDATE, limit_column_count, take_from_row}};
    const int64 tokens_used = standing->balance.tokens_used;
    const bool is_hold = use == Use::hold;
    const Datum arguments[] = {claim.account_id, Int64GetDatum(standing->version),
                               Int64GetDatum(capped_sum(tokens_used, claim.tokens)),
                               Int64GetDatum(is_hold ? claim.tokens : 0),
                               Int64GetDatum(is_hold ? 0 : 1)};
    if (run(&statement, arguments) == 0) {
        return false;
    }
    standing->tokens_remaining =
        core::tokens_remaining({DatumGetInt64(required_column(1)),
                                is_hold ? tokens_used : capped_sum(tokens_used, claim.tokens),
                                DatumGetInt64(required_column(2))});
    return true;
}

/* Takes room without the lock, for a claim without a scope whose key has no hold. */
bool try_take(const Claim &claim, Use use, Standing *standing)
{
    if (!claim.scope.empty() || !core::fits(standing->balance, claim.tokens, 0) ||
        !take_from_limit(claim, use, standing)) {
        return false;
    }
    if (use == Use::count || try_insert_hold(claim, standing)) {
        return true;
    }
    move_hold(claim.account_id, {{}, 0, 0}, {claim.scope, claim.tokens, 0});
    return false;
}

/*
 * Whether a claim fits a level. Its key may keep or lower what it holds there. But a hold is no
 * claim to a period that it would not have lived to see.
 */
bool fits_level(const Claim &claim, std::string_view level, core::Balance balance,
                Standing *standing)
{
    int64 tokens_already_held = 0;
    if (standing->has_hold && core::is_within(standing->hold.scope, level)) {
        balance.tokens_held -= standing->hold.tokens;
        if (has_live_hold(*standing) && standing->last_period_start < standing->hold.expires_at) {
            tokens_already_held = standing->hold.tokens;
        }
    }
    standing->tokens_remaining = Min(standing->tokens_remaining, core::tokens_remaining(balance));
    return core::fits(balance, claim.tokens, tokens_already_held);
}

/* Whether a claim fits all levels. Sets what remains before it, and the level that refuses it. */
bool fits_all(const Claim &claim, Standing *standing)
{
    standing->tokens_remaining = PG_INT64_MAX;
    bool fits = standing->is_unlimited || fits_level(claim, {}, standing->balance, standing);
    for (size_t i = 0; i < standing->level_count; i++) {
        const Level &level = standing->levels[i];
        if (!fits_level(claim, level.scope, level.balance, standing) && fits) {
            standing->refused_by = claim.scope.substr(0, level.scope.size());
            fits = false;
        }
    }
    return fits;
}

/* Takes room under the lock, for a claim that fits. */
void take(const Claim &claim, Use use, Standing *standing)
{
    if (use == Use::hold) {
        replace_hold(claim, standing);
    } else {
        note_spending(claim.account_id);
    }
    standing->tokens_remaining = Max(standing->tokens_remaining - claim.tokens, 0);
}

} // namespace

Room take_room(const Claim &claim, Use use, Standing *standing)
{
    bool is_locked = false;
    for (;;) {
        CHECK_FOR_INTERRUPTS();
        *standing = read_standing(claim);
        if (standing->is_counted) {
            return Room::counted;
        }
        if (!claim.scope.empty()) {
            read_levels(claim, standing);
        }
        if (standing->is_unlimited && standing->level_count == 0) {
            return Room::unlimited;
        }
        stand_in_line(claim.account_id);
        if (!is_locked) {
            if (try_take(claim, use, standing)) {
                return Room::taken;
            }
            is_locked = lock_limit(claim.account_id);
            continue;
        }
        find_hold(claim, standing);
        if (fits_all(claim, standing)) {
            take(claim, use, standing);
            return Room::taken;
        }
        if (!delete_dead_holds(claim.account_id, claim.idempotency_key, standing->now)) {
            return Room::refused;
        }
    }
}

void create_limit(Datum account_id, int64 token_limit)
{
    static Statement statement = {"usage_limits",
                                  "INSERT INTO %s (account_id, token_limit) VALUES ($1, $2)"
                                  " ON CONFLICT (account_id, scope) DO NOTHING",
                                  {UUIDOID, INT8OID}};
    const Datum arguments[] = {account_id, Int64GetDatum(token_limit)};
    run(&statement, arguments, token_limit < 0 ? " n" : nullptr);
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
