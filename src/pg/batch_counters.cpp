/*
 * batch_counters.cpp: adding the items of a batch to their counters, or leaving them to a
 * settler.
 */
#include "pg/postgres.hpp"

#include <algorithm>

#include "pg/batch.hpp"
#include "pg/batch_breakdowns.hpp"
#include "pg/counters.hpp"
#include "pg/events.hpp"
#include "pg/pending.hpp"
#include "pg/periods.hpp"
#include "pg/settings.hpp"
#include "pg/settlement.hpp"
#include "pg/worker.hpp"

namespace usage_ledger
{

namespace
{

/* Counters in their order, and the usage to be added to each. */
struct Counters {
    core::CounterId *ids;
    CounterState *states;
    core::Usage *usage;
    size_t *item_counts;
    size_t count;
};

/* The counters of those items that meet a condition. */
template <typename Condition> Counters counters_of(const ItemList &list, Condition condition)
{
    const ItemList items = select(list, condition);
    Counters counters = {allocate<core::CounterId>(items.count),
                         allocate<CounterState>(items.count), allocate<core::Usage>(items.count),
                         allocate<size_t>(items.count), 0};
    for (size_t i = 0; i < items.count; i++) {
        counters.ids[i] = counter_id(account_of(*items.items[i]), items.items[i]->period_start);
    }
    std::sort(counters.ids, counters.ids + items.count);
    counters.count = std::unique(counters.ids, counters.ids + items.count) - counters.ids;
    for (size_t i = 0; i < counters.count; i++) {
        counters.states[i] = {};
        counters.states[i].id = counters.ids[i];
        counters.usage[i] = {};
        counters.item_counts[i] = 0;
    }
    return counters;
}

/* The state of an item's counter; null if it is not among these. */
CounterState *find_counter(const Counters &counters, const Item &item)
{
    const core::CounterId id = counter_id(account_of(item), item.period_start);
    CounterState *const end = counters.states + counters.count;
    CounterState *found = std::lower_bound(
        counters.states, end, id,
        [](const CounterState &state, const core::CounterId &wanted) { return state.id < wanted; });
    return found < end && found->id == id ? found : nullptr;
}

/*
 * Takes the counters to add to: locked, or with their periods held open, as the settlement
 * says. Holding comes before trying to lock: it can wait for a close, and a session that waits
 * must not hold the lock of a later counter.
 */
void take_counters(const Counters &counters)
{
    if (settlement_mode == settlement_immediate) {
        lock_counters(counters.states, counters.count);
        return;
    }
    hold_periods_open(counters.ids, counters.count);
    if (settlement_mode == settlement_adaptive) {
        (void)try_lock_counters(counters.states, counters.count);
    }
    read_counters(counters.states, counters.count, GetLatestSnapshot());
    require_counters(counters.states, counters.count);
}

/* Two sets of counters as one. */
Counters united(const Counters &a, const Counters &b)
{
    const size_t count = a.count + b.count;
    const Counters both = {allocate<core::CounterId>(count), allocate<CounterState>(count),
                           allocate<core::Usage>(count), allocate<size_t>(count), count};
    std::merge(
        a.states, a.states + a.count, b.states, b.states + b.count, both.states,
        [](const CounterState &left, const CounterState &right) { return left.id < right.id; });
    for (size_t i = 0; i < count; i++) {
        both.ids[i] = both.states[i].id;
        both.usage[i] = {};
        both.item_counts[i] = 0;
    }
    return both;
}

/*
 * Takes counters when others are taken already, of which a session that waits for any of these
 * may wait for a later one. So it waits only where none is later.
 */
void take_more_counters(const Counters &counters, const Counters &taken)
{
    if (counters.count == 0 || taken.ids[taken.count - 1] < counters.ids[0]) {
        take_counters(counters);
        return;
    }
    if (try_lock_counters(counters.states, counters.count) > 0) {
        raise_ended_concurrently();
    }
    require_counters(counters.states, counters.count);
    for (size_t i = 0; i < counters.count && settlement_mode == settlement_deferred; i++) {
        counters.states[i].is_locked = false; /* the lock only holds the period open */
    }
}

bool is_to_be_added(const Item &item)
{
    return is_undecided(item) && item.first == &item;
}

/*
 * Takes the counters of the recorded events. Where a period turns out to have been ended before
 * an event, moves the event, and takes the counter of its new period too.
 */
Counters take_counters_of(const Batch &batch, const ItemList &list, ItemPointerData *tids)
{
    Counters taken = counters_of(list, is_to_be_added);
    take_counters(taken);
    for (;;) {
        const ItemList overtaken = select(list, [&](const Item &item) {
            return is_to_be_added(item) &&
                   item.occurred_at >= find_counter(taken, item)->period_end;
        });
        if (overtaken.count == 0) {
            return taken;
        }
        CHECK_FOR_INTERRUPTS();
        move_items(batch, overtaken, tids);
        const Counters more = counters_of(list, [&](const Item &item) {
            return is_to_be_added(item) && find_counter(taken, item) == nullptr;
        });
        take_more_counters(more, taken);
        taken = united(taken, more);
    }
}

/* The counters that replays answer from and that nothing is added to. */
Counters read_replayed(const ItemList &list, const Counters &added)
{
    const Counters counters = counters_of(list, [&](const Item &item) {
        return item.outcome == Outcome::replayed && find_counter(added, item) == nullptr;
    });
    read_counters(counters.states, counters.count);
    return counters;
}

/* Finds where to add and queue the breakdowns of the items that are to be added. */
BatchBreakdowns breakdowns_of(const ItemList &list, const Counters &counters)
{
    ItemList added = {allocate<Item *>(list.count), 0}, queued = {allocate<Item *>(list.count), 0};
    for (size_t i = 0; i < list.count; i++) {
        Item *item = list.items[i];
        if (!is_to_be_added(*item) || item->payload.breakdown == nullptr) {
            continue;
        }
        const CounterState *counter = find_counter(counters, *item);
        if (!counter->is_closed) {
            ItemList *items = counter->is_locked ? &added : &queued;
            items->items[items->count++] = item;
        }
    }
    return find_breakdowns(added, queued);
}

/* Adds an item to its counter's usage, unless the counter or its breakdown refuses it. */
void add_item(Item *item, const Counters &counters, BatchBreakdowns *breakdowns)
{
    CounterState *counter = find_counter(counters, *item);
    Assert(counter != nullptr);
    const core::Usage usage = item->payload;
    const bool has_breakdown = item->payload.breakdown != nullptr;
    if (counter->is_closed) {
        item->outcome = Outcome::closed;
    } else if (counter->is_locked && (core::fit(counter->totals, usage) != core::Fit::fits ||
                                      (has_breakdown && !add_breakdown(*breakdowns, *item)))) {
        item->outcome = Outcome::invalid;
    } else {
        const size_t i = counter - counters.states;
        (void)core::add(&counters.usage[i], usage);
        counters.item_counts[i]++;
        item->outcome = counter->is_locked ? Outcome::applied : Outcome::queued;
        if (counter->is_locked) {
            (void)core::add(&counter->totals, usage);
        } else if (has_breakdown) {
            queue_breakdown(breakdowns, *item);
        }
        return;
    }
    item->has_event = false;
}

/*
 * Decides the items in the order given, as far as their counters take them, and answers each
 * from its counter as it is at that item.
 */
void add_up(const ItemList &list, const Counters &added, const Counters &replayed,
            BatchBreakdowns *breakdowns)
{
    for (size_t i = 0; i < list.count; i++) {
        Item *item = list.items[i];
        if (is_undecided(*item)) {
            if (item->first == item) {
                add_item(item, added, breakdowns);
            } else {
                core::share_fate(item);
            }
        }
        if (item->outcome == Outcome::applied || item->outcome == Outcome::queued ||
            item->outcome == Outcome::replayed) {
            const CounterState *counter = find_counter(added, *item);
            counter = counter != nullptr ? counter : find_counter(replayed, *item);
            item->tokens_used = counter->totals.tokens;
            item->period_end = counter->period_end;
            item->is_counter_missing = counter->is_missing;
        }
    }
}

/*
 * Adds the usage to the counters that are locked, and queues it for the others, unless it is
 * queued with its breakdowns.
 */
void write_usage(const Counters &counters, bool has_breakdowns)
{
    auto *locked = allocate<CounterState>(counters.count);
    auto *ids = allocate<core::CounterId>(counters.count);
    auto *added = allocate<core::Usage>(counters.count);
    auto *queued = allocate<core::Payload>(counters.count);
    size_t added_count = 0, queued_count = 0;
    for (size_t i = 0; i < counters.count; i++) {
        if (counters.item_counts[i] == 0) {
            continue;
        }
        if (counters.states[i].is_locked) {
            locked[added_count] = counters.states[i];
            added[added_count++] = counters.usage[i];
        } else if (!has_breakdowns) {
            ids[queued_count] = counters.states[i].id;
            queued[queued_count++] = {counters.usage[i]};
        }
    }
    if (added_count > 0) {
        add_to_counters(locked, added, added_count);
    }
    if (queued_count > 0) {
        enqueue_all(ids, queued, queued_count);
        note_queued_rows(queued_count);
    }
}

/* Deletes the events that were recorded and then refused by their counters. */
void delete_refused(const Batch &batch, const ItemList &list, const ItemPointerData *tids_of_items)
{
    auto *tids = allocate<ItemPointerData>(list.count);
    auto *events = allocate<Event>(list.count);
    size_t count = 0;
    for (size_t i = 0; i < list.count; i++) {
        const ItemPointerData &tid = tids_of_items[list.items[i] - batch.items];
        if (ItemPointerIsValid(&tid) && !list.items[i]->has_event) {
            events[count] = event_of(*list.items[i]);
            tids[count++] = tid;
        }
    }
    if (count > 0) {
        delete_events(events, tids, count);
    }
}

} // namespace

void add_items(const Batch &batch, const ItemList &list, ItemPointerData *tids)
{
    /* The other items of a key whose first item is decided. */
    for (size_t i = 0; i < list.count; i++) {
        Item *item = list.items[i];
        if (is_undecided(*item) && !is_undecided(*item->first)) {
            core::share_fate(item);
        }
    }
    const Counters added = take_counters_of(batch, list, tids);
    BatchBreakdowns breakdowns = breakdowns_of(list, added);
    add_up(list, added, read_replayed(list, added), &breakdowns);
    write_usage(added, breakdowns.queued.count > 0);
    write_breakdowns(&breakdowns);
    delete_refused(batch, list, tids);
}

} // namespace usage_ledger
