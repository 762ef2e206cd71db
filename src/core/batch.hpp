/*
 * batch.hpp: the items of a batch, and what decides them.
 *
 * Of the items with one key, the first is the event and the others share its fate: they are
 * compared with it where it was counted, and refused as it was where it was not. If the key
 * was counted before, all are compared with that event. An item whose own arguments are
 * invalid is refused alone and claims no key.
 */
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/counter.hpp"
#include "core/event.hpp"
#include "core/period.hpp"

namespace usage_ledger::core
{

enum class Outcome {
    undecided,
    applied,
    queued,
    replayed,
    conflict,
    invalid,
    unknown_account,
    closed,
    out_of_time,
};

/* The outcome's name in SQL; nullptr for an item that is undecided. */
const char *name_of(Outcome outcome);

struct Item {
    const uint8_t *account_id; /* account_id_size bytes */
    const char *key;
    int64_t key_length;
    Payload payload;
    int64_t occurred_at;
    InputError error;
    PeriodState period;
    int64_t period_start;
    int64_t period_end;
    Outcome outcome;
    Item *first;     /* the first item of its key; of that, itself */
    bool has_event;  /* of a first item: there is an event of its key */
    Payload counted; /* if so, what it counted */
    int64_t tokens_used;
    bool is_counter_missing; /* of a replay: somebody has deleted its period by hand */
};

/* The order in which every batch takes its keys: by account, then by key, byte by byte. */
int compare_keys(const Item &a, const Item &b);

/*
 * Sorts items by key, sets the first item of each, and moves the first items to the front,
 * still sorted. Returns how many they are.
 *
 * REQUIRES: the items lie in memory in the order given.
 */
size_t find_first_items(Item **items, size_t count);

/* Whether an item would be refused. It may still be a replay, so its key comes first. */
bool needs_key_lookup(const Item &item);

/* Refuses an item, by its time or its period. REQUIRES: needs_key_lookup(*item). */
void refuse(Item *item);

/* Sets the event of a first item's key: the one just recorded, or the one counted before. */
void set_event(Item *first, const Payload &counted, int64_t period_start);

/* Decides an item whose first item's key has an event, by its payload. */
void replay(Item *item);

/* Decides an item that is not the first of its key. REQUIRES: the first one is decided. */
void share_fate(Item *item);

} // namespace usage_ledger::core
