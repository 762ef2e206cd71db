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
    made.period = PeriodState::open;
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

/* Items of one key, of which the first is their first item. */
std::vector<Item> items_of_key(size_t count)
{
    return std::vector<Item>(count, item(account_a, "k", 5));
}

void link(std::vector<Item> &items)
{
    std::vector<Item *> list = pointers(items);
    ASSERT_EQ(find_first_items(list.data(), list.size()), 1U);
}

TEST(FindFirstItems, PutsTheFirstItemOfEachKeyInOrderOfKey)
{
    std::vector<Item> items = {item(account_b, "a", 0), item(account_a, "bb", 1),
                               item(account_a, "b", 2), item(account_a, "b", 3),
                               item(account_a, "", 4),  item(account_b, "a", 5)};
    std::vector<Item *> list = pointers(items);
    ASSERT_EQ(find_first_items(list.data(), list.size()), 4U);
    std::string order;
    for (size_t i = 0; i < 4; i++) {
        EXPECT_EQ(list[i]->first, list[i]);
        order += std::to_string(list[i]->payload.tokens);
    }
    EXPECT_EQ(order, "4210");
}

TEST(FindFirstItems, LinksEveryItemToTheFirstOfItsKey)
{
    std::vector<Item> items = {item(account_a, "k", 0), item(account_b, "k", 1),
                               item(account_a, "k", 2), item(account_b, "k", 3),
                               item(account_a, "k", 4)};
    std::vector<Item *> list = pointers(items);
    ASSERT_EQ(find_first_items(list.data(), list.size()), 2U);
    for (size_t i = 0; i < items.size(); i++) {
        EXPECT_EQ(items[i].first, &items[i % 2]);
    }
}

TEST(FindFirstItems, OfNothingIsNothing)
{
    EXPECT_EQ(find_first_items(nullptr, 0), 0U);
}

TEST(Refuse, NamesTheTimeThenThePeriod)
{
    struct Case {
        InputError error;
        PeriodState period;
        Outcome outcome;
    };
    const Case cases[] = {
        {InputError::time_too_old, PeriodState::open, Outcome::out_of_time},
        {InputError::time_too_far_ahead, PeriodState::closed, Outcome::out_of_time},
        {InputError::none, PeriodState::closed, Outcome::closed},
        {InputError::none, PeriodState::pruned, Outcome::closed},
        {InputError::none, PeriodState::unknown_account, Outcome::unknown_account},
        {InputError::none, PeriodState::no_cycle, Outcome::unknown_account},
    };
    for (const Case &c : cases) {
        Item refused = item(account_a, "k", 5);
        refused.error = c.error;
        refused.period = c.period;
        EXPECT_TRUE(needs_key_lookup(refused));
        refuse(&refused);
        EXPECT_EQ(refused.outcome, c.outcome);
    }
    EXPECT_FALSE(needs_key_lookup(item(account_a, "k", 5)));
}

TEST(Replay, IsDecidedByThePayloadOfTheEvent)
{
    std::vector<Item> items = items_of_key(3);
    items[1].payload.tokens = 6;
    items[2].payload.chats = 1;
    link(items);
    set_event(&items[0], {6, 0, 0}, 77);
    for (Item &i : items) {
        replay(&i);
        EXPECT_EQ(i.period_start, 77);
        EXPECT_EQ(i.counted.tokens, 6);
    }
    EXPECT_EQ(items[0].outcome, Outcome::conflict);
    EXPECT_EQ(items[1].outcome, Outcome::replayed);
    EXPECT_EQ(items[2].outcome, Outcome::conflict);
}

TEST(ShareFate, OfAnEventThatWasCounted)
{
    for (const Outcome outcome : {Outcome::applied, Outcome::queued}) {
        std::vector<Item> items = items_of_key(3);
        items[2].payload.tokens = 6;
        link(items);
        items[0].outcome = outcome;
        set_event(&items[0], items[0].payload, 77);
        share_fate(&items[1]);
        share_fate(&items[2]);
        EXPECT_EQ(items[1].outcome, Outcome::replayed);
        EXPECT_EQ(items[1].period_start, 77);
        EXPECT_EQ(items[2].outcome, Outcome::conflict);
    }
}

TEST(ShareFate, OfAConflictIsDecidedByTheEventThatWasCountedBefore)
{
    std::vector<Item> items = items_of_key(2);
    items[1].payload.tokens = 6;
    link(items);
    set_event(&items[0], {6, 0, 0}, 77);
    replay(&items[0]);
    share_fate(&items[1]);
    EXPECT_EQ(items[0].outcome, Outcome::conflict);
    EXPECT_EQ(items[1].outcome, Outcome::replayed);
}

TEST(ShareFate, OfARefusalIsTheSameRefusal)
{
    std::vector<Item> items = items_of_key(2);
    items[0].error = InputError::time_too_old;
    items[0].period = PeriodState::no_cycle;
    link(items);
    refuse(&items[0]);
    share_fate(&items[1]);
    EXPECT_EQ(items[1].outcome, Outcome::out_of_time);
    EXPECT_EQ(items[1].error, InputError::time_too_old);
    EXPECT_EQ(items[1].period, PeriodState::no_cycle);
}

TEST(Outcome, HasTheContractsNames)
{
    EXPECT_STREQ(name_of(Outcome::applied), "applied");
    EXPECT_STREQ(name_of(Outcome::queued), "queued");
    EXPECT_STREQ(name_of(Outcome::replayed), "replayed");
    EXPECT_STREQ(name_of(Outcome::conflict), "conflict");
    EXPECT_STREQ(name_of(Outcome::invalid), "invalid");
    EXPECT_STREQ(name_of(Outcome::unknown_account), "unknown_account");
    EXPECT_STREQ(name_of(Outcome::closed), "closed");
    EXPECT_STREQ(name_of(Outcome::out_of_time), "out_of_time");
}

} // namespace
} // namespace usage_ledger::core
