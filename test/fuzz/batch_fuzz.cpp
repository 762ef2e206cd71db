/*
 * A batch comes to what its items would have come to one after the other: whatever
 * the items, grouping them by key and deciding group by group gives the verdicts of a
 * plain loop in the order given. And the groups are what they are said to be.
 */
#include "core/batch.hpp"

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <fuzzer/FuzzedDataProvider.h>

#include "expect.hpp"

using namespace usage_ledger::core;

namespace
{

using Key = std::pair<std::string, std::string>;
using Counted = std::map<Key, Payload>;

struct Given {
    std::string account_id, key;
    Item item;
};

/* Few accounts, keys, payloads and states, so that items do meet. */
std::vector<Given> any_items(FuzzedDataProvider &input)
{
    std::vector<Given> given(input.ConsumeIntegralInRange<size_t>(0, 60));
    for (Given &g : given) {
        g.account_id.assign(account_id_size, '\0');
        g.account_id[input.ConsumeIntegralInRange<size_t>(0, account_id_size - 1)] =
            static_cast<char>(input.ConsumeIntegralInRange(0, 1) * 255);
        g.key = input.ConsumeBool() ? std::string(1, static_cast<char>(input.ConsumeBool()))
                                    : input.ConsumeRandomLengthString(4);
        g.item = {};
        g.item.payload = {input.ConsumeIntegralInRange<int64_t>(0, 2),
                          input.ConsumeIntegralInRange(0, 1), input.ConsumeIntegralInRange(0, 1)};
        g.item.fault = input.ConsumeIntegralInRange(0, 5) > 0 ? Fault::none : Fault::time_too_old;
        g.item.period = static_cast<ItemPeriod>(
            input.ConsumeIntegralInRange(0, static_cast<int>(ItemPeriod::no_cycle)));
    }
    for (Given &g : given) {
        g.item.account_id = reinterpret_cast<const uint8_t *>(g.account_id.data());
        g.item.key = g.key.data();
        g.item.key_length = static_cast<int64_t>(g.key.size());
    }
    return given;
}

Key key_of(const Item &item)
{
    return {std::string(reinterpret_cast<const char *>(item.account_id), account_id_size),
            std::string(item.key, static_cast<size_t>(item.key_length))};
}

/* One item by itself, as increment_usage decides it; what is counted is remembered. */
Verdict verdict_alone(const Item &item, Counted *counted)
{
    const auto found = counted->find(key_of(item));
    if (found != counted->end()) {
        return item.payload == found->second ? Verdict::replayed : Verdict::conflict;
    }
    if (item.fault != Fault::none) {
        return Verdict::invalid;
    }
    switch (item.period) {
    case ItemPeriod::closed:
        return Verdict::closed;
    case ItemPeriod::unknown_account:
    case ItemPeriod::no_cycle:
        return Verdict::unknown_account;
    case ItemPeriod::open:
    case ItemPeriod::missing: /* is opened then */
        break;
    }
    (*counted)[key_of(item)] = item.payload;
    return Verdict::applied;
}

void check_order(const std::vector<Item *> &sorted)
{
    for (size_t i = 1; i < sorted.size(); i++) {
        const Key before = key_of(*sorted[i - 1]), key = key_of(*sorted[i]);
        EXPECT(before <= key);
        EXPECT(before != key || sorted[i - 1] < sorted[i]); /* in the order given */
        EXPECT((compare_keys(*sorted[i - 1], *sorted[i]) == 0) == (before == key));
        EXPECT(compare_keys(*sorted[i], *sorted[i - 1]) >= 0);
    }
}

/* As the extension decides a group whose leader's counter takes it. */
void decide_group(Item *const *group, size_t size, const Counted &counted_before)
{
    const auto found = counted_before.find(key_of(*group[0]));
    if (found != counted_before.end()) {
        decide_counted(group, size, found->second, 0);
        return;
    }
    Item *leader = find_leader(group, size);
    if (leader == nullptr) {
        return;
    }
    follow(group, size, leader);
    for (size_t i = 0; i < size; i++) {
        EXPECT(group[i]->verdict != Verdict::undecided);
        if (group[i]->verdict == Verdict::follower) {
            EXPECT(group[i]->leader == leader && group[i] > leader);
            group[i]->verdict = Verdict::undecided;
            decide_counted(group + i, 1, leader->payload, leader->period_start);
        }
    }
    leader->verdict = Verdict::applied;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FuzzedDataProvider input(data, size);
    const std::vector<Given> given = any_items(input);

    std::vector<Item> items;
    Counted counted;
    for (const Given &g : given) {
        items.push_back(g.item);
        if (input.ConsumeIntegralInRange(0, 7) == 0) { /* by an earlier call */
            counted[key_of(g.item)] = g.item.payload;
        }
    }
    const Counted counted_before = counted;
    std::vector<Verdict> expected;
    for (const Item &item : items) {
        expected.push_back(verdict_alone(item, &counted));
    }

    std::vector<Item *> sorted;
    for (Item &item : items) {
        sorted.push_back(&item);
    }
    sort_by_key(sorted.data(), sorted.size());
    check_order(sorted);
    for (size_t i = 0, group; i < sorted.size(); i += group) {
        group = group_size(&sorted[i], sorted.size() - i);
        EXPECT(group >= 1 && i + group <= sorted.size());
        EXPECT(key_of(*sorted[i]) == key_of(*sorted[i + group - 1]));
        EXPECT(i + group == sorted.size() || key_of(*sorted[i]) != key_of(*sorted[i + group]));
        decide_group(&sorted[i], group, counted_before);
    }
    for (size_t i = 0; i < items.size(); i++) {
        EXPECT(items[i].verdict == expected[i]);
        EXPECT(outcome_of(items[i].verdict) != nullptr);
    }
    return 0;
}
