/*
 * batch.hpp: what the files of increment_usage_batch share.
 */
#pragma once

#include "pg/postgres.hpp"

#include "core/batch.hpp"
#include "pg/events.hpp"
#include "pg/spi.hpp"

namespace usage_ledger
{

using core::Item;
using core::Outcome;

/* The items of a call, in the order given. */
struct Batch {
    Item *items;
    size_t count;
};

/* Some of a batch's items. */
struct ItemList {
    Item **items;
    size_t count;
};

/* Those items of a list that meet a condition. */
template <typename Condition> ItemList select(const ItemList &list, Condition condition)
{
    ItemList selected = {allocate<Item *>(list.count), 0};
    for (size_t i = 0; i < list.count; i++) {
        if (condition(*list.items[i])) {
            selected.items[selected.count++] = list.items[i];
        }
    }
    return selected;
}

inline ItemList copy_of(const ItemList &list)
{
    return select(list, [](const Item &) { return true; });
}

inline bool is_undecided(const Item &item)
{
    return item.outcome == Outcome::undecided;
}

inline Datum account_of(const Item &item)
{
    return PointerGetDatum(item.account_id);
}

/* The event that an item is to record. */
Event event_of(const Item &item);

/*
 * Counts a batch and returns its rows. read() reads the arguments inside SPI, whose context
 * SPI_finish frees with everything that is allocated here.
 */
void run_batch(FunctionCallInfo fcinfo, Batch (*read)(FunctionCallInfo));

/*
 * Decides items as far as periods and keys can, and records the events of the others. Those
 * stay undecided; tids[i] is the place of the event that batch.items[i] has recorded, or
 * invalid.
 */
void record_items(const Batch &batch, const ItemList &list, ItemPointerData *tids);

/*
 * Moves the events of items whose periods have been ended before them to the periods that cover
 * them, or decides the items.
 */
void move_items(const Batch &batch, const ItemList &list, ItemPointerData *tids);

/*
 * Adds the recorded events to their counters, or queues them, and decides all items that are
 * still undecided. Deletes the events that a counter refuses.
 */
void add_items(const Batch &batch, const ItemList &list, ItemPointerData *tids);

} // namespace usage_ledger
