/*
 * counters.hpp: the counters, which are the rows of usage_periods: read, locked
 * and added to, one or many at once.
 */
#pragma once

#include "pg/postgres.hpp"

#include "core/addition.hpp"
#include "core/event.hpp"

namespace usage_ledger
{

/* A counter as it is seen without its lock. */
struct Counter {
    int64 tokens_used;
    TimestampTz period_end;
    bool is_closed;
};

Counter read_counter(Datum account_id, TimestampTz period_start);

/* Reads the counters of additions; counters[i] goes with additions[i]. */
void read_counters(const core::Addition *additions, Counter *counters, size_t count);

/* Takes a counter's lock, unless another session holds it; never waits. */
bool try_lock_counter(Datum account_id, TimestampTz period_start);

/*
 * Adds to a counter, waiting for its lock, and reads it after the addition.
 * False, and nothing is added: the period is closed, or the counter would
 * overflow.
 */
bool add_to_counter(Datum account_id, TimestampTz period_start, const core::Payload &payload,
                    int64 *tokens_used);

/* A counter whose lock is held until the end of the transaction. */
struct LockedCounter {
    bool is_locked;
    bool is_closed;
    ItemPointerData row;
    core::Totals totals;
};

/* Takes the locks of the additions' counters in the order given, waiting for them. */
void lock_counters(const core::Addition *additions, LockedCounter *counters, size_t count);

/*
 * Takes the locks of the additions' counters that are not taken yet, in the order
 * given, passing over those that another session holds; returns how many of them
 * all are taken. counters[i] goes with additions[i].
 */
size_t try_lock_counters(const core::Addition *additions, LockedCounter *counters, size_t count);

/* Adds to counters that are locked; no counter may come twice. */
void add_to_counters(const core::Addition *additions, const LockedCounter *counters, size_t count);

} // namespace usage_ledger
