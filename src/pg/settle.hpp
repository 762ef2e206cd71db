/*
 * settle.hpp: folding pending rows into their counters.
 */
#pragma once

#include "pg/postgres.hpp"

namespace usage_ledger
{

/* Settles at most row_count_max pending rows, inside SPI. Returns how many. */
int64 settle(int64 row_count_max);

} // namespace usage_ledger
