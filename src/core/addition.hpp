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
    int64_t row_count; /* events or pending rows that it is made of */
};

struct Totals {
    int64_t tokens;
    int64_t reports;
    int64_t chats;
};

inline bool operator==(const Totals &a, const Totals &b)
{
    return a.tokens == b.tokens && a.reports == b.reports && a.chats == b.chats;
}

/*
 * The order in which everybody who needs several counters takes them: by
 * account, byte by byte, then by period.
 */
int compare_counters(const Addition &a, const Addition &b);

/* Adds to a sum for the same counter. False: it would overflow, and is as it was. */
bool add(Addition *sum, const Addition &addition);

/*
 * A sum of any number of additions in any order, of which some take back what others
 * add: only what it comes to in the end has to fit a counter.
 */
__extension__ using Wide = __int128;
struct WideTotals {
    Wide tokens;
    Wide reports;
    Wide chats;
};
void add(WideTotals *sum, const Addition &addition);

/* False: it does not fit. */
bool narrow(const WideTotals &sum, Totals *totals);

/*
 * Sorts additions into counters' order and sums those for the same counter, in
 * place; returns how many are left. No more than a batch's worth of them, which
 * cannot overflow.
 */
size_t fold(Addition *additions, size_t count);

/* Whether totals can take an addition, which is negative where events are taken back. */
enum class Fit { fits, falls_below_zero, overflows };
Fit fit(const Totals &totals, const Addition &addition);

/* The totals after an addition that fits. */
Totals sum_of(const Totals &totals, const Addition &addition);

} // namespace usage_ledger::core
