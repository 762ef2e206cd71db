#include "core/batch.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace usage_ledger::core
{

const char *name_of(Outcome outcome)
{
    switch (outcome) {
    case Outcome::undecided:
        break;
    case Outcome::applied:
        return "applied";
    case Outcome::queued:
        return "queued";
    case Outcome::replayed:
        return "replayed";
    case Outcome::conflict:
        return "conflict";
    case Outcome::invalid:
        return "invalid";
    case Outcome::unknown_account:
        return "unknown_account";
    case Outcome::closed:
        return "closed";
    case Outcome::out_of_time:
        return "out_of_time";
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

size_t find_first_items(Item **items, size_t count)
{
    /* An item's address tells its place in the order given. */
    std::sort(items, items + count, [](const Item *a, const Item *b) {
        const int order = compare_keys(*a, *b);
        return order != 0 ? order < 0 : a < b;
    });
    size_t first_count = 0;
    for (size_t i = 0; i < count; i++) {
        Item *item = items[i];
        const bool is_first = first_count == 0 || compare_keys(*items[first_count - 1], *item) != 0;
        if (is_first) {
            std::swap(items[first_count++], items[i]);
        }
        item->first = items[first_count - 1];
    }
    return first_count;
}

bool needs_key_lookup(const Item &item)
{
    return item.error != InputError::none || item.period != PeriodState::open;
}

void refuse(Item *item)
{
    assert(needs_key_lookup(*item));
    if (is_time_error(item->error)) {
        item->outcome = Outcome::out_of_time;
    } else if (item->error != InputError::none) {
        item->outcome = Outcome::invalid;
    } else if (item->period == PeriodState::closed || item->period == PeriodState::pruned) {
        item->outcome = Outcome::closed;
    } else {
        item->outcome = Outcome::unknown_account;
    }
}

void set_event(Item *first, const Payload &counted, int64_t period_start)
{
    assert(first->first == first);
    first->has_event = true;
    first->counted = counted;
    first->period_start = period_start;
}

void replay(Item *item)
{
    const Item &first = *item->first;
    assert(first.has_event);
    item->outcome = item->payload == first.counted ? Outcome::replayed : Outcome::conflict;
    item->counted = first.counted;
    item->period_start = first.period_start;
}

void share_fate(Item *item)
{
    const Item &first = *item->first;
    assert(&first != item && first.outcome != Outcome::undecided);
    if (first.has_event) {
        replay(item);
    } else {
        item->outcome = first.outcome;
        item->error = first.error;
        item->occurred_at = first.occurred_at;
        item->period = first.period;
    }
}

} // namespace usage_ledger::core
