#include "pg/postgres.hpp"

#include "pg/statements.hpp"

namespace usage_ledger
{

namespace
{

constexpr int argument_count_max = 7;

struct Text {
    Statement statement;
    const char *table;
    const char *sql; /* %s stands for the table, qualified */
    int argument_count;
    Oid argument_types[argument_count_max];
};

/* Counters by account and start of their period, read in one way or another. */
#define SET_OF_COUNTERS(reading)                                                                   \
    "SELECT k.ordinal, c.ctid, c.period_end, c.closed_at,"                                         \
    " c.tokens_used, c.reports_used, c.chats_used"                                                 \
    " FROM unnest($1, $2) WITH ORDINALITY AS k (account_id, period_start, ordinal)"                \
    " CROSS JOIN LATERAL"                                                                          \
    " (SELECT p.ctid, p.period_end, p.closed_at, p.tokens_used, p.reports_used, p.chats_used"      \
    " FROM %s AS p WHERE p.account_id OPERATOR(pg_catalog.=) k.account_id"                         \
    " AND p.period_start OPERATOR(pg_catalog.=) k.period_start" reading ") AS c"

/* What an event was counted as, and whether it still is. */
#define COUNTED_EVENT "tokens, reports, chats, period_start, voided_at"

/*
 * Tables and operators are qualified, so the caller's search path has no say
 * (unnest of several arrays is the server's own, whatever it is called here).
 * One table each: simple enough for a sharding planner to route.
 *
 * Those that take arrays do for each element what their singular does, in the
 * order of the arrays: a subquery that locks, limits or offsets is not pulled up,
 * so that the arrays drive the plan, by the unique key, at any size of the table.
 */
const Text texts[statement_count] = {
    {Statement::register_accounts,
     "usage_accounts",
     "INSERT INTO %s (account_id, period_anchor)"
     " SELECT k.account_id, $2 FROM pg_catalog.unnest($1) AS k (account_id)"
     " ON CONFLICT (account_id) DO NOTHING",
     2,
     {UUIDARRAYOID, TIMESTAMPTZOID}},

    {Statement::lock_accounts,
     "usage_accounts",
     "SELECT k.ordinal, a.ctid, a.period_length, a.period_anchor, a.time_zone"
     " FROM pg_catalog.unnest($1) WITH ORDINALITY AS k (account_id, ordinal)"
     " CROSS JOIN LATERAL"
     " (SELECT a.ctid, a.period_length, a.period_anchor, a.time_zone FROM %s AS a"
     " WHERE a.account_id OPERATOR(pg_catalog.=) k.account_id FOR UPDATE) AS a",
     1,
     {UUIDARRAYOID}},

    /*
     * An update after the lock: under REPEATABLE READ whoever waited for the lock
     * is told that its snapshot is too old to see the periods opened meanwhile.
     */
    {Statement::mark_accounts,
     "usage_accounts",
     "UPDATE %s SET time_zone = time_zone WHERE ctid OPERATOR(pg_catalog.=) ANY ($1)",
     1,
     {TIDARRAYOID}},

    {Statement::set_cycle,
     "usage_accounts",
     "INSERT INTO %s AS account (account_id, period_length, period_anchor, time_zone)"
     " VALUES ($1, $2, $3, $4)"
     " ON CONFLICT (account_id) DO UPDATE SET period_length = excluded.period_length,"
     " period_anchor = excluded.period_anchor, time_zone = excluded.time_zone"
     " RETURNING account",
     4,
     {UUIDOID, INTERVALOID, TIMESTAMPTZOID, TEXTOID}},

    /* The first row is the one that is wanted; to stop there costs less than a LIMIT. */
    {Statement::period_at_or_before,
     "usage_periods",
     "SELECT period_start, period_end, closed_at FROM %s"
     " WHERE account_id OPERATOR(pg_catalog.=) $1 AND period_start OPERATOR(pg_catalog.<=) $2"
     " ORDER BY period_start DESC",
     2,
     {UUIDOID, TIMESTAMPTZOID}},

    {Statement::periods_at_or_before,
     "usage_periods",
     "SELECT k.ordinal, p.period_start, p.period_end, p.closed_at"
     " FROM unnest($1, $2) WITH ORDINALITY AS k (account_id, time, ordinal)"
     " CROSS JOIN LATERAL"
     " (SELECT p.period_start, p.period_end, p.closed_at FROM %s AS p"
     " WHERE p.account_id OPERATOR(pg_catalog.=) k.account_id"
     " AND p.period_start OPERATOR(pg_catalog.<=) k.time"
     " ORDER BY p.period_start DESC LIMIT 1) AS p",
     2,
     {UUIDARRAYOID, TIMESTAMPTZARRAYOID}},

    {Statement::periods_after,
     "usage_periods",
     "SELECT k.ordinal, p.period_start"
     " FROM unnest($1, $2) WITH ORDINALITY AS k (account_id, time, ordinal)"
     " CROSS JOIN LATERAL"
     " (SELECT p.period_start FROM %s AS p"
     " WHERE p.account_id OPERATOR(pg_catalog.=) k.account_id"
     " AND p.period_start OPERATOR(pg_catalog.>) k.time"
     " ORDER BY p.period_start LIMIT 1) AS p",
     2,
     {UUIDARRAYOID, TIMESTAMPTZARRAYOID}},

    {Statement::open_period,
     "usage_periods",
     "INSERT INTO %s AS period (account_id, period_start, period_end,"
     " tokens_used, reports_used, chats_used)"
     " VALUES ($1, $2, $3, $4, $5, $6) RETURNING period",
     6,
     {UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, INT8OID, INT8OID}},

    {Statement::open_periods,
     "usage_periods",
     "INSERT INTO %s (account_id, period_start, period_end) SELECT * FROM unnest($1, $2, $3)",
     3,
     {UUIDARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID}},

    {Statement::counter_of_period,
     "usage_periods",
     "SELECT tokens_used, period_end, closed_at FROM %s"
     " WHERE account_id OPERATOR(pg_catalog.=) $1 AND period_start OPERATOR(pg_catalog.=) $2",
     2,
     {UUIDOID, TIMESTAMPTZOID}},

    {Statement::read_counters,
     "usage_periods",
     SET_OF_COUNTERS(" OFFSET 0"),
     2,
     {UUIDARRAYOID, TIMESTAMPTZARRAYOID}},

    /*
     * Takes the row's lock and adds, in one statement; having waited for the lock
     * it works on the row as the last holder left it. Who finds the period closed
     * then must raise. (With that in the condition, everybody who has waited would
     * have it to prepare and evaluate again, while others wait for the lock.) A
     * closed period must not overflow first, or that would be the error.
     */
    {Statement::add_to_counter,
     "usage_periods",
     "UPDATE %s SET tokens_used = CASE WHEN closed_at IS NULL"
     " THEN tokens_used OPERATOR(pg_catalog.+) $3 ELSE tokens_used END,"
     " reports_used = reports_used OPERATOR(pg_catalog.+) $4,"
     " chats_used = chats_used OPERATOR(pg_catalog.+) $5"
     " WHERE account_id OPERATOR(pg_catalog.=) $1 AND period_start OPERATOR(pg_catalog.=) $2"
     " RETURNING tokens_used, closed_at",
     5,
     {UUIDOID, TIMESTAMPTZOID, INT8OID, INT4OID, INT4OID}},

    /* Likewise, for who goes on after it. No row: closed, or there is not as much in it. */
    {Statement::take_from_counter,
     "usage_periods",
     "UPDATE %s SET tokens_used = tokens_used OPERATOR(pg_catalog.-) $3,"
     " reports_used = reports_used OPERATOR(pg_catalog.-) $4,"
     " chats_used = chats_used OPERATOR(pg_catalog.-) $5"
     " WHERE account_id OPERATOR(pg_catalog.=) $1 AND period_start OPERATOR(pg_catalog.=) $2"
     " AND closed_at IS NULL AND tokens_used OPERATOR(pg_catalog.>=) $3"
     " AND reports_used OPERATOR(pg_catalog.>=) $4 AND chats_used OPERATOR(pg_catalog.>=) $5"
     " RETURNING tokens_used",
     5,
     {UUIDOID, TIMESTAMPTZOID, INT8OID, INT4OID, INT4OID}},

    /*
     * Whoever adds to counters locks them FOR NO KEY UPDATE, which is what an update
     * takes: one at a time, but beside those who hold a period open FOR KEY SHARE.
     * Whoever closes a period locks it FOR UPDATE, against both.
     */

    /* No row: another session holds it. */
    {Statement::try_lock_counter,
     "usage_periods",
     "SELECT FROM %s"
     " WHERE account_id OPERATOR(pg_catalog.=) $1 AND period_start OPERATOR(pg_catalog.=) $2"
     " FOR NO KEY UPDATE SKIP LOCKED",
     2,
     {UUIDOID, TIMESTAMPTZOID}},

    {Statement::lock_counters,
     "usage_periods",
     SET_OF_COUNTERS(" FOR NO KEY UPDATE"),
     2,
     {UUIDARRAYOID, TIMESTAMPTZARRAYOID}},

    {Statement::hold_counter,
     "usage_periods",
     "SELECT FROM %s"
     " WHERE account_id OPERATOR(pg_catalog.=) $1 AND period_start OPERATOR(pg_catalog.=) $2"
     " FOR KEY SHARE",
     2,
     {UUIDOID, TIMESTAMPTZOID}},

    {Statement::hold_counters,
     "usage_periods",
     SET_OF_COUNTERS(" FOR KEY SHARE"),
     2,
     {UUIDARRAYOID, TIMESTAMPTZARRAYOID}},

    /* The rows are locked, so they are where the lock found them. */
    {Statement::add_to_counters,
     "usage_periods",
     "UPDATE %s AS p SET tokens_used = p.tokens_used OPERATOR(pg_catalog.+) k.tokens,"
     " reports_used = p.reports_used OPERATOR(pg_catalog.+) k.reports,"
     " chats_used = p.chats_used OPERATOR(pg_catalog.+) k.chats"
     " FROM unnest($1, $2, $3, $4) AS k (row, tokens, reports, chats)"
     " WHERE p.ctid OPERATOR(pg_catalog.=) k.row",
     4,
     {TIDARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID}},

    {Statement::closed_period,
     "usage_periods",
     "SELECT period FROM %s AS period"
     " WHERE account_id OPERATOR(pg_catalog.=) $1 AND period_start OPERATOR(pg_catalog.=) $2"
     " AND closed_at IS NOT NULL",
     2,
     {UUIDOID, TIMESTAMPTZOID}},

    {Statement::lock_period,
     "usage_periods",
     "SELECT closed_at, tokens_used, reports_used, chats_used FROM %s"
     " WHERE account_id OPERATOR(pg_catalog.=) $1 AND period_start OPERATOR(pg_catalog.=) $2"
     " FOR UPDATE",
     2,
     {UUIDOID, TIMESTAMPTZOID}},

    /* Closed when it is done: everything that is in it was recorded before. */
    {Statement::close_period,
     "usage_periods",
     "UPDATE %s AS period SET tokens_used = $3, reports_used = $4, chats_used = $5,"
     " closed_at = pg_catalog.clock_timestamp()"
     " WHERE account_id OPERATOR(pg_catalog.=) $1 AND period_start OPERATOR(pg_catalog.=) $2"
     " RETURNING period",
     5,
     {UUIDOID, TIMESTAMPTZOID, INT8OID, INT8OID, INT8OID}},

    /* As the predicate of the index usage_periods_prunable has it. */
    {Statement::prunable_periods,
     "usage_periods",
     "SELECT account_id, period_start FROM %s"
     " WHERE closed_at OPERATOR(pg_catalog.<) $1"
     " AND (pruned_at IS NULL OR pruned_at OPERATOR(pg_catalog.=) 'infinity')"
     " ORDER BY closed_at LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED",
     2,
     {TIMESTAMPTZOID, INT8OID}},

    {Statement::mark_pruned,
     "usage_periods",
     "UPDATE %s SET pruned_at = $3"
     " WHERE account_id OPERATOR(pg_catalog.=) $1 AND period_start OPERATOR(pg_catalog.=) $2",
     3,
     {UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID}},

    {Statement::enqueue,
     "usage_pending",
     "INSERT INTO %s (account_id, period_start, tokens, reports, chats)"
     " VALUES ($1, $2, $3, $4, $5)",
     5,
     {UUIDOID, TIMESTAMPTZOID, INT8OID, INT4OID, INT4OID}},

    {Statement::enqueue_all,
     "usage_pending",
     "INSERT INTO %s (account_id, period_start, tokens, reports, chats)"
     " SELECT * FROM unnest($1, $2, $3, $4, $5)",
     5,
     {UUIDARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID, INT4ARRAYOID, INT4ARRAYOID}},

    {Statement::read_pending,
     "usage_pending",
     "SELECT ctid, account_id, period_start, tokens, reports, chats FROM %s"
     " WHERE ctid OPERATOR(pg_catalog.>=) $1 AND ctid OPERATOR(pg_catalog.<) $2",
     2,
     {TIDOID, TIDOID}},

    {Statement::delete_pending,
     "usage_pending",
     "DELETE FROM %s WHERE ctid OPERATOR(pg_catalog.=) ANY ($1)",
     1,
     {TIDARRAYOID}},

    {Statement::pending_of_period,
     "usage_pending",
     "SELECT FROM %s"
     " WHERE account_id OPERATOR(pg_catalog.=) $1 AND period_start OPERATOR(pg_catalog.=) $2"
     " LIMIT 1",
     2,
     {UUIDOID, TIMESTAMPTZOID}},

    {Statement::take_pending_of_period,
     "usage_pending",
     "DELETE FROM %s"
     " WHERE account_id OPERATOR(pg_catalog.=) $1 AND period_start OPERATOR(pg_catalog.=) $2"
     " RETURNING account_id, period_start, tokens, reports, chats",
     2,
     {UUIDOID, TIMESTAMPTZOID}},

    /* No row: the key is taken, and whoever took it has committed. */
    {Statement::record_event,
     "usage_events",
     "INSERT INTO %s (account_id, idempotency_key, period_start, occurred_at,"
     " tokens, reports, chats)"
     " VALUES ($1, $2, $3, $4, $5, $6, $7)"
     " ON CONFLICT (account_id, idempotency_key) DO NOTHING",
     7,
     {UUIDOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, INT4OID, INT4OID}},

    {Statement::record_events,
     "usage_events",
     "INSERT INTO %s (account_id, idempotency_key, period_start, occurred_at,"
     " tokens, reports, chats)"
     " SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7)"
     " ON CONFLICT (account_id, idempotency_key) DO NOTHING"
     " RETURNING account_id, idempotency_key, ctid",
     7,
     {UUIDARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID,
      INT4ARRAYOID, INT4ARRAYOID}},

    {Statement::delete_events,
     "usage_events",
     "DELETE FROM %s WHERE ctid OPERATOR(pg_catalog.=) ANY ($1)",
     1,
     {TIDARRAYOID}},

    /* No row: there is no such event, or it is voided. */
    {Statement::void_event,
     "usage_events",
     "UPDATE %s SET voided_at = pg_catalog.now(), void_reason = $3"
     " WHERE account_id OPERATOR(pg_catalog.=) $1 AND idempotency_key OPERATOR(pg_catalog.=) $2"
     " AND voided_at IS NULL"
     " RETURNING " COUNTED_EVENT,
     3,
     {UUIDOID, TEXTOID, TEXTOID}},

    {Statement::event_of_key,
     "usage_events",
     "SELECT " COUNTED_EVENT " FROM %s"
     " WHERE account_id OPERATOR(pg_catalog.=) $1 AND idempotency_key OPERATOR(pg_catalog.=) $2",
     2,
     {UUIDOID, TEXTOID}},

    {Statement::events_of_keys,
     "usage_events",
     "SELECT k.ordinal, e.*"
     " FROM unnest($1, $2) WITH ORDINALITY AS k (account_id, idempotency_key, ordinal)"
     " CROSS JOIN LATERAL"
     " (SELECT " COUNTED_EVENT " FROM %s AS e"
     " WHERE e.account_id OPERATOR(pg_catalog.=) k.account_id"
     " AND e.idempotency_key OPERATOR(pg_catalog.=) k.idempotency_key OFFSET 0) AS e",
     2,
     {UUIDARRAYOID, TEXTARRAYOID}},

    /* As verify_usage reckons. */
    {Statement::sum_of_events,
     "usage_events",
     "SELECT COALESCE(pg_catalog.sum(tokens), 0)::bigint,"
     " COALESCE(pg_catalog.sum(reports), 0), COALESCE(pg_catalog.sum(chats), 0) FROM %s"
     " WHERE account_id OPERATOR(pg_catalog.=) $1 AND period_start OPERATOR(pg_catalog.=) $2"
     " AND voided_at IS NULL",
     2,
     {UUIDOID, TIMESTAMPTZOID}},

    {Statement::prune_events,
     "usage_events",
     "DELETE FROM %s"
     " WHERE account_id OPERATOR(pg_catalog.=) $1 AND period_start OPERATOR(pg_catalog.=) $2"
     " RETURNING true",
     2,
     {UUIDOID, TIMESTAMPTZOID}},
};

/* Prepared when first needed, kept for the life of the backend. */
SPIPlanPtr plans[statement_count];

/*
 * Plans that are no longer valid. One may still be running further up the stack
 * (a trigger on our tables can call us), so they are freed when the transaction
 * is over.
 */
struct RetiredPlan {
    SPIPlanPtr plan;
    RetiredPlan *next;
};
RetiredPlan *retired_plans;

void retire(SPIPlanPtr plan)
{
    auto *retired =
        static_cast<RetiredPlan *>(MemoryContextAlloc(TopMemoryContext, sizeof(RetiredPlan)));
    retired->plan = plan;
    retired->next = retired_plans;
    retired_plans = retired;
}

void free_retired_plans(XactEvent event, void *)
{
    if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT) {
        return;
    }
    while (retired_plans != nullptr) {
        RetiredPlan *retired = retired_plans;
        retired_plans = retired->next;
        SPI_freeplan(retired->plan);
        pfree(retired);
    }
}

const char *qualified_name(const char *table)
{
    Oid schema = get_rel_namespace(extension_table(table));
    return quote_qualified_identifier(get_namespace_name(schema), table);
}

/*
 * Plans a statement for good and without sequential scans: every one finds its row by
 * a unique key, whatever the statistics said when the table was small. Under
 * SERIALIZABLE a sequential scan would also make every account conflict with every
 * other. (The queue, which has no index, is scanned for all that; the price that the
 * planner puts on it must not make it compile a statement that runs for microseconds.)
 */
void make_plan(SPIPlanPtr plan)
{
    int nest_level = NewGUCNestLevel();
    static const char *const unwanted[] = {"enable_seqscan", "jit"};
    for (const char *setting : unwanted) {
        (void)set_config_option(setting, "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true,
                                0, false);
    }
    ReleaseCachedPlan(SPI_plan_get_cached_plan(plan), CurrentResourceOwner);
    AtEOXact_GUC(true, nest_level);
}

SPIPlanPtr prepare(const Text &text)
{
    char *sql = psprintf(text.sql, qualified_name(text.table));
    SPIPlanPtr plan = SPI_prepare_cursor(
        sql, text.argument_count, const_cast<Oid *>(text.argument_types), CURSOR_OPT_GENERIC_PLAN);
    if (plan == nullptr) {
        elog(ERROR, "could not prepare \"%s\": %s", sql, SPI_result_code_string(SPI_result));
    }
    if (SPI_keepplan(plan) != 0) {
        elog(ERROR, "could not keep the plan of \"%s\"", sql);
    }
    make_plan(plan);
    return plan;
}

/*
 * Whether the server would use a plan that is valid as it is. It does not when the
 * session's search path or row_security has changed; ours depend on neither, but it
 * would plan them anew, and as the session's settings have it.
 */
bool is_made_for_session(SPIPlanPtr plan)
{
    const auto *source =
        static_cast<const CachedPlanSource *>(linitial(SPI_plan_get_plan_sources(plan)));
#if PG_VERSION_NUM >= 170000
    const bool has_same_path = SearchPathMatchesCurrentEnvironment(source->search_path);
#else
    const bool has_same_path = OverrideSearchPathMatchesCurrent(source->search_path);
#endif
    return has_same_path && (!source->dependsOnRLS || (source->rewriteRoleId == GetUserId() &&
                                                       source->rewriteRowSecurity == row_security));
}

/*
 * The server invalidates a plan when anything it rests on changes: statistics, a
 * renamed schema, a moved or dropped table. Such a plan is made anew, from the
 * name that the table has now.
 */
SPIPlanPtr plan_of(Statement statement)
{
    int index = static_cast<int>(statement);
    if (plans[index] != nullptr && SPI_plan_is_valid(plans[index])) {
        if (!is_made_for_session(plans[index])) {
            make_plan(plans[index]);
        }
        return plans[index];
    }

    Assert(texts[index].statement == statement);
    SPIPlanPtr plan = prepare(texts[index]);
    if (plans[index] != nullptr) {
        retire(plans[index]);
    }
    plans[index] = plan;
    return plan;
}

void check_result(int result)
{
    if (result < 0) {
        elog(ERROR, "could not run a statement: %s", SPI_result_code_string(result));
    }
}

} // namespace

uint64 run(Statement statement, const Datum *arguments, const char *nulls, uint64 row_count_max)
{
    /*
     * Never read_only: a statement that runs after a lock wait must see what the
     * wait was for.
     */
    check_result(SPI_execute_plan(plan_of(statement), const_cast<Datum *>(arguments), nulls, false,
                                  static_cast<long>(row_count_max)));
    return SPI_processed;
}

uint64 run_latest(Statement statement, const Datum *arguments)
{
    /* A read_only statement runs in the snapshot that is active. */
    SPIPlanPtr plan = plan_of(statement);
    PushActiveSnapshot(GetLatestSnapshot());
    const int result = SPI_execute_plan(plan, const_cast<Datum *>(arguments), nullptr, true, 0);
    PopActiveSnapshot();
    check_result(result);
    return SPI_processed;
}

Datum required_column(int number, uint64 row)
{
    Assert(SPI_tuptable != nullptr && row < SPI_tuptable->numvals);
    bool is_null;
    Datum value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, number, &is_null);
    Assert(!is_null);
    return value;
}

bool column_is_null(int number, uint64 row)
{
    Assert(SPI_tuptable != nullptr && row < SPI_tuptable->numvals);
    bool is_null;
    (void)SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, number, &is_null);
    return is_null;
}

void free_rows()
{
    SPI_freetuptable(SPI_tuptable);
    SPI_tuptable = nullptr;
}

/*
 * Tables are found by their membership in the extension: that holds wherever the
 * schema, or one table, has been moved.
 */
Oid extension_table(const char *name)
{
    Oid extension = get_extension_oid("usage_ledger", false);
    Oid relation = InvalidOid;

    Relation depend = table_open(DependRelationId, AccessShareLock);
    ScanKeyData key[2];
    ScanKeyInit(&key[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber, F_OIDEQ,
                ObjectIdGetDatum(ExtensionRelationId));
    ScanKeyInit(&key[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber, F_OIDEQ,
                ObjectIdGetDatum(extension));
    SysScanDesc scan =
        systable_beginscan(depend, DependReferenceIndexId, true, nullptr, lengthof(key), key);
    for (HeapTuple tuple = systable_getnext(scan); HeapTupleIsValid(tuple);
         tuple = systable_getnext(scan)) {
        auto *member = reinterpret_cast<Form_pg_depend>(GETSTRUCT(tuple));
        if (member->classid != RelationRelationId || member->deptype != DEPENDENCY_EXTENSION) {
            continue;
        }
        const char *member_name = get_rel_name(member->objid);
        if (member_name != nullptr && strcmp(member_name, name) == 0) {
            relation = member->objid;
            break;
        }
    }
    systable_endscan(scan);
    table_close(depend, AccessShareLock);

    if (!OidIsValid(relation)) {
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
                        errmsg("table \"%s\" is not part of extension usage_ledger", name),
                        errhint("Install the extension again.")));
    }
    return relation;
}

void watch_transactions()
{
    RegisterXactCallback(free_retired_plans, nullptr);
}

} // namespace usage_ledger
