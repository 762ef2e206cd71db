#include "pg/postgres.hpp"

#include "pg/run_on_nodes.hpp"

#include <algorithm>

#include "pg/extension_tables.hpp"
#include "pg/plans.hpp"

namespace usage_ledger
{

namespace
{

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
    const Datum arguments[] = {account_id, ObjectIdGetDatum(extension_table("usage_accounts"))};
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
uint64 run_plan_on_nodes(SPIPlanPtr plan, const Datum *arguments, const char *nulls,
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

/* Runs the plan of a statement on one account, or on none. */
uint64 run_singular(SPIPlanPtr plan, const Oid *types, int type_count, const Datum *arguments,
                    const char *nulls, uint64 row_count_max)
{
    const int account = static_cast<int>(std::find(types, types + type_count, UUIDOID) - types);
    if (account < type_count) {
        pin_shard(arguments[account]);
    }
    return run_plan_on_nodes(plan, arguments, nulls, row_count_max);
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
        processed_count += run_singular(statement.plan, types, type_count, values, nullptr, 0);
        if (rows != nullptr) {
            append_rows(rows);
        }
        rows = SPI_tuptable;
    }
    SPI_processed = processed_count;
    return processed_count;
}

} // namespace

uint64 run_on_nodes(const Statement &statement, const Datum *arguments, const char *nulls,
                    uint64 row_count_max)
{
    Oid types[distributed_argument_count_max];
    bool is_for_elements;
    const int type_count = distributed_types(statement, types, &is_for_elements);
    return is_for_elements
               ? run_for_elements(statement, arguments, types, type_count)
               : run_singular(statement.plan, types, type_count, arguments, nulls, row_count_max);
}

} // namespace usage_ledger
