#include "core/batch.hpp"

#include <cstring>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace usage_ledger::core
{
namespace
{

constexpr uint8_t account_a[account_id_size] = {1};
constexpr uint8_t account_b[account_id_size] = {2};

Item item(const uint8_t *account_id, const char *key, int64_t tokens)
{
    Item made = {};
    made.account_id = account_id;
    made.key = key;
    made.key_length = static_cast<int64_t>(std::strlen(key));
    made.payload = {tokens, 0, 0};
    return made;
}

std::vector<Item *> pointers(std::vector<Item> &items)
{
    std::vector<Item *> made;
    for (Item &i : items) {
        made.push_back(&i);
    }
    return made;
}

TEST(SortByKey, GoesByAccountThenKeyThenOrderGiven)
{
    std::vector<Item> items = {item(account_b, "a", 0), item(account_a, "bb", 1),
                               item(account_a, "b", 2), item(account_a, "b", 3),
                               item(account_a, "", 4)};
    std::vector<Item *> sorted = pointers(items);
    sort_by_key(sorted.data(), sorted.size());
    std::string order;
    for (const Item *i : sorted) {
        order += std::to_string(i->payload.tokens);
    }
    EXPECT_EQ(order, "42310");
}

TEST(GroupSize, CountsTheSameKeyOfTheSameAccount)
{
    std::vector<Item> items = {item(account_a, "k", 0), item(account_a, "k", 1),
                               item(account_b, "k", 2)};
    const std::vector<Item *> sorted = pointers(items);
    EXPECT_EQ(group_size(sorted.data(), 3), 2U);
    EXPECT_EQ(group_size(sorted.data() + 2, 1), 1U);
}

TEST(DecideCounted, TellsReplaysFromConflictsAndLeavesVerdictsAlone)
{
    std::vector<Item> items = {item(account_a, "k", 5), item(account_a, "k", 6),
                               item(account_a, "k", 5)};
    items[2].verdict = Verdict::invalid;
    const std::vector<Item *> group = pointers(items);
    decide_counted(group.data(), group.size(), {5, 0, 0}, 77);
    EXPECT_EQ(items[0].verdict, Verdict::replayed);
    EXPECT_EQ(items[0].period_start, 77);
    EXPECT_EQ(items[1].verdict, Verdict::conflict);
    EXPECT_EQ(items[1].counted.tokens, 5);
    EXPECT_EQ(items[2].verdict, Verdict::invalid);
}

TEST(FindLeader, IsTheFirstThatCanBeCounted)
{
    std::vector<Item> items(5, item(account_a, "k", 5));
    items[0].fault = Fault::time_too_old;
    items[1].period = ItemPeriod::closed;
    items[2].period = ItemPeriod::unknown_account;
    items[3].period = ItemPeriod::missing;
    const std::vector<Item *> group = pointers(items);
    EXPECT_EQ(find_leader(group.data(), group.size()), &items[3]);
    EXPECT_EQ(items[0].verdict, Verdict::invalid);
    EXPECT_EQ(items[1].verdict, Verdict::closed);
    EXPECT_EQ(items[2].verdict, Verdict::unknown_account);
    EXPECT_EQ(items[3].verdict, Verdict::leader);
    EXPECT_EQ(items[4].verdict, Verdict::undecided);

    /* Its period could not be opened: the next one is tried. */
    items[3].verdict = Verdict::undecided;
    items[3].period = ItemPeriod::unknown_account;
    EXPECT_EQ(find_leader(group.data(), group.size()), &items[4]);
}

TEST(FindLeader, IsNobodyWhenNoneCanBeCounted)
{
    std::vector<Item> items(2, item(account_a, "k", 5));
    items[0].fault = Fault::tokens_negative;
    items[1].period = ItemPeriod::closed;
    const std::vector<Item *> group = pointers(items);
    EXPECT_EQ(find_leader(group.data(), group.size()), nullptr);
}

TEST(Follow, TakesTheUndecidedOnly)
{
    std::vector<Item> items(3, item(account_a, "k", 5));
    items[0].verdict = Verdict::invalid;
    const std::vector<Item *> group = pointers(items);
    Item *leader = find_leader(group.data(), group.size());
    follow(group.data(), group.size(), leader);
    EXPECT_EQ(leader, &items[1]);
    EXPECT_EQ(leader->leader, leader);
    EXPECT_EQ(items[0].verdict, Verdict::invalid);
    EXPECT_EQ(items[2].verdict, Verdict::follower);
    EXPECT_EQ(items[2].leader, leader);
}

TEST(Outcome, HasTheContractsNames)
{
    EXPECT_STREQ(outcome_of(Verdict::applied), "applied");
    EXPECT_STREQ(outcome_of(Verdict::queued), "queued");
    EXPECT_STREQ(outcome_of(Verdict::replayed), "replayed");
    EXPECT_STREQ(outcome_of(Verdict::conflict), "conflict");
    EXPECT_STREQ(outcome_of(Verdict::invalid), "invalid");
    EXPECT_STREQ(outcome_of(Verdict::unknown_account), "unknown_account");
    EXPECT_STREQ(outcome_of(Verdict::closed), "closed");
}

} // namespace
} // namespace usage_ledger::core
