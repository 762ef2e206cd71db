/*
 * settle.hpp: folding what is pending into counters.
 */
#pragma once

#include "pg/postgres.hpp"

namespace usage_ledger
{

/* Settles row_count_max pending rows at most, inside SPI; returns how many it did. */
int64 settle(int64 row_count_max);

} // namespace usage_ledger
