#include "core/batch.hpp"

#include <algorithm>
#include <cstring>

namespace usage_ledger::core
{

const char *outcome_of(Verdict verdict)
{
    switch (verdict) {
    case Verdict::undecided:
    case Verdict::leader:
    case Verdict::follower:
        break;
    case Verdict::applied:
        return "applied";
    case Verdict::queued:
        return "queued";
    case Verdict::replayed:
        return "replayed";
    case Verdict::conflict:
        return "conflict";
    case Verdict::invalid:
        return "invalid";
    case Verdict::unknown_account:
        return "unknown_account";
    case Verdict::closed:
        return "closed";
    }
    return nullptr;
}

int compare_keys(const Item &a, const Item &b)
{
    int order = std::memcmp(a.account_id, b.account_id, account_id_size);
    if (order == 0) {
        const auto length = static_cast<size_t>(std::min(a.key_length, b.key_length));
        order = std::memcmp(a.key, b.key, length);
    }
    if (order == 0 && a.key_length != b.key_length) {
        order = a.key_length < b.key_length ? -1 : 1;
    }
    return order;
}

void sort_by_key(Item **items, size_t count)
{
    /* The items lie in the order given, so their addresses tell it. */
    std::sort(items, items + count, [](const Item *a, const Item *b) {
        const int order = compare_keys(*a, *b);
        return order != 0 ? order < 0 : a < b;
    });
}

size_t group_size(Item *const *items, size_t count)
{
    size_t size = 1;
    while (size < count && compare_keys(*items[0], *items[size]) == 0) {
        size++;
    }
    return size;
}

void decide_counted(Item *const *group, size_t size, const Payload &counted, int64_t period_start)
{
    for (size_t i = 0; i < size; i++) {
        Item *item = group[i];
        if (item->verdict == Verdict::undecided) {
            item->verdict = item->payload == counted ? Verdict::replayed : Verdict::conflict;
            item->counted = counted;
            item->period_start = period_start;
        }
    }
}

void follow(Item *const *group, size_t size, Item *leader)
{
    leader->leader = leader;
    for (size_t i = 0; i < size; i++) {
        if (group[i]->verdict == Verdict::undecided) {
            group[i]->verdict = Verdict::follower;
            group[i]->leader = leader;
        }
    }
}

Item *find_leader(Item *const *group, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        Item *item = group[i];
        if (item->verdict != Verdict::undecided) {
            continue;
        }
        if (item->fault != Fault::none) {
            item->verdict = Verdict::invalid;
        } else if (item->period == ItemPeriod::closed) {
            item->verdict = Verdict::closed;
        } else if (item->period == ItemPeriod::unknown_account ||
                   item->period == ItemPeriod::no_cycle) {
            item->verdict = Verdict::unknown_account;
        } else {
            item->verdict = Verdict::leader;
            return item;
        }
    }
    return nullptr;
}

} // namespace usage_ledger::core
