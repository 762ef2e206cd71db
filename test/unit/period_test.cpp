#include "core/period.hpp"

#include <cstdint>
#include <random>

#include <gtest/gtest.h>

#include "core/limits.hpp"

namespace usage_ledger::core
{
namespace
{

constexpr int64_t day = microseconds_per_day;

bool is_valid(int32_t months, int32_t days, int64_t time_us)
{
    return period_length_is_valid({months, days, time_us});
}

TEST(Anchor, MustBeInTheYears1To9999)
{
    EXPECT_TRUE(anchor_is_valid(0));
    EXPECT_TRUE(anchor_is_valid(anchor_min_us));
    EXPECT_FALSE(anchor_is_valid(anchor_min_us - 1));
    EXPECT_TRUE(anchor_is_valid(anchor_max_us));
    EXPECT_FALSE(anchor_is_valid(anchor_max_us + 1));
    EXPECT_FALSE(anchor_is_valid(INT64_MIN));
    EXPECT_FALSE(anchor_is_valid(INT64_MAX));
}

TEST(PeriodLength, AcceptsBothEndsOfItsLimits)
{
    EXPECT_TRUE(is_valid(0, 0, microseconds_per_second));
    EXPECT_TRUE(is_valid(0, 36525, 0));
    EXPECT_TRUE(is_valid(1199, 0, 0));
    EXPECT_TRUE(is_valid(1, 15, 3600 * microseconds_per_second));
}

TEST(PeriodLength, RefusesLengthsThatAreTooShortOrTooLong)
{
    EXPECT_FALSE(is_valid(0, 0, 0));
    EXPECT_FALSE(is_valid(0, 0, microseconds_per_second - 1));
    EXPECT_FALSE(is_valid(0, 36525, 1));
    EXPECT_FALSE(is_valid(1201, 0, 0));
}

TEST(PeriodLength, RefusesNegativeFieldsEvenWhenTheSumIsPositive)
{
    EXPECT_FALSE(is_valid(-1, 60, 0));
    EXPECT_FALSE(is_valid(2, -1, 0));
    EXPECT_FALSE(is_valid(1, 0, -1));
}

TEST(PeriodLength, RefusesExtremesWithoutOverflow)
{
    EXPECT_FALSE(is_valid(INT32_MAX, INT32_MAX, INT64_MAX));
    EXPECT_FALSE(is_valid(INT32_MIN, INT32_MIN, INT64_MIN));
}

/* A monthly cycle on a toy calendar whose months alternate between 31 and 28 days. */
int64_t uneven_boundary(int64_t n)
{
    const int64_t pairs = n >= 0 ? n / 2 : (n - 1) / 2;
    return pairs * 59 * day + (n - pairs * 2) * 31 * day;
}

TEST(PeriodCovering, StartsAtItsBoundaryAndEndsBeforeTheNext)
{
    const Span first = period_covering(0, 0, uneven_boundary);
    EXPECT_EQ(first.start, 0);
    EXPECT_EQ(first.end, 31 * day);

    EXPECT_EQ(period_covering(31 * day - 1, 0, uneven_boundary).start, 0);
    EXPECT_EQ(period_covering(31 * day, 0, uneven_boundary).start, 31 * day);
    EXPECT_EQ(period_covering(-1, 0, uneven_boundary).start, -28 * day);
    EXPECT_EQ(period_covering(-1, 0, uneven_boundary).end, 0);
}

TEST(PeriodCovering, FindsTheSamePeriodFromAnyEstimate)
{
    std::mt19937_64 random(20261124);
    for (int i = 0; i < 1000; i++) {
        const int64_t time =
            std::uniform_int_distribution<int64_t>(-4000 * day, 4000 * day)(random);
        const int64_t estimate = std::uniform_int_distribution<int64_t>(-150, 150)(random);
        const Span span = period_covering(time, estimate, uneven_boundary);
        const Span expected = period_covering(time, 0, uneven_boundary);

        ASSERT_LE(span.start, time) << "time " << time << ", estimate " << estimate;
        ASSERT_LT(time, span.end) << "time " << time << ", estimate " << estimate;
        ASSERT_EQ(span.start, expected.start);
        ASSERT_EQ(span.end, expected.end);
    }
}

TEST(PeriodCovering, SkipsEmptyPeriods)
{
    /* Days on a clock that skipped day 5. */
    auto skipping = [](int64_t n) { return (n <= 5 ? n : n - 1) * day; };
    for (int64_t estimate : {0, 4, 5, 6, 9}) {
        const Span span = period_covering(5 * day, estimate, skipping);
        EXPECT_EQ(span.start, 5 * day) << "estimate " << estimate;
        EXPECT_EQ(span.end, 6 * day) << "estimate " << estimate;
    }
}

TEST(EstimatePeriod, IsWithinOnePeriodOverDecadesOfMonths)
{
    const PeriodLength month = {1, 0, 0};
    EXPECT_NEAR(static_cast<double>(estimate_period(365 * 30 * day, 0, month)), 360, 1);
    EXPECT_NEAR(static_cast<double>(estimate_period(-365 * 30 * day, 0, month)), -360, 1);
}

TEST(Clip, KeepsASpanInsideTheGapAndCutsALargerOne)
{
    const Span span = {10, 20};
    EXPECT_EQ(clip(span, {INT64_MIN, INT64_MAX}).start, 10);
    EXPECT_EQ(clip(span, {INT64_MIN, INT64_MAX}).end, 20);
    EXPECT_EQ(clip(span, {12, 18}).start, 12);
    EXPECT_EQ(clip(span, {12, 18}).end, 18);
}

TEST(TruncateToMillisecond, GoesDownAlsoBeforeTheEpoch)
{
    EXPECT_EQ(truncate_to_millisecond(1000), 1000);
    EXPECT_EQ(truncate_to_millisecond(1999), 1000);
    EXPECT_EQ(truncate_to_millisecond(0), 0);
    EXPECT_EQ(truncate_to_millisecond(-1), -1000);
    EXPECT_EQ(truncate_to_millisecond(-1000), -1000);
    EXPECT_EQ(truncate_to_millisecond(-1001), -2000);
    EXPECT_TRUE(is_whole_milliseconds(-2000));
    EXPECT_FALSE(is_whole_milliseconds(-2001));
}

TEST(MillisecondAfter, IsLaterThanAWholeMillisecondToo)
{
    EXPECT_EQ(millisecond_after(999), 1000);
    EXPECT_EQ(millisecond_after(1000), 2000);
    EXPECT_EQ(millisecond_after(0), 1000);
    EXPECT_EQ(millisecond_after(-1), 0);
    EXPECT_EQ(millisecond_after(-1000), 0);
    EXPECT_EQ(millisecond_after(-1001), -1000);
}

} // namespace
} // namespace usage_ledger::core
