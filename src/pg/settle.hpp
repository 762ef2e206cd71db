/*
 * settle.hpp: folding pending rows into their counters.
 */
#pragma once

#include "pg/postgres.hpp"

#include "pg/pending.hpp"

namespace usage_ledger
{

struct Settled {
    int64 row_count;
    bool has_left_rows; /* other sessions held the counters or the page range of some rows */
};

/* Settles at most row_count_max pending rows, inside SPI. */
Settled settle(int64 row_count_max, Accounts scope);

} // namespace usage_ledger
