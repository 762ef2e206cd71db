/*
 * addition.hpp: usage to be added to counters, many events' worth at once.
 */
#pragma once

#include <cstddef>
#include <cstdint>

namespace usage_ledger::core
{

constexpr size_t account_id_size = 16;

/* Sums for one counter: an account's period. */
struct Addition {
    uint8_t account_id[account_id_size];
    int64_t period_start;
    int64_t tokens;
    int64_t reports;
    int64_t chats;
    int64_t row_count; /* pending rows that it is made of */
};

struct Totals {
    int64_t tokens;
    int64_t reports;
    int64_t chats;
};

/*
 * The order in which everybody who needs several counters takes them: by
 * account, byte by byte, then by period.
 */
int compare_counters(const Addition &a, const Addition &b);

/*
 * Sorts additions into counters' order and sums those for the same counter, in
 * place; returns how many are left. A sum that would not fit one row of
 * usage_pending is left as several.
 */
size_t fold(Addition *additions, size_t count);

/* Whether an addition fits the counter on top of these totals. */
bool fits(const Totals &totals, const Addition &addition);

} // namespace usage_ledger::core
