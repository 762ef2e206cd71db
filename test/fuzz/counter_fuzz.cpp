/*
 * The order of counters is one of accounts and periods, and adding neither loses nor invents
 * usage: usage fits a counter exactly if each total stays between zero and the largest bigint.
 */
#include "core/counter.hpp"

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <fuzzer/FuzzedDataProvider.h>

#include "expect.hpp"

using namespace usage_ledger::core;

namespace
{

CounterId any_counter(FuzzedDataProvider &input)
{
    CounterId counter = {};
    counter.account_id[input.ConsumeIntegralInRange<size_t>(0, account_id_size - 1)] =
        static_cast<uint8_t>(input.ConsumeIntegralInRange(0, 1) * 255);
    counter.period_start = input.ConsumeBool() ? input.ConsumeIntegral<int64_t>() : 0;
    return counter;
}

void check_order(FuzzedDataProvider &input)
{
    const CounterId a = any_counter(input), b = any_counter(input);
    const auto pair_of = [](const CounterId &counter) {
        return std::make_pair(
            std::string(reinterpret_cast<const char *>(counter.account_id), account_id_size),
            counter.period_start);
    };
    EXPECT((a < b) == (pair_of(a) < pair_of(b)));
    EXPECT((a == b) == (pair_of(a) == pair_of(b)));
    EXPECT((compare_counters(a, b) < 0) == (compare_counters(b, a) > 0));
}

Usage any_usage(FuzzedDataProvider &input, int64_t count_max)
{
    return {input.ConsumeIntegralInRange<int64_t>(-INT64_MAX, INT64_MAX),
            input.ConsumeIntegralInRange<int64_t>(-count_max, count_max),
            input.ConsumeIntegralInRange<int64_t>(-count_max, count_max)};
}

bool is_in_range(int128 sum, int128 min)
{
    return sum >= min && sum <= INT64_MAX;
}

void check_add(FuzzedDataProvider &input)
{
    const Usage before = any_usage(input, INT64_MAX), usage = any_usage(input, INT64_MAX);
    const int128 tokens = int128(before.tokens) + usage.tokens;
    const int128 reports = int128(before.reports) + usage.reports;
    const int128 chats = int128(before.chats) + usage.chats;

    Usage sum = before;
    const bool is_added = add(&sum, usage);
    EXPECT(is_added == (is_in_range(tokens, INT64_MIN) && is_in_range(reports, INT64_MIN) &&
                        is_in_range(chats, INT64_MIN)));
    if (is_added) {
        EXPECT(sum.tokens == tokens && sum.reports == reports && sum.chats == chats);
    } else {
        EXPECT(sum == before);
    }
}

void check_fit(FuzzedDataProvider &input)
{
    const Usage totals = {input.ConsumeIntegralInRange<int64_t>(0, INT64_MAX),
                          input.ConsumeIntegralInRange<int64_t>(0, INT64_MAX),
                          input.ConsumeIntegralInRange<int64_t>(0, INT64_MAX)};
    const Usage usage = any_usage(input, INT64_MAX);
    const int128 sums[] = {int128(totals.tokens) + usage.tokens,
                           int128(totals.reports) + usage.reports,
                           int128(totals.chats) + usage.chats};
    const auto [lowest, highest] = std::minmax({sums[0], sums[1], sums[2]});
    const Fit expected = lowest < 0            ? Fit::falls_below_zero
                         : highest > INT64_MAX ? Fit::overflows
                                               : Fit::fits;
    EXPECT(fit(totals, usage) == expected);
}

/* Only the final sum matters, whatever the order. */
void check_wide_sum(FuzzedDataProvider &input)
{
    WideUsage sum = {}, reversed_sum = {};
    std::vector<Usage> usages(input.ConsumeIntegralInRange<size_t>(0, 20));
    int128 tokens = 0, reports = 0, chats = 0;
    for (Usage &usage : usages) {
        usage = any_usage(input, INT32_MAX);
        add(&sum, usage);
        tokens += usage.tokens;
        reports += usage.reports;
        chats += usage.chats;
    }
    for (auto usage = usages.rbegin(); usage != usages.rend(); ++usage) {
        add(&reversed_sum, *usage);
    }

    Usage totals = {}, reversed_totals = {};
    const bool fits = to_usage(sum, &totals);
    EXPECT(fits == to_usage(reversed_sum, &reversed_totals) && totals == reversed_totals);
    EXPECT(fits == (is_in_range(tokens, INT64_MIN) && is_in_range(reports, INT64_MIN) &&
                    is_in_range(chats, INT64_MIN)));
    EXPECT(!fits ||
           (totals.tokens == tokens && totals.reports == reports && totals.chats == chats));
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FuzzedDataProvider input(data, size);
    check_order(input);
    check_add(input);
    check_fit(input);
    check_wide_sum(input);
    return 0;
}
