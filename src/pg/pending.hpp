/*
 * pending.hpp: usage that is recorded but not yet in its counter, a queue in usage_pending.
 * A row is removed only by a session that holds its counter's row lock.
 */
#pragma once

#include "pg/postgres.hpp"

#include "core/counter.hpp"
#include "pg/breakdowns.hpp"

namespace usage_ledger
{

/* Queues usage for a counter, with its breakdown if it has one. */
void enqueue(const core::CounterId &counter, const core::Payload &usage);

/* Queues usage[i] for counters[i], a row each. Either all have a breakdown or none. */
void enqueue_all(const core::CounterId *counters, const core::Payload *usage, size_t count);

/* A pair that pending rows share. */
struct PendingPair {
    core::Pair pair;
    size_t sum_number; /* sum_pairs' own; 0 outside */
};
struct PendingBreakdown {
    PendingPair *pair;
    core::Amounts amounts;
};
struct PendingRow {
    core::CounterId counter;
    core::Usage usage;
    ItemPointerData tid;
    const PendingBreakdown *breakdown; /* null: plain usage */
};
struct PendingRows {
    MemoryContext context; /* to be deleted with all that is here */
    PendingRow *rows;
    size_t count;
    HTAB *pairs; /* null: none */
    bool has_skipped_pages;
    size_t malformed_count;    /* of rows that are not here, for their breakdown cannot be read */
    const char *malformed_row; /* the first of them, for a DETAIL */
};

/*
 * Sums the breakdowns of pending rows of one counter by pair, and adds the sums in order of their
 * pairs to a list.
 */
struct PairSums {
    PairSum *sums;
    size_t count;
    size_t capacity;
};
void sum_pairs(const PendingRow *rows, size_t count, PairSums *sums);

/*
 * Reads the queue from a block on, until it has row_count rows or more. Passes over page
 * ranges that other sessions are settling. They pass over those that it reads until the end
 * of the transaction. The block becomes the next one, or InvalidBlockNumber at the end.
 */
PendingRows read_pending(BlockNumber *block, size_t row_count);

/* Of a distributed ledger: all accounts, or those whose rows are on this node. */
enum class Accounts { all, of_node };

/* Of a distributed ledger: the next counters, in their order, that usage is pending for. */
size_t find_pending_counters(const core::CounterId &after, Accounts scope,
                             core::CounterId *counters, size_t count_max);

/* Reads rows of one counter. */
PendingRows read_pending_of(const core::CounterId &counter, int64 row_count_max);

/*
 * Removes rows that were read, if all of them are still there. The session that had their
 * counter's lock since then may have removed some. False: none is removed.
 *
 * REQUIRES: their counters are locked, and the caller has a snapshot from before it read them, so
 * that vacuum has made no room for other rows in their places. Where the ledger is distributed, all
 * are of this counter, and were read when it was locked.
 */
bool try_to_delete_pending(const core::CounterId &counter, const ItemPointerData *tids,
                           size_t count);

/* Whether anything is pending now, also where the transaction's snapshot is older. */
bool has_pending(const core::CounterId &counter);

/* Adds what is pending now to a sum, also where the transaction's snapshot is older. */
void add_pending(const core::CounterId &counter, core::WideUsage *sum);

/* Raises 40001 if anything is pending that is too new for the transaction's snapshot. */
void check_none_is_newer(const core::CounterId &counter);

/*
 * Removes all that is pending for a counter, and adds it to a sum and to the breakdown. Raises
 * 55000 where a subscription feeds the ledger, 22003 where a breakdown does not fit, and XX001
 * where one cannot be read.
 *
 * REQUIRES: the counter is locked.
 */
void take_pending(const core::CounterId &counter, core::WideUsage *sum);

} // namespace usage_ledger
