#include "pg/postgres.hpp"

#include "pg/spi.hpp"

#include <algorithm>

namespace usage_ledger
{

namespace
{

/* Whether Citus has distributed the ledger, as far as the session knows. */
enum class Distribution { unknown, none, citus };
Distribution distribution;
Oid distribution_table; /* of which this is known. InvalidOid: of any, because there is no Citus */

void forget_distribution(Oid relation)
{
    if (relation == InvalidOid || distribution_table == InvalidOid ||
        relation == distribution_table) {
        distribution = Distribution::unknown;
    }
}

/* The tables of the extension that the session has looked up, until they change. */
struct KnownTable {
    const char *name;
    Oid id; /* InvalidOid: to be looked up */
};
KnownTable known_tables[16];
uint64 table_change_count;

void forget_tables(Oid relation)
{
    table_change_count++;
    for (KnownTable &table : known_tables) {
        if (relation == InvalidOid || relation == table.id) {
            table.id = InvalidOid;
        }
    }
}

/*
 * One callback for both: a process has room for ten. With Citus, a WAL sender that moves
 * shards needs nearly all, and ends where there is no room for its own.
 */
void forget_relation(Datum, Oid relation)
{
    forget_distribution(relation);
    forget_tables(relation);
}

/* Reads it from a catalog of Citus. Whatever changes there, Citus invalidates the table. */
Distribution find_distribution()
{
    const Oid catalog = get_relname_relid("pg_dist_partition", PG_CATALOG_NAMESPACE);
    distribution_table = InvalidOid;
    if (!OidIsValid(catalog)) {
        return Distribution::none;
    }
    distribution_table = extension_table("usage_accounts");
    Relation partitions = table_open(catalog, AccessShareLock);
    ScanKeyData key; /* column logicalrelid */
    ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(distribution_table));
    SysScanDesc scan = systable_beginscan(partitions, InvalidOid, false, nullptr, 1, &key);
    const bool is_found = HeapTupleIsValid(systable_getnext(scan));
    systable_endscan(scan);
    table_close(partitions, AccessShareLock);
    return is_found ? Distribution::citus : Distribution::none;
}

/*
 * Finds a table by its membership in the extension, which does not change when its schema
 * is renamed or the table is moved.
 */
Oid find_extension_table(const char *name)
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

int count_types(const Oid *types, int count_max)
{
    int count = 0;
    while (count < count_max && OidIsValid(types[count])) {
        count++;
    }
    return count;
}

int count_arguments(const Statement &statement)
{
    return count_types(statement.argument_types, statement_argument_count_max);
}

int count_names(const Statement &statement)
{
    return count_types(statement.name_types, statement_name_count_max);
}

constexpr int distributed_argument_count_max =
    statement_argument_count_max + statement_name_count_max + 1;

/*
 * The types of the parameters of a statement where the ledger is distributed, and their number.
 * is_for_elements: whether it runs for each element of arrays.
 */
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

/* Runs a plan. Never read_only: after a lock wait, it must see what the wait was for. */
uint64 run_plan(SPIPlanPtr plan, const Datum *arguments, const char *nulls, uint64 row_count_max)
{
    check_result(SPI_execute_plan(plan, const_cast<Datum *>(arguments), nulls, false,
                                  static_cast<long>(row_count_max)));
    return SPI_processed;
}

struct PinnedShard {
    pg_uuid_t account_id;
    LocalTransactionId transaction;
    SubTransactionId subtransaction;
};

/*
 * Keeps an account's shard where it is until the end of the transaction. Otherwise Citus might move
 * it after a row of it was locked or read, and the next statement would find the row on another
 * node, without the lock and in another place. Citus itself keeps a shard only of a table that was
 * written to. It moves the shards of all tables together and locks that of usage_accounts first, so
 * that one stands for all.
 */
void pin_shard(Datum account_id)
{
    static Statement statement = {
        nullptr,                                   /* so it need not be planned again */
        "SELECT pg_catalog.lock_shard_metadata(5," /* ShareLock */
        " ARRAY[pg_catalog.get_shard_id_for_distribution_column($2, $1)])",
        {UUIDOID, REGCLASSOID}};
    static PinnedShard pinned_shards[1024];

    const pg_uuid_t *account = DatumGetUUIDP(account_id);
    PinnedShard *pinned =
        &pinned_shards[hash_bytes(account->data, UUID_LEN) % lengthof(pinned_shards)];
#if PG_VERSION_NUM >= 170000
    const LocalTransactionId transaction = MyProc->vxid.lxid;
#else
    const LocalTransactionId transaction = MyProc->lxid;
#endif
    const PinnedShard wanted = {*account, transaction, GetCurrentSubTransactionId()};
    if (pinned->transaction == wanted.transaction &&
        pinned->subtransaction == wanted.subtransaction &&
        memcmp(&pinned->account_id, account, UUID_LEN) == 0) {
        return;
    }
    const Datum arguments[] = {account_id, ObjectIdGetDatum(distribution_table)};
    run_plan(plan_of(&statement), arguments, nullptr, 0);
    free_rows();
    *pinned = wanted;
}

/* The error in progress is that of Citus for a query in a query that it has sent to a shard. */
bool is_nested_query_error()
{
    if (geterrcode() != ERRCODE_INTERNAL_ERROR) {
        return false;
    }
    const ErrorData *error = CopyErrorData();
    return error->message != nullptr &&
           strstr(error->message, "from a query on a shard") != nullptr;
}

/* Runs a plan on the nodes. The hint of Citus's own error names a setting with wrong results. */
uint64 run_on_nodes(SPIPlanPtr plan, const Datum *arguments, const char *nulls,
                    uint64 row_count_max)
{
    MemoryContext context = CurrentMemoryContext;
    PG_TRY();
    {
        run_plan(plan, arguments, nulls, row_count_max);
    }
    PG_CATCH();
    {
        MemoryContextSwitchTo(context);
        if (!is_nested_query_error()) {
            PG_RE_THROW();
        }
        FlushErrorState();
        ereport(ERROR,
                (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                 errmsg("a distributed ledger cannot be called by a query on a distributed table"),
                 errdetail("Citus runs that query, and the call in it, on the shards."),
                 errhint("Read the rows first, then call for each: in a loop in PL/pgSQL, with "
                         "\\gexec in psql, or in the client.")));
    }
    PG_END_TRY();
    return SPI_processed;
}

/* Runs the plan of a statement of a distributed ledger. */
uint64 run_distributed(SPIPlanPtr plan, const Oid *types, int type_count, const Datum *arguments,
                       const char *nulls, uint64 row_count_max)
{
    const int account = static_cast<int>(std::find(types, types + type_count, UUIDOID) - types);
    if (account < type_count) {
        pin_shard(arguments[account]);
    }
    return run_on_nodes(plan, arguments, nulls, row_count_max);
}

/* Adds the returned rows to those of an earlier run, and makes these the returned ones. */
void append_rows(SPITupleTable *earlier)
{
    SPITupleTable *returned = SPI_tuptable;
    SPI_tuptable = earlier;
    if (returned == nullptr || returned->numvals == 0) {
        SPI_freetuptable(returned);
        return;
    }
    const uint64 count = earlier->numvals + returned->numvals;
    MemoryContext context = MemoryContextSwitchTo(earlier->tuptabcxt);
    if (count > earlier->alloced) {
        earlier->alloced = 2 * count;
        earlier->vals = static_cast<HeapTuple *>(
            repalloc_huge(earlier->vals, earlier->alloced * sizeof(HeapTuple)));
    }
    for (uint64 row = 0; row < returned->numvals; row++) {
        earlier->vals[earlier->numvals++] = heap_copytuple(returned->vals[row]);
    }
    MemoryContextSwitchTo(context);
    SPI_freetuptable(returned);
}

/* An argument, which may be an array of as many elements as others. */
struct ElementArgument {
    Datum *elements; /* null: the argument is no array */
    Datum value;
};

ElementArgument element_argument(Datum argument, bool is_array, Oid type, int *element_count)
{
    if (!is_array) {
        return {nullptr, argument};
    }
    int16 length;
    bool is_by_value;
    char alignment;
    get_typlenbyvalalign(type, &length, &is_by_value, &alignment);
    ElementArgument of_elements = {nullptr, 0};
    deconstruct_array(DatumGetArrayTypeP(argument), type, length, is_by_value, alignment,
                      &of_elements.elements, nullptr, element_count);
    return of_elements;
}

/* Runs a statement on arrays, whose plan is its singular, for each element in their order. */
uint64 run_for_elements(const Statement &statement, const Datum *arguments, const Oid *types,
                        int type_count)
{
    ElementArgument of_elements[distributed_argument_count_max];
    int element_count = 0;
    for (int i = 0; i < type_count - 1; i++) {
        const bool is_array =
            i >= count_arguments(statement) || types[i] != statement.argument_types[i];
        of_elements[i] = element_argument(arguments[i], is_array, types[i], &element_count);
    }
    SPITupleTable *rows = nullptr;
    uint64 processed_count = 0;
    for (int k = 0; k < element_count; k++) {
        Datum values[distributed_argument_count_max];
        for (int i = 0; i < type_count - 1; i++) {
            const ElementArgument &argument = of_elements[i];
            values[i] = argument.elements == nullptr ? argument.value : argument.elements[k];
        }
        values[type_count - 1] = Int64GetDatum(k + 1);
        processed_count += run_distributed(statement.plan, types, type_count, values, nullptr, 0);
        if (rows != nullptr) {
            append_rows(rows);
        }
        rows = SPI_tuptable;
    }
    SPI_processed = processed_count;
    return processed_count;
}

/* A returned row is then read with shortcut_column(). */
bool try_shortcut(const Statement &statement, const Datum *arguments, const char *nulls,
                  Snapshot snapshot)
{
    const int64 count = take_shortcut(statement, arguments, nulls, snapshot);
    if (count == not_taken) {
        return false;
    }
    SPI_processed = count;
    SPI_tuptable = nullptr;
    return true;
}

NullableDatum column(int number, uint64 row)
{
    if (SPI_tuptable == nullptr) {
        Assert(row == 0);
        return shortcut_column(number);
    }
    Assert(row < SPI_tuptable->numvals);
    NullableDatum column;
    column.value =
        SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, number, &column.isnull);
    return column;
}

} // namespace

uint64 run(Statement *statement, const Datum *arguments, const char *nulls, uint64 row_count_max)
{
    if (try_shortcut(*statement, arguments, nulls, nullptr)) {
        return SPI_processed;
    }
    SPIPlanPtr plan = plan_of(statement);
    if (statement->is_plan_distributed) {
        Oid types[distributed_argument_count_max];
        bool is_for_elements;
        const int type_count = distributed_types(*statement, types, &is_for_elements);
        return is_for_elements
                   ? run_for_elements(*statement, arguments, types, type_count)
                   : run_distributed(plan, types, type_count, arguments, nulls, row_count_max);
    }
    return run_plan(plan, arguments, nulls, row_count_max);
}

bool is_distributed()
{
    if (distribution == Distribution::unknown) {
        distribution = find_distribution();
    }
    if (distribution != Distribution::citus) {
        return false;
    }
    if (IsolationUsesXactSnapshot()) {
        ereport(ERROR,
                (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                 errmsg("a distributed ledger works under READ COMMITTED only"),
                 errdetail("Citus gives a transaction no snapshot that is the same on all nodes."),
                 errhint("Call it in a transaction with isolation level READ COMMITTED.")));
    }
    /* As a client does with PQfn, or the trigger of a table that a subscription feeds. */
    if (ActivePortal == nullptr && !IsTransactionBlock()) {
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("a distributed ledger cannot be called outside of a query"),
                        errdetail("Citus would commit each statement of the call by itself."),
                        errhint("Call it in a SELECT, or in a transaction block.")));
    }
    return true;
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
    /* The nodes of a distributed ledger have no snapshot but that of now. */
    if (snapshot == nullptr || is_distributed()) {
        return run(statement, arguments, nullptr, row_count_max);
    }
    if (try_shortcut(*statement, arguments, nullptr, snapshot)) {
        return SPI_processed;
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
    const NullableDatum required = column(number, row);
    Assert(!required.isnull);
    return required.value;
}

bool column_is_null(int number, uint64 row)
{
    return column(number, row).isnull;
}

ItemPointerData tid_column(int number, uint64 row)
{
    return *reinterpret_cast<ItemPointer>(DatumGetPointer(required_column(number, row)));
}

/* Not by selecting the row as a whole: on Citus, that has the type of a shard. */
Datum returned_row(const char *table)
{
    Assert(SPI_tuptable != nullptr && SPI_tuptable->numvals > 0);
    TupleDesc type = lookup_rowtype_tupdesc(get_rel_type_id(extension_table(table)), -1);
    const Datum row = PointerGetDatum(SPI_returntuple(SPI_tuptable->vals[0], type));
    ReleaseTupleDesc(type);
    return row;
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

Oid extension_table(const char *name)
{
    for (KnownTable &table : known_tables) {
        if (table.name == nullptr) {
            table.name = name;
        }
        if (strcmp(table.name, name) == 0) {
            if (OidIsValid(table.id)) {
                return table.id;
            }
            const uint64 change_count = table_change_count;
            const Oid id = find_extension_table(name);
            if (table_change_count == change_count) {
                table.id = id;
            }
            return id;
        }
    }
    elog(ERROR, "too many tables");
}

void register_plan_callbacks()
{
    RegisterXactCallback(free_retired_plans, nullptr);
    CacheRegisterRelcacheCallback(forget_relation, Datum(0));
}

} // namespace usage_ledger
