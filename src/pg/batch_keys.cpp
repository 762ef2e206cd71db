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

/* Which of the missing periods to open; not "none" takes the accounts' locks. */
enum class Opening { none, leaders, all };

/*
 * Finds the periods of all items. Items are sorted by account here, so those of one
 * account and time, most often all of an account's, share a lookup.
 */
void look_up_periods(const ItemList &list, Opening opening)
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
                account_of(*item), item->occurred_at, PeriodState::missing, {}, 0, false};
        }
        if (opening == Opening::all ||
            (opening == Opening::leaders && item->verdict == Verdict::leader)) {
            wanted[wanted_count - 1].is_opened = true;
        }
        wanted_by[i] = wanted_count - 1;
    }
    if (opening == Opening::none) {
        find_periods(wanted, wanted_count);
    } else {
        open_periods(wanted, wanted_count);
    }
    for (size_t i = 0; i < sorted.count; i++) {
        set_period(sorted.items[i], wanted[wanted_by[i]]);
    }
}

/* The items of one key, and those of several, in order of key. */
struct Group {
    Item **items;
    size_t size;
};
struct Groups {
    Group *groups;
    size_t count;
};

Groups groups_of(const ItemList &sorted)
{
    Groups groups = {allocate<Group>(sorted.count), 0};
    for (size_t i = 0; i < sorted.count; i += groups.groups[groups.count++].size) {
        groups.groups[groups.count] = {sorted.items + i,
                                       core::group_size(sorted.items + i, sorted.count - i)};
    }
    return groups;
}

template <typename Condition> Groups select(const Groups &groups, Condition condition)
{
    Groups selected = {allocate<Group>(groups.count), 0};
    for (size_t i = 0; i < groups.count; i++) {
        if (condition(groups.groups[i])) {
            selected.groups[selected.count++] = groups.groups[i];
        }
    }
    return selected;
}

template <typename Condition> bool any_item(const Group &group, Condition condition)
{
    return std::any_of(group.items, group.items + group.size, condition);
}

bool is_undecided(const Group &group)
{
    return any_item(group, [](const Item *item) { return item->verdict == Verdict::undecided; });
}

/* Some item cannot be counted as it stands; only its key can tell whether it need be. */
bool is_troubled(const Group &group)
{
    return any_item(group, [](const Item *item) {
        return item->fault != core::Fault::none || item->period != core::ItemPeriod::open;
    });
}

/* Null: the group has none. */
Item *leader_of(const Group &group)
{
    Item **const end = group.items + group.size;
    Item **const leader = std::find_if(
        group.items, end, [](const Item *item) { return item->verdict == Verdict::leader; });
    return leader == end ? nullptr : *leader;
}

/* Decides the items of groups whose key was counted before. */
void decide_counted_groups(const Groups &groups)
{
    if (groups.count == 0) {
        return;
    }
    auto *events = allocate<Event>(groups.count);
    auto *counted = allocate<CountedEvent>(groups.count);
    auto *is_counted = allocate<bool>(groups.count);
    for (size_t i = 0; i < groups.count; i++) {
        events[i] = event_of(*groups.groups[i].items[0]);
    }
    find_counted_events(events, counted, is_counted, groups.count);
    for (size_t i = 0; i < groups.count; i++) {
        if (is_counted[i]) {
            core::decide_counted(groups.groups[i].items, groups.groups[i].size, counted[i].payload,
                                 counted[i].period_start);
        }
    }
}

/* Of groups that have a leader, those items that miss a period and nothing else. */
ItemList missing_periods(const Groups &groups)
{
    size_t item_count = 0;
    for (size_t i = 0; i < groups.count; i++) {
        item_count += groups.groups[i].size;
    }
    ItemList missing = {allocate<Item *>(item_count), 0};
    for (size_t i = 0; i < groups.count; i++) {
        const Group &group = groups.groups[i];
        if (leader_of(group) == nullptr) {
            continue;
        }
        for (size_t j = 0; j < group.size; j++) {
            if (group.items[j]->period == core::ItemPeriod::missing &&
                group.items[j]->fault == core::Fault::none) {
                missing.items[missing.count++] = group.items[j];
            }
        }
    }
    return missing;
}

/*
 * Finds out which item of each key is to be counted, and opens the periods that
 * those items need. A later item of the key needs its own only if a counter refuses
 * the first; by then counters are locked, and whoever waited for an account could be
 * waited for. So its account is locked here, and its period opened then.
 */
void choose_leaders(const Groups &groups)
{
    Groups left = groups;
    while (left.count > 0) {
        for (size_t i = 0; i < left.count; i++) {
            core::find_leader(left.groups[i].items, left.groups[i].size);
        }
        const ItemList missing = missing_periods(left);
        if (missing.count == 0) {
            return;
        }
        look_up_periods(missing, Opening::leaders);

        /* Where that shows that a leader cannot be counted, another item may be. */
        left = select(left, [](const Group &group) {
            Item *leader = leader_of(group);
            if (leader == nullptr || leader->period == core::ItemPeriod::open) {
                return false;
            }
            leader->verdict = Verdict::undecided;
            return true;
        });
    }
}

/*
 * Records the leaders' events; where a key turns out to be taken, decides its
 * group by what took it.
 */
void record_leaders(const Groups &groups, ItemPointerData *rows_of_items, const Batch &batch)
{
    Groups left = groups;
    while (left.count > 0) {
        ItemList leaders = {allocate<Item *>(left.count), left.count};
        auto *rows = allocate<ItemPointerData>(left.count);
        for (size_t i = 0; i < left.count; i++) {
            leaders.items[i] = leader_of(left.groups[i]);
        }
        record(leaders, rows);

        for (size_t i = 0; i < left.count; i++) {
            Item *leader = leaders.items[i];
            if (ItemPointerIsValid(&rows[i])) {
                rows_of_items[leader - batch.items] = rows[i];
                core::follow(left.groups[i].items, left.groups[i].size, leader);
            } else {
                leader->verdict = Verdict::undecided;
            }
        }
        decide_counted_groups(select(left, is_undecided));

        /* Undecided: the event was deleted in between, so the key is free again. */
        left = select(left, [](const Group &group) {
            return is_undecided(group) && core::find_leader(group.items, group.size) != nullptr;
        });
        CHECK_FOR_INTERRUPTS();
    }
}

} // namespace

bool open_missing_periods(const ItemList &items)
{
    if (items.count == 0) {
        return false;
    }
    look_up_periods(items, Opening::all);
    return std::any_of(items.items, items.items + items.count, [](const Item *item) {
        return item->period == core::ItemPeriod::open || item->period == core::ItemPeriod::closed;
    });
}

void record_items(const Batch &batch, const ItemList &list, ItemPointerData *rows)
{
    look_up_periods(list, Opening::none);

    const ItemList sorted = copy_of(list);
    core::sort_by_key(sorted.items, sorted.count);
    const Groups groups = groups_of(sorted);
    decide_counted_groups(select(groups, is_troubled));
    choose_leaders(select(groups, is_undecided));
    record_leaders(select(groups, [](const Group &group) { return leader_of(group) != nullptr; }),
                   rows, batch);
}

} // namespace usage_ledger
