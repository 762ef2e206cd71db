#include "core/addition.hpp"

#include <cstdint>
#include <map>
#include <random>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace usage_ledger::core
{
namespace
{

Addition addition(uint8_t account, int64_t period_start, int64_t tokens, int64_t reports = 0,
                  int64_t chats = 0)
{
    Addition made = {{}, period_start, tokens, reports, chats, 1};
    made.account_id[0] = account;
    return made;
}

TEST(Fold, OfNothingIsNothing)
{
    EXPECT_EQ(fold(nullptr, 0), 0U);
}

TEST(Fold, SumsByAccountAndPeriodAndSortsByThem)
{
    std::vector<Addition> additions = {addition(200, 1, 10, 1), addition(1, 2, 20, 0, 1),
                                       addition(200, 1, 30, 0, 1), addition(1, 1, 40),
                                       addition(200, 1, 50, 1)};
    ASSERT_EQ(fold(additions.data(), additions.size()), 3U);
    EXPECT_EQ(additions[0].tokens, 40);
    EXPECT_EQ(additions[1].tokens, 20);
    EXPECT_EQ(additions[2].account_id[0], 200);
    EXPECT_EQ(additions[2].tokens, 90);
    EXPECT_EQ(additions[2].reports, 2);
    EXPECT_EQ(additions[2].chats, 1);
    EXPECT_EQ(additions[2].row_count, 3);
}

TEST(Fold, NeitherLosesNorDoublesAnything)
{
    std::mt19937 random(20261124);
    std::vector<Addition> additions;
    std::map<std::pair<int, int64_t>, int64_t> expected;
    for (int i = 0; i < 10000; i++) {
        const int account = static_cast<int>(random() % 50);
        const int64_t period = static_cast<int64_t>(random() % 3) - 1;
        const int64_t tokens = static_cast<int64_t>(random() % 1000);
        additions.push_back(addition(static_cast<uint8_t>(account), period, tokens));
        expected[{account, period}] += tokens;
    }
    const size_t count = fold(additions.data(), additions.size());
    ASSERT_EQ(count, expected.size());
    size_t i = 0;
    for (const auto &[counter, tokens] : expected) {
        EXPECT_EQ(additions[i].account_id[0], counter.first);
        EXPECT_EQ(additions[i].period_start, counter.second);
        EXPECT_EQ(additions[i++].tokens, tokens);
    }
}

TEST(Add, SumsWhatIsCountedWithWhatIsTakenBack)
{
    Addition sum = addition(1, 1, -INT64_MAX, -INT32_MAX, -1);
    EXPECT_TRUE(add(&sum, addition(1, 1, INT64_MAX, INT32_MAX, 1)));
    EXPECT_EQ(sum.tokens, 0);
    EXPECT_EQ(sum.reports, 0);
    EXPECT_EQ(sum.chats, 0);
    EXPECT_EQ(sum.row_count, 2);
}

TEST(Add, LeavesASumThatWouldOverflowAsItWas)
{
    Addition sum = addition(1, 1, INT64_MAX - 1, 5, INT64_MIN);
    EXPECT_FALSE(add(&sum, addition(1, 1, 2)));
    EXPECT_FALSE(add(&sum, addition(1, 1, 0, INT64_MAX)));
    EXPECT_FALSE(add(&sum, addition(1, 1, 0, 0, -1)));
    EXPECT_TRUE(add(&sum, addition(1, 1, 1)));
    EXPECT_EQ(sum.tokens, INT64_MAX);
    EXPECT_EQ(sum.reports, 5);
    EXPECT_EQ(sum.row_count, 2);
}

TEST(Fits, UpToTheLastTokenAndNotBeyond)
{
    EXPECT_EQ(fit({INT64_MAX - 5, 0, 0}, addition(1, 1, 5)), Fit::fits);
    EXPECT_EQ(fit({INT64_MAX - 5, 0, 0}, addition(1, 1, 6)), Fit::overflows);
    EXPECT_EQ(fit({0, INT64_MAX, 0}, addition(1, 1, 0, 1)), Fit::overflows);
    EXPECT_EQ(fit({0, 0, INT64_MAX}, addition(1, 1, 0, 0, 1)), Fit::overflows);
    EXPECT_EQ(fit({INT64_MAX, INT64_MAX, INT64_MAX}, addition(1, 1, 0)), Fit::fits);
}

TEST(Fits, DownToZeroAndNotBelow)
{
    EXPECT_EQ(fit({5, 5, 5}, addition(1, 1, -5, -5, -5)), Fit::fits);
    EXPECT_EQ(fit({5, 5, 5}, addition(1, 1, -6)), Fit::falls_below_zero);
    EXPECT_EQ(fit({5, 5, 5}, addition(1, 1, 0, -6)), Fit::falls_below_zero);
    EXPECT_EQ(fit({5, 5, 5}, addition(1, 1, 0, 0, -6)), Fit::falls_below_zero);
    EXPECT_EQ(fit({0, 0, 0}, addition(1, 1, -INT64_MAX)), Fit::falls_below_zero);
    /* Waiting can help the one, so it is said first. */
    EXPECT_EQ(fit({0, INT64_MAX, 0}, addition(1, 1, -1, 1)), Fit::falls_below_zero);
}

TEST(SumOf, AddsEachTotal)
{
    EXPECT_EQ(sum_of({1, 2, 3}, addition(1, 1, 10, -2, 30)), (Totals{11, 0, 33}));
}

TEST(WideTotals, FitInTheEndWhateverTheOrder)
{
    WideTotals sum = {INT64_MAX, 0, 0};
    Totals totals;
    for (const int64_t tokens : {INT64_MAX, int64_t{5}, -INT64_MAX, -INT64_MAX, int64_t{-5}}) {
        add(&sum, addition(1, 1, tokens, 2, -1));
    }
    ASSERT_TRUE(narrow(sum, &totals));
    EXPECT_EQ(totals, (Totals{0, 10, -5}));

    add(&sum, addition(1, 1, INT64_MAX));
    EXPECT_TRUE(narrow(sum, &totals));
    add(&sum, addition(1, 1, 1));
    EXPECT_FALSE(narrow(sum, &totals));
}

} // namespace
} // namespace usage_ledger::core
