#include "pg/postgres.hpp"

#include "pg/pending.hpp"

#include <algorithm>

#include "pg/errors.hpp"
#include "pg/extension_tables.hpp"
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

/* What append_rows reads. */
#define PENDING_ROW "ctid, account_id, period_start, tokens, reports, chats, breakdown"

uint32 hash_of_pair(const void *key, Size)
{
    const auto &pair = *static_cast<const core::Pair *>(key);
    return hash_combine(hash_bytes(reinterpret_cast<const unsigned char *>(pair.scope.data()),
                                   static_cast<int>(pair.scope.size())),
                        hash_bytes(reinterpret_cast<const unsigned char *>(pair.model.data()),
                                   static_cast<int>(pair.model.size())));
}

int compare_pairs(const void *a, const void *b, Size)
{
    return *static_cast<const core::Pair *>(a) == *static_cast<const core::Pair *>(b) ? 0 : 1;
}

/* The one PendingPair of a pair among some rows. */
PendingPair *shared_pair(const core::Pair &pair, PendingRows *pending)
{
    if (pending->pairs == nullptr) {
        HASHCTL control = {};
        control.keysize = sizeof(core::Pair);
        control.entrysize = sizeof(PendingPair);
        control.hash = hash_of_pair;
        control.match = compare_pairs;
        control.hcxt = pending->context;
        pending->pairs = hash_create("usage_ledger pending pairs", 64, &control,
                                     HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
    }
    bool is_found;
    auto *shared =
        static_cast<PendingPair *>(hash_search(pending->pairs, &pair, HASH_ENTER, &is_found));
    if (!is_found) {
        /* The key must outlive the row that it came with. */
        char *bytes = static_cast<char *>(
            MemoryContextAlloc(pending->context, pair.scope.size() + pair.model.size() + 1));
        memcpy(bytes, pair.scope.data(), pair.scope.size());
        memcpy(bytes + pair.scope.size(), pair.model.data(), pair.model.size());
        shared->pair = {{bytes, pair.scope.size()}, {bytes + pair.scope.size(), pair.model.size()}};
        shared->sum_number = 0;
    }
    return shared;
}

const PendingBreakdown *breakdown_of_text(std::string_view text, PendingRows *pending)
{
    core::Breakdown breakdown;
    if (!core::read_breakdown(text, &breakdown)) {
        return nullptr;
    }
    auto *copy = static_cast<PendingBreakdown *>(
        MemoryContextAlloc(pending->context, sizeof(PendingBreakdown)));
    *copy = {shared_pair(breakdown.pair, pending), breakdown.amounts};
    return copy;
}

/* Adds a returned row to others, or counts it if its breakdown is malformed. */
void append_row(uint64 row, PendingRows *pending)
{
    PendingRow read = {
        counter_id(required_column(2, row), DatumGetTimestampTz(required_column(3, row))),
        usage_of_row(row, 4), tid_column(1, row), nullptr};
    if (!column_is_null(7, row)) {
        const Datum breakdown = required_column(7, row);
        read.breakdown = breakdown_of_text(text_view(breakdown), pending);
        if (read.breakdown == nullptr) {
            if (pending->malformed_count++ == 0) {
                pending->malformed_row = malformed_text(period_text(read.counter), breakdown);
            }
            return;
        }
    }
    pending->rows[pending->count++] = read;
}

/* Moves the rows that a statement has returned to the end of others. */
void append_rows(uint64 row_count, PendingRows *pending)
{
    const Size size = Max((pending->count + row_count) * sizeof(PendingRow), 1);
    pending->rows = static_cast<PendingRow *>(pending->rows == nullptr
                                                  ? MemoryContextAllocHuge(pending->context, size)
                                                  : repalloc_huge(pending->rows, size));
    for (uint64 row = 0; row < row_count; row++) {
        append_row(row, pending);
    }
    free_rows();
}

PendingRows no_rows()
{
    return {AllocSetContextCreate(CurrentMemoryContext, "usage_ledger pending rows",
                                  ALLOCSET_DEFAULT_SIZES),
            nullptr,
            0,
            nullptr,
            false,
            0,
            nullptr};
}

void read_page_range(BlockNumber first_block, PendingRows *pending)
{
    static Statement statement = {
        "usage_pending",
        "SELECT " PENDING_ROW " FROM %s"
        " WHERE ctid OPERATOR(pg_catalog.>=) $1 AND ctid OPERATOR(pg_catalog.<) $2",
        {TIDOID, TIDOID}};
    ItemPointerData first, end;
    ItemPointerSet(&first, first_block, 0);
    ItemPointerSet(&end, first_block + page_range_size, 0);
    const Datum arguments[] = {PointerGetDatum(&first), PointerGetDatum(&end)};
    append_rows(run(&statement, arguments), pending);
}

constexpr int pending_column_count = 7;

/* The arguments are those of enqueue's statement. */
int64 insert_pending(const RowCall &call)
{
    const Datum *arguments = call.arguments;
    const bool has_breakdown = call.nulls == nullptr;
    const NullableDatum columns[pending_column_count] = {
        {arguments[0], false},
        {arguments[1], false},
        {arguments[2], false},
        {arguments[3], false},
        {arguments[4], false},
        {TimestampTzGetDatum(GetCurrentTransactionStartTimestamp()), false},
        {arguments[5], !has_breakdown}};
    return insert_row(call, {columns, lengthof(columns)});
}

} // namespace

void enqueue(const core::CounterId &counter, const core::Payload &usage)
{
    static Statement statement = {
        "usage_pending",
        "INSERT INTO %s (account_id, period_start, tokens, reports, chats, breakdown)"
        " VALUES ($1, $2, $3, $4, $5, $6)",
        {UUIDOID, TIMESTAMPTZOID, INT8OID, INT4OID, INT4OID, TEXTOID},
        {},
        nullptr,
        {},
        {ACL_INSERT, pending_column_count, insert_pending}};
    const Datum arguments[] = {
        account_of(counter),         TimestampTzGetDatum(counter.period_start),
        Int64GetDatum(usage.tokens), integer_datum(usage.reports),
        integer_datum(usage.chats),  breakdown_datum(usage.breakdown)};
    run(&statement, arguments, usage.breakdown == nullptr ? "     n" : nullptr);
}

void enqueue_all(const core::CounterId *counters, const core::Payload *usage, size_t count)
{
    static Statement plain = {
        "usage_pending",
        "INSERT INTO %s (account_id, period_start, tokens, reports, chats)"
        " SELECT * FROM unnest($1, $2, $3, $4, $5)",
        {UUIDARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID, INT4ARRAYOID, INT4ARRAYOID},
        {},
        "INSERT INTO %s (account_id, period_start, tokens, reports, chats)"
        " VALUES ($1, $2, $3, $4, $5)"};
    static Statement broken_down = {
        "usage_pending",
        "INSERT INTO %s (account_id, period_start, tokens, reports, chats, breakdown)"
        " SELECT * FROM unnest($1, $2, $3, $4, $5, $6)",
        {UUIDARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID, INT4ARRAYOID, INT4ARRAYOID, TEXTARRAYOID},
        {},
        "INSERT INTO %s (account_id, period_start, tokens, reports, chats, breakdown)"
        " VALUES ($1, $2, $3, $4, $5, $6)"};
    Datum arguments[] = {
        make_array(count, UUIDOID, [&](size_t i) { return account_of(counters[i]); }),
        make_array(count, TIMESTAMPTZOID,
                   [&](size_t i) { return TimestampTzGetDatum(counters[i].period_start); }),
        make_array(count, INT8OID, [&](size_t i) { return Int64GetDatum(usage[i].tokens); }),
        make_array(count, INT4OID, [&](size_t i) { return integer_datum(usage[i].reports); }),
        make_array(count, INT4OID, [&](size_t i) { return integer_datum(usage[i].chats); }),
        0,
    };
    if (usage->breakdown == nullptr) {
        run(&plain, arguments);
        return;
    }
    arguments[lengthof(arguments) - 1] =
        make_array(count, TEXTOID, [&](size_t i) { return breakdown_datum(usage[i].breakdown); });
    run(&broken_down, arguments);
}

void sum_pairs(const PendingRow *rows, size_t count, PairSums *sums)
{
    const size_t first = sums->count;
    for (size_t i = 0; i < count; i++) {
        if (rows[i].breakdown == nullptr) {
            continue;
        }
        PendingPair *pair = rows[i].breakdown->pair;
        if (pair->sum_number == 0) {
            if (sums->count == sums->capacity) {
                sums->capacity = Max(2 * sums->capacity, 64);
                const Size size = sums->capacity * sizeof(PairSum);
                sums->sums = static_cast<PairSum *>(
                    sums->sums == nullptr ? MemoryContextAllocHuge(CurrentMemoryContext, size)
                                          : repalloc_huge(sums->sums, size));
            }
            sums->sums[sums->count] = {rows[i].counter, pair->pair, {}};
            pair->sum_number = ++sums->count;
        }
        core::add(&sums->sums[pair->sum_number - 1].sum, rows[i].breakdown->amounts);
    }
    for (size_t i = 0; i < count; i++) {
        if (rows[i].breakdown != nullptr) {
            rows[i].breakdown->pair->sum_number = 0;
        }
    }
    std::sort(sums->sums + first, sums->sums + sums->count);
}

PendingRows read_pending(BlockNumber *block, size_t row_count)
{
    PendingRows pending = no_rows();
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

namespace
{

/* A query of the rows of usage_pending on this node; null: it has no shards. */
const char *rows_of_node()
{
    static Oid types[] = {REGCLASSOID, TEXTOID};
    const Oid table = extension_table("usage_pending");
    Datum arguments[] = {ObjectIdGetDatum(table),
                         CStringGetTextDatum(get_namespace_name(get_rel_namespace(table)))};
    if (SPI_execute_with_args(
            "SELECT pg_catalog.string_agg(pg_catalog.format("
            "'SELECT account_id, period_start FROM %s', s.shard), ' UNION ALL ')"
            " FROM (SELECT pg_catalog.to_regclass("
            "pg_catalog.format('%I.usage_pending_%s', $2, s.shardid)) AS shard"
            " FROM pg_catalog.pg_dist_shard AS s"
            " JOIN pg_catalog.pg_dist_placement AS p ON p.shardid OPERATOR(pg_catalog.=) s.shardid"
            " JOIN pg_catalog.pg_dist_local_group AS g"
            " ON g.groupid OPERATOR(pg_catalog.=) p.groupid"
            " WHERE s.logicalrelid OPERATOR(pg_catalog.=) $1) AS s WHERE s.shard IS NOT NULL",
            2, types, arguments, nullptr, true, 0) != SPI_OK_SELECT) {
        elog(ERROR, "could not look for shards of usage_pending");
    }
    return column_is_null(1) ? nullptr : TextDatumGetCString(required_column(1));
}

#define COUNTERS_AFTER                                                                             \
    " WHERE (account_id, period_start) OPERATOR(pg_catalog.>) ($1, $2)"                            \
    " GROUP BY account_id, period_start ORDER BY account_id, period_start LIMIT $3"

/* The shards may be others at every call, so no plan is kept. */
uint64 run_on_node(const Oid *types, const Datum *arguments)
{
    const char *rows = rows_of_node();
    if (rows == nullptr) {
        return 0;
    }
    const char *sql =
        psprintf("SELECT account_id, period_start FROM (%s) AS q" COUNTERS_AFTER, rows);
    if (SPI_execute_with_args(sql, 3, const_cast<Oid *>(types), const_cast<Datum *>(arguments),
                              nullptr, true, 0) != SPI_OK_SELECT) {
        elog(ERROR, "could not read the shards of usage_pending");
    }
    return SPI_processed;
}

} // namespace

size_t find_pending_counters(const core::CounterId &after, Accounts scope,
                             core::CounterId *counters, size_t count_max)
{
    static Statement statement = {"usage_pending",
                                  "SELECT account_id, period_start FROM %s" COUNTERS_AFTER,
                                  {UUIDOID, TIMESTAMPTZOID, INT8OID}};
    const Datum arguments[] = {account_of(after), TimestampTzGetDatum(after.period_start),
                               Int64GetDatum(static_cast<int64>(count_max))};
    const uint64 count = scope == Accounts::all ? run(&statement, arguments)
                                                : run_on_node(statement.argument_types, arguments);
    for (uint64 row = 0; row < count; row++) {
        counters[row] =
            counter_id(required_column(1, row), DatumGetTimestampTz(required_column(2, row)));
    }
    free_rows();
    return count;
}

PendingRows read_pending_of(const core::CounterId &counter, int64 row_count_max)
{
    /* Voids come last, so that the rows within the limit do not sum up to less than zero. */
    static Statement statement = {"usage_pending",
                                  "SELECT " PENDING_ROW " FROM %s" WHERE_COUNTER
                                  " ORDER BY tokens DESC, reports DESC, chats DESC LIMIT $3",
                                  {UUIDOID, TIMESTAMPTZOID, INT8OID}};
    const Datum arguments[] = {account_of(counter), TimestampTzGetDatum(counter.period_start),
                               Int64GetDatum(row_count_max)};
    PendingRows pending = no_rows();
    append_rows(run(&statement, arguments), &pending);
    return pending;
}

namespace
{

/* The counter has been locked since the rows were read, so they are where they were. */
void delete_pending_of(const core::CounterId &counter, const ItemPointerData *tids, size_t count)
{
    static Statement statement = {"usage_pending",
                                  "DELETE FROM %s" WHERE_COUNTER
                                  " AND ctid OPERATOR(pg_catalog.=) ANY ($3)",
                                  {UUIDOID, TIMESTAMPTZOID, TIDARRAYOID}};
    const Datum arguments[] = {account_of(counter), TimestampTzGetDatum(counter.period_start),
                               make_tid_array(tids, count)};
    const uint64 deleted_count = run(&statement, arguments);
    if (deleted_count != count) {
        elog(ERROR, "deleted " UINT64_FORMAT " pending rows instead of %zu", deleted_count, count);
    }
}

} // namespace

bool try_to_delete_pending(const core::CounterId &counter, const ItemPointerData *tids,
                           size_t count)
{
    if (is_distributed()) {
        delete_pending_of(counter, tids, count);
        return true;
    }
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
    const uint64 row_count = run_in_snapshot(&statement, arguments, GetLatestSnapshot());
    for (uint64 row = 0; row < row_count; row++) {
        core::add(sum, usage_of_row(row, 1));
    }
    free_rows();
}

void take_pending(const core::CounterId &counter, core::WideUsage *sum)
{
    static Statement statement = {"usage_pending",
                                  "DELETE FROM %s" WHERE_COUNTER " RETURNING " PENDING_ROW,
                                  {UUIDOID, TIMESTAMPTZOID}};
    check_not_fed();
    PendingRows taken = no_rows();
    append_rows(run_for_counter(&statement, counter), &taken);
    if (taken.malformed_count > 0) {
        raise_malformed_breakdown(taken.malformed_row);
    }
    check_none_is_newer(counter);
    for (size_t i = 0; i < taken.count; i++) {
        core::add(sum, taken.rows[i].usage);
    }
    PairSums pairs = {};
    sum_pairs(taken.rows, taken.count, &pairs);
    add_to_breakdowns(pairs.sums, pairs.count);
    MemoryContextDelete(taken.context);
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
