#include "core/counter.hpp"

#include <cstring>

namespace usage_ledger::core
{

namespace
{

bool sum_fits(int64_t a, int64_t b)
{
    int64_t sum;
    return !__builtin_add_overflow(a, b, &sum);
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

bool next_account(CounterId *counter)
{
    for (size_t i = account_id_size; i-- > 0;) {
        if (++counter->account_id[i] != 0) {
            return true;
        }
    }
    return false;
}

bool add(Usage *sum, const Usage &usage)
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

WideUsage wide(const Usage &totals)
{
    return {totals.tokens, totals.reports, totals.chats};
}

bool is_below_zero(const WideUsage &sum)
{
    return sum.tokens < 0 || sum.reports < 0 || sum.chats < 0;
}

void add(WideUsage *sum, const Usage &usage)
{
    sum->tokens += usage.tokens;
    sum->reports += usage.reports;
    sum->chats += usage.chats;
}

bool to_usage(const WideUsage &sum, Usage *totals)
{
    if (!fits_total(sum.tokens) || !fits_total(sum.reports) || !fits_total(sum.chats)) {
        return false;
    }
    *totals = {static_cast<int64_t>(sum.tokens), static_cast<int64_t>(sum.reports),
               static_cast<int64_t>(sum.chats)};
    return true;
}

Fit fit(const Usage &totals, const Usage &usage)
{
    WideUsage sum = wide(totals);
    Usage narrow;
    add(&sum, usage);
    /* Usage that is settled later can lift a total above zero, so that answer comes first. */
    return is_below_zero(sum)        ? Fit::falls_below_zero
           : !to_usage(sum, &narrow) ? Fit::overflows
                                     : Fit::fits;
}

} // namespace usage_ledger::core
