/*
 * batch_breakdowns.hpp: the breakdowns of a batch's items, where they are added and queued.
 */
#pragma once

#include "pg/postgres.hpp"

#include "pg/batch.hpp"
#include "pg/breakdowns.hpp"

namespace usage_ledger
{

/* Pairs in their order, without their sums. */
struct PairList {
    PairSum *pairs;
    size_t count;
};

/* What a pair has to be queued. */
struct QueuedPair {
    core::Usage usage;
    core::Amounts amounts;
};

struct BatchBreakdowns {
    PairList added;
    Place *places; /* of the same index */
    PairList queued;
    QueuedPair *queued_usage;  /* of the same index */
    core::CounterId *counters; /* of the rows to be queued */
    core::Payload *payloads;
    size_t row_count;
};

/*
 * Finds the places of items that are to be added to their counters, which are locked, and the
 * pairs of those that are to be queued.
 */
BatchBreakdowns find_breakdowns(const ItemList &added, const ItemList &queued);

/* Adds an item to its place. False: it does not fit. */
bool add_breakdown(const BatchBreakdowns &breakdowns, const Item &item);

void queue_breakdown(BatchBreakdowns *breakdowns, const Item &item);

/* Writes the rows of usage_breakdown and of the queue. */
void write_breakdowns(BatchBreakdowns *breakdowns);

} // namespace usage_ledger
