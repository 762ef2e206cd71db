/*
 * distribution.hpp: whether Citus distributes the ledger.
 */
#pragma once

#include "pg/postgres.hpp"

namespace usage_ledger
{

/*
 * Whether Citus has distributed the ledger's tables over several nodes. Raises if the transaction's
 * isolation level is one that does not reach over nodes, or if Citus would not make one transaction
 * of the call's statements.
 */
bool is_distributed();

/* To be called when a table has changed; InvalidOid: any. */
void forget_distribution(Oid relation);

} // namespace usage_ledger
