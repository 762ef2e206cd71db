/*
 * pending.hpp: usage that is recorded but not yet in its counter, a queue in usage_pending.
 * A row is removed only by a session that holds its counter's row lock.
 */
#pragma once

#include "pg/postgres.hpp"

#include "core/counter.hpp"

namespace usage_ledger
{

/* Queues usage for a counter. */
void enqueue(const core::CounterId &counter, const core::Usage &usage);

/* Queues usage[i] for counters[i], a row each. */
void enqueue_all(const core::CounterId *counters, const core::Usage *usage, size_t count);

struct PendingRow {
    core::CounterId counter;
    core::Usage usage;
    ItemPointerData tid;
};
struct PendingRows {
    PendingRow *rows;
    size_t count;
    bool has_skipped_pages;
};

/*
 * Reads the queue from a block on, until it has row_count rows or more. Passes over page
 * ranges that other sessions are settling. They pass over those that it reads until the end
 * of the transaction. The block becomes the next one, or InvalidBlockNumber at the end.
 */
PendingRows read_pending(BlockNumber *block, size_t row_count);

/*
 * Removes rows that were read, if all of them are still there. The session that had their
 * counter's lock since then may have removed some. False: none is removed.
 *
 * REQUIRES: their counters are locked, and the caller has a snapshot from before it read them, so
 * that vacuum has made no room for other rows in their places.
 */
bool try_to_delete_pending(const ItemPointerData *tids, size_t count);

/* Whether anything is pending now, also where the transaction's snapshot is older. */
bool has_pending(const core::CounterId &counter);

/* Adds what is pending now to a sum, also where the transaction's snapshot is older. */
void add_pending(const core::CounterId &counter, core::WideUsage *sum);

/* Raises 40001 if anything is pending that is too new for the transaction's snapshot. */
void check_none_is_newer(const core::CounterId &counter);

/*
 * Removes all that is pending for a counter, and adds it to a sum. Raises 55000 where a
 * subscription feeds the ledger.
 */
void take_pending(const core::CounterId &counter, core::WideUsage *sum);

} // namespace usage_ledger
