#include "core/addition.hpp"

#include <algorithm>
#include <cstring>

namespace usage_ledger::core
{

namespace
{

bool sum_fits(int64_t a, int64_t b, int64_t max)
{
    return a <= max - b;
}

/* Adds b to a, unless the sum would not fit a row of usage_pending. */
bool merge(Addition *a, const Addition &b)
{
    if (!sum_fits(a->tokens, b.tokens, INT64_MAX) || !sum_fits(a->reports, b.reports, INT32_MAX) ||
        !sum_fits(a->chats, b.chats, INT32_MAX)) {
        return false;
    }
    a->tokens += b.tokens;
    a->reports += b.reports;
    a->chats += b.chats;
    a->row_count += b.row_count;
    return true;
}

} // namespace

int compare_counters(const Addition &a, const Addition &b)
{
    int order = std::memcmp(a.account_id, b.account_id, account_id_size);
    if (order == 0 && a.period_start != b.period_start) {
        order = a.period_start < b.period_start ? -1 : 1;
    }
    return order;
}

size_t fold(Addition *additions, size_t count)
{
    if (count == 0) {
        return 0;
    }
    std::sort(additions, additions + count,
              [](const Addition &a, const Addition &b) { return compare_counters(a, b) < 0; });

    size_t last = 0;
    for (size_t i = 1; i < count; i++) {
        if (compare_counters(additions[last], additions[i]) != 0 ||
            !merge(&additions[last], additions[i])) {
            additions[++last] = additions[i];
        }
    }
    return last + 1;
}

bool fits(const Totals &totals, const Addition &addition)
{
    return sum_fits(totals.tokens, addition.tokens, INT64_MAX) &&
           sum_fits(totals.reports, addition.reports, INT64_MAX) &&
           sum_fits(totals.chats, addition.chats, INT64_MAX);
}

} // namespace usage_ledger::core
