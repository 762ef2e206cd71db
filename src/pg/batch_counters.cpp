/*
 * batch_counters.cpp: what the items of a batch add to counters, or leave to a
 * settler.
 */
#include "pg/postgres.hpp"

#include <algorithm>

#include "pg/batch.hpp"
#include "pg/counters.hpp"
#include "pg/holds.hpp"
#include "pg/pending.hpp"
#include "pg/settings.hpp"
#include "pg/worker.hpp"

namespace usage_ledger
{

namespace
{

/* An item's part in the sum of its counter. */
core::Addition addition_of(const Item &item)
{
    core::Addition addition = {};
    memcpy(addition.account_id, item.account_id, core::account_id_size);
    addition.period_start = item.period_start;
    addition.tokens = item.payload.tokens;
    addition.reports = item.payload.reports;
    addition.chats = item.payload.chats;
    addition.row_count = 1;
    return addition;
}

/* A follower is added only if its leader cannot be, but then its counter must be at hand. */
bool may_be_added(const Item &item)
{
    return item.verdict == Verdict::leader ||
           (item.verdict == Verdict::follower && item.period == core::ItemPeriod::open);
}

/* The counters that a batch adds to or answers from, in counters' order. */
struct BatchCounters {
    core::Addition *sums;
    SetCounter *counters;
    size_t count;
};

size_t counter_of(const BatchCounters &counters, const Item &item)
{
    const core::Addition wanted = addition_of(item);
    const core::Addition *found =
        std::lower_bound(counters.sums, counters.sums + counters.count, wanted,
                         [](const core::Addition &a, const core::Addition &b) {
                             return core::compare_counters(a, b) < 0;
                         });
    Assert(found < counters.sums + counters.count && core::compare_counters(*found, wanted) == 0);
    return found - counters.sums;
}

/*
 * Locks the counters to be added to, or holds their periods open, as the settlement
 * has it, and reads the others. Holding comes before trying to lock: it may have to
 * wait for who closes a period, and nobody who waits may have a later counter locked.
 */
BatchCounters take_counters(const ItemList &list)
{
    BatchCounters taken = {allocate<core::Addition>(list.count), nullptr, 0};
    for (size_t i = 0; i < list.count; i++) {
        const Item &item = *list.items[i];
        if (may_be_added(item) || item.verdict == Verdict::replayed) {
            core::Addition *sum = &taken.sums[taken.count++];
            *sum = addition_of(item);
            sum->row_count = may_be_added(item) ? 1 : 0;
        }
    }
    taken.count = core::fold(taken.sums, taken.count);
    taken.counters = allocate<SetCounter>(taken.count);
    memset(taken.counters, 0, taken.count * sizeof(SetCounter));

    if (settlement == settlement_immediate) {
        lock_counters(taken.sums, taken.counters, taken.count);
    } else {
        hold_all_open(taken.sums, taken.count);
        if (settlement == settlement_adaptive) {
            try_lock_counters(taken.sums, taken.counters, taken.count);
        }
        read_latest_counters(taken.sums, taken.counters, taken.count);
    }
    read_counters(taken.sums, taken.counters, taken.count);
    return taken;
}

bool is_counted(const Item &item)
{
    return item.verdict == Verdict::applied || item.verdict == Verdict::queued;
}

/* Adds an item to its counter's sum, unless the counter refuses it. */
void add_item(Item *item, BatchCounters *counters)
{
    const core::Addition addition = addition_of(*item);
    const size_t counter = counter_of(*counters, *item);
    SetCounter *target = &counters->counters[counter];
    if (target->is_closed) {
        item->verdict = Verdict::closed;
        return;
    }
    if (target->is_locked) {
        if (core::fit(target->totals, addition) != core::Fit::fits) {
            item->verdict = Verdict::invalid;
            item->fault = core::Fault::counter_overflow;
            return;
        }
        target->totals = core::sum_of(target->totals, addition);
    }
    core::Addition *sum = &counters->sums[counter];
    sum->tokens += addition.tokens;
    sum->reports += addition.reports;
    sum->chats += addition.chats;
    sum->row_count++;
    item->verdict = target->is_locked ? Verdict::applied : Verdict::queued;
}

/*
 * Decides a follower: a retry of its leader or, where that was refused, the next
 * leader. One whose period would have to be opened for that is left undecided, for
 * another round, and so are those that follow it.
 */
void decide_follower(Item *item, BatchCounters *counters)
{
    Item *const leader = item->leader->leader;
    if (leader->verdict == Verdict::undecided) {
        item->verdict = Verdict::undecided;
    } else if (is_counted(*leader)) {
        item->verdict = Verdict::undecided;
        core::decide_counted(&item, 1, leader->payload, leader->period_start);
    } else if (item->fault != core::Fault::none) {
        item->verdict = Verdict::invalid;
    } else if (item->period == core::ItemPeriod::closed) {
        item->verdict = Verdict::closed;
    } else if (item->period == core::ItemPeriod::open) {
        add_item(item, counters);
        item->leader->leader = item;
    } else {
        item->verdict = Verdict::undecided;
        item->leader->leader = item;
    }
}

/*
 * Adds the items up in the order given, as far as their counters take them, and
 * answers each from its counter as it is then.
 */
void add_up(const ItemList &list, BatchCounters *counters)
{
    for (size_t i = 0; i < counters->count; i++) {
        core::Addition *sum = &counters->sums[i];
        sum->tokens = sum->reports = sum->chats = sum->row_count = 0;
    }
    for (size_t i = 0; i < list.count; i++) {
        Item *item = list.items[i];
        if (item->verdict == Verdict::leader) {
            add_item(item, counters);
        } else if (item->verdict == Verdict::follower) {
            decide_follower(item, counters);
        }
        if (is_counted(*item) || item->verdict == Verdict::replayed) {
            const SetCounter &counter = counters->counters[counter_of(*counters, *item)];
            item->tokens_used = counter.totals.tokens;
            item->period_end = counter.period_end;
        }
    }
}

/*
 * Where followers were left undecided because their periods are missing, opens those,
 * and leaves all that was to be counted to another round, so that every item is answered
 * from what the items before it come to. What was decided without a counter stays so: to
 * look for another session's key again could mean to wait for who voids its event, who
 * may wait for a counter that is locked here. False: there is nothing to open.
 */
bool start_over(const Batch &batch, const ItemList &list, const ItemPointerData *rows_of_items)
{
    ItemList waiting = {allocate<Item *>(list.count), 0};
    auto *rows = allocate<ItemPointerData>(list.count);
    size_t row_count = 0;
    for (size_t i = 0; i < list.count; i++) {
        Item *item = list.items[i];
        const ItemPointerData &row = rows_of_items[item - batch.items];
        if (ItemPointerIsValid(&row)) {
            rows[row_count++] = row;
        }
        /* Those that follow it may come to be its retries. */
        if (item->verdict == Verdict::undecided && item->leader->leader == item) {
            waiting.items[waiting.count++] = item;
        }
    }
    if (!open_missing_periods(waiting)) {
        return false;
    }
    delete_events(rows, row_count);
    for (size_t i = 0; i < list.count; i++) {
        if (list.items[i]->leader != nullptr) {
            list.items[i]->verdict = Verdict::undecided;
            list.items[i]->leader = nullptr;
        }
    }
    return true;
}

/* Adds the sums to the counters that are locked, and queues the others. */
void put_sums(const BatchCounters &counters)
{
    auto *applied = allocate<core::Addition>(counters.count);
    auto *queued = allocate<core::Addition>(counters.count);
    auto *locked = allocate<SetCounter>(counters.count);
    size_t applied_count = 0, queued_count = 0;
    for (size_t i = 0; i < counters.count; i++) {
        if (counters.sums[i].row_count == 0) {
            continue;
        }
        if (counters.counters[i].is_locked) {
            locked[applied_count] = counters.counters[i];
            applied[applied_count++] = counters.sums[i];
        } else {
            queued[queued_count++] = counters.sums[i];
        }
    }
    if (applied_count > 0) {
        add_to_counters(applied, locked, applied_count);
    }
    if (queued_count > 0) {
        enqueue_all(queued, queued_count);
        note_queued_rows(queued_count);
    }
}

/*
 * Takes back the events of leaders that their counters have refused, and records
 * those of the followers that have taken their place.
 */
void replace_refused(const Batch &batch, const ItemList &list, const ItemPointerData *rows_of_items)
{
    auto *rows = allocate<ItemPointerData>(list.count);
    ItemList successors = {allocate<Item *>(list.count), 0};
    size_t row_count = 0;
    for (size_t i = 0; i < list.count; i++) {
        const Item &item = *list.items[i];
        const ItemPointerData &row = rows_of_items[list.items[i] - batch.items];
        if (ItemPointerIsValid(&row) && !is_counted(item)) {
            rows[row_count++] = row;
            if (is_counted(*item.leader)) {
                successors.items[successors.count++] = item.leader;
            }
        }
    }
    if (row_count == 0) {
        return;
    }
    delete_events(rows, row_count);
    if (successors.count == 0) {
        return;
    }
    core::sort_by_key(successors.items, successors.count);
    record(successors, rows);
}

} // namespace

bool settle_items(const Batch &batch, const ItemList &list, const ItemPointerData *rows)
{
    BatchCounters counters = take_counters(list);
    if (counters.count > 0) {
        add_up(list, &counters);
        if (start_over(batch, list, rows)) {
            return false;
        }
        put_sums(counters);
        replace_refused(batch, list, rows);
    }
    return true;
}

} // namespace usage_ledger
