#include "pg/postgres.hpp"

#include "pg/spi.hpp"

#include "pg/distribution.hpp"
#include "pg/extension_tables.hpp"
#include "pg/plans.hpp"
#include "pg/run_on_nodes.hpp"

namespace usage_ledger
{

namespace
{

/*
 * One callback for both: a process has room for ten. With Citus, a WAL sender that moves
 * shards needs nearly all, and ends where there is no room for its own.
 */
void forget_relation(Datum, Oid relation)
{
    forget_distribution(relation);
    forget_tables(relation);
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
    return statement->is_plan_distributed
               ? run_on_nodes(*statement, arguments, nulls, row_count_max)
               : run_plan(plan, arguments, nulls, row_count_max);
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

void register_statement_callbacks()
{
    register_plan_callbacks();
    CacheRegisterRelcacheCallback(forget_relation, Datum(0));
}

} // namespace usage_ledger
