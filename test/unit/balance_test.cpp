#include "core/balance.hpp"

#include <cstdint>

#include <gtest/gtest.h>

#include "core/limits.hpp"

namespace usage_ledger::core
{
namespace
{

TEST(TokensRemaining, IsTheLimitWithoutWhatIsUsedAndHeld)
{
    EXPECT_EQ(tokens_remaining({100, 0, 0}), 100);
    EXPECT_EQ(tokens_remaining({100, 60, 30}), 10);
    EXPECT_EQ(tokens_remaining({100, 60, 40}), 0);
    EXPECT_EQ(tokens_remaining({INT64_MAX, 0, 0}), INT64_MAX);
}

TEST(TokensRemaining, IsNeverBelowZero)
{
    EXPECT_EQ(tokens_remaining({100, 101, 0}), 0);
    EXPECT_EQ(tokens_remaining({0, 0, 1}), 0);
    EXPECT_EQ(tokens_remaining({0, INT64_MAX, INT64_MAX}), 0);
}

TEST(Fits, TakesWhatIsLeftAndNoMore)
{
    EXPECT_TRUE(fits({100, 60, 30}, 10, 0));
    EXPECT_FALSE(fits({100, 60, 30}, 11, 0));
    EXPECT_FALSE(fits({100, INT64_MAX, INT64_MAX}, 1, 0));
}

TEST(Fits, NothingFitsALimitThatIsExceeded)
{
    EXPECT_TRUE(fits({100, 101, 0}, 0, 0));
    EXPECT_FALSE(fits({100, 101, 0}, 1, 0));
}

TEST(Fits, WhatIsHeldAlreadyMayBeKeptOrLoweredButNotRaised)
{
    const Balance exceeded = {100, 1000, 30};
    EXPECT_TRUE(fits(exceeded, 20, 20));
    EXPECT_TRUE(fits(exceeded, 19, 20));
    EXPECT_FALSE(fits(exceeded, 21, 20));
    EXPECT_TRUE(fits({100, 50, 30}, 20, 10));
    EXPECT_FALSE(fits({100, 50, 30}, 21, 10));
}

TEST(HoldLength, IsTheIntervalInMicroseconds)
{
    EXPECT_EQ(hold_length_us({0, 0, 1}), 1);
    EXPECT_EQ(hold_length_us({0, 1, 0}), microseconds_per_day);
    EXPECT_EQ(hold_length_us({0, 0, hold_length_max_us}), hold_length_max_us);
    EXPECT_EQ(hold_length_us({0, 1, -1}), microseconds_per_day - 1);
    EXPECT_EQ(hold_length_us({1, -30, 1}), 1);
}

TEST(HoldLength, IsZeroOutsideItsLimits)
{
    EXPECT_EQ(hold_length_us({0, 0, 0}), 0);
    EXPECT_EQ(hold_length_us({0, 0, -1}), 0);
    EXPECT_EQ(hold_length_us({0, 0, hold_length_max_us + 1}), 0);
    EXPECT_EQ(hold_length_us({0, 1, 1}), 0);
    EXPECT_EQ(hold_length_us({1, 0, 0}), 0);
    EXPECT_EQ(hold_length_us({INT32_MAX, INT32_MAX, INT64_MAX}), 0);
    EXPECT_EQ(hold_length_us({INT32_MIN, INT32_MIN, INT64_MIN}), 0);
}

TEST(Balance, ContainsAScopeInEachLevelAboveIt)
{
    for (const char *level : {"", "team", "team/ann"}) {
        EXPECT_TRUE(is_within("team/ann", level)) << level;
    }
    for (const char *level : {"t", "team/", "team/an", "team/ann/deep", "ann", "team/anna"}) {
        EXPECT_FALSE(is_within("team/ann", level)) << level;
    }
    EXPECT_TRUE(is_within("", ""));
    EXPECT_FALSE(is_within("", "team"));
}

} // namespace
} // namespace usage_ledger::core
