#include "pg/postgres.hpp"

#include "pg/extension_tables.hpp"

namespace usage_ledger
{

namespace
{

/* The tables of the extension that the session has looked up, until they change. */
struct KnownTable {
    const char *name;
    Oid id; /* InvalidOid: to be looked up */
};
KnownTable known_tables[16];
uint64 table_change_count;

/*
 * Finds a table by its membership in the extension, which does not change when its schema
 * is renamed or the table is moved.
 */
Oid find_extension_table(const char *name)
{
    Oid extension = get_extension_oid("usage_ledger", false);
    Oid relation = InvalidOid;

    Relation depend = table_open(DependRelationId, AccessShareLock);
    ScanKeyData key[2];
    ScanKeyInit(&key[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber, F_OIDEQ,
                ObjectIdGetDatum(ExtensionRelationId));
    ScanKeyInit(&key[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber, F_OIDEQ,
                ObjectIdGetDatum(extension));
    SysScanDesc scan =
        systable_beginscan(depend, DependReferenceIndexId, true, nullptr, lengthof(key), key);
    for (HeapTuple tuple = systable_getnext(scan); HeapTupleIsValid(tuple);
         tuple = systable_getnext(scan)) {
        auto *member = reinterpret_cast<Form_pg_depend>(GETSTRUCT(tuple));
        if (member->classid != RelationRelationId || member->deptype != DEPENDENCY_EXTENSION) {
            continue;
        }
        const char *member_name = get_rel_name(member->objid);
        if (member_name != nullptr && strcmp(member_name, name) == 0) {
            relation = member->objid;
            break;
        }
    }
    systable_endscan(scan);
    table_close(depend, AccessShareLock);

    if (!OidIsValid(relation)) {
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
                        errmsg("table \"%s\" is not part of extension usage_ledger", name),
                        errhint("Install the extension again.")));
    }
    return relation;
}

} // namespace

void forget_tables(Oid relation)
{
    table_change_count++;
    for (KnownTable &table : known_tables) {
        if (relation == InvalidOid || relation == table.id) {
            table.id = InvalidOid;
        }
    }
}

const char *qualified_name(const char *table)
{
    Oid schema = get_rel_namespace(extension_table(table));
    return quote_qualified_identifier(get_namespace_name(schema), table);
}

Oid extension_table(const char *name)
{
    for (KnownTable &table : known_tables) {
        if (table.name == nullptr) {
            table.name = name;
        }
        if (strcmp(table.name, name) == 0) {
            if (OidIsValid(table.id)) {
                return table.id;
            }
            const uint64 change_count = table_change_count;
            const Oid id = find_extension_table(name);
            if (table_change_count == change_count) {
                table.id = id;
            }
            return id;
        }
    }
    elog(ERROR, "too many tables");
}

} // namespace usage_ledger
