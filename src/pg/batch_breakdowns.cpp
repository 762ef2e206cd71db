#include "pg/postgres.hpp"

#include "pg/batch_breakdowns.hpp"

#include <algorithm>

#include "pg/pending.hpp"
#include "pg/worker.hpp"

namespace usage_ledger
{

namespace
{

PairSum pair_of(const Item &item)
{
    return {counter_id(account_of(item), item.period_start), item.payload.breakdown->pair, {}};
}

PairList pairs_of(const ItemList &items)
{
    PairList list = {allocate<PairSum>(items.count), 0};
    for (size_t i = 0; i < items.count; i++) {
        list.pairs[i] = pair_of(*items.items[i]);
    }
    std::sort(list.pairs, list.pairs + items.count);
    list.count = std::unique(list.pairs, list.pairs + items.count) - list.pairs;
    return list;
}

size_t find_pair(const PairList &list, const Item &item)
{
    const size_t i =
        std::lower_bound(list.pairs, list.pairs + list.count, pair_of(item)) - list.pairs;
    Assert(i < list.count && list.pairs[i] == pair_of(item));
    return i;
}

/* Makes a row of the queue of what a pair has, if it has anything. */
void finish_row(BatchBreakdowns *breakdowns, size_t pair)
{
    QueuedPair *queued = &breakdowns->queued_usage[pair];
    if (queued->amounts.values[core::events_index] == 0) {
        return;
    }
    auto *breakdown = allocate<core::Breakdown>(1);
    *breakdown = {breakdowns->queued.pairs[pair].pair, queued->amounts};
    breakdowns->counters[breakdowns->row_count] = breakdowns->queued.pairs[pair].counter;
    breakdowns->payloads[breakdowns->row_count++] = {queued->usage, breakdown};
    *queued = {};
}

} // namespace

BatchBreakdowns find_breakdowns(const ItemList &added, const ItemList &queued)
{
    BatchBreakdowns breakdowns = {pairs_of(added),
                                  nullptr,
                                  pairs_of(queued),
                                  allocate<QueuedPair>(queued.count),
                                  allocate<core::CounterId>(queued.count),
                                  allocate<core::Payload>(queued.count),
                                  0};
    if (breakdowns.added.count > 0) {
        breakdowns.places = find_places(breakdowns.added.pairs, breakdowns.added.count);
    }
    std::fill_n(breakdowns.queued_usage, breakdowns.queued.count, QueuedPair{});
    return breakdowns;
}

bool add_breakdown(const BatchBreakdowns &breakdowns, const Item &item)
{
    return add_to_place(&breakdowns.places[find_pair(breakdowns.added, item)],
                        core::sum_of(item.payload.breakdown->amounts));
}

/* Costs of several items may not fit one row. */
void queue_breakdown(BatchBreakdowns *breakdowns, const Item &item)
{
    const size_t pair = find_pair(breakdowns->queued, item);
    QueuedPair *queued = &breakdowns->queued_usage[pair];
    const core::WideAmounts amounts = core::sum_of(item.payload.breakdown->amounts);
    if (!core::add(&queued->amounts, amounts)) {
        finish_row(breakdowns, pair);
        (void)core::add(&queued->amounts, amounts);
    }
    (void)core::add(&queued->usage, item.payload);
}

void write_breakdowns(BatchBreakdowns *breakdowns)
{
    write_places(breakdowns->places, breakdowns->added.count);
    for (size_t i = 0; i < breakdowns->queued.count; i++) {
        finish_row(breakdowns, i);
    }
    if (breakdowns->row_count > 0) {
        enqueue_all(breakdowns->counters, breakdowns->payloads, breakdowns->row_count);
        note_queued_rows(breakdowns->row_count);
    }
}

} // namespace usage_ledger
