/*
 * events.hpp: the events, each recorded once for its account and key.
 */
#pragma once

#include "pg/postgres.hpp"

#include "core/counter.hpp"
#include "core/event.hpp"
#include "pg/errors.hpp"

namespace usage_ledger
{

struct Event {
    Datum account_id;      /* uuid */
    Datum idempotency_key; /* text */
    core::Payload payload;
    TimestampTz occurred_at;
};

inline EventName name_of(const Event &event)
{
    return {{event.account_id, false}, {event.idempotency_key, false}};
}

/*
 * Records an event in a period, unless its key is taken. Waits for a session that has taken
 * the key and not yet committed. False: the key was taken.
 */
bool record_event(const Event &event, TimestampTz period_start);

/*
 * Records events, each in the period of the same index, as record_event does. tids[i] becomes
 * the place of events[i], or invalid where its key was taken.
 *
 * REQUIRES: events are sorted by account and key, without duplicates; either all have a breakdown
 * or none.
 */
void record_events(const Event *events, const TimestampTz *period_starts, ItemPointerData *tids,
                   size_t count);

/* Moves an event that this transaction has recorded to another period. */
void move_event(const Event &event, TimestampTz period_start);

/* Deletes events that this transaction has recorded or locked, each at the place of its index. */
void delete_events(const Event *events, const ItemPointerData *tids, size_t count);

/* What was counted under a key, and in which period. */
struct CountedEvent {
    core::Payload payload; /* its breakdown stays until SPI_finish */
    TimestampTz period_start;
    bool is_voided;
};

/*
 * Finds what was counted under a key; locks no row. will_write: the caller may go on to write
 * to usage_events.
 */
bool find_counted_event(Datum account_id, Datum idempotency_key, CountedEvent *counted,
                        bool will_write = false);

/*
 * Finds what was counted under the keys of events, in a snapshot or as the transaction sees
 * it: counted[i], if is_counted[i].
 */
void find_counted_events(const Event *events, CountedEvent *counted, bool *is_counted, size_t count,
                         Snapshot snapshot);

} // namespace usage_ledger
