/*
 * statements.hpp: every SQL statement that the library runs, by name.
 *
 * All of them run over SPI, between SPI_connect and SPI_finish, and see all
 * that was committed when they start, the caller's own work included.
 */
#pragma once

#include "pg/postgres.hpp"

namespace usage_ledger
{

enum class Statement {
    register_accounts,
    lock_accounts,
    mark_accounts,
    set_cycle,
    period_at_or_before,
    periods_at_or_before,
    periods_after,
    open_period,
    open_periods,
    counter_of_period,
    read_counters,
    add_to_counter,
    take_from_counter,
    try_lock_counter,
    lock_counters,
    hold_counter,
    hold_counters,
    add_to_counters,
    closed_period,
    lock_period,
    close_period,
    prunable_periods,
    mark_pruned,
    enqueue,
    enqueue_all,
    read_pending,
    delete_pending,
    pending_of_period,
    take_pending_of_period,
    record_event,
    record_events,
    delete_events,
    void_event,
    event_of_key,
    events_of_keys,
    sum_of_events,
    prune_events,
};
constexpr int statement_count = static_cast<int>(Statement::prune_events) + 1;

/*
 * Runs a statement and returns the number of rows that it processed, which is
 * row_count_max at most unless that is 0; what it returned is then read with the
 * functions below, until the next one runs. Raises whatever the statement raises.
 */
uint64 run(Statement statement, const Datum *arguments, const char *nulls = nullptr,
           uint64 row_count_max = 0);

/*
 * Likewise, for a statement that only reads: it sees all that is committed by now,
 * also in a transaction whose snapshot is older.
 */
uint64 run_latest(Statement statement, const Datum *arguments);

/* Columns, counted from 1, of the rows that the last statement returned, counted from 0. */
Datum required_column(int number, uint64 row = 0);
bool column_is_null(int number, uint64 row = 0);

/* Frees those rows at once, where they are many; all others are freed by SPI_finish. */
void free_rows();

/* One of the extension's tables, wherever it has been moved. */
Oid extension_table(const char *name);

/* To be called once, when the library is loaded. */
void watch_transactions();

} // namespace usage_ledger
