/*
 * Folding neither loses nor invents usage, and what fits a counter is exactly what
 * leaves each of its totals between zero and the largest bigint.
 */
#include "core/addition.hpp"

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <fuzzer/FuzzedDataProvider.h>

#include "core/limits.hpp"
#include "expect.hpp"

using namespace usage_ledger::core;

namespace
{

using CounterName = std::pair<std::string, int64_t>;

CounterName name_of(const Addition &addition)
{
    return {std::string(reinterpret_cast<const char *>(addition.account_id), account_id_size),
            addition.period_start};
}

Addition any_addition(FuzzedDataProvider &input, int64_t tokens_max, int64_t count_max)
{
    Addition addition = {};
    addition.account_id[input.ConsumeIntegralInRange<size_t>(0, account_id_size - 1)] =
        static_cast<uint8_t>(input.ConsumeIntegralInRange(0, 1) * 255);
    addition.period_start = input.ConsumeBool() ? input.ConsumeIntegral<int64_t>() : 0;
    addition.tokens = input.ConsumeIntegralInRange<int64_t>(-tokens_max, tokens_max);
    addition.reports = input.ConsumeIntegralInRange<int64_t>(-count_max, count_max);
    addition.chats = input.ConsumeIntegralInRange<int64_t>(-count_max, count_max);
    addition.row_count = 1;
    return addition;
}

void check_fold(FuzzedDataProvider &input)
{
    std::vector<Addition> additions;
    std::map<CounterName, Addition> expected;
    const auto count = input.ConsumeIntegralInRange<size_t>(0, 50);
    for (size_t i = 0; i < count; i++) {
        const Addition addition = any_addition(input, event_tokens_max, 1);
        additions.push_back(addition);
        Addition &sum = expected.emplace(name_of(addition), Addition{}).first->second;
        sum.tokens += addition.tokens;
        sum.reports += addition.reports;
        sum.chats += addition.chats;
        sum.row_count++;
    }

    const size_t folded_count = fold(additions.data(), additions.size());
    EXPECT(folded_count == expected.size());
    size_t i = 0;
    for (const auto &[name, sum] : expected) { /* a map goes by account and period, too */
        const Addition &folded = additions[i++];
        EXPECT(name_of(folded) == name);
        EXPECT(folded.tokens == sum.tokens && folded.reports == sum.reports &&
               folded.chats == sum.chats && folded.row_count == sum.row_count);
    }
    for (i = 1; i < folded_count; i++) {
        EXPECT(compare_counters(additions[i - 1], additions[i]) < 0);
        EXPECT(compare_counters(additions[i], additions[i - 1]) > 0);
    }
}

bool is_in_range(Wide sum, Wide min)
{
    return sum >= min && sum <= INT64_MAX;
}

void check_add(FuzzedDataProvider &input)
{
    const Addition before = any_addition(input, INT64_MAX, INT64_MAX);
    const Addition addition = any_addition(input, INT64_MAX, INT64_MAX);
    const Wide tokens = Wide(before.tokens) + addition.tokens;
    const Wide reports = Wide(before.reports) + addition.reports;
    const Wide chats = Wide(before.chats) + addition.chats;

    Addition sum = before;
    const bool is_added = add(&sum, addition);
    EXPECT(is_added == (is_in_range(tokens, INT64_MIN) && is_in_range(reports, INT64_MIN) &&
                        is_in_range(chats, INT64_MIN)));
    if (is_added) {
        EXPECT(sum.tokens == tokens && sum.reports == reports && sum.chats == chats);
        EXPECT(sum.row_count == before.row_count + addition.row_count);
    } else {
        EXPECT(sum.tokens == before.tokens && sum.reports == before.reports &&
               sum.chats == before.chats && sum.row_count == before.row_count);
    }
    EXPECT(name_of(sum) == name_of(before));
}

void check_fit(FuzzedDataProvider &input)
{
    const Totals totals = {input.ConsumeIntegralInRange<int64_t>(0, INT64_MAX),
                           input.ConsumeIntegralInRange<int64_t>(0, INT64_MAX),
                           input.ConsumeIntegralInRange<int64_t>(0, INT64_MAX)};
    const Addition addition = any_addition(input, INT64_MAX, INT64_MAX);
    const Wide sums[] = {Wide(totals.tokens) + addition.tokens,
                         Wide(totals.reports) + addition.reports,
                         Wide(totals.chats) + addition.chats};
    const Wide least = *std::min_element(sums, sums + 3);
    const Wide most = *std::max_element(sums, sums + 3);

    switch (fit(totals, addition)) {
    case Fit::fits:
        EXPECT(is_in_range(least, 0) && is_in_range(most, 0));
        EXPECT((sum_of(totals, addition) == Totals{static_cast<int64_t>(sums[0]),
                                                   static_cast<int64_t>(sums[1]),
                                                   static_cast<int64_t>(sums[2])}));
        break;
    case Fit::falls_below_zero:
        EXPECT(least < 0);
        break;
    case Fit::overflows:
        EXPECT(most > INT64_MAX && least >= 0);
        break;
    }
}

/* What the sum comes to is all that matters, in whatever order it is made. */
void check_wide_sum(FuzzedDataProvider &input)
{
    WideTotals sum = {}, reversed_sum = {};
    std::vector<Addition> additions(input.ConsumeIntegralInRange<size_t>(0, 20));
    Wide tokens = 0, reports = 0, chats = 0;
    for (Addition &addition : additions) {
        addition = any_addition(input, INT64_MAX, INT32_MAX);
        add(&sum, addition);
        tokens += addition.tokens;
        reports += addition.reports;
        chats += addition.chats;
    }
    for (auto addition = additions.rbegin(); addition != additions.rend(); ++addition) {
        add(&reversed_sum, *addition);
    }

    Totals totals = {}, reversed_totals = {};
    const bool is_narrow = narrow(sum, &totals);
    EXPECT(is_narrow == narrow(reversed_sum, &reversed_totals) && totals == reversed_totals);
    EXPECT(is_narrow == (is_in_range(tokens, INT64_MIN) && is_in_range(reports, INT64_MIN) &&
                         is_in_range(chats, INT64_MIN)));
    EXPECT(!is_narrow ||
           (totals.tokens == tokens && totals.reports == reports && totals.chats == chats));
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FuzzedDataProvider input(data, size);
    check_fold(input);
    check_add(input);
    check_fit(input);
    check_wide_sum(input);
    return 0;
}
