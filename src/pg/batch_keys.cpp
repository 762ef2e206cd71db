/*
 * batch_keys.cpp: which items of a batch to count, and the recording of their events.
 *
 * Only the first item of a key is looked up and recorded; the others share its fate.
 */
#include "pg/postgres.hpp"

#include <algorithm>

#include "pg/arguments.hpp"
#include "pg/batch.hpp"
#include "pg/events.hpp"
#include "pg/periods.hpp"

namespace usage_ledger
{

namespace
{

/*
 * Finds the periods of items with find_periods or open_periods. Items of one account and
 * time, most often all of an account, share a lookup.
 */
void look_up_periods(const ItemList &list, void (*look_up)(PeriodLookup *, size_t))
{
    const ItemList sorted = copy_of(list);
    std::sort(sorted.items, sorted.items + sorted.count, [](const Item *a, const Item *b) {
        const int order = memcmp(a->account_id, b->account_id, core::account_id_size);
        return order != 0 ? order < 0 : a->occurred_at < b->occurred_at;
    });

    auto *lookups = allocate<PeriodLookup>(sorted.count);
    auto *lookup_of_item = allocate<size_t>(sorted.count);
    size_t lookup_count = 0;
    for (size_t i = 0; i < sorted.count; i++) {
        const Item &item = *sorted.items[i];
        if (i == 0 || sorted.items[i - 1]->occurred_at != item.occurred_at ||
            memcmp(sorted.items[i - 1]->account_id, item.account_id, core::account_id_size) != 0) {
            lookups[lookup_count++] = {
                account_of(item), item.occurred_at, core::PeriodState::missing, {}, 0};
        }
        lookup_of_item[i] = lookup_count - 1;
    }
    look_up(lookups, lookup_count);
    for (size_t i = 0; i < sorted.count; i++) {
        const PeriodLookup &lookup = lookups[lookup_of_item[i]];
        Item *item = sorted.items[i];
        item->period = lookup.state;
        item->period_start = lookup.period.start;
        item->period_end = lookup.period.end;
    }
}

/* Decides those items whose key was counted before, in a snapshot or as the transaction sees it. */
void decide_counted(const ItemList &list, Snapshot snapshot = nullptr)
{
    if (list.count == 0) {
        return;
    }
    auto *events = allocate<Event>(list.count);
    auto *counted = allocate<CountedEvent>(list.count);
    auto *is_counted = allocate<bool>(list.count);
    for (size_t i = 0; i < list.count; i++) {
        events[i] = event_of(*list.items[i]);
    }
    find_counted_events(events, counted, is_counted, list.count, snapshot);
    for (size_t i = 0; i < list.count; i++) {
        if (is_counted[i]) {
            core::set_event(list.items[i], counted[i].payload, counted[i].period_start);
            core::replay(list.items[i]);
        }
    }
}

/*
 * Records the events of items that are sorted by key. Where a key turns out to be taken,
 * decides the item by the event that took it.
 *
 * That event may be pruned before it is looked up, which frees the key. To record it now would
 * take a key out of order: another batch may have it and wait for one of this batch. So the
 * event is also looked up in a snapshot from before, as if the prune came later.
 */
void record_events_of(const ItemList &list, const Batch &batch, ItemPointerData *tids_of_items)
{
    auto *events = allocate<Event>(list.count);
    auto *starts = allocate<TimestampTz>(list.count);
    auto *tids = allocate<ItemPointerData>(list.count);
    for (size_t i = 0; i < list.count; i++) {
        events[i] = event_of(*list.items[i]);
        starts[i] = list.items[i]->period_start;
    }
    const Snapshot before = RegisterSnapshot(GetLatestSnapshot());
    record_events(events, starts, tids, list.count);
    for (size_t i = 0; i < list.count; i++) {
        Item *item = list.items[i];
        if (ItemPointerIsValid(&tids[i])) {
            tids_of_items[item - batch.items] = tids[i];
            core::set_event(item, item->payload, item->period_start);
        }
    }
    const ItemList taken = select(list, [](const Item &item) { return !item.has_event; });
    decide_counted(taken);
    decide_counted(select(taken, is_undecided), before);
    UnregisterSnapshot(before);
    const ItemList lost = select(taken, is_undecided);
    if (lost.count > 0) {
        ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                        errmsg("could not serialize access due to a concurrently deleted event"),
                        errdetail("%s.", event_text(name_of(event_of(*lost.items[0])))),
                        errhint("Retry the transaction.")));
    }
}

} // namespace

Event event_of(const Item &item)
{
    return {account_of(item),
            PointerGetDatum(cstring_to_text_with_len(item.key, static_cast<int>(item.key_length))),
            item.payload, item.occurred_at};
}

void record_items(const Batch &batch, const ItemList &list, ItemPointerData *tids)
{
    const ItemList sorted = copy_of(list);
    const ItemList firsts = {sorted.items, core::find_first_items(sorted.items, sorted.count)};

    for (size_t i = 0; i < firsts.count; i++) {
        Item *item = firsts.items[i];
        if (item->error == core::InputError::none) {
            item->error = check_event_time(item->occurred_at);
        }
    }
    look_up_periods(firsts, find_periods);
    decide_counted(select(firsts, core::needs_key_lookup));

    const ItemList missing = select(firsts, [](const Item &item) {
        return is_undecided(item) && item.error == core::InputError::none &&
               item.period == core::PeriodState::missing;
    });
    if (missing.count > 0) {
        look_up_periods(missing, open_periods);
    }
    const ItemList refused = select(firsts, [](const Item &item) {
        return is_undecided(item) && core::needs_key_lookup(item);
    });
    for (size_t i = 0; i < refused.count; i++) {
        core::refuse(refused.items[i]);
    }
    const ItemList countable = select(firsts, is_undecided);
    if (countable.count > 0) {
        record_events_of(countable, batch, tids);
    }
}

void move_items(const Batch &batch, const ItemList &list, ItemPointerData *tids)
{
    const ItemList sorted = copy_of(list);
    std::sort(sorted.items, sorted.items + sorted.count,
              [](const Item *a, const Item *b) { return core::compare_keys(*a, *b) < 0; });
    auto *moved = allocate<ItemPointerData>(sorted.count);
    auto *events = allocate<Event>(sorted.count);
    for (size_t i = 0; i < sorted.count; i++) {
        ItemPointerData *tid = &tids[sorted.items[i] - batch.items];
        moved[i] = *tid;
        events[i] = event_of(*sorted.items[i]);
        ItemPointerSetInvalid(tid);
        sorted.items[i]->has_event = false;
    }
    delete_events(events, moved, sorted.count);

    forget_ended_periods();
    look_up_periods(sorted, find_periods);
    const ItemList missing =
        select(sorted, [](const Item &item) { return item.period == core::PeriodState::missing; });
    if (missing.count > 0) {
        look_up_periods(missing, try_open_periods);
    }
    for (size_t i = 0; i < sorted.count; i++) {
        if (core::needs_key_lookup(*sorted.items[i])) {
            core::refuse(sorted.items[i]);
        }
    }
    const ItemList countable = select(sorted, is_undecided);
    if (countable.count > 0) {
        record_events_of(countable, batch, tids);
    }
}

} // namespace usage_ledger
