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

PairRows pairs_of(const ItemList &items)
{
    PairRows pairs = {allocate<PairSum>(items.count), nullptr, 0};
    for (size_t i = 0; i < items.count; i++) {
        pairs.pairs[i] = pair_of(*items.items[i]);
    }
    std::sort(pairs.pairs, pairs.pairs + items.count);
    pairs.count = std::unique(pairs.pairs, pairs.pairs + items.count) - pairs.pairs;
    return pairs;
}

size_t find_pair(const PairRows &pairs, const Item &item)
{
    const size_t i =
        std::lower_bound(pairs.pairs, pairs.pairs + pairs.count, pair_of(item)) - pairs.pairs;
    Assert(i < pairs.count && pairs.pairs[i] == pair_of(item));
    return i;
}

/* Makes a row of the queue of what a pair has, if it has anything. */
void finish_row(BatchBreakdowns *breakdowns, size_t pair)
{
    BreakdownRow *row = breakdowns->queued.rows[pair];
    if (!row->is_changed) {
        return;
    }
    auto *breakdown = allocate<core::Breakdown>(1);
    *breakdown = row->totals;
    breakdowns->counters[breakdowns->row_count] = row->counter;
    breakdowns->payloads[breakdowns->row_count++] = {breakdowns->queued_usage[pair], breakdown};
    row->totals.amounts = {};
    breakdowns->queued_usage[pair] = {};
    row->is_changed = false;
}

} // namespace

BatchBreakdowns find_breakdowns(const ItemList &added, const ItemList &queued)
{
    BatchBreakdowns breakdowns = {pairs_of(added),
                                  pairs_of(queued),
                                  allocate<core::Usage>(queued.count),
                                  allocate<core::CounterId>(queued.count),
                                  allocate<core::Payload>(queued.count),
                                  0};
    if (breakdowns.added.count > 0) {
        breakdowns.added.rows = find_rows(breakdowns.added.pairs, breakdowns.added.count);
    }
    PairRows *pairs = &breakdowns.queued;
    pairs->rows = allocate<BreakdownRow *>(pairs->count);
    auto *rows = allocate<BreakdownRow>(pairs->count);
    for (size_t i = 0; i < pairs->count; i++) {
        rows[i] = {pairs->pairs[i].counter, {pairs->pairs[i].pair, {}}, {}, false};
        pairs->rows[i] = &rows[i];
        breakdowns.queued_usage[i] = {};
    }
    return breakdowns;
}

bool add_breakdown(const BatchBreakdowns &breakdowns, const Item &item)
{
    BreakdownRow *row = breakdowns.added.rows[find_pair(breakdowns.added, item)];
    if (!core::add(&row->totals.amounts, core::sum_of(item.payload.breakdown->amounts))) {
        return false;
    }
    row->is_changed = true;
    return true;
}

/* Costs of several items may not fit one row. */
void queue_breakdown(BatchBreakdowns *breakdowns, const Item &item)
{
    const size_t pair = find_pair(breakdowns->queued, item);
    core::Amounts *amounts = &breakdowns->queued.rows[pair]->totals.amounts;
    const core::WideAmounts added = core::sum_of(item.payload.breakdown->amounts);
    if (!core::add(amounts, added)) {
        finish_row(breakdowns, pair);
        (void)core::add(amounts, added);
    }
    (void)core::add(&breakdowns->queued_usage[pair], item.payload);
    breakdowns->queued.rows[pair]->is_changed = true;
}

void write_breakdowns(BatchBreakdowns *breakdowns)
{
    write_rows(breakdowns->added.rows, breakdowns->added.count);
    for (size_t i = 0; i < breakdowns->queued.count; i++) {
        finish_row(breakdowns, i);
    }
    if (breakdowns->row_count > 0) {
        enqueue_all(breakdowns->counters, breakdowns->payloads, breakdowns->row_count);
        note_queued_rows(breakdowns->row_count);
    }
}

} // namespace usage_ledger
