/*
 * pending.hpp: usage that is recorded but not yet in its counter, a queue in
 * usage_pending. A row leaves the queue only by who has its counter's row locked.
 */
#pragma once

#include "pg/postgres.hpp"

#include "core/addition.hpp"
#include "core/event.hpp"

namespace usage_ledger
{

/* Puts one event's usage into the queue. */
void enqueue(Datum account_id, TimestampTz period_start, const core::Payload &payload);

/* Puts sums into the queue, a row each. */
void enqueue_all(const core::Addition *additions, size_t count);

struct PendingRow {
    core::Addition addition;
    ItemPointerData row;
};
struct PendingRows {
    PendingRow *rows;
    size_t count;
};

/*
 * Reads the queue from a block on, as far as it takes to have so many rows; what
 * other sessions are settling is passed over, and they pass over this until the end
 * of the transaction. The block becomes the next one, InvalidBlockNumber at the end.
 */
PendingRows read_pending(BlockNumber *block, size_t row_count);

/* Takes rows that were read out of the queue. */
void delete_pending(const ItemPointerData *rows, size_t count);

/* Whether anything is pending for a period now, also where the transaction's snapshot is older. */
bool has_pending(Datum account_id, TimestampTz period_start);

/* Takes all that is pending for a period out of the queue, and adds it to a sum. */
void take_pending_of_period(Datum account_id, TimestampTz period_start, core::WideTotals *sum);

} // namespace usage_ledger
