/*
 * spi.hpp: running SQL statements whose plans are kept.
 *
 * Every statement is defined in the one function that runs it. It runs between
 * SPI_connect and SPI_finish, and sees all that was committed when it starts and the
 * transaction's own work.
 */
#pragma once

#include "pg/postgres.hpp"

#include "core/counter.hpp"
#include "pg/distribution.hpp"
#include "pg/rows.hpp"

namespace usage_ledger
{

constexpr int statement_argument_count_max = 11;
constexpr int statement_table_count_max = 5;
constexpr int statement_name_count_max = 4;

/*
 * Names of tables and operators are qualified, so the caller's search path decides nothing
 * (unnest of several arrays is the server's own, whatever the path). A statement reads one
 * table, or several for one account: simple enough for a sharding planner to route.
 *
 * A statement on arrays does for each element what its singular does, in their order. The
 * subquery of a SELECT on arrays locks, limits or offsets, so the planner does not pull it up:
 * the arrays drive the plan, by a unique key, whatever the size of the table. The server stores
 * each array of unnest() apart, so long lists of fixed-length elements are read by position
 * instead, as ($1)[i]. That finds a text by counting all before it. Statements that
 * find rows by ctid find rows that the transaction has locked or written.
 *
 * Citus plans none of these for distributed tables. So where the ledger is distributed, the
 * singular runs in their place for each element, and the rows that it returns are put together.
 * Nobody above run() notices.
 */
struct Statement {
    const char *table;
    const char *sql; /* %s stands for the table's qualified name; %1$s and so on for several */
    Oid argument_types[statement_argument_count_max];             /* the rest is InvalidOid */
    const char *other_tables[statement_table_count_max - 1] = {}; /* the rest is null */
    /*
     * What to run where the ledger is distributed. Null: the same. In place of each array it has
     * one of its elements, then one of each array of names, then the number of the element, from 1.
     */
    const char *distributed_sql = nullptr;
    Oid name_types[statement_name_count_max] = {}; /* arrays that only it has: see name_array() */
    RowForm row_form = {};                         /* where it has a shortcut: see rows.hpp */
    SPIPlanPtr plan = nullptr;                     /* plans.cpp's */
    bool is_plan_distributed = false;
};

/* Stands for the ctid of a row in statements that run where the ledger is distributed. */
#define NO_TID "'(0,1)'::pg_catalog.tid"

/* The condition of statements on one counter. */
#define WHERE_COUNTER                                                                              \
    " WHERE account_id OPERATOR(pg_catalog.=) $1 AND period_start OPERATOR(pg_catalog.=) $2"

/*
 * Runs a statement and returns the number of rows that it processed, at most row_count_max
 * unless that is 0. The rows that it returned are read with the functions below, until the
 * next statement runs. Raises whatever the statement raises.
 */
uint64 run(Statement *statement, const Datum *arguments, const char *nulls = nullptr,
           uint64 row_count_max = 0);

/*
 * Runs a statement that only reads, in a snapshot. GetLatestSnapshot() shows all that is
 * committed now, also to a transaction whose own snapshot is older. Null: as run() does.
 */
uint64 run_in_snapshot(Statement *statement, const Datum *arguments, Snapshot snapshot,
                       uint64 row_count_max = 0);

/*
 * Opens a cursor on the rows of a statement, in a snapshot of now. fetch() returns the number of
 * the next rows that it has read.
 */
Portal open_cursor(Statement *statement, const Datum *arguments);
uint64 fetch(Portal cursor, int64 row_count_max);

/* Runs a statement whose parameters are a counter's account and period start. */
uint64 run_for_counter(Statement *statement, const core::CounterId &counter,
                       uint64 row_count_max = 0);

/*
 * To be called before a statement that only reads or locks rows of its tables, where the caller
 * goes on to write to them. It takes the table locks of the write first. A REINDEX that
 * came between the two locks would wait for the first one, and the write for the REINDEX.
 */
void lock_for_write(Statement *statement);

/* Columns, numbered from 1, of the returned rows, numbered from 0. */
Datum required_column(int number, uint64 row = 0);
bool column_is_null(int number, uint64 row = 0);
ItemPointerData tid_column(int number, uint64 row);

/* Returned row 0, all columns of a table, as a row of its type, for the caller of SPI_connect. */
Datum returned_row(const char *table);

/* Frees the returned rows early, where they are many. SPI_finish frees all others. */
void free_rows();

inline core::CounterId counter_id(Datum account_id, TimestampTz period_start)
{
    core::CounterId counter;
    memcpy(counter.account_id, DatumGetUUIDP(account_id)->data, core::account_id_size);
    counter.period_start = period_start;
    return counter;
}

inline Datum account_of(const core::CounterId &counter)
{
    return PointerGetDatum(counter.account_id);
}

/* The reports or chats of a row, as SQL's integer. */
inline Datum integer_datum(int64 count)
{
    return Int32GetDatum(static_cast<int32>(count));
}

template <typename T> T *allocate(size_t count)
{
    return static_cast<T *>(
        MemoryContextAllocHuge(CurrentMemoryContext, Max(count, 1) * sizeof(T)));
}

/* An array of count values of a type; value(i) is element i, and never null. */
template <typename Value> Datum make_array(size_t count, Oid type, Value value)
{
    auto *values =
        static_cast<Datum *>(MemoryContextAllocHuge(CurrentMemoryContext, count * sizeof(Datum)));
    for (size_t i = 0; i < count; i++) {
        values[i] = value(i);
    }

    int16 length;
    bool is_by_value;
    char alignment;
    get_typlenbyvalalign(type, &length, &is_by_value, &alignment);
    ArrayType *array =
        construct_array(values, static_cast<int>(count), type, length, is_by_value, alignment);
    pfree(values);
    return PointerGetDatum(array);
}

Datum make_tid_array(const ItemPointerData *rows, size_t count);

/* An array that names rows which a statement finds by ctid where the ledger is not distributed. */
template <typename Value> Datum name_array(size_t count, Oid type, Value value)
{
    return is_distributed() ? make_array(count, type, value) : Datum(0);
}

/* To be called once, when the library is loaded. */
void register_statement_callbacks();

} // namespace usage_ledger
