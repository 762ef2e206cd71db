#include "pg/postgres.hpp"

#include "pg/distribution.hpp"

#include "pg/extension_tables.hpp"

namespace usage_ledger
{

namespace
{

/* Whether Citus has distributed the ledger, as far as the session knows. */
enum class Distribution { unknown, none, citus };
Distribution distribution;
Oid distribution_table; /* of which this is known. InvalidOid: of any, because there is no Citus */

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

} // namespace

void forget_distribution(Oid relation)
{
    if (relation == InvalidOid || distribution_table == InvalidOid ||
        relation == distribution_table) {
        distribution = Distribution::unknown;
    }
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

} // namespace usage_ledger
