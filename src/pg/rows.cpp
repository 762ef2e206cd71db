#include "pg/postgres.hpp"

#include "pg/rows.hpp"

#include "pg/spi.hpp"

namespace usage_ledger
{

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
 * are. The table's columns are those of the install script: the guard sees to that.
 */
bool is_left_to_ledger(Relation table, AclMode rights)
{
    const TupleConstr *constraints = table->rd_att->constr;
    const Oid table_id = RelationGetRelid(table), user = GetUserId();
    return !has_triggers(table, rights) && table->rd_rules == nullptr &&
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

/* A table's indexes, open for new entries. */
struct Indexes {
    EState *state;
    ResultRelInfo *result;
};

Indexes open_indexes(Relation table, bool is_speculative)
{
    const Indexes indexes = {CreateExecutorState(), makeNode(ResultRelInfo)};
    InitResultRelInfo(indexes.result, table, 0, nullptr, 0);
    ExecOpenIndices(indexes.result, is_speculative);
    return indexes;
}

void close_indexes(const Indexes &indexes)
{
    ExecCloseIndices(indexes.result);
    FreeExecutorState(indexes.state);
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

/*
 * Inserts as INSERT ... ON CONFLICT DO NOTHING does: the row is speculative until all of its index
 * entries are in. Two sessions that insert the same key then never wait for each other.
 */
int64 insert_unique_row(Relation table, TupleTableSlot *row)
{
    const Indexes indexes = open_indexes(table, true);
    bool is_taken, is_conflict = false;
    do {
        /* Waits for a session that is inserting the same key. */
        is_taken = !has_no_conflict(indexes, row);
        if (!is_taken) {
            const TransactionId transaction = GetCurrentTransactionId();
            const uint32 token = SpeculativeInsertionLockAcquire(transaction);
            table_tuple_insert_speculative(table, row, GetCurrentCommandId(true), 0, nullptr,
                                           token);
            insert_speculative_entries(indexes, row, &is_conflict);
            table_tuple_complete_speculative(table, row, token, !is_conflict);
            SpeculativeInsertionLockRelease(transaction);
        }
        CHECK_FOR_INTERRUPTS();
    } while (!is_taken && is_conflict);
    close_indexes(indexes);
    if (is_taken) {
        /* Whether the other row is visible to an older snapshot, the statement finds out. */
        return IsolationUsesXactSnapshot() ? not_taken : 0;
    }
    return 1;
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

int64 take_shortcut(const Statement &statement, const Datum *arguments, const char *nulls,
                    Snapshot snapshot)
{
    const AclMode rights = statement.row_form.rights;
    if (statement.row_form.shortcut == nullptr || !may_leave_out_executor(rights)) {
        return not_taken;
    }
    const LOCKMODE lock_mode = rights == ACL_SELECT ? AccessShareLock : RowExclusiveLock;
    const Oid table_id = extension_table(statement.table);
    LockRelationOid(table_id, lock_mode);
    if (extension_table(statement.table) != table_id) {
        return not_taken; /* dropped before it was locked */
    }
    Relation table = table_open(table_id, NoLock);
    int64 count = not_taken;
    if (is_left_to_ledger(table, rights)) {
        if (snapshot == nullptr) {
            CommandCounterIncrement(); /* shows the rows that the calling statement has written */
        }
        PushActiveSnapshot(snapshot == nullptr ? GetTransactionSnapshot() : snapshot);
        count =
            statement.row_form.shortcut({table, lock_mode, GetActiveSnapshot(), arguments, nulls});
        PopActiveSnapshot();
        CommandCounterIncrement();
    }
    table_close(table, NoLock);
    return count;
}

NullableDatum shortcut_column(int number)
{
    Assert(number >= 1 && number <= column_count_max);
    return returned_columns[number - 1];
}

TupleTableSlot *find_row(const RowCall &call, Span<Key> keys, ScanDirection direction)
{
    ScanKeyData entries[INDEX_MAX_KEYS];
    const int key_count = static_cast<int>(keys.count);
    for (int i = 0; i < key_count; i++) {
        init_scan_key(&entries[i], static_cast<AttrNumber>(i + 1), keys.elements[i]);
    }
    TupleTableSlot *row = table_slot_create(call.table, nullptr);
    Relation index = index_open(primary_key_of(call.table), call.lock_mode);
#if PG_VERSION_NUM >= 180000
    IndexScanDesc scan = index_beginscan(call.table, index, call.snapshot, nullptr, key_count, 0);
#else
    IndexScanDesc scan = index_beginscan(call.table, index, call.snapshot, key_count, 0);
#endif
    index_rescan(scan, entries, key_count, nullptr, 0);
    const bool is_found = index_getnext_slot(scan, direction, row);
    index_endscan(scan);
    index_close(index, NoLock);
    if (!is_found) {
        ExecDropSingleTupleTableSlot(row);
        return nullptr;
    }
    return row;
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

int64 insert_row(const RowCall &call, Span<NullableDatum> columns)
{
    TupleDesc type = RelationGetDescr(call.table);
    if (static_cast<size_t>(type->natts) != columns.count) {
        return not_taken;
    }
    TupleTableSlot *row = MakeSingleTupleTableSlot(type, &TTSOpsVirtual);
    for (size_t i = 0; i < columns.count; i++) {
        const NullableDatum &column = columns.elements[i];
        Assert(!column.isnull || !TupleDescAttr(type, i)->attnotnull);
        row->tts_values[i] = column.value;
        row->tts_isnull[i] = column.isnull;
    }
    ExecStoreVirtualTuple(row);
    int64 inserted_count = 1;
    if (call.table->rd_rel->relhasindex) {
        inserted_count = insert_unique_row(call.table, row);
    } else {
        table_tuple_insert(call.table, row, GetCurrentCommandId(true), 0, nullptr);
    }
    ExecDropSingleTupleTableSlot(row);
    return inserted_count;
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
        const Indexes indexes = open_indexes(call.table, false);
        insert_entries_of_update(indexes, changed, entries);
        close_indexes(indexes);
    }
    return return_row(changed, returned);
}

} // namespace usage_ledger
