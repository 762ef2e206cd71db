/*
 * run_on_nodes.hpp: running the statements of a ledger that Citus distributes.
 */
#pragma once

#include "pg/postgres.hpp"

#include "pg/spi.hpp"

namespace usage_ledger
{

/* Runs a statement that plan_of() has planned for a distributed ledger, as run() does. */
uint64 run_on_nodes(const Statement &statement, const Datum *arguments, const char *nulls,
                    uint64 row_count_max);

} // namespace usage_ledger
