/*
 * counters.hpp: the counters, which are the rows of usage_periods: read, locked
 * and added to, one or many at once.
 */
#pragma once

#include "pg/postgres.hpp"

#include "core/addition.hpp"
#include "core/event.hpp"
#include "pg/errors.hpp"

namespace usage_ledger
{

/* A counter as it is seen without its lock. */
struct Counter {
    int64 tokens_used;
    TimestampTz period_end;
    bool is_closed;
};

Counter read_counter(Datum account_id, TimestampTz period_start);

/* Takes a counter's lock, unless another session holds it; never waits. */
bool try_lock_counter(Datum account_id, TimestampTz period_start);

/*
 * Adds to the counter that an event falls in, waiting for its lock, and reads it after
 * the addition; raises if it would overflow. False: the period is closed, and the
 * caller must raise, for the addition is made.
 */
bool add_to_counter(const EventName &event, TimestampTz period_start, const core::Payload &payload,
                    int64 *tokens_used);

/*
 * Takes from a counter, waiting for its lock, and reads it afterwards. False, and
 * nothing is taken: the period is closed, or there is not as much in the counter.
 */
bool take_from_counter(Datum account_id, TimestampTz period_start, const core::Payload &payload,
                       int64 *tokens_used);

inline Datum account_of(const core::Addition &addition)
{
    return PointerGetDatum(const_cast<uint8_t *>(addition.account_id));
}

/* One of a set of counters, each of which goes with the addition of the same index. */
struct SetCounter {
    bool is_locked; /* until the end of the transaction; the row is where it lies then */
    bool is_closed;
    ItemPointerData row;
    TimestampTz period_end;
    core::Totals totals;
};

/*
 * Takes the locks of the counters that there is something to add to, in the order
 * given, waiting for them.
 */
void lock_counters(const core::Addition *additions, SetCounter *counters, size_t count);

/*
 * Likewise, of those that are not locked yet, passing over those that another
 * session holds; returns how many these are.
 */
size_t try_lock_counters(const core::Addition *additions, SetCounter *counters, size_t count);

/* Reads the counters that there is nothing to add to. */
void read_counters(const core::Addition *additions, SetCounter *counters, size_t count);

/*
 * Takes the row locks that keep periods open but let others add to their counters:
 * one, or in the order given those that there is something to add to.
 */
void hold_counter(Datum account_id, TimestampTz period_start);
void hold_counters(const core::Addition *additions, size_t count);

/*
 * Reads the counters that are not locked and that there is something to add to, as
 * they are now, also where the transaction's snapshot is older.
 */
void read_latest_counters(const core::Addition *additions, SetCounter *counters, size_t count);
bool period_is_closed_now(Datum account_id, TimestampTz period_start);

/* Adds to counters that are locked; no counter may come twice. */
void add_to_counters(const core::Addition *additions, const SetCounter *counters, size_t count);

} // namespace usage_ledger
