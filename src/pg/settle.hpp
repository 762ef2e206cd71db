/*
 * settle.hpp: folding what is pending into counters.
 */
#pragma once

#include "pg/postgres.hpp"

#include "core/addition.hpp"
#include "pg/counters.hpp"

namespace usage_ledger
{

/*
 * Adds sums to their counters where those are locked, and puts the others into
 * the queue, a row each; returns how many these are. Sums of no rows are nothing.
 */
size_t settle_sums(const core::Addition *sums, const SetCounter *counters, size_t count);

/* Settles row_count_max pending rows at most, inside SPI; returns how many it did. */
int64 settle(int64 row_count_max);

} // namespace usage_ledger
