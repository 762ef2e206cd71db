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

inline bool operator<(const CounterId &a, const CounterId &b)
{
    return compare_counters(a, b) < 0;
}

inline bool operator==(const CounterId &a, const CounterId &b)
{
    return compare_counters(a, b) == 0;
}

/* The totals of a counter, or usage to be added to them: negative if it reverses an event. */
struct Totals {
    int64_t tokens;
    int64_t reports;
    int64_t chats;
};

inline bool operator==(const Totals &a, const Totals &b)
{
    return a.tokens == b.tokens && a.reports == b.reports && a.chats == b.chats;
}

inline Totals usage_of(const Payload &payload)
{
    return {payload.tokens, payload.reports, payload.chats};
}

/* Adds to a sum. False: it would overflow, and is unchanged. */
bool add(Totals *sum, const Totals &usage);

/*
 * A sum that cannot overflow. Where some usage reverses other usage, only the final sum
 * has to fit a counter, in whatever order it is added up.
 */
__extension__ using int128 = __int128;
struct WideTotals {
    int128 tokens;
    int128 reports;
    int128 chats;
};
WideTotals wide(const Totals &totals);
void add(WideTotals *sum, const Totals &usage);
bool is_below_zero(const WideTotals &sum);

/* False: the sum does not fit. */
bool to_totals(const WideTotals &sum, Totals *totals);

/* Whether usage can be added to a counter's totals. */
enum class Fit { fits, falls_below_zero, overflows };
Fit fit(const Totals &totals, const Totals &usage);

} // namespace usage_ledger::core
