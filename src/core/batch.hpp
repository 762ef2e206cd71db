/*
 * batch.hpp: the items of a batch, in the order and the groups in which they are
 * decided. Each comes to what it would have come to in a call of its own, the
 * calls made in the order given.
 */
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/addition.hpp"
#include "core/event.hpp"

namespace usage_ledger::core
{

enum class Verdict {
    undecided,
    leader,   /* the first countable item of its key: it is to be recorded */
    follower, /* a later one: it comes to what becomes of its leader */
    applied,
    queued,
    replayed,
    conflict,
    invalid,
    unknown_account,
    closed,
};

/* The outcome's name as SQL has it. */
const char *outcome_of(Verdict verdict);

/* What is known of the period that covers an item's time. */
enum class ItemPeriod { open, closed, missing, unknown_account, no_cycle };

struct Item {
    const uint8_t *account_id; /* account_id_size bytes */
    const char *key;
    int64_t key_length;
    Payload payload;
    int64_t occurred_at;
    Fault fault;
    ItemPeriod period;
    int64_t period_start;
    int64_t period_end;
    Verdict verdict;
    Item *leader;    /* of a follower: the first leader of its key; of that: the present one */
    Payload counted; /* what a conflict conflicts with */
    int64_t tokens_used;
};

/* Every batch takes keys in this order: by account, then by key, byte by byte. */
int compare_keys(const Item &a, const Item &b);

/* Sorts items by key, those of one key in the order given. */
void sort_by_key(Item **items, size_t count);

/* The number of items at the front that have the same key. */
size_t group_size(Item *const *items, size_t count);

/*
 * Decides the undecided items of one key, which was counted before: by their
 * payloads alone.
 */
void decide_counted(Item *const *group, size_t size, const Payload &counted, int64_t period_start);

/* Makes followers of the undecided items of one key. */
void follow(Item *const *group, size_t size, Item *leader);

/*
 * Finds the first item of a key that can be counted, which becomes its leader, and
 * decides those before it; nullptr when there is none. An item whose period is
 * missing counts as one that can.
 */
Item *find_leader(Item *const *group, size_t size);

} // namespace usage_ledger::core
