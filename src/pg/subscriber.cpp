#include "pg/postgres.hpp"

#include "pg/subscriber.hpp"

namespace usage_ledger
{

namespace
{

/* The name of a table of usage of this ledger, or null. */
const char *usage_table(Oid relation)
{
    static const char *const tables[] = {"usage_periods",   "usage_events", "usage_pending",
                                         "usage_breakdown", "usage_limits", "usage_holds"};
    const char *name = get_rel_name(relation);
    for (const char *table : tables) {
        if (name != nullptr && strcmp(name, table) == 0 &&
            getExtensionOfObject(RelationRelationId, relation) ==
                get_extension_oid("usage_ledger", false)) {
            return name;
        }
    }
    return nullptr;
}

} // namespace

Feed find_feed()
{
    /* The catalog is this database's alone, and empty unless something is replicated into it. */
    Feed feed = {nullptr, nullptr};
    Relation catalog = table_open(SubscriptionRelRelationId, AccessShareLock);
    SysScanDesc scan = systable_beginscan(catalog, InvalidOid, false, nullptr, 0, nullptr);
    for (HeapTuple tuple = systable_getnext(scan); HeapTupleIsValid(tuple) && feed.table == nullptr;
         tuple = systable_getnext(scan)) {
        const auto *entry = reinterpret_cast<Form_pg_subscription_rel>(GETSTRUCT(tuple));
        feed.table = usage_table(entry->srrelid);
        feed.subscription =
            feed.table == nullptr ? nullptr : get_subscription_name(entry->srsubid, true);
    }
    systable_endscan(scan);
    table_close(catalog, AccessShareLock);
    return feed;
}

void check_not_fed()
{
    const Feed feed = find_feed();
    if (feed.table != nullptr) {
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("usage is not settled where a subscription feeds the ledger"),
                        errdetail("Subscription \"%s\" feeds table \"%s\".", feed.subscription,
                                  feed.table),
                        errhint("Settle on the publisher. After a switch to this server, drop the "
                                "subscription, then settle here.")));
    }
}

} // namespace usage_ledger
