#include "core/event.hpp"

#include <cstdint>

#include <gtest/gtest.h>

#include "core/limits.hpp"

namespace usage_ledger::core
{
namespace
{

constexpr int64_t some_time = 850000000000000;

TEST(CheckArguments, AcceptsBothEndsOfEveryLimit)
{
    EXPECT_EQ(check_arguments(0, 1), InputError::none);
    EXPECT_EQ(check_arguments(1000000000000, 255), InputError::none);
}

TEST(CheckArguments, RefusesTheFirstValuePastEveryLimit)
{
    EXPECT_EQ(check_arguments(0, 0), InputError::key_empty);
    EXPECT_EQ(check_arguments(0, 256), InputError::key_too_long);
    EXPECT_EQ(check_arguments(-1, 1), InputError::tokens_negative);
    EXPECT_EQ(check_arguments(1000000000001, 1), InputError::tokens_too_many);
}

TEST(CheckArguments, RefusesExtremes)
{
    EXPECT_EQ(check_arguments(INT64_MIN, 1), InputError::tokens_negative);
    EXPECT_EQ(check_arguments(INT64_MAX, 1), InputError::tokens_too_many);
    EXPECT_EQ(check_arguments(0, INT64_MAX), InputError::key_too_long);
}

/* Three bytes in UTF8 are one byte at least in any other encoding. */
TEST(MayBeRestored, IsTrueForKeysThatFittedInAnotherEncoding)
{
    EXPECT_TRUE(may_be_restored(check_key(256), 256));
    EXPECT_TRUE(may_be_restored(check_key(765), 765));
    EXPECT_FALSE(may_be_restored(check_key(766), 766));
    EXPECT_FALSE(may_be_restored(check_key(255), 255));
    EXPECT_FALSE(may_be_restored(check_key(0), 0));
    EXPECT_FALSE(may_be_restored(check_arguments(-1, 256), 256));
}

class CheckTime : public testing::Test
{
protected:
    static constexpr int64_t now = some_time;
    static constexpr int64_t age_max = 35 * microseconds_per_day;

    static InputError check(int64_t occurred_at, int64_t event_age_max_us = age_max)
    {
        return check_time(occurred_at, now, event_age_max_us);
    }
};

TEST_F(CheckTime, AcceptsNowAndBothEndsOfTheWindow)
{
    EXPECT_EQ(check(now), InputError::none);
    EXPECT_EQ(check(now - age_max), InputError::none);
    EXPECT_EQ(check(now + 300 * microseconds_per_second), InputError::none);
}

TEST_F(CheckTime, RefusesOneMicrosecondOutsideTheWindow)
{
    EXPECT_EQ(check(now - age_max - 1), InputError::time_too_old);
    EXPECT_EQ(check(now + 300 * microseconds_per_second + 1), InputError::time_too_far_ahead);
}

TEST_F(CheckTime, RefusesAnyPastTimeWhenTheMaximumAgeIsZero)
{
    EXPECT_EQ(check(now, 0), InputError::none);
    EXPECT_EQ(check(now - 1, 0), InputError::time_too_old);
}

TEST_F(CheckTime, DoesNotOverflowAtTheEndsOfTheRange)
{
    const int64_t longest_age = INT32_MAX * microseconds_per_second;
    EXPECT_EQ(check(INT64_MIN, longest_age), InputError::time_too_old);
    EXPECT_EQ(check(INT64_MAX, longest_age), InputError::time_too_far_ahead);
}

TEST(Usage, IsEqualOnlyWhenEveryPartIsEqual)
{
    const Usage payload = {500, 1, 0};
    EXPECT_TRUE(payload == (Usage{500, 1, 0}));
    EXPECT_FALSE(payload == (Usage{501, 1, 0}));
    EXPECT_FALSE(payload == (Usage{500, 0, 0}));
    EXPECT_FALSE(payload == (Usage{500, 1, 1}));
}

} // namespace
} // namespace usage_ledger::core
