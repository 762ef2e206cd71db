/*
 * batch_keys.cpp: which items of a batch are to be counted, and their events.
 */
#include "pg/postgres.hpp"

#include <algorithm>

#include "pg/batch.hpp"
#include "pg/periods.hpp"

namespace usage_ledger
{

namespace
{

void set_period(Item *item, const WantedPeriod &wanted)
{
    switch (wanted.state) {
    case PeriodState::missing:
        item->period = core::ItemPeriod::missing;
        return;
    case PeriodState::unknown_account:
        item->period = core::ItemPeriod::unknown_account;
        return;
    case PeriodState::no_cycle:
        item->period = core::ItemPeriod::no_cycle;
        return;
    case PeriodState::found:
        item->period = wanted.period.is_closed ? core::ItemPeriod::closed : core::ItemPeriod::open;
        item->period_start = wanted.period.start;
        item->period_end = wanted.period.end;
    }
}

/*
 * Finds the periods of all items, and opens those that are missing if that is
 * asked for. Items are sorted by account here, so those of one account and time,
 * most often all of an account's, share a lookup.
 */
void look_up_periods(const ItemList &list, bool is_opening)
{
    const ItemList sorted = copy_of(list);
    std::sort(sorted.items, sorted.items + sorted.count, [](const Item *a, const Item *b) {
        const int order = memcmp(a->account_id, b->account_id, core::account_id_size);
        return order != 0 ? order < 0 : a->occurred_at < b->occurred_at;
    });

    auto *wanted = allocate<WantedPeriod>(sorted.count);
    auto *wanted_by = allocate<size_t>(sorted.count);
    size_t wanted_count = 0;
    for (size_t i = 0; i < sorted.count; i++) {
        const Item *item = sorted.items[i];
        const Item *previous = i > 0 ? sorted.items[i - 1] : nullptr;
        if (previous == nullptr || previous->occurred_at != item->occurred_at ||
            memcmp(previous->account_id, item->account_id, core::account_id_size) != 0) {
            wanted[wanted_count++] = {
                account_of(*item), item->occurred_at, PeriodState::missing, {}, 0};
        }
        wanted_by[i] = wanted_count - 1;
    }
    if (is_opening) {
        open_periods(wanted, wanted_count);
    } else {
        find_periods(wanted, wanted_count);
    }
    for (size_t i = 0; i < sorted.count; i++) {
        set_period(sorted.items[i], wanted[wanted_by[i]]);
    }
}

/* Decides the items of all groups whose key was counted before. */
void decide_counted_groups(Item ***groups, const size_t *sizes, size_t group_count)
{
    auto *events = allocate<Event>(group_count);
    auto *counted = allocate<CountedEvent>(group_count);
    auto *is_counted = allocate<bool>(group_count);
    for (size_t i = 0; i < group_count; i++) {
        events[i] = event_of(*groups[i][0]);
    }
    find_counted_events(events, counted, is_counted, group_count);
    for (size_t i = 0; i < group_count; i++) {
        if (is_counted[i]) {
            core::decide_counted(groups[i], sizes[i], counted[i].payload, counted[i].period_start);
        }
    }
}

/* Groups of a sorted list that a condition holds for. */
struct Groups {
    Item ***groups;
    size_t *sizes;
    size_t count;
};

template <typename Condition> Groups groups_of(const ItemList &sorted, Condition condition)
{
    Groups chosen = {allocate<Item **>(sorted.count), allocate<size_t>(sorted.count), 0};
    for (size_t i = 0; i < sorted.count;) {
        const size_t size = core::group_size(sorted.items + i, sorted.count - i);
        if (condition(sorted.items + i, size)) {
            chosen.groups[chosen.count] = sorted.items + i;
            chosen.sizes[chosen.count++] = size;
        }
        i += size;
    }
    return chosen;
}

template <typename Condition> bool any_item(Item *const *group, size_t size, Condition condition)
{
    return std::any_of(group, group + size, condition);
}

bool is_undecided(Item *const *group, size_t size)
{
    return any_item(group, size,
                    [](const Item *item) { return item->verdict == Verdict::undecided; });
}

bool has_leader(Item *const *group, size_t size)
{
    return any_item(group, size, [](const Item *item) { return item->verdict == Verdict::leader; });
}

/* Some item cannot be counted as it stands; only its key can tell whether it need be. */
bool is_troubled(Item *const *group, size_t size)
{
    return any_item(group, size, [](const Item *item) {
        return item->fault != core::Fault::none || item->period != core::ItemPeriod::open;
    });
}

/*
 * Finds out which item of each key is to be counted, and opens the periods that
 * those items need.
 */
void choose_leaders(const Groups &groups)
{
    ItemList unopened = {allocate<Item *>(groups.count), 0};
    for (size_t i = 0; i < groups.count; i++) {
        Item *leader = core::find_leader(groups.groups[i], groups.sizes[i]);
        if (leader != nullptr && leader->period == core::ItemPeriod::missing) {
            unopened.items[unopened.count++] = leader;
        }
    }
    if (unopened.count == 0) {
        return;
    }
    look_up_periods(unopened, true);

    /*
     * What keeps a period from being opened is its account's, so it keeps all
     * missing periods of the account's items from it.
     */
    for (size_t i = 0; i < groups.count; i++) {
        Item **group = groups.groups[i];
        const size_t size = groups.sizes[i];
        Item **leader = std::find_if(
            group, group + size, [](const Item *item) { return item->verdict == Verdict::leader; });
        if (leader == group + size || (*leader)->period == core::ItemPeriod::open) {
            continue;
        }
        const core::ItemPeriod reason = (*leader)->period;
        for (Item **item = leader; item < group + size; item++) {
            if (*item == *leader || (*item)->period == core::ItemPeriod::missing) {
                (*item)->period = reason;
            }
        }
        (*leader)->verdict = Verdict::undecided;
        core::find_leader(group, size);
    }
}

/*
 * Records the leaders' events; where a key turns out to be taken, decides its
 * group by what took it.
 */
void record_leaders(const Groups &groups, ItemPointerData *rows_by_item, const Batch &batch)
{
    Groups left = groups;
    while (left.count > 0) {
        auto *events = allocate<Event>(left.count);
        auto *starts = allocate<TimestampTz>(left.count);
        auto *rows = allocate<ItemPointerData>(left.count);
        auto *leaders = allocate<Item *>(left.count);
        for (size_t i = 0; i < left.count; i++) {
            leaders[i] =
                *std::find_if(left.groups[i], left.groups[i] + left.sizes[i],
                              [](const Item *item) { return item->verdict == Verdict::leader; });
            events[i] = event_of(*leaders[i]);
            starts[i] = leaders[i]->period_start;
        }
        record_events(events, starts, rows, left.count);

        Groups taken = {allocate<Item **>(left.count), allocate<size_t>(left.count), 0};
        for (size_t i = 0; i < left.count; i++) {
            if (ItemPointerIsValid(&rows[i])) {
                rows_by_item[leaders[i] - batch.items] = rows[i];
                core::follow(left.groups[i], left.sizes[i], leaders[i]);
            } else {
                leaders[i]->verdict = Verdict::undecided;
                taken.groups[taken.count] = left.groups[i];
                taken.sizes[taken.count++] = left.sizes[i];
            }
        }
        if (taken.count > 0) {
            decide_counted_groups(taken.groups, taken.sizes, taken.count);
        }

        /* Taken, yet not to be found: the event was deleted in between, so the key is free again.
         */
        left = {taken.groups, taken.sizes, 0};
        for (size_t i = 0; i < taken.count; i++) {
            if (is_undecided(taken.groups[i], taken.sizes[i]) &&
                core::find_leader(taken.groups[i], taken.sizes[i]) != nullptr) {
                left.groups[left.count] = taken.groups[i];
                left.sizes[left.count++] = taken.sizes[i];
            }
        }
        CHECK_FOR_INTERRUPTS();
    }
}

} // namespace

void record_items(const Batch &batch, const ItemList &list, ItemPointerData *rows)
{
    look_up_periods(list, false);

    const ItemList sorted = copy_of(list);
    core::sort_by_key(sorted.items, sorted.count);
    const Groups troubled = groups_of(sorted, is_troubled);
    if (troubled.count > 0) {
        decide_counted_groups(troubled.groups, troubled.sizes, troubled.count);
    }
    choose_leaders(groups_of(sorted, is_undecided));
    record_leaders(groups_of(sorted, has_leader), rows, batch);
}

} // namespace usage_ledger
