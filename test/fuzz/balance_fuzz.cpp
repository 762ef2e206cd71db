/*
 * For arbitrary balances, what is left is never negative, and fits exactly: no token more does.
 * What fits does not pass the limit, unless it was held already. A hold lives as long as its
 * interval says, or not at all.
 */
#include "core/balance.hpp"

#include <cstdint>

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

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FuzzedDataProvider input(data, size);
    check_fit(input);
    check_hold_length(input);
    return 0;
}
