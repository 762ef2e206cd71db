#include "pg/postgres.hpp"

#include "pg/plans.hpp"

#include "pg/distribution.hpp"
#include "pg/extension_tables.hpp"

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

int count_types(const Oid *types, int count_max)
{
    int count = 0;
    while (count < count_max && OidIsValid(types[count])) {
        count++;
    }
    return count;
}

int count_names(const Statement &statement)
{
    return count_types(statement.name_types, statement_name_count_max);
}

/*
 * Where the ledger is distributed, each run is planned by itself. Citus needs to know the account
 * to plan some statements. And of those that it plans once, Citus 13.2 keeps one more plan of the
 * shard at every run on the shard's own node: 120 kB a call, until the session ends.
 */
SPIPlanPtr prepare(const Statement &statement, bool is_distributed)
{
    if (is_distributed && statement.distributed_sql == nullptr &&
        statement.argument_types[0] == TIDARRAYOID) {
        /* Citus would run it on every shard, whatever rows are in those places there. */
        elog(ERROR, "statement finds rows of a distributed ledger by ctid: %s", statement.sql);
    }
    Oid types[distributed_argument_count_max];
    bool is_for_elements;
    const int argument_count = is_distributed
                                   ? distributed_types(statement, types, &is_for_elements)
                                   : count_arguments(statement);
    const char *names[statement_table_count_max] = {
        statement.table == nullptr ? nullptr : qualified_name(statement.table)};
    for (int i = 0; i < statement_table_count_max - 1 && statement.other_tables[i] != nullptr;
         i++) {
        names[i + 1] = qualified_name(statement.other_tables[i]);
    }
    const bool has_own_sql = is_distributed && statement.distributed_sql != nullptr;
    char *sql = psprintf(has_own_sql ? statement.distributed_sql : statement.sql, names[0],
                         names[1], names[2], names[3], names[4]);
    SPIPlanPtr plan = SPI_prepare_cursor(
        sql, argument_count, is_distributed ? types : const_cast<Oid *>(statement.argument_types),
        is_distributed && statement.table != nullptr ? CURSOR_OPT_CUSTOM_PLAN
                                                     : CURSOR_OPT_GENERIC_PLAN);
    if (plan == nullptr) {
        elog(ERROR, "could not prepare \"%s\": %s", sql, SPI_result_code_string(SPI_result));
    }
    if (SPI_keepplan(plan) != 0) {
        elog(ERROR, "could not keep the plan of \"%s\"", sql);
    }
    if (!is_distributed) {
        make_plan(plan);
    }
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

} // namespace

int count_arguments(const Statement &statement)
{
    return count_types(statement.argument_types, statement_argument_count_max);
}

int distributed_types(const Statement &statement, Oid *types, bool *is_for_elements)
{
    const int argument_count = count_arguments(statement), name_count = count_names(statement);
    *is_for_elements = false;
    for (int i = 0; i < argument_count; i++) {
        const Oid element = statement.distributed_sql == nullptr
                                ? InvalidOid
                                : get_element_type(statement.argument_types[i]);
        *is_for_elements |= OidIsValid(element);
        types[i] = OidIsValid(element) ? element : statement.argument_types[i];
    }
    if (!*is_for_elements) {
        return argument_count;
    }
    for (int i = 0; i < name_count; i++) {
        types[argument_count + i] = statement.name_types[i];
    }
    types[argument_count + name_count] = INT8OID;
    return argument_count + name_count + 1;
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

SPIPlanPtr plan_of(Statement *statement)
{
    const bool is_now_distributed = is_distributed();
    if (has_valid_plan(*statement) && statement->is_plan_distributed == is_now_distributed) {
        if (!is_now_distributed && !is_made_for_session(statement->plan)) {
            make_plan(statement->plan);
        }
        return statement->plan;
    }

    SPIPlanPtr plan = prepare(*statement, is_now_distributed);
    if (statement->plan != nullptr) {
        retire(statement->plan);
    }
    statement->plan = plan;
    statement->is_plan_distributed = is_now_distributed;
    return plan;
}

void check_result(int result)
{
    if (result < 0) {
        elog(ERROR, "could not run a statement: %s", SPI_result_code_string(result));
    }
}

uint64 run_plan(SPIPlanPtr plan, const Datum *arguments, const char *nulls, uint64 row_count_max)
{
    check_result(SPI_execute_plan(plan, const_cast<Datum *>(arguments), nulls, false,
                                  static_cast<long>(row_count_max)));
    return SPI_processed;
}

void register_plan_callbacks()
{
    RegisterXactCallback(free_retired_plans, nullptr);
}

} // namespace usage_ledger
