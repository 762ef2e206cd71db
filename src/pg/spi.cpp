#include "pg/postgres.hpp"

#include "pg/spi.hpp"

namespace usage_ledger
{

namespace
{

/*
 * Plans that are no longer valid. One may still be running further up the stack (a trigger
 * on our tables can call us), so they are freed when the transaction ends.
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
 * Makes the one plan of a statement, without sequential scans: each statement finds its row
 * by a key, and the statistics of a table that was small must not decide otherwise. Under
 * SERIALIZABLE a sequential scan would also make every account conflict with every other.
 * usage_pending has no index and is still scanned. The planner's cost for that must not
 * make it compile a statement that runs for microseconds, so jit is off too.
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

SPIPlanPtr prepare(const Statement &statement)
{
    int argument_count = 0;
    while (argument_count < statement_argument_count_max &&
           OidIsValid(statement.argument_types[argument_count])) {
        argument_count++;
    }
    const char *names[statement_table_count_max] = {qualified_name(statement.table)};
    for (int i = 0; i < statement_table_count_max - 1 && statement.other_tables[i] != nullptr;
         i++) {
        names[i + 1] = qualified_name(statement.other_tables[i]);
    }
    char *sql = psprintf(statement.sql, names[0], names[1], names[2], names[3], names[4]);
    SPIPlanPtr plan = SPI_prepare_cursor(
        sql, argument_count, const_cast<Oid *>(statement.argument_types), CURSOR_OPT_GENERIC_PLAN);
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
 * Whether the server would use a valid plan without making it again. It would not after a
 * change of the session's search path or row_security. Our plans depend on neither, but the
 * server would make them again with the session's planner settings.
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

bool has_valid_plan(const Statement &statement)
{
    return statement.plan != nullptr && SPI_plan_is_valid(statement.plan);
}

List *tables_of(SPIPlanPtr plan)
{
    const auto *source =
        static_cast<const CachedPlanSource *>(linitial(SPI_plan_get_plan_sources(plan)));
    return source->relationOids;
}

/*
 * The plan of a statement, made when it is first needed and kept for the life of the
 * backend. The server invalidates it when anything that it depends on changes: statistics, a
 * renamed schema, a moved or dropped table. It is then made again, with the table's present
 * name.
 */
SPIPlanPtr plan_of(Statement *statement)
{
    if (has_valid_plan(*statement)) {
        if (!is_made_for_session(statement->plan)) {
            make_plan(statement->plan);
        }
        return statement->plan;
    }

    SPIPlanPtr plan = prepare(*statement);
    if (statement->plan != nullptr) {
        retire(statement->plan);
    }
    statement->plan = plan;
    return plan;
}

void check_result(int result)
{
    if (result < 0) {
        elog(ERROR, "could not run a statement: %s", SPI_result_code_string(result));
    }
}

} // namespace

uint64 run(Statement *statement, const Datum *arguments, const char *nulls, uint64 row_count_max)
{
    /* Never read_only: after a lock wait, a statement must see what the wait was for. */
    check_result(SPI_execute_plan(plan_of(statement), const_cast<Datum *>(arguments), nulls, false,
                                  static_cast<long>(row_count_max)));
    return SPI_processed;
}

Portal open_cursor(Statement *statement, const Datum *arguments)
{
    Portal cursor = SPI_cursor_open(nullptr, plan_of(statement), const_cast<Datum *>(arguments),
                                    nullptr, false);
    if (cursor == nullptr) {
        check_result(SPI_result);
    }
    return cursor;
}

uint64 fetch(Portal cursor, int64 row_count_max)
{
    SPI_cursor_fetch(cursor, true, static_cast<long>(row_count_max));
    return SPI_processed;
}

uint64 run_for_counter(Statement *statement, const core::CounterId &counter, uint64 row_count_max)
{
    const Datum arguments[] = {account_of(counter), TimestampTzGetDatum(counter.period_start)};
    return run(statement, arguments, nullptr, row_count_max);
}

void lock_for_write(Statement *statement)
{
    /* Before the statement is planned: the planner locks the indexes too. */
    if (!has_valid_plan(*statement)) {
        LockRelationOid(extension_table(statement->table), RowExclusiveLock);
        for (const char *table : statement->other_tables) {
            if (table != nullptr) {
                LockRelationOid(extension_table(table), RowExclusiveLock);
            }
        }
        return;
    }
    ListCell *cell;
    foreach (cell, tables_of(statement->plan)) {
        LockRelationOid(lfirst_oid(cell), RowExclusiveLock);
    }
}

uint64 run_in_snapshot(Statement *statement, const Datum *arguments, Snapshot snapshot,
                       uint64 row_count_max)
{
    if (snapshot == nullptr) {
        return run(statement, arguments, nullptr, row_count_max);
    }
    /* A read_only statement runs in the active snapshot. */
    PushActiveSnapshot(snapshot);
    SPIPlanPtr plan = plan_of(statement);
    const int result = SPI_execute_plan(plan, const_cast<Datum *>(arguments), nullptr, true,
                                        static_cast<long>(row_count_max));
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

ItemPointerData tid_column(int number, uint64 row)
{
    return *reinterpret_cast<ItemPointer>(DatumGetPointer(required_column(number, row)));
}

Datum returned_row()
{
    return SPI_datumTransfer(required_column(1), false, -1);
}

void free_rows()
{
    SPI_freetuptable(SPI_tuptable);
    SPI_tuptable = nullptr;
}

Datum make_tid_array(const ItemPointerData *rows, size_t count)
{
    return make_array(count, TIDOID,
                      [&](size_t i) { return PointerGetDatum(const_cast<ItemPointer>(&rows[i])); });
}

/*
 * Finds a table by its membership in the extension, which does not change when its schema
 * is renamed or the table is moved.
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

void register_plan_callbacks()
{
    RegisterXactCallback(free_retired_plans, nullptr);
}

} // namespace usage_ledger
