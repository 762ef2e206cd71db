#include "pg/postgres.hpp"

#include "pg/rows.hpp"

#include "pg/extension_tables.hpp"
#include "pg/spi.hpp"

namespace usage_ledger
{

/* A table's indexes, open for new entries. */
struct Indexes {
    EState *state;
    ResultRelInfo *result;
};

namespace
{

constexpr int column_count_max = 8;
NullableDatum returned_columns[column_count_max];

bool has_triggers(Relation table, AclMode rights)
{
    const TriggerDesc *triggers = table->trigdesc;
    if (triggers == nullptr) {
        return false;
    }
    const bool on_insert = triggers->trig_insert_before_row || triggers->trig_insert_after_row ||
                           triggers->trig_insert_before_statement ||
                           triggers->trig_insert_after_statement;
    const bool on_update = triggers->trig_update_before_row || triggers->trig_update_after_row ||
                           triggers->trig_update_before_statement ||
                           triggers->trig_update_after_statement;
    return ((rights & ACL_INSERT) != 0 && on_insert) || ((rights & ACL_UPDATE) != 0 && on_update);
}

/*
 * Whether nothing but the ledger decides which rows the user may see and write, and what they
 * are. The guard sees to it that columns keep their types.
 */
bool is_left_to_ledger(Relation table, const RowForm &form)
{
    const AclMode rights = form.rights;
    const TupleConstr *constraints = table->rd_att->constr;
    const Oid table_id = RelationGetRelid(table), user = GetUserId();
    return RelationGetNumberOfAttributes(table) == form.column_count &&
           !has_triggers(table, rights) && table->rd_rules == nullptr &&
           (constraints == nullptr ||
            (constraints->num_check == 0 && !constraints->has_generated_stored)) &&
           check_enable_rls(table_id, InvalidOid, true) != RLS_ENABLED &&
           pg_class_aclmask(table_id, user, rights, ACLMASK_ALL) == rights;
}

/* Whether the executor would run the statement at all, and nobody wants to watch it there. */
bool may_leave_out_executor(AclMode rights)
{
    const bool reads = rights == ACL_SELECT;
    return (reads || (!XactReadOnly && !IsInParallelMode())) && ExecutorCheckPerms_hook == nullptr;
}

Oid primary_key_of(Relation table)
{
#if PG_VERSION_NUM >= 180000
    return RelationGetPrimaryKeyIndex(table, false);
#else
    return RelationGetPrimaryKeyIndex(table);
#endif
}

void init_scan_key(ScanKey entry, AttrNumber number, const Key &key)
{
    static const struct {
        Oid type;
        StrategyNumber strategy;
        RegProcedure comparison;
    } comparisons[] = {{UUIDOID, BTEqualStrategyNumber, F_UUID_EQ},
                       {TEXTOID, BTEqualStrategyNumber, F_TEXTEQ},
                       {TIMESTAMPTZOID, BTEqualStrategyNumber, F_TIMESTAMPTZ_EQ},
                       {TIMESTAMPTZOID, BTLessEqualStrategyNumber, F_TIMESTAMPTZ_LE}};
    for (const auto &comparison : comparisons) {
        if (comparison.type == key.type && comparison.strategy == key.strategy) {
            ScanKeyInit(entry, number, key.strategy, comparison.comparison, key.value);
            return;
        }
    }
    elog(ERROR, "no comparison of type %u with strategy %u", key.type, key.strategy);
}

/* All that belongs to them is freed with the state. */
Indexes *open_indexes(Relation table, bool is_speculative)
{
    EState *state = CreateExecutorState();
    MemoryContext caller = MemoryContextSwitchTo(state->es_query_cxt);
    auto *indexes = static_cast<Indexes *>(palloc(sizeof(Indexes)));
    *indexes = {state, makeNode(ResultRelInfo)};
    InitResultRelInfo(indexes->result, table, 0, nullptr, 0);
    ExecOpenIndices(indexes->result, is_speculative);
    MemoryContextSwitchTo(caller);
    return indexes;
}

void close_indexes(Indexes *indexes)
{
    ExecCloseIndices(indexes->result);
    FreeExecutorState(indexes->state);
}

/* Which index entries a new version of a row needs. */
#if PG_VERSION_NUM >= 160000
using IndexEntries = TU_UpdateIndexes;
constexpr IndexEntries no_entries = TU_None;
#else
using IndexEntries = bool;
constexpr IndexEntries no_entries = false;
#endif

bool has_no_conflict(const Indexes &indexes, TupleTableSlot *row)
{
    ItemPointerData conflict;
#if PG_VERSION_NUM >= 180000
    ItemPointerData none;
    ItemPointerSetInvalid(&none);
    return ExecCheckIndexConstraints(indexes.result, row, indexes.state, &conflict, &none, NIL);
#else
    return ExecCheckIndexConstraints(indexes.result, row, indexes.state, &conflict, NIL);
#endif
}

void insert_speculative_entries(const Indexes &indexes, TupleTableSlot *row, bool *is_conflict)
{
#if PG_VERSION_NUM >= 160000
    ExecInsertIndexTuples(indexes.result, row, indexes.state, false, true, is_conflict, NIL, false);
#else
    ExecInsertIndexTuples(indexes.result, row, indexes.state, false, true, is_conflict, NIL);
#endif
}

void insert_entries_of_update(const Indexes &indexes, TupleTableSlot *row,
                              [[maybe_unused]] IndexEntries entries)
{
#if PG_VERSION_NUM >= 160000
    ExecInsertIndexTuples(indexes.result, row, indexes.state, true, false, nullptr, NIL,
                          entries == TU_Summarizing);
#else
    ExecInsertIndexTuples(indexes.result, row, indexes.state, true, false, nullptr, NIL);
#endif
}

/* A column whose value outlives the row. */
NullableDatum copy_column(TupleTableSlot *row, AttrNumber number)
{
    NullableDatum column;
    if (number < 0) {
        column.value = slot_getsysattr(row, number, &column.isnull);
        return column;
    }
    column.value = slot_getattr(row, number, &column.isnull);
    if (!column.isnull) {
        const FormData_pg_attribute *type = TupleDescAttr(row->tts_tupleDescriptor, number - 1);
        column.value = datumCopy(column.value, type->attbyval, type->attlen);
    }
    return column;
}

} // namespace

bool open_rows(const Statement &statement, Snapshot snapshot, RowCall *call)
{
    const AclMode rights = statement.row_form.rights;
    if (rights == 0 || !may_leave_out_executor(rights)) {
        return false;
    }
    const LOCKMODE lock_mode = rights == ACL_SELECT ? AccessShareLock : RowExclusiveLock;
    const Oid table_id = extension_table(statement.table);
    LockRelationOid(table_id, lock_mode);
    if (extension_table(statement.table) != table_id || is_distributed()) {
        return false; /* dropped or distributed before it was locked */
    }
    Relation table = table_open(table_id, NoLock);
    if (!is_left_to_ledger(table, statement.row_form)) {
        table_close(table, NoLock);
        return false;
    }
    if (snapshot == nullptr) {
        CommandCounterIncrement(); /* shows the rows that the calling statement has written */
    }
    PushActiveSnapshot(snapshot == nullptr ? GetTransactionSnapshot() : snapshot);
    *call = {table, lock_mode, GetActiveSnapshot(), nullptr, nullptr};
    return true;
}

void close_rows(const RowCall &call)
{
    PopActiveSnapshot();
    table_close(call.table, NoLock);
    CommandCounterIncrement();
}

int64 take_shortcut(const Statement &statement, const Datum *arguments, const char *nulls,
                    Snapshot snapshot)
{
    RowCall call;
    if (statement.row_form.shortcut == nullptr || !open_rows(statement, snapshot, &call)) {
        return not_taken;
    }
    call.arguments = arguments;
    call.nulls = nulls;
    const int64 count = statement.row_form.shortcut(call);
    close_rows(call);
    return count;
}

NullableDatum shortcut_column(int number)
{
    Assert(number >= 1 && number <= column_count_max);
    return returned_columns[number - 1];
}

Search begin_search(const RowCall &call, int key_count)
{
    Search search = {nullptr, nullptr, table_slot_create(call.table, nullptr)};
    search.index = index_open(primary_key_of(call.table), call.lock_mode);
#if PG_VERSION_NUM >= 180000
    search.scan = index_beginscan(call.table, search.index, call.snapshot, nullptr, key_count, 0);
#else
    search.scan = index_beginscan(call.table, search.index, call.snapshot, key_count, 0);
#endif
    return search;
}

bool find(const Search &search, Span<Key> keys, ScanDirection direction)
{
    ScanKeyData entries[INDEX_MAX_KEYS];
    const int key_count = static_cast<int>(keys.count);
    Assert(key_count == search.scan->numberOfKeys);
    for (int i = 0; i < key_count; i++) {
        init_scan_key(&entries[i], static_cast<AttrNumber>(i + 1), keys.elements[i]);
    }
    index_rescan(search.scan, entries, key_count, nullptr, 0);
    return index_getnext_slot(search.scan, direction, search.row);
}

namespace
{

void close_scan(const Search &search)
{
    index_endscan(search.scan);
    index_close(search.index, NoLock);
}

} // namespace

void end_search(const Search &search)
{
    close_scan(search);
    ExecDropSingleTupleTableSlot(search.row);
}

TupleTableSlot *find_row(const RowCall &call, Span<Key> keys, ScanDirection direction)
{
    const Search search = begin_search(call, static_cast<int>(keys.count));
    const bool is_found = find(search, keys, direction);
    close_scan(search);
    if (!is_found) {
        ExecDropSingleTupleTableSlot(search.row);
        return nullptr;
    }
    return search.row;
}

int64 return_row(TupleTableSlot *row, Span<AttrNumber> columns)
{
    Assert(columns.count <= column_count_max);
    if (row == nullptr) {
        return 0;
    }
    for (size_t i = 0; i < columns.count; i++) {
        returned_columns[i] = copy_column(row, columns.elements[i]);
    }
    ExecDropSingleTupleTableSlot(row);
    return 1;
}

Insertion begin_insertion(const RowCall &call)
{
    Insertion insertion = {call.table, nullptr, nullptr, true};
    insertion.row = MakeSingleTupleTableSlot(RelationGetDescr(call.table), &TTSOpsVirtual);
    if (call.table->rd_rel->relhasindex) {
        insertion.indexes = open_indexes(call.table, true);
    }
    return insertion;
}

/*
 * Inserts as INSERT ... ON CONFLICT DO NOTHING does: the row is speculative until all of its index
 * entries are in, so that two sessions with one key never wait for each other. But as long as no
 * key is found taken, only the first one is looked up before: for most rows, inserting the entry
 * shows that the key is free. A row that meets a taken key leaves a dead row.
 */
bool insert(Insertion *insertion, Span<NullableDatum> columns)
{
    TupleTableSlot *row = insertion->row;
    Relation table = insertion->table;
    ExecClearTuple(row);
    Assert(columns.count == static_cast<size_t>(row->tts_tupleDescriptor->natts));
    for (size_t i = 0; i < columns.count; i++) {
        const NullableDatum &column = columns.elements[i];
        Assert(!column.isnull || !TupleDescAttr(row->tts_tupleDescriptor, i)->attnotnull);
        row->tts_values[i] = column.value;
        row->tts_isnull[i] = column.isnull;
    }
    ExecStoreVirtualTuple(row);
    if (insertion->indexes == nullptr) {
        table_tuple_insert(table, row, GetCurrentCommandId(true), 0, nullptr);
        return true;
    }
    const Indexes &indexes = *insertion->indexes;
    ResetPerTupleExprContext(indexes.state);
    bool is_conflict;
    do {
        is_conflict = false;
        CHECK_FOR_INTERRUPTS();
        /* Waits for a session that is inserting the same key. */
        if (insertion->looks_up_first && !has_no_conflict(indexes, row)) {
            return false;
        }
        const TransactionId transaction = GetCurrentTransactionId();
        const uint32 token = SpeculativeInsertionLockAcquire(transaction);
        table_tuple_insert_speculative(table, row, GetCurrentCommandId(true), 0, nullptr, token);
        insert_speculative_entries(indexes, row, &is_conflict);
        table_tuple_complete_speculative(table, row, token, !is_conflict);
        SpeculativeInsertionLockRelease(transaction);
        insertion->looks_up_first = is_conflict;
    } while (is_conflict);
    return true;
}

void end_insertion(const Insertion &insertion)
{
    if (insertion.indexes != nullptr) {
        close_indexes(insertion.indexes);
    }
    ExecDropSingleTupleTableSlot(insertion.row);
}

int64 insert_row(const RowCall &call, Span<NullableDatum> columns)
{
    Insertion insertion = begin_insertion(call);
    const bool is_inserted = insert(&insertion, columns);
    end_insertion(insertion);
    if (!is_inserted && IsolationUsesXactSnapshot()) {
        return not_taken; /* the statement finds out whether its snapshot shows the other row */
    }
    return is_inserted ? 1 : 0;
}

int64 update_row(const RowCall &call, TupleTableSlot *row, Span<Change> changes,
                 Span<AttrNumber> returned)
{
    CheckCmdReplicaIdentity(call.table, CMD_UPDATE);
    slot_getallattrs(row);
    TupleTableSlot *changed = MakeSingleTupleTableSlot(row->tts_tupleDescriptor, &TTSOpsVirtual);
    const int column_count = row->tts_tupleDescriptor->natts;
    memcpy(changed->tts_values, row->tts_values, column_count * sizeof(Datum));
    memcpy(changed->tts_isnull, row->tts_isnull, column_count * sizeof(bool));
    for (size_t i = 0; i < changes.count; i++) {
        changed->tts_values[changes.elements[i].column - 1] = changes.elements[i].value;
    }
    ExecStoreVirtualTuple(changed);

    TM_FailureData failure;
    LockTupleMode lock_mode;
    IndexEntries entries;
    const TM_Result result =
        table_tuple_update(call.table, &row->tts_tid, changed, GetCurrentCommandId(true),
                           call.snapshot, InvalidSnapshot, true, &failure, &lock_mode, &entries);
    if (result != TM_Ok) {
        ExecDropSingleTupleTableSlot(changed);
        return not_taken;
    }
    if (entries != no_entries) {
        Indexes *indexes = open_indexes(call.table, false);
        insert_entries_of_update(*indexes, changed, entries);
        close_indexes(indexes);
    }
    return return_row(changed, returned);
}

} // namespace usage_ledger
