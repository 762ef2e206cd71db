/*
 * rows.hpp: shortcuts, which find and write single rows without the executor.
 *
 * Starting and ending the executor costs more than half of a statement on one row. So the
 * statements of a single call have a shortcut. It does what the statement does, by the functions
 * that the executor would call. Or it does nothing, and the statement runs: where anything but
 * the ledger has a say in the table's rows (see is_left_to_ledger), and where another session has
 * the row. No caller of run() notices.
 */
#pragma once

#include "pg/postgres.hpp"

namespace usage_ledger
{

struct Statement;

/* What a shortcut works on. The table is open, and locked until the end of the transaction. */
struct RowCall {
    Relation table;
    LOCKMODE lock_mode;
    Snapshot snapshot;
    const Datum *arguments; /* of the statement, and which of them are null, as for run() */
    const char *nulls;
};

constexpr int64 not_taken = -1;

/* Returns the number of rows that it has processed, or not_taken. */
using Shortcut = int64 (*)(const RowCall &call);

/*
 * A statement's shortcut, the rights on the table that it needs (only ACL_SELECT: it reads), and
 * how many columns it knows. Another version of the extension may have others.
 */
struct RowForm {
    AclMode rights;
    int column_count;
    Shortcut shortcut;
};

/*
 * Opens the table of a statement, which has a form on rows, in a snapshot of now if none is given.
 * False: run the statement.
 */
bool open_rows(const Statement &statement, Snapshot snapshot, RowCall *call);
void close_rows(const RowCall &call);

/* Takes the shortcut of a statement, in a snapshot of now if none is given. */
int64 take_shortcut(const Statement &statement, const Datum *arguments, const char *nulls,
                    Snapshot snapshot);

/* The column, numbered from 1, of the row that a shortcut has returned. */
NullableDatum shortcut_column(int number);

/* The functions below are for shortcuts. */

template <typename T> struct Span {
    const T *elements;
    size_t count;
};

struct Key {
    Oid type;
    Datum value;
    StrategyNumber strategy = BTEqualStrategyNumber;
};

/*
 * Finds the first row, in a direction, whose primary key begins with some values. Null: there is
 * none. The row is to be freed with ExecDropSingleTupleTableSlot, or by return_row.
 */
TupleTableSlot *find_row(const RowCall &call, Span<Key> keys,
                         ScanDirection direction = ForwardScanDirection);

/* Returns columns of a row, which may be null, to the caller of run(), and frees the row. */
int64 return_row(TupleTableSlot *row, Span<AttrNumber> columns);

/* A column of a row that is not null, and a bigint or timestamptz. */
inline int64 int64_column(TupleTableSlot *row, AttrNumber number)
{
    bool is_null;
    const Datum value = slot_getattr(row, number, &is_null);
    Assert(!is_null);
    return DatumGetInt64(value);
}

/* The same for many rows. find() leaves the row in the search, whose end frees it. */
struct Search {
    Relation index;
    IndexScanDesc scan;
    TupleTableSlot *row;
};
Search begin_search(const RowCall &call, int key_count);
bool find(const Search &search, Span<Key> keys, ScanDirection direction = ForwardScanDirection);
void end_search(const Search &search);

/*
 * Inserts rows, given by all of their columns, ON CONFLICT DO NOTHING. False: the key is taken.
 * After true, the row has its place.
 */
struct Insertion {
    Relation table;
    struct Indexes *indexes;
    TupleTableSlot *row;
    bool looks_up_first;
};
Insertion begin_insertion(const RowCall &call);
bool insert(Insertion *insertion, Span<NullableDatum> columns);
void end_insertion(const Insertion &insertion);

/* Inserts one row. */
int64 insert_row(const RowCall &call, Span<NullableDatum> columns);

struct Change {
    AttrNumber column;
    Datum value;
};

/* Changes a row that was found, and returns columns of its new version. */
int64 update_row(const RowCall &call, TupleTableSlot *row, Span<Change> changes,
                 Span<AttrNumber> returned);

} // namespace usage_ledger
