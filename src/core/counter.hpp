/*
 * counter.hpp: which counters there are, in which order they are locked, and the
 * arithmetic of their totals.
 */
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/event.hpp"

namespace usage_ledger::core
{

constexpr size_t account_id_size = 16;

/* A counter is the row of an account's period. */
struct CounterId {
    uint8_t account_id[account_id_size];
    int64_t period_start;
};

/*
 * The order in which every session that needs several counters takes them: by account,
 * byte by byte, then by period.
 */
int compare_counters(const CounterId &a, const CounterId &b);

/* Makes the account the next one in that order. False: it was the last. */
bool next_account(CounterId *counter);

inline bool operator<(const CounterId &a, const CounterId &b)
{
    return compare_counters(a, b) < 0;
}

inline bool operator==(const CounterId &a, const CounterId &b)
{
    return compare_counters(a, b) == 0;
}

/* Adds to a sum. False: it would overflow, and is unchanged. */
bool add(Usage *sum, const Usage &usage);

/*
 * A sum that cannot overflow. Where some usage reverses other usage, only the final sum
 * has to fit a counter, in whatever order it is added up.
 */
struct WideUsage {
    int128 tokens;
    int128 reports;
    int128 chats;
};
WideUsage wide(const Usage &totals);
void add(WideUsage *sum, const Usage &usage);
bool is_below_zero(const WideUsage &sum);

/* False: the sum does not fit. */
bool to_usage(const WideUsage &sum, Usage *totals);

/* Whether usage can be added to a counter's totals. */
enum class Fit { fits, falls_below_zero, overflows };
Fit fit(const Usage &totals, const Usage &usage);

} // namespace usage_ledger::core
