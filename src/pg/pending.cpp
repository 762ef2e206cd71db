#include "pg/postgres.hpp"

#include "pg/pending.hpp"

#include "pg/arrays.hpp"
#include "pg/statements.hpp"

namespace usage_ledger
{

namespace
{

/*
 * Settlers share the queue by stretches of pages: whoever holds the lock of a
 * stretch's first page, until its transaction ends, is the only one to delete
 * there, and deletes all that it sees without locking row by row. Long enough
 * that the locks of a huge backlog are few, short enough for several settlers
 * to help with a large one: some 120,000 rows.
 */
constexpr BlockNumber stretch_block_count = 1024;

/* Deletes and adds up what is pending in a stretch; returns the number of rows. */
uint64 take_stretch(BlockNumber first_block, uint64 row_count_max, TakenUsage *taken)
{
    ItemPointerData first, end;
    ItemPointerSet(&first, first_block, 0);
    ItemPointerSet(&end, first_block + stretch_block_count, 0);
    const Datum arguments[] = {PointerGetDatum(&first), PointerGetDatum(&end)};
    const uint64 row_count = run(Statement::take_pending, arguments, nullptr, row_count_max);

    const Size size = (taken->count + row_count) * sizeof(core::Addition);
    taken->additions = static_cast<core::Addition *>(
        taken->additions == nullptr ? MemoryContextAllocHuge(CurrentMemoryContext, Max(size, 1))
                                    : repalloc_huge(taken->additions, Max(size, 1)));
    for (uint64 row = 0; row < row_count; row++) {
        core::Addition *addition = &taken->additions[taken->count + row];
        memcpy(addition->account_id, DatumGetUUIDP(required_column(1, row))->data,
               core::account_id_size);
        addition->period_start = DatumGetTimestampTz(required_column(2, row));
        addition->tokens = DatumGetInt64(required_column(3, row));
        addition->reports = DatumGetInt32(required_column(4, row));
        addition->chats = DatumGetInt32(required_column(5, row));
        addition->row_count = 1;
    }
    free_rows();
    taken->count = core::fold(taken->additions, taken->count + row_count);
    return row_count;
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

TakenUsage take_pending(uint64 row_count_max)
{
    TakenUsage taken = {nullptr, 0};
    uint64 row_count = 0;

    Relation pending = table_open(extension_table("usage_pending"), RowExclusiveLock);
    const BlockNumber block_count = RelationGetNumberOfBlocks(pending);
    for (BlockNumber block = 0; block < block_count && row_count < row_count_max;
         block += stretch_block_count) {
        CHECK_FOR_INTERRUPTS();
        if (ConditionalLockPage(pending, block, ExclusiveLock)) {
            row_count += take_stretch(block, row_count_max - row_count, &taken);
        }
    }
    table_close(pending, NoLock);
    return taken;
}

} // namespace usage_ledger
