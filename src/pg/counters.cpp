#include "pg/postgres.hpp"

#include "pg/counters.hpp"

#include <algorithm>

#include "pg/extension_tables.hpp"
#include "pg/period_cache.hpp"
#include "pg/spi.hpp"

namespace usage_ledger
{

namespace
{

/*
 * A statement on several counters, of which each is read or locked in one way. The columns
 * are those that fill_in reads.
 */
#define SELECT_COUNTERS(locking)                                                                   \
    "SELECT k.ordinal, c.ctid, c.period_end, c.closed_at,"                                         \
    " c.tokens_used, c.reports_used, c.chats_used"                                                 \
    " FROM unnest($1, $2) WITH ORDINALITY AS k (account_id, period_start, ordinal)"                \
    " CROSS JOIN LATERAL"                                                                          \
    " (SELECT p.ctid, p.period_end, p.closed_at, p.tokens_used, p.reports_used, p.chats_used"      \
    " FROM %s AS p WHERE p.account_id OPERATOR(pg_catalog.=) k.account_id"                         \
    " AND p.period_start OPERATOR(pg_catalog.=) k.period_start" locking ") AS c"
#define SELECT_COUNTER(locking)                                                                    \
    "SELECT $3, " NO_TID                                                                           \
    ", period_end, closed_at, tokens_used, reports_used, chats_used FROM %s" WHERE_COUNTER locking
/* The initializer of such a statement. */
#define COUNTERS_STATEMENT(locking, distributed_locking)                                           \
    {                                                                                              \
        "usage_periods", SELECT_COUNTERS(locking), {UUIDARRAYOID, TIMESTAMPTZARRAYOID}, {},        \
            SELECT_COUNTER(distributed_locking)                                                    \
    }

void check_none_is_missing(uint64 missing_count)
{
    if (missing_count == 0) {
        return;
    }
    clear_period_cache();
    ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                    errmsg("billing period was deleted since it was found"),
                    errdetail("usage_periods has no row for it."),
                    errhint("Retry the transaction; it opens the period again.")));
}

/* Runs a statement for those of some counters that are not locked, and fills their state in. */
void fill_in(Statement *statement, Snapshot snapshot, CounterState *counters, size_t count)
{
    auto *chosen = static_cast<CounterState **>(palloc(count * sizeof(CounterState *)));
    size_t chosen_count = 0;
    for (size_t i = 0; i < count; i++) {
        Assert(i == 0 || counters[i - 1].id < counters[i].id);
        if (!counters[i].is_locked) {
            counters[i].is_missing = true;
            chosen[chosen_count++] = &counters[i];
        }
    }
    if (chosen_count == 0) {
        return;
    }
    const Datum arguments[] = {
        make_array(chosen_count, UUIDOID, [&](size_t i) { return account_of(chosen[i]->id); }),
        make_array(chosen_count, TIMESTAMPTZOID,
                   [&](size_t i) { return TimestampTzGetDatum(chosen[i]->id.period_start); }),
    };
    const uint64 row_count = run_in_snapshot(statement, arguments, snapshot);
    for (uint64 row = 0; row < row_count; row++) {
        CounterState *counter = chosen[DatumGetInt64(required_column(1, row)) - 1];
        counter->is_missing = false;
        counter->tid = tid_column(2, row);
        counter->period_end = DatumGetTimestampTz(required_column(3, row));
        counter->is_closed = !column_is_null(4, row);
        counter->totals = {DatumGetInt64(required_column(5, row)),
                           DatumGetInt64(required_column(6, row)),
                           DatumGetInt64(required_column(7, row))};
    }
    pfree(chosen);
}

/* Locks a row version in the active snapshot, and if that waits, its last version. */
TM_Result lock_row(Relation periods, ItemPointerData tid, LockTupleMode mode,
                   LockWaitPolicy wait_policy)
{
    const bool follows = wait_policy == LockWaitBlock && !IsolationUsesXactSnapshot();
    TupleTableSlot *slot = table_slot_create(periods, nullptr);
    TM_FailureData failure;
    const TM_Result result =
        table_tuple_lock(periods, &tid, GetActiveSnapshot(), slot, GetCurrentCommandId(true), mode,
                         wait_policy, follows ? TUPLE_LOCK_FLAG_FIND_LAST_VERSION : 0, &failure);
    ExecDropSingleTupleTableSlot(slot);
    return result;
}

/* Finds the row of a counter, whose account and period start are the first arguments. */
TupleTableSlot *find_counter_row(const RowCall &call)
{
    const Key key[] = {{UUIDOID, call.arguments[0]}, {TIMESTAMPTZOID, call.arguments[1]}};
    return find_row(call, {key, lengthof(key)});
}

/* Reads a counter that is not locked. */
void find_state(const Search &search, CounterState *counter)
{
    const Key key[] = {{UUIDOID, account_of(counter->id)},
                       {TIMESTAMPTZOID, TimestampTzGetDatum(counter->id.period_start)}};
    counter->is_missing = !find(search, {key, lengthof(key)});
    if (counter->is_missing) {
        return;
    }
    TupleTableSlot *row = search.row;
    counter->tid = row->tts_tid;
    counter->is_closed = !slot_attisnull(row, closed_at_column);
    counter->period_end = int64_column(row, period_end_column);
    counter->totals = {int64_column(row, tokens_used_column),
                       int64_column(row, reports_used_column),
                       int64_column(row, chats_used_column)};
}

int64 read_row(const RowCall &call)
{
    static const AttrNumber columns[] = {tokens_used_column, period_end_column, closed_at_column};
    return return_row(find_counter_row(call), {columns, lengthof(columns)});
}

int64 try_lock_found_row(const RowCall &call)
{
    TupleTableSlot *row = find_counter_row(call);
    if (row == nullptr) {
        return 0;
    }
    const TM_Result result =
        lock_row(call.table, row->tts_tid, LockTupleNoKeyExclusive, LockWaitSkip);
    ExecDropSingleTupleTableSlot(row);
    /* A row that has moved on is for the statement to follow. */
    return result == TM_Ok ? 1 : result == TM_WouldBlock ? 0 : not_taken;
}

bool try_add(TupleTableSlot *row, AttrNumber column, int64 added, Change *change)
{
    int64 sum;
    const bool fits = !pg_add_s64_overflow(int64_column(row, column), added, &sum);
    *change = {column, Int64GetDatum(sum)};
    return fits;
}

/* Whether the counter of a row counts an event of a time. */
bool is_open_at(TupleTableSlot *row, TimestampTz time)
{
    return slot_attisnull(row, closed_at_column) && int64_column(row, period_end_column) > time;
}

/* Not taken if a total would overflow, or another session has changed the row. */
int64 add_to_row(const RowCall &call, TupleTableSlot *row, const core::Usage &usage,
                 Span<AttrNumber> returned)
{
    Change changes[3];
    const bool fits = try_add(row, tokens_used_column, usage.tokens, &changes[0]) &&
                      try_add(row, reports_used_column, usage.reports, &changes[1]) &&
                      try_add(row, chats_used_column, usage.chats, &changes[2]);
    return fits ? update_row(call, row, {changes, lengthof(changes)}, returned) : not_taken;
}

/* The arguments are those of add_to_counter's statement. */
int64 add_to_found_row(const RowCall &call)
{
    static const AttrNumber columns[] = {tokens_used_column, period_end_column};
    const Datum *arguments = call.arguments;
    TupleTableSlot *row = find_counter_row(call);
    if (row == nullptr) {
        return 0;
    }
    const core::Usage usage = {DatumGetInt64(arguments[2]), DatumGetInt32(arguments[3]),
                               DatumGetInt32(arguments[4])};
    const int64 count = is_open_at(row, DatumGetTimestampTz(arguments[5]))
                            ? add_to_row(call, row, usage, {columns, lengthof(columns)})
                            : not_taken;
    ExecDropSingleTupleTableSlot(row);
    return count;
}

} // namespace

bool read_counter(const core::CounterId &counter, CounterReading *reading, Snapshot snapshot)
{
    static Statement statement = {"usage_periods",
                                  "SELECT tokens_used, period_end, closed_at FROM %s" WHERE_COUNTER,
                                  {UUIDOID, TIMESTAMPTZOID},
                                  {},
                                  nullptr,
                                  {},
                                  {ACL_SELECT, counter_column_count, read_row}};
    const Datum arguments[] = {account_of(counter), TimestampTzGetDatum(counter.period_start)};
    if (run_in_snapshot(&statement, arguments, snapshot) == 0) {
        return false;
    }
    *reading = {DatumGetInt64(required_column(1)), DatumGetTimestampTz(required_column(2)),
                !column_is_null(3)};
    return true;
}

bool is_pruned(const core::CounterId &counter)
{
    static Statement statement = {"usage_periods",
                                  "SELECT pruned_at IS NOT NULL FROM %s" WHERE_COUNTER,
                                  {UUIDOID, TIMESTAMPTZOID}};
    const Datum arguments[] = {account_of(counter), TimestampTzGetDatum(counter.period_start)};
    return run_in_snapshot(&statement, arguments, GetLatestSnapshot()) == 1 &&
           DatumGetBool(required_column(1));
}

CounterReading read_counter_now(const core::CounterId &counter)
{
    CounterReading reading = {};
    check_none_is_missing(read_counter(counter, &reading, GetLatestSnapshot()) ? 0 : 1);
    return reading;
}

bool try_lock_counter(const core::CounterId &counter)
{
    static Statement statement = {
        "usage_periods",
        "SELECT FROM %s" WHERE_COUNTER " FOR NO KEY UPDATE SKIP LOCKED",
        {UUIDOID, TIMESTAMPTZOID},
        {},
        nullptr,
        {},
        {ACL_SELECT | ACL_UPDATE, counter_column_count, try_lock_found_row}};
    lock_for_write(&statement);
    return run_for_counter(&statement, counter) == 1;
}

CounterReading add_to_counter(const Event &event, const core::CounterId &counter)
{
    /* Locks the row and adds. After a wait, the statement works on the row's newest version. */
    static Statement statement = {
        "usage_periods",
        "UPDATE %s SET tokens_used = tokens_used OPERATOR(pg_catalog.+) $3,"
        " reports_used = reports_used OPERATOR(pg_catalog.+) $4,"
        " chats_used = chats_used OPERATOR(pg_catalog.+) $5" WHERE_COUNTER
        " AND closed_at IS NULL AND period_end OPERATOR(pg_catalog.>) $6"
        " RETURNING tokens_used, period_end",
        {UUIDOID, TIMESTAMPTZOID, INT8OID, INT4OID, INT4OID, TIMESTAMPTZOID},
        {},
        nullptr,
        {},
        {ACL_SELECT | ACL_UPDATE, counter_column_count, add_to_found_row}};
    const Datum arguments[] = {event.account_id,
                               TimestampTzGetDatum(counter.period_start),
                               Int64GetDatum(event.payload.tokens),
                               integer_datum(event.payload.reports),
                               integer_datum(event.payload.chats),
                               TimestampTzGetDatum(event.occurred_at)};
    uint64 updated_count = 0;
    describe_overflow({message_counter_overflow, name_of(event), counter},
                      [&] { updated_count = run(&statement, arguments); });
    if (updated_count == 1) {
        return {DatumGetInt64(required_column(1)), DatumGetTimestampTz(required_column(2)), false};
    }
    const CounterReading reading = read_counter_now(counter);
    /* Else somebody has replaced the row by hand. */
    check_none_is_missing(reading.is_closed || reading.period_end <= event.occurred_at ? 0 : 1);
    return reading;
}

namespace
{

/* The state of a counter in returned row 0: tid, end, closed_at and totals. */
CounterState locked_state_of_row(const core::CounterId &counter)
{
    return {counter,
            false,
            true,
            !column_is_null(3),
            tid_column(1, 0),
            DatumGetTimestampTz(required_column(2)),
            {DatumGetInt64(required_column(4)), DatumGetInt64(required_column(5)),
             DatumGetInt64(required_column(6))}};
}

/*
 * There is no other way on Citus, so this can be the victim of the deadlock that the function below
 * avoids. Then no other session has to fail.
 */
bool lock_distributed_to_close(const core::CounterId &counter, CounterState *state)
{
    static Statement statement = {"usage_periods",
                                  "SELECT " NO_TID
                                  ", period_end, closed_at, tokens_used, reports_used,"
                                  " chats_used FROM %s" WHERE_COUNTER " FOR UPDATE",
                                  {UUIDOID, TIMESTAMPTZOID}};
    lock_for_write(&statement);
    if (run_for_counter(&statement, counter) == 0) {
        return false;
    }
    *state = locked_state_of_row(counter);
    return true;
}

} // namespace

/*
 * Does not use SELECT ... FOR UPDATE. After it has waited for an update, that locks the row's
 * next version and then looks at the previous one again. A session that locks the row FOR KEY
 * SHARE goes the other way: it locks the previous version and then waits for the next. This
 * follows the versions as an UPDATE does, and holds none while it waits for another.
 */
bool lock_counter_to_close(const core::CounterId &counter, CounterState *state)
{
    static Statement statement = {"usage_periods",
                                  "SELECT ctid, period_end, closed_at, tokens_used, reports_used, "
                                  "chats_used FROM %s" WHERE_COUNTER,
                                  {UUIDOID, TIMESTAMPTZOID}};

    if (is_distributed()) {
        return lock_distributed_to_close(counter, state);
    }
    lock_for_write(&statement);

    /* Keeps the row version that it reads from being vacuumed before it is locked. */
    PushActiveSnapshot(GetTransactionSnapshot());
    if (run_for_counter(&statement, counter) == 0) {
        PopActiveSnapshot();
        return false;
    }
    Relation periods = table_open(extension_table("usage_periods"), RowExclusiveLock);
    const TM_Result result = lock_row(periods, tid_column(1, 0), LockTupleExclusive, LockWaitBlock);
    table_close(periods, NoLock);
    PopActiveSnapshot();
    if (result != TM_Ok && IsolationUsesXactSnapshot()) {
        ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                        errmsg("could not serialize access due to concurrent update"),
                        errdetail("%s.", period_text(counter)), errhint("Retry the transaction.")));
    }
    if (result != TM_Ok || run_for_counter(&statement, counter) == 0) {
        return false;
    }
    *state = locked_state_of_row(counter);
    return true;
}

core::Usage totals_of(const core::CounterId &counter, const core::WideUsage &sum)
{
    core::Usage totals;
    if (!core::to_usage(sum, &totals)) {
        ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
                        errmsg("%s", message_counter_overflow),
                        errdetail("%s:\nwhat is pending does not fit.", period_text(counter)),
                        errhint("Void some events of the period, then close it.")));
    }
    return totals;
}

namespace
{

/*
 * On Citus a session cannot lock a row version that it has read: SKIP LOCKED it is. For a session
 * that may wait only in the order of counters, that one wait is in order.
 */
void try_lock_distributed(CounterState *counters, size_t count)
{
    static Statement statement =
        COUNTERS_STATEMENT(" FOR NO KEY UPDATE SKIP LOCKED", " FOR NO KEY UPDATE SKIP LOCKED");
    fill_in(&statement, nullptr, counters, count);
    for (size_t i = 0; i < count; i++) {
        counters[i].is_locked |= !counters[i].is_missing;
    }
    read_counters(counters, count);
}

/*
 * Locks the counters that no other session has: all of them, or those before the first that one
 * has. Does not use FOR NO KEY UPDATE SKIP LOCKED: where others hold a row FOR KEY SHARE, that can
 * follow the row's updates and then waits for the session that makes the next one. This locks
 * the row version that it has read, or finds that the row has moved on in other hands.
 */
void lock_free_counters(CounterState *counters, size_t count, bool goes_past_busy)
{
    Relation periods = table_open(extension_table("usage_periods"), RowExclusiveLock);

    /* Keeps the row versions that it reads from being vacuumed before they are locked. */
    PushActiveSnapshot(GetTransactionSnapshot());
    read_counters(counters, count);
    for (size_t i = 0; i < count; i++) {
        if (!counters[i].is_locked && !counters[i].is_missing) {
            counters[i].is_locked =
                lock_row(periods, counters[i].tid, LockTupleNoKeyExclusive, LockWaitSkip) == TM_Ok;
            if (!counters[i].is_locked && !goes_past_busy) {
                break;
            }
        }
    }
    PopActiveSnapshot();
    table_close(periods, NoLock);
}

size_t count_busy(const CounterState *counters, size_t count)
{
    return std::count_if(counters, counters + count, [](const CounterState &counter) {
        return !counter.is_locked && !counter.is_missing;
    });
}

} // namespace

void lock_counters(CounterState *counters, size_t count)
{
    static Statement statement = COUNTERS_STATEMENT(" FOR NO KEY UPDATE", " FOR NO KEY UPDATE");
    lock_for_write(&statement);
    if (!is_distributed()) {
        lock_free_counters(counters, count, false);
    }
    fill_in(&statement, nullptr, counters, count); /* waits for the others, in order */
    require_counters(counters, count);
    for (size_t i = 0; i < count; i++) {
        counters[i].is_locked = true;
    }
}

size_t try_lock_counters(CounterState *counters, size_t count)
{
    if (is_distributed()) {
        try_lock_distributed(counters, count);
    } else {
        lock_free_counters(counters, count, true);
    }
    return count_busy(counters, count);
}

void read_counters(CounterState *counters, size_t count, Snapshot snapshot)
{
    static Statement statement = {"usage_periods",
                                  SELECT_COUNTERS(" OFFSET 0"),
                                  {UUIDARRAYOID, TIMESTAMPTZARRAYOID},
                                  {},
                                  SELECT_COUNTER(""),
                                  {},
                                  {ACL_SELECT, counter_column_count, nullptr}};
    RowCall call;
    if (!open_rows(statement, snapshot, &call)) {
        fill_in(&statement, snapshot, counters, count);
        return;
    }
    const Search search = begin_search(call, 2);
    for (size_t i = 0; i < count; i++) {
        if (!counters[i].is_locked) {
            find_state(search, &counters[i]);
        }
    }
    end_search(search);
    close_rows(call);
}

void require_counters(const CounterState *counters, size_t count)
{
    check_none_is_missing(
        std::count_if(counters, counters + count,
                      [](const CounterState &counter) { return counter.is_missing; }));
}

void hold_counters(const core::CounterId *counters, size_t count)
{
    static Statement statement = COUNTERS_STATEMENT(" FOR KEY SHARE", " FOR KEY SHARE");
    Assert(count > 0 && std::is_sorted(counters, counters + count));
    const Datum arguments[] = {
        make_array(count, UUIDOID, [&](size_t i) { return account_of(counters[i]); }),
        make_array(count, TIMESTAMPTZOID,
                   [&](size_t i) { return TimestampTzGetDatum(counters[i].period_start); }),
    };
    lock_for_write(&statement); /* adaptive settlement may go on to add to them */
    check_none_is_missing(count - run(&statement, arguments));
}

namespace
{

/* Returns how many it has added to. The next one, or all, are for the statement. */
size_t add_to_locked_rows(const Statement &statement, const CounterState *counters,
                          const core::Usage *usage, size_t count)
{
    RowCall call;
    if (!open_rows(statement, nullptr, &call)) {
        return 0;
    }
    TupleTableSlot *row = table_slot_create(call.table, nullptr);
    size_t added_count = 0;
    while (added_count < count) {
        ItemPointerData tid = counters[added_count].tid;
        if (!table_tuple_fetch_row_version(call.table, &tid, call.snapshot, row) ||
            add_to_row(call, row, usage[added_count], {}) == not_taken) {
            break;
        }
        added_count++;
    }
    ExecDropSingleTupleTableSlot(row);
    close_rows(call);
    return added_count;
}

} // namespace

void add_to_counters(const CounterState *counters, const core::Usage *usage, size_t count)
{
    static Statement statement = {
        "usage_periods",
        "UPDATE %s AS p SET tokens_used = p.tokens_used OPERATOR(pg_catalog.+) k.tokens,"
        " reports_used = p.reports_used OPERATOR(pg_catalog.+) k.reports,"
        " chats_used = p.chats_used OPERATOR(pg_catalog.+) k.chats"
        " FROM unnest($1, $2, $3, $4) AS k (row, tokens, reports, chats)"
        " WHERE p.ctid OPERATOR(pg_catalog.=) k.row",
        {TIDARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID},
        {},
        "UPDATE %s SET tokens_used = tokens_used OPERATOR(pg_catalog.+) $2,"
        " reports_used = reports_used OPERATOR(pg_catalog.+) $3,"
        " chats_used = chats_used OPERATOR(pg_catalog.+) $4"
        " WHERE account_id OPERATOR(pg_catalog.=) $5 AND period_start OPERATOR(pg_catalog.=) $6",
        {UUIDOID, TIMESTAMPTZOID},
        {ACL_SELECT | ACL_UPDATE, counter_column_count, nullptr}};
    const size_t added_count = add_to_locked_rows(statement, counters, usage, count);
    counters += added_count;
    usage += added_count;
    count -= added_count;
    if (count == 0) {
        return;
    }
    const Datum arguments[] = {
        make_array(
            count, TIDOID,
            [&](size_t i) { return PointerGetDatum(const_cast<ItemPointer>(&counters[i].tid)); }),
        make_array(count, INT8OID, [&](size_t i) { return Int64GetDatum(usage[i].tokens); }),
        make_array(count, INT8OID, [&](size_t i) { return Int64GetDatum(usage[i].reports); }),
        make_array(count, INT8OID, [&](size_t i) { return Int64GetDatum(usage[i].chats); }),
        name_array(count, UUIDOID, [&](size_t i) { return account_of(counters[i].id); }),
        name_array(count, TIMESTAMPTZOID,
                   [&](size_t i) { return TimestampTzGetDatum(counters[i].id.period_start); }),
    };
    const uint64 updated_count = run(&statement, arguments);
    if (updated_count != count) {
        elog(ERROR, "added to " UINT64_FORMAT " counters instead of %zu", updated_count, count);
    }
}

} // namespace usage_ledger
