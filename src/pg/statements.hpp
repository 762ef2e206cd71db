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
    register_account,
    lock_account,
    set_cycle,
    period_at_or_before,
    period_after,
    open_period,
    counter_of_period,
    add_to_counter,
    record_event,
    event_of_key,
};
constexpr int statement_count = static_cast<int>(Statement::event_of_key) + 1;

/*
 * Runs a statement and returns the number of rows that it processed; what it
 * returned is then read with the functions below, until the next one runs. Each
 * statement touches one row at most. Raises whatever the statement raises.
 */
uint64 run(Statement statement, const Datum *arguments, const char *nulls = nullptr);

/* Columns of the one row that the last statement returned, counted from 1. */
Datum column(int number, bool *is_null);
Datum required_column(int number);

/* To be called once, when the library is loaded. */
void watch_transactions();

} // namespace usage_ledger
