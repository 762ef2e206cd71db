/*
 * plans.hpp: the plans of statements, made once and kept for the life of the backend.
 */
#pragma once

#include "pg/postgres.hpp"

#include "pg/spi.hpp"

namespace usage_ledger
{

constexpr int distributed_argument_count_max =
    statement_argument_count_max + statement_name_count_max + 1;

/*
 * The plan of a statement, made when it is first needed and kept for the life of the
 * backend. The server invalidates it when anything that it depends on changes: statistics, a
 * renamed schema, a moved or dropped table. It is then made again, with the table's present
 * name.
 */
SPIPlanPtr plan_of(Statement *statement);

bool has_valid_plan(const Statement &statement);

/* The OIDs of the tables that a plan uses. */
List *tables_of(SPIPlanPtr plan);

int count_arguments(const Statement &statement);

/*
 * The types of the parameters of a statement where the ledger is distributed, and their number.
 * is_for_elements: whether it runs for each element of arrays.
 */
int distributed_types(const Statement &statement, Oid *types, bool *is_for_elements);

/* Runs a plan. Never read_only: after a lock wait, it must see what the wait was for. */
uint64 run_plan(SPIPlanPtr plan, const Datum *arguments, const char *nulls, uint64 row_count_max);

/* Raises if the result of a function of SPI is an error. */
void check_result(int result);

/* To be called once, when the library is loaded. */
void register_plan_callbacks();

} // namespace usage_ledger
