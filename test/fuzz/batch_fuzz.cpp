/*
 * Whatever the items, deciding the first item of each key and letting the others share its
 * fate gives the outcomes of a plain loop in the order given, in which a refused key stays
 * refused.
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

struct Given {
    std::string account_id, key;
    Item item;
};

const Breakdown some = {{"a", "b"}, {}}, same = some, another = {{"a", ""}, {}};
const Breakdown *const breakdowns[] = {nullptr, &some, &same, &another};

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
        g.item.payload = {{input.ConsumeIntegralInRange<int64_t>(0, 2),
                           input.ConsumeIntegralInRange(0, 1), input.ConsumeIntegralInRange(0, 1)},
                          breakdowns[input.ConsumeIntegralInRange<size_t>(0, 3)]};
        g.item.error =
            input.ConsumeIntegralInRange(0, 5) > 0 ? InputError::none : InputError::time_too_old;
        g.item.period = static_cast<PeriodState>(
            input.ConsumeIntegralInRange(0, static_cast<int>(PeriodState::no_cycle)));
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

/* What a loop remembers of a key: the event, or the refusal of its first item. */
struct Memory {
    std::map<Key, Payload> counted;
    std::map<Key, Outcome> refused;
};

Outcome refusal_of(const Item &item)
{
    if (item.error != InputError::none) {
        return Outcome::out_of_time;
    }
    switch (item.period) {
    case PeriodState::closed:
    case PeriodState::pruned:
        return Outcome::closed;
    case PeriodState::unknown_account:
    case PeriodState::no_cycle:
        return Outcome::unknown_account;
    case PeriodState::open:
    case PeriodState::missing: /* it is opened then */
        break;
    }
    return Outcome::undecided;
}

/* The outcome of an item in a loop. */
Outcome outcome_in_loop(const Item &item, Memory *memory)
{
    const Key key = key_of(item);
    const auto counted = memory->counted.find(key);
    if (counted != memory->counted.end()) {
        return item.payload == counted->second ? Outcome::replayed : Outcome::conflict;
    }
    const auto refused = memory->refused.find(key);
    if (refused != memory->refused.end()) {
        return refused->second;
    }
    const Outcome refusal = refusal_of(item);
    if (refusal != Outcome::undecided) {
        memory->refused[key] = refusal;
        return refusal;
    }
    memory->counted[key] = item.payload;
    return Outcome::applied;
}

void check_first_items(const std::vector<Item *> &list, size_t first_count)
{
    for (size_t i = 0; i < list.size(); i++) {
        const Item *first = list[i]->first;
        EXPECT((i < first_count) == (first == list[i]));
        EXPECT(key_of(*first) == key_of(*list[i]) && first <= list[i]);
    }
    for (size_t i = 1; i < first_count; i++) {
        EXPECT(key_of(*list[i - 1]) < key_of(*list[i]));
        EXPECT(compare_keys(*list[i - 1], *list[i]) < 0);
        EXPECT(compare_keys(*list[i], *list[i - 1]) > 0);
    }
}

/* Decides a first item as the extension does, whose counter takes it. */
void decide_first(Item *first, const Memory &before)
{
    const auto counted = before.counted.find(key_of(*first));
    if (counted != before.counted.end()) {
        set_event(first, counted->second, 0);
        replay(first);
        return;
    }
    if (first->period == PeriodState::missing) {
        first->period = PeriodState::open;
    }
    if (needs_key_lookup(*first)) {
        refuse(first);
        return;
    }
    set_event(first, first->payload, 0);
    first->outcome = Outcome::applied;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FuzzedDataProvider input(data, size);
    const std::vector<Given> given = any_items(input);

    std::vector<Item> items;
    Memory memory;
    for (const Given &g : given) {
        items.push_back(g.item);
        if (input.ConsumeIntegralInRange(0, 7) == 0) { /* by an earlier call */
            memory.counted[key_of(g.item)] = g.item.payload;
        }
    }
    const Memory before = memory;
    std::vector<Outcome> expected;
    for (const Item &item : items) {
        expected.push_back(outcome_in_loop(item, &memory));
    }

    std::vector<Item *> list;
    for (Item &item : items) {
        list.push_back(&item);
    }
    const size_t first_count = find_first_items(list.data(), list.size());
    check_first_items(list, first_count);
    for (size_t i = 0; i < list.size(); i++) {
        if (i < first_count) {
            decide_first(list[i], before);
        } else {
            share_fate(list[i]);
        }
    }
    for (size_t i = 0; i < items.size(); i++) {
        EXPECT(items[i].outcome == expected[i]);
        EXPECT(name_of(items[i].outcome) != nullptr);
    }
    return 0;
}
