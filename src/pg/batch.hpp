/*
 * batch.hpp: what the files of increment_usage_batch share.
 */
#pragma once

#include "pg/postgres.hpp"

#include "core/batch.hpp"
#include "pg/events.hpp"

namespace usage_ledger
{

using core::Item;
using core::Verdict;

template <typename T> T *allocate(size_t count)
{
    return static_cast<T *>(
        MemoryContextAllocHuge(CurrentMemoryContext, Max(count, 1) * sizeof(T)));
}

/* The items of a call, in the order given. */
struct Batch {
    Item *items;
    size_t count;
    TimestampTz now;
};

/* Some of them, in one order or another. */
struct ItemList {
    Item **items;
    size_t count;
};

ItemList copy_of(const ItemList &list);

Datum account_of(const Item &item);
Event event_of(const Item &item);

/* Records the events of items that are sorted by key; see record_events. */
void record(const ItemList &items, ItemPointerData *rows);

/*
 * Decides items as far as periods and keys can, and records the events of those
 * that are to be counted, which are leaders then; rows[i] is where the event of
 * batch.items[i] lies, and invalid for all others.
 */
void record_items(const Batch &batch, const ItemList &list, ItemPointerData *rows);

/* Opens the periods that items miss, as far as can be; returns whether that was any. */
bool open_missing_periods(const ItemList &items);

/*
 * Adds leaders up, in the order of the list, and settles the sums. False: periods had
 * to be opened, and nothing was settled; the list is for another round. True: those
 * that are undecided still, if any, are for another round.
 */
bool settle_items(const Batch &batch, const ItemList &list, const ItemPointerData *rows);

} // namespace usage_ledger
