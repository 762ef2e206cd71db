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

TEST(Fold, LeavesApartWhatWouldNotFitOneRow)
{
    std::vector<Addition> additions = {
        addition(1, 1, INT64_MAX - 1),       addition(1, 1, 2),
        addition(2, 1, 0, INT32_MAX),        addition(2, 1, 0, 1),
        addition(3, 1, 0, 0, INT32_MAX - 1), addition(3, 1, 0, 0, 1)};
    ASSERT_EQ(fold(additions.data(), additions.size()), 5U);
    EXPECT_EQ(additions[4].chats, INT32_MAX);
}

TEST(Fits, UpToTheLastTokenAndNotBeyond)
{
    EXPECT_TRUE(fits({INT64_MAX - 5, 0, 0}, addition(1, 1, 5)));
    EXPECT_FALSE(fits({INT64_MAX - 5, 0, 0}, addition(1, 1, 6)));
    EXPECT_FALSE(fits({0, INT64_MAX, 0}, addition(1, 1, 0, 1)));
    EXPECT_FALSE(fits({0, 0, INT64_MAX}, addition(1, 1, 0, 0, 1)));
    EXPECT_TRUE(fits({INT64_MAX, INT64_MAX, INT64_MAX}, addition(1, 1, 0)));
}

} // namespace
} // namespace usage_ledger::core
