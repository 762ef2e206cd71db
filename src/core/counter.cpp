#include "core/counter.hpp"

#include <algorithm>
#include <cstring>

namespace usage_ledger::core
{

namespace
{

/* Where a sum lies: below a range (-1), above it (1), or in it (0). */
int compare_sum_to_range(int64_t a, int64_t b, int64_t min, int64_t max)
{
    int64_t sum;
    if (__builtin_add_overflow(a, b, &sum)) {
        return b < 0 ? -1 : 1;
    }
    return sum < min ? -1 : sum > max ? 1 : 0;
}

bool sum_fits(int64_t a, int64_t b)
{
    return compare_sum_to_range(a, b, INT64_MIN, INT64_MAX) == 0;
}

bool fits_total(int128 sum)
{
    return sum >= INT64_MIN && sum <= INT64_MAX;
}

} // namespace

int compare_counters(const CounterId &a, const CounterId &b)
{
    const int order = std::memcmp(a.account_id, b.account_id, account_id_size);
    if (order != 0 || a.period_start == b.period_start) {
        return order;
    }
    return a.period_start < b.period_start ? -1 : 1;
}

bool add(Totals *sum, const Totals &usage)
{
    if (!sum_fits(sum->tokens, usage.tokens) || !sum_fits(sum->reports, usage.reports) ||
        !sum_fits(sum->chats, usage.chats)) {
        return false;
    }
    sum->tokens += usage.tokens;
    sum->reports += usage.reports;
    sum->chats += usage.chats;
    return true;
}

void add(WideTotals *sum, const Totals &usage)
{
    sum->tokens += usage.tokens;
    sum->reports += usage.reports;
    sum->chats += usage.chats;
}

bool to_totals(const WideTotals &sum, Totals *totals)
{
    if (!fits_total(sum.tokens) || !fits_total(sum.reports) || !fits_total(sum.chats)) {
        return false;
    }
    *totals = {static_cast<int64_t>(sum.tokens), static_cast<int64_t>(sum.reports),
               static_cast<int64_t>(sum.chats)};
    return true;
}

Fit fit(const Totals &totals, const Totals &usage)
{
    const auto [lowest, highest] =
        std::minmax({compare_sum_to_range(totals.tokens, usage.tokens, 0, INT64_MAX),
                     compare_sum_to_range(totals.reports, usage.reports, 0, INT64_MAX),
                     compare_sum_to_range(totals.chats, usage.chats, 0, INT64_MAX)});
    /* Usage that is settled later can lift a total above zero, so that answer comes first. */
    return lowest < 0 ? Fit::falls_below_zero : highest > 0 ? Fit::overflows : Fit::fits;
}

} // namespace usage_ledger::core
