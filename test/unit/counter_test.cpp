#include "core/counter.hpp"

#include <algorithm>
#include <cstdint>

#include <gtest/gtest.h>

namespace usage_ledger::core
{
namespace
{

CounterId counter(uint8_t account, int64_t period_start)
{
    CounterId made = {{}, period_start};
    made.account_id[0] = account;
    return made;
}

TEST(CompareCounters, GoesByTheBytesOfTheAccountThenByThePeriod)
{
    EXPECT_LT(compare_counters(counter(1, 9), counter(200, 1)), 0);
    EXPECT_GT(compare_counters(counter(200, 1), counter(1, 9)), 0);
    EXPECT_LT(compare_counters(counter(1, -5), counter(1, 5)), 0);
    EXPECT_GT(compare_counters(counter(1, INT64_MAX), counter(1, INT64_MIN)), 0);
    EXPECT_EQ(compare_counters(counter(1, 5), counter(1, 5)), 0);
    EXPECT_TRUE(counter(1, 5) == counter(1, 5));
    EXPECT_TRUE(counter(1, 5) < counter(1, 6));
}

TEST(NextAccount, CountsTheBytesUp)
{
    CounterId id = counter(1, 0);
    id.account_id[14] = 7;
    id.account_id[15] = 255;
    EXPECT_TRUE(next_account(&id));
    EXPECT_EQ(id.account_id[0], 1);
    EXPECT_EQ(id.account_id[14], 8);
    EXPECT_EQ(id.account_id[15], 0);
    std::fill_n(id.account_id, account_id_size, uint8_t{255});
    EXPECT_FALSE(next_account(&id));
}

TEST(Add, SumsUsageAndItsReversal)
{
    Usage sum = {-INT64_MAX, -INT32_MAX, -1};
    EXPECT_TRUE(add(&sum, {INT64_MAX, INT32_MAX, 1}));
    EXPECT_EQ(sum, (Usage{0, 0, 0}));
}

TEST(Add, LeavesASumThatWouldOverflowUnchanged)
{
    Usage sum = {INT64_MAX - 1, 5, INT64_MIN};
    EXPECT_FALSE(add(&sum, {2, 0, 0}));
    EXPECT_FALSE(add(&sum, {0, INT64_MAX, 0}));
    EXPECT_FALSE(add(&sum, {0, 0, -1}));
    EXPECT_EQ(sum, (Usage{INT64_MAX - 1, 5, INT64_MIN}));
    EXPECT_TRUE(add(&sum, {1, 1, 1}));
    EXPECT_EQ(sum, (Usage{INT64_MAX, 6, INT64_MIN + 1}));
}

TEST(Fits, UpToTheLastTokenAndNotAbove)
{
    EXPECT_EQ(fit({INT64_MAX - 5, 0, 0}, {5, 0, 0}), Fit::fits);
    EXPECT_EQ(fit({INT64_MAX - 5, 0, 0}, {6, 0, 0}), Fit::overflows);
    EXPECT_EQ(fit({0, INT64_MAX, 0}, {0, 1, 0}), Fit::overflows);
    EXPECT_EQ(fit({0, 0, INT64_MAX}, {0, 0, 1}), Fit::overflows);
    EXPECT_EQ(fit({INT64_MAX, INT64_MAX, INT64_MAX}, {0, 0, 0}), Fit::fits);
}

TEST(Fits, DownToZeroAndNotBelow)
{
    EXPECT_EQ(fit({5, 5, 5}, {-5, -5, -5}), Fit::fits);
    EXPECT_EQ(fit({5, 5, 5}, {-6, 0, 0}), Fit::falls_below_zero);
    EXPECT_EQ(fit({5, 5, 5}, {0, -6, 0}), Fit::falls_below_zero);
    EXPECT_EQ(fit({5, 5, 5}, {0, 0, -6}), Fit::falls_below_zero);
    EXPECT_EQ(fit({0, 0, 0}, {-INT64_MAX, 0, 0}), Fit::falls_below_zero);
    EXPECT_EQ(fit({0, INT64_MAX, 0}, {-1, 1, 0}), Fit::falls_below_zero);
}

TEST(IsBelowZero, LooksAtEachTotal)
{
    EXPECT_FALSE(is_below_zero(wide({0, 0, 0})));
    EXPECT_TRUE(is_below_zero(wide({-1, 5, 5})));
    EXPECT_TRUE(is_below_zero(wide({5, -1, 5})));
    EXPECT_TRUE(is_below_zero(wide({5, 5, -1})));
}

TEST(WideUsage, FitByTheirFinalSumWhateverTheOrder)
{
    WideUsage sum = {INT64_MAX, 0, 0};
    Usage totals;
    for (const int64_t tokens : {INT64_MAX, int64_t{5}, -INT64_MAX, -INT64_MAX, int64_t{-5}}) {
        add(&sum, {tokens, 2, -1});
    }
    ASSERT_TRUE(to_usage(sum, &totals));
    EXPECT_EQ(totals, (Usage{0, 10, -5}));

    add(&sum, {INT64_MAX, 0, 0});
    EXPECT_TRUE(to_usage(sum, &totals));
    add(&sum, {1, 0, 0});
    EXPECT_FALSE(to_usage(sum, &totals));
}

} // namespace
} // namespace usage_ledger::core
