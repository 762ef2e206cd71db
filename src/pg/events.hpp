/*
 * events.hpp: events, each recorded once under its account and key.
 */
#pragma once

#include "pg/postgres.hpp"

#include "core/addition.hpp"
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
 * Records an event in a period, unless its key is taken; waits for a session
 * that has taken the key and not yet committed. False: the key was taken.
 */
bool record_event(const Event &event, TimestampTz period_start);

/*
 * Records events, sorted by key, each in the period that goes with it; rows[i]
 * becomes the place of events[i], invalid where its key was taken.
 */
void record_events(const Event *events, const TimestampTz *period_starts, ItemPointerData *rows,
                   size_t count);

/* Takes events back that this transaction has recorded. */
void delete_events(const ItemPointerData *rows, size_t count);

/* What was counted under a key, and in which period. */
struct CountedEvent {
    core::Payload payload;
    TimestampTz period_start;
    bool is_voided;
};

/* Finds what was counted under a key; takes no lock. */
bool find_counted_event(Datum account_id, Datum idempotency_key, CountedEvent *counted);

/*
 * Voids an event, waiting for others that do, and says what it was. False: there is
 * none under this key that is not voided.
 */
bool void_event(Datum account_id, Datum idempotency_key, NullableDatum reason,
                CountedEvent *voided);

/* What the events of a period that are not voided come to. */
core::Totals sum_of_events(Datum account_id, TimestampTz period_start);

/* Deletes events of a period, row_count_max at most; returns how many. */
int64 prune_events(Datum account_id, TimestampTz period_start, int64 row_count_max);

/* Finds what was counted under the keys of events: counted[i], where is_counted[i]. */
void find_counted_events(const Event *events, CountedEvent *counted, bool *is_counted,
                         size_t count);

} // namespace usage_ledger
