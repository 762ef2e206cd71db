/*
 * extension_tables.hpp: the extension's tables, found whatever their schema is named.
 */
#pragma once

#include "pg/postgres.hpp"

namespace usage_ledger
{

/* The OID of one of the extension's tables. */
Oid extension_table(const char *name);

/* The name of one of the extension's tables for a statement, with its schema. */
const char *qualified_name(const char *table);

/* To be called when a table has changed; InvalidOid: any. */
void forget_tables(Oid relation);

} // namespace usage_ledger
