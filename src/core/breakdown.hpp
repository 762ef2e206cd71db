/*
 * breakdown.hpp: how much an event used of each kind of token and what it cost, under which
 * scope and model.
 */
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/limits.hpp"

namespace usage_ledger::core
{

/* For sums that cannot overflow. Memory that the server allocates is aligned to 8 bytes. */
__extension__ using int128 [[gnu::aligned(8)]] = __int128;

/*
 * What one event used, many of them together, or the totals of a row; negative if it reverses
 * an event. The kinds of tokens come first, and exclude each other. The cost is in 10^-9 of a
 * currency unit, and may be negative. Then comes the number of events.
 */
constexpr size_t input_index = 0;
constexpr size_t kind_count = 5;
constexpr size_t cost_index = kind_count;
constexpr size_t events_index = cost_index + 1;
constexpr size_t amount_count = events_index + 1;
struct Amounts {
    int64_t values[amount_count];
};
extern const char *const amount_names[amount_count];

bool operator==(const Amounts &a, const Amounts &b);
Amounts operator-(const Amounts &amounts);

struct WideAmounts {
    int128 values[amount_count];
};
WideAmounts sum_of(const Amounts &amounts);
void add(WideAmounts *sum, const Amounts &amounts);

/* Adds a sum to totals. False: one would overflow, and all are unchanged. */
bool add(Amounts *totals, const WideAmounts &sum);

/* Ordered by scope, then by model, each by its bytes. So a scope and all below it are a range. */
struct Pair {
    std::string_view scope; /* a path; empty: none */
    std::string_view model;
};

inline bool operator==(const Pair &a, const Pair &b)
{
    return a.model == b.model && a.scope == b.scope;
}

inline bool operator<(const Pair &a, const Pair &b)
{
    const int order = a.scope.compare(b.scope);
    return order != 0 ? order < 0 : a.model < b.model;
}

/* The model of usage whose own pair has no place. No caller can use it. */
constexpr std::string_view other_model = "_other";

/* Where the usage of a pair is counted that has no place: under the first level of its scope. */
Pair other_of(const Pair &pair);

struct Breakdown {
    Pair pair;
    Amounts amounts;
};

inline bool operator==(const Breakdown &a, const Breakdown &b)
{
    return a.pair == b.pair && a.amounts == b.amounts;
}

/*
 * A breakdown as text, in one column of usage_events and usage_pending: scope, model and the
 * amounts, separated by tabs. A column of each would cost every plain event more: an INSERT sets
 * up all columns of its table, 1,600 instructions for each that is NULL.
 */
constexpr size_t breakdown_text_max = 2 * (restored_length_max + 1) + amount_count * 21;
size_t write_breakdown(const Breakdown &breakdown, char *buffer);

/* The names stay in the text. False: it is no such text. */
bool read_breakdown(std::string_view text, Breakdown *breakdown);

/* The tokens of all kinds. REQUIRES: none is negative or above the limit of an event. */
int64_t tokens_of(const Amounts &amounts);

} // namespace usage_ledger::core
