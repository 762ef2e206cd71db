/*
 * counters.hpp: the counters, which are the rows of usage_periods: read, locked and added
 * to, one or several at a time. locks.hpp says which row lock is for what.
 */
#pragma once

#include "pg/postgres.hpp"

#include "core/counter.hpp"
#include "core/event.hpp"
#include "pg/events.hpp"

namespace usage_ledger
{

/* The columns of usage_periods. */
enum CounterColumn : AttrNumber {
    account_id_column = 1,
    period_start_column,
    period_end_column,
    tokens_used_column,
    reports_used_column,
    chats_used_column,
    closed_at_column,
    pruned_at_column
};
constexpr int counter_column_count = pruned_at_column;

/* A counter, as it was when it was read or locked. */
struct CounterState {
    core::CounterId id;
    bool is_missing; /* it has no row, and nothing else is set */
    bool is_locked;  /* until the end of the transaction; the row is at tid then */
    bool is_closed;
    ItemPointerData tid;
    TimestampTz period_end;
    core::Usage totals;
};

/* Reads a counter without its lock. False: there is none. */
struct CounterReading {
    int64 tokens_used;
    TimestampTz period_end;
    bool is_closed;
};
bool read_counter(const core::CounterId &counter, CounterReading *reading,
                  Snapshot snapshot = nullptr);

/* Whether events of the period have been pruned. */
bool is_pruned(const core::CounterId &counter);

/* Reads a counter as it is now, also where the transaction's snapshot is older. */
CounterReading read_counter_now(const core::CounterId &counter);

/*
 * Locks a counter FOR NO KEY UPDATE, unless another session holds it. Where others hold its
 * period FOR KEY SHARE, it can wait for one commit (see lock_free_counters in counters.cpp).
 */
bool try_lock_counter(const core::CounterId &counter);

/*
 * Adds an event to a counter, waiting for its lock, and reads the counter after it. Raises if
 * the counter would overflow. Nothing is added if the period is closed, or ends before the
 * event.
 */
CounterReading add_to_counter(const Event &event, const core::CounterId &counter);

/*
 * Locks a counter FOR UPDATE, waiting for all sessions that hold it in any mode, and reads it.
 * False: there is none.
 */
bool lock_counter_to_close(const core::CounterId &counter, CounterState *state);

/* The totals of a sum. Raises 22003 if a counter cannot hold them. */
core::Usage totals_of(const core::CounterId &counter, const core::WideUsage &sum);

/*
 * The functions below work on several counters, and read their state. Those that lock do so
 * in the order given.
 *
 * REQUIRES: the counters are sorted by id, without duplicates.
 */

/* Locks counters FOR NO KEY UPDATE, waiting for each. */
void lock_counters(CounterState *counters, size_t count);

/*
 * Locks those counters that are not locked yet, unless another session holds them or they are
 * missing. Never waits. Returns how many are held by others.
 */
size_t try_lock_counters(CounterState *counters, size_t count);

/* Reads those counters that are not locked, in a snapshot or as the transaction sees them. */
void read_counters(CounterState *counters, size_t count, Snapshot snapshot = nullptr);

/* Raises 40001 if one is missing: its account was erased, or it was deleted by hand. */
void require_counters(const CounterState *counters, size_t count);

/* Holds periods open by their counters' rows, FOR KEY SHARE. Waits for a close. */
void hold_counters(const core::CounterId *counters, size_t count);

/* Adds usage[i] to counters[i]. REQUIRES: all are locked. */
void add_to_counters(const CounterState *counters, const core::Usage *usage, size_t count);

} // namespace usage_ledger
