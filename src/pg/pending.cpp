#include "pg/postgres.hpp"

#include "pg/pending.hpp"

#include "pg/errors.hpp"
#include "pg/spi.hpp"
#include "pg/subscriber.hpp"

namespace usage_ledger
{

namespace
{

/*
 * Settlers share the queue by page ranges: the session that holds the lock of a range's first
 * page is the only one to settle there. A range is long enough that a huge backlog needs few
 * locks, and short enough for several settlers to share a large one: some 120,000 rows.
 */
constexpr BlockNumber page_range_size = 1024;

core::Usage usage_of_row(uint64 row, int first_column)
{
    return {DatumGetInt64(required_column(first_column, row)),
            DatumGetInt32(required_column(first_column + 1, row)),
            DatumGetInt32(required_column(first_column + 2, row))};
}

/* Adds the usage of the rows that a statement has returned to a sum. */
void add_rows(uint64 row_count, core::WideUsage *sum)
{
    for (uint64 row = 0; row < row_count; row++) {
        core::add(sum, usage_of_row(row, 1));
    }
    free_rows();
}

void read_page_range(BlockNumber first_block, PendingRows *pending)
{
    static Statement statement = {
        "usage_pending",
        "SELECT ctid, account_id, period_start, tokens, reports, chats FROM %s"
        " WHERE ctid OPERATOR(pg_catalog.>=) $1 AND ctid OPERATOR(pg_catalog.<) $2",
        {TIDOID, TIDOID}};
    ItemPointerData first, end;
    ItemPointerSet(&first, first_block, 0);
    ItemPointerSet(&end, first_block + page_range_size, 0);
    const Datum arguments[] = {PointerGetDatum(&first), PointerGetDatum(&end)};
    const uint64 row_count = run(&statement, arguments);

    const Size size = Max((pending->count + row_count) * sizeof(PendingRow), 1);
    pending->rows = static_cast<PendingRow *>(
        pending->rows == nullptr ? MemoryContextAllocHuge(CurrentMemoryContext, size)
                                 : repalloc_huge(pending->rows, size));
    for (uint64 row = 0; row < row_count; row++) {
        pending->rows[pending->count++] = {
            counter_id(required_column(2, row), DatumGetTimestampTz(required_column(3, row))),
            usage_of_row(row, 4), tid_column(1, row)};
    }
    free_rows();
}

} // namespace

void enqueue(const core::CounterId &counter, const core::Usage &usage)
{
    static Statement statement = {
        "usage_pending",
        "INSERT INTO %s (account_id, period_start, tokens, reports, chats)"
        " VALUES ($1, $2, $3, $4, $5)",
        {UUIDOID, TIMESTAMPTZOID, INT8OID, INT4OID, INT4OID}};
    const Datum arguments[] = {account_of(counter), TimestampTzGetDatum(counter.period_start),
                               Int64GetDatum(usage.tokens), integer_datum(usage.reports),
                               integer_datum(usage.chats)};
    run(&statement, arguments);
}

void enqueue_all(const core::CounterId *counters, const core::Usage *usage, size_t count)
{
    static Statement statement = {
        "usage_pending",
        "INSERT INTO %s (account_id, period_start, tokens, reports, chats)"
        " SELECT * FROM unnest($1, $2, $3, $4, $5)",
        {UUIDARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID, INT4ARRAYOID, INT4ARRAYOID}};
    const Datum arguments[] = {
        make_array(count, UUIDOID, [&](size_t i) { return account_of(counters[i]); }),
        make_array(count, TIMESTAMPTZOID,
                   [&](size_t i) { return TimestampTzGetDatum(counters[i].period_start); }),
        make_array(count, INT8OID, [&](size_t i) { return Int64GetDatum(usage[i].tokens); }),
        make_array(count, INT4OID, [&](size_t i) { return integer_datum(usage[i].reports); }),
        make_array(count, INT4OID, [&](size_t i) { return integer_datum(usage[i].chats); }),
    };
    run(&statement, arguments);
}

PendingRows read_pending(BlockNumber *block, size_t row_count)
{
    PendingRows pending = {nullptr, 0, false};
    Relation queue = table_open(extension_table("usage_pending"), RowExclusiveLock);
    const BlockNumber block_count = RelationGetNumberOfBlocks(queue);
    while (*block < block_count && pending.count < row_count) {
        CHECK_FOR_INTERRUPTS();
        if (ConditionalLockPage(queue, *block, ExclusiveLock)) {
            read_page_range(*block, &pending);
        } else {
            pending.has_skipped_pages = true;
        }
        *block += page_range_size;
    }
    if (*block >= block_count) {
        *block = InvalidBlockNumber;
    }
    table_close(queue, NoLock);
    return pending;
}

bool try_to_delete_pending(const ItemPointerData *tids, size_t count)
{
    static Statement statement = {"usage_pending",
                                  "DELETE FROM %s WHERE ctid OPERATOR(pg_catalog.=) ANY ($1)",
                                  {TIDARRAYOID}};
    const Datum array = make_tid_array(tids, count);
    MemoryContext context = CurrentMemoryContext;
    ResourceOwner owner = CurrentResourceOwner;
    BeginInternalSubTransaction(nullptr);
    const bool are_deleted = run(&statement, &array) == count;
    if (are_deleted) {
        ReleaseCurrentSubTransaction();
    } else {
        RollbackAndReleaseCurrentSubTransaction();
    }
    MemoryContextSwitchTo(context);
    CurrentResourceOwner = owner;
    return are_deleted;
}

bool has_pending(const core::CounterId &counter)
{
    static Statement statement = {
        "usage_pending", "SELECT FROM %s" WHERE_COUNTER " LIMIT 1", {UUIDOID, TIMESTAMPTZOID}};
    const Datum arguments[] = {account_of(counter), TimestampTzGetDatum(counter.period_start)};
    return run_in_snapshot(&statement, arguments, GetLatestSnapshot()) > 0;
}

void add_pending(const core::CounterId &counter, core::WideUsage *sum)
{
    static Statement statement = {"usage_pending",
                                  "SELECT tokens, reports, chats FROM %s" WHERE_COUNTER,
                                  {UUIDOID, TIMESTAMPTZOID}};
    const Datum arguments[] = {account_of(counter), TimestampTzGetDatum(counter.period_start)};
    add_rows(run_in_snapshot(&statement, arguments, GetLatestSnapshot()), sum);
}

void take_pending(const core::CounterId &counter, core::WideUsage *sum)
{
    static Statement statement = {"usage_pending",
                                  "DELETE FROM %s" WHERE_COUNTER
                                  " RETURNING tokens, reports, chats",
                                  {UUIDOID, TIMESTAMPTZOID}};
    check_not_fed();
    add_rows(run_for_counter(&statement, counter), sum);
    check_none_is_newer(counter);
}

void check_none_is_newer(const core::CounterId &counter)
{
    if (IsolationUsesXactSnapshot() && has_pending(counter)) {
        ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                        errmsg("could not serialize access due to concurrently queued usage"),
                        errdetail("%s.", period_text(counter)), errhint("Retry the transaction.")));
    }
}

} // namespace usage_ledger
