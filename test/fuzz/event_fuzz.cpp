/*
 * For arbitrary arguments, an event is accepted exactly when every argument is within its
 * limits and its time is within the window. A payload plus its negation is zero.
 */
#include "core/event.hpp"

#include <cstdint>

#include <fuzzer/FuzzedDataProvider.h>

#include "core/limits.hpp"
#include "expect.hpp"

using namespace usage_ledger::core;

namespace
{

/* Within 1,000 years of the server's epoch. */
constexpr int64_t sane_clock_max = 365250 * microseconds_per_day;

void check_arguments_by_their_limits(FuzzedDataProvider &input)
{
    const auto tokens = input.ConsumeIntegral<int64_t>();
    const auto key_length = input.ConsumeIntegral<int64_t>();

    const bool is_key_good = key_length >= 1 && key_length <= key_length_max;
    const bool are_tokens_good = tokens >= 0 && tokens <= event_tokens_max;
    const InputError error = check_arguments(tokens, key_length);
    EXPECT((error == InputError::none) == (is_key_good && are_tokens_good));

    EXPECT(error != InputError::key_empty || key_length <= 0);
    EXPECT(error != InputError::key_too_long || key_length > key_length_max);
    EXPECT(!may_be_restored(error, key_length) || are_tokens_good);
    EXPECT(error != InputError::tokens_negative || tokens < 0);
    EXPECT(error != InputError::tokens_too_many || tokens > event_tokens_max);
}

void check_time_by_the_window(FuzzedDataProvider &input)
{
    const auto now = input.ConsumeIntegralInRange<int64_t>(-sane_clock_max, sane_clock_max);
    const int64_t age_max_us =
        input.ConsumeIntegralInRange<int64_t>(0, INT32_MAX) * microseconds_per_second;
    /* Half of the times are near an end of the window, the others anywhere. */
    int64_t occurred_at = input.ConsumeIntegral<int64_t>();
    if (input.ConsumeBool()) {
        const int64_t end = input.ConsumeBool() ? now - age_max_us : now + clock_skew_max_us;
        occurred_at = end + input.ConsumeIntegralInRange<int64_t>(-2, 2);
    }

    switch (check_time(occurred_at, now, age_max_us)) {
    case InputError::none:
        EXPECT(occurred_at >= now - age_max_us && occurred_at <= now + clock_skew_max_us);
        break;
    case InputError::time_too_old:
        EXPECT(occurred_at < now - age_max_us);
        break;
    case InputError::time_too_far_ahead:
        EXPECT(occurred_at > now + clock_skew_max_us);
        break;
    default:
        EXPECT(!"check_time returned an error that is not about the time");
    }
}

void check_negation(FuzzedDataProvider &input)
{
    const Usage payload = {input.ConsumeIntegralInRange<int64_t>(0, INT64_MAX),
                           input.ConsumeIntegralInRange<int32_t>(0, INT32_MAX),
                           input.ConsumeIntegralInRange<int32_t>(0, INT32_MAX)};
    const Usage negated = -payload;
    EXPECT(payload.tokens + negated.tokens == 0);
    EXPECT(payload.reports + negated.reports == 0);
    EXPECT(payload.chats + negated.chats == 0);
    EXPECT(-negated == payload);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FuzzedDataProvider input(data, size);
    check_arguments_by_their_limits(input);
    check_time_by_the_window(input);
    check_negation(input);
    return 0;
}
