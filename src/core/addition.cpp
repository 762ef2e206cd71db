#include "core/addition.hpp"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "core/limits.hpp"

namespace usage_ledger::core
{

namespace
{

/* Where a sum lies: below a minimum (-1), above a maximum (1), or neither (0). */
int place_of_sum(int64_t a, int64_t b, int64_t min, int64_t max)
{
    int64_t sum;
    if (__builtin_add_overflow(a, b, &sum)) {
        return b < 0 ? -1 : 1;
    }
    return sum < min ? -1 : sum > max ? 1 : 0;
}

bool sum_fits(int64_t a, int64_t b)
{
    return place_of_sum(a, b, INT64_MIN, INT64_MAX) == 0;
}

static_assert(event_tokens_max <= INT64_MAX / batch_items_max && batch_items_max <= INT32_MAX,
              "what the items of a batch come to fits a counter and a row of usage_pending");

} // namespace

int compare_counters(const Addition &a, const Addition &b)
{
    int order = std::memcmp(a.account_id, b.account_id, account_id_size);
    if (order == 0 && a.period_start != b.period_start) {
        order = a.period_start < b.period_start ? -1 : 1;
    }
    return order;
}

bool add(Addition *sum, const Addition &addition)
{
    if (!sum_fits(sum->tokens, addition.tokens) || !sum_fits(sum->reports, addition.reports) ||
        !sum_fits(sum->chats, addition.chats)) {
        return false;
    }
    sum->tokens += addition.tokens;
    sum->reports += addition.reports;
    sum->chats += addition.chats;
    sum->row_count += addition.row_count;
    return true;
}

void add(WideTotals *sum, const Addition &addition)
{
    sum->tokens += addition.tokens;
    sum->reports += addition.reports;
    sum->chats += addition.chats;
}

bool narrow(const WideTotals &sum, Totals *totals)
{
    for (const Wide part : {sum.tokens, sum.reports, sum.chats}) {
        if (part < INT64_MIN || part > INT64_MAX) {
            return false;
        }
    }
    *totals = {static_cast<int64_t>(sum.tokens), static_cast<int64_t>(sum.reports),
               static_cast<int64_t>(sum.chats)};
    return true;
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
        if (compare_counters(additions[last], additions[i]) != 0) {
            additions[++last] = additions[i];
        } else {
            (void)add(&additions[last], additions[i]);
        }
    }
    return last + 1;
}

Fit fit(const Totals &totals, const Addition &addition)
{
    const int places[] = {
        place_of_sum(totals.tokens, addition.tokens, 0, INT64_MAX),
        place_of_sum(totals.reports, addition.reports, 0, INT64_MAX),
        place_of_sum(totals.chats, addition.chats, 0, INT64_MAX),
    };
    if (*std::min_element(std::begin(places), std::end(places)) < 0) {
        return Fit::falls_below_zero;
    }
    return *std::max_element(std::begin(places), std::end(places)) > 0 ? Fit::overflows : Fit::fits;
}

Totals sum_of(const Totals &totals, const Addition &addition)
{
    return {totals.tokens + addition.tokens, totals.reports + addition.reports,
            totals.chats + addition.chats};
}

} // namespace usage_ledger::core
