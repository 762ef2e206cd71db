#include "pg/postgres.hpp"

#include "pg/pending.hpp"

#include "pg/arrays.hpp"
#include "pg/errors.hpp"
#include "pg/statements.hpp"

namespace usage_ledger
{

namespace
{

/*
 * Settlers share the queue by stretches of pages: whoever holds the lock of a
 * stretch's first page, until its transaction ends, is the only one to settle there.
 * Long enough that the locks of a huge backlog are few, short enough for several
 * settlers to help with a large one: some 120,000 rows.
 */
constexpr BlockNumber stretch_block_count = 1024;

/* A pending row's usage, from a column of the statement's result on. */
core::Addition addition_of_row(uint64 row, int first_column)
{
    core::Addition addition = {};
    memcpy(addition.account_id, DatumGetUUIDP(required_column(first_column, row))->data,
           core::account_id_size);
    addition.period_start = DatumGetTimestampTz(required_column(first_column + 1, row));
    addition.tokens = DatumGetInt64(required_column(first_column + 2, row));
    addition.reports = DatumGetInt32(required_column(first_column + 3, row));
    addition.chats = DatumGetInt32(required_column(first_column + 4, row));
    addition.row_count = 1;
    return addition;
}

void read_stretch(BlockNumber first_block, PendingRows *pending)
{
    ItemPointerData first, end;
    ItemPointerSet(&first, first_block, 0);
    ItemPointerSet(&end, first_block + stretch_block_count, 0);
    const Datum arguments[] = {PointerGetDatum(&first), PointerGetDatum(&end)};
    const uint64 row_count = run(Statement::read_pending, arguments);

    const Size size = Max((pending->count + row_count) * sizeof(PendingRow), 1);
    pending->rows = static_cast<PendingRow *>(
        pending->rows == nullptr ? MemoryContextAllocHuge(CurrentMemoryContext, size)
                                 : repalloc_huge(pending->rows, size));
    for (uint64 row = 0; row < row_count; row++) {
        pending->rows[pending->count++] = {
            addition_of_row(row, 2),
            *reinterpret_cast<ItemPointer>(DatumGetPointer(required_column(1, row)))};
    }
    free_rows();
}

} // namespace

void enqueue(Datum account_id, TimestampTz period_start, const core::Payload &payload)
{
    const Datum arguments[] = {account_id, TimestampTzGetDatum(period_start),
                               Int64GetDatum(payload.tokens), Int32GetDatum(payload.reports),
                               Int32GetDatum(payload.chats)};
    run(Statement::enqueue, arguments);
}

void enqueue_all(const core::Addition *additions, size_t count)
{
    const Datum arguments[] = {
        make_array(count, UUIDOID,
                   [&](size_t i) { return PointerGetDatum(additions[i].account_id); }),
        make_array(count, TIMESTAMPTZOID,
                   [&](size_t i) { return TimestampTzGetDatum(additions[i].period_start); }),
        make_array(count, INT8OID, [&](size_t i) { return Int64GetDatum(additions[i].tokens); }),
        make_array(
            count, INT4OID,
            [&](size_t i) { return Int32GetDatum(static_cast<int32>(additions[i].reports)); }),
        make_array(count, INT4OID,
                   [&](size_t i) { return Int32GetDatum(static_cast<int32>(additions[i].chats)); }),
    };
    run(Statement::enqueue_all, arguments);
}

PendingRows read_pending(BlockNumber *block, size_t row_count)
{
    PendingRows pending = {nullptr, 0};
    Relation queue = table_open(extension_table("usage_pending"), RowExclusiveLock);
    const BlockNumber block_count = RelationGetNumberOfBlocks(queue);
    while (*block < block_count && pending.count < row_count) {
        CHECK_FOR_INTERRUPTS();
        if (ConditionalLockPage(queue, *block, ExclusiveLock)) {
            read_stretch(*block, &pending);
        }
        *block += stretch_block_count;
    }
    if (*block >= block_count) {
        *block = InvalidBlockNumber;
    }
    table_close(queue, NoLock);
    return pending;
}

void delete_pending(const ItemPointerData *rows, size_t count)
{
    const Datum array = make_array(count, TIDOID, [&](size_t i) {
        return PointerGetDatum(const_cast<ItemPointer>(&rows[i]));
    });
    const uint64 deleted_count = run(Statement::delete_pending, &array);
    if (deleted_count != count) {
        elog(ERROR, "took " UINT64_FORMAT " pending rows instead of %zu", deleted_count, count);
    }
}

bool has_pending(Datum account_id, TimestampTz period_start)
{
    const Datum arguments[] = {account_id, TimestampTzGetDatum(period_start)};
    return run_latest(Statement::pending_of_period, arguments) > 0;
}

void take_pending_of_period(Datum account_id, TimestampTz period_start, core::WideTotals *sum)
{
    const Datum arguments[] = {account_id, TimestampTzGetDatum(period_start)};
    const uint64 row_count = run(Statement::take_pending_of_period, arguments);
    for (uint64 row = 0; row < row_count; row++) {
        core::add(sum, addition_of_row(row, 1));
    }
    free_rows();

    /* What the transaction's snapshot is too old to see. */
    if (IsolationUsesXactSnapshot() && has_pending(account_id, period_start)) {
        raise_snapshot_too_old(account_id, period_start);
    }
}

} // namespace usage_ledger
