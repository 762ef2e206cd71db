/*
 * For arbitrary balances, what is left is never negative, and fits exactly: no token more does.
 * What fits does not pass the limit, unless it was held already. A hold lives as long as its
 * interval says, or not at all. A scope is within those levels that its path begins with.
 */
#include "core/balance.hpp"

#include <cstdint>
#include <string>

#include <fuzzer/FuzzedDataProvider.h>

#include "core/counter.hpp"
#include "core/limits.hpp"
#include "expect.hpp"

using namespace usage_ledger::core;

namespace
{

int64_t tokens(FuzzedDataProvider &input)
{
    return input.ConsumeIntegralInRange<int64_t>(0, input.ConsumeBool() ? 1000 : INT64_MAX);
}

void check_fit(FuzzedDataProvider &input)
{
    const Balance balance = {tokens(input), tokens(input), tokens(input)};
    const int64_t wanted = tokens(input);
    const int64_t held = tokens(input);

    const int64_t remaining = tokens_remaining(balance);
    EXPECT(remaining >= 0 && remaining <= balance.token_limit);
    EXPECT(fits(balance, remaining, held) && fits(balance, held, held));
    EXPECT(remaining == INT64_MAX || !fits(balance, remaining + 1, 0));
    if (fits(balance, wanted, held) && wanted > held) {
        EXPECT(int128{balance.tokens_used} + balance.tokens_held + wanted <= balance.token_limit);
    }
}

void check_hold_length(FuzzedDataProvider &input)
{
    const PeriodLength interval = {input.ConsumeIntegral<int32_t>(),
                                   input.ConsumeIntegral<int32_t>(),
                                   input.ConsumeIntegral<int64_t>()};
    const int64_t length_us = hold_length_us(interval);
    EXPECT(length_us >= 0 && length_us <= hold_length_max_us);
    if (interval.months == 0 && interval.days == 0) {
        const bool is_good = interval.time_us > 0 && interval.time_us <= hold_length_max_us;
        EXPECT(length_us == (is_good ? interval.time_us : 0));
    }
}

/* Of few characters, so that paths meet. */
std::string path(FuzzedDataProvider &input)
{
    std::string path;
    for (auto left = input.ConsumeIntegralInRange<size_t>(0, 12); left > 0; left--) {
        path += input.PickValueInArray({'/', '-', 'a', 'b', '\xff', '\0'});
    }
    return path;
}

void check_levels(FuzzedDataProvider &input)
{
    const std::string scope = path(input), level = path(input);
    const bool begins_with = (scope + "/").compare(0, level.size() + 1, level + "/") == 0;
    EXPECT(is_within(scope, level) == (level.empty() || begins_with));
    EXPECT(is_within(scope, "") && is_within(scope, scope));
    for (size_t i = scope.find('/'); i != std::string::npos; i = scope.find('/', i + 1)) {
        EXPECT(is_within(scope, scope.substr(0, i)));
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FuzzedDataProvider input(data, size);
    check_fit(input);
    check_hold_length(input);
    check_levels(input);
    return 0;
}
