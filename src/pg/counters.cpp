#include "pg/postgres.hpp"

#include "pg/counters.hpp"

#include "pg/arrays.hpp"
#include "pg/errors.hpp"
#include "pg/period_cache.hpp"
#include "pg/statements.hpp"

namespace usage_ledger
{

namespace
{

/* What a statement sees: what its transaction does, or all that is committed by now. */
enum class Seeing { transaction, latest };

/*
 * Runs a statement for those of a set that are chosen, and fills their counters
 * in from the rows that it returns; returns how many got none.
 */
template <typename Choice>
size_t fill_in(Statement statement, Seeing seeing, const core::Addition *additions,
               SetCounter *counters, size_t count, Choice is_chosen)
{
    auto *chosen = static_cast<size_t *>(palloc(count * sizeof(size_t)));
    size_t chosen_count = 0;
    for (size_t i = 0; i < count; i++) {
        if (is_chosen(i)) {
            chosen[chosen_count++] = i;
        }
    }
    if (chosen_count == 0) {
        return 0;
    }

    const Datum arguments[] = {
        make_array(chosen_count, UUIDOID,
                   [&](size_t i) { return account_of(additions[chosen[i]]); }),
        make_array(
            chosen_count, TIMESTAMPTZOID,
            [&](size_t i) { return TimestampTzGetDatum(additions[chosen[i]].period_start); }),
    };
    const uint64 row_count =
        seeing == Seeing::latest ? run_latest(statement, arguments) : run(statement, arguments);
    for (uint64 row = 0; row < row_count; row++) {
        counters[chosen[DatumGetInt64(required_column(1, row)) - 1]] = {
            statement == Statement::lock_counters,
            !column_is_null(4, row),
            *reinterpret_cast<ItemPointer>(DatumGetPointer(required_column(2, row))),
            DatumGetTimestampTz(required_column(3, row)),
            {DatumGetInt64(required_column(5, row)), DatumGetInt64(required_column(6, row)),
             DatumGetInt64(required_column(7, row))}};
    }
    pfree(chosen);
    return chosen_count - row_count;
}

void check_none_is_missing(size_t missing_count)
{
    if (missing_count > 0) {
        clear_period_cache();
        raise_period_deleted();
    }
}

/* Likewise, for all that there is something to add to, but for those that are locked. */
void fill_in_added(Statement statement, Seeing seeing, const core::Addition *additions,
                   SetCounter *counters, size_t count)
{
    check_none_is_missing(fill_in(statement, seeing, additions, counters, count, [&](size_t i) {
        return !counters[i].is_locked && additions[i].row_count > 0;
    }));
}

} // namespace

Counter read_counter(Datum account_id, TimestampTz period_start)
{
    const Datum arguments[] = {account_id, TimestampTzGetDatum(period_start)};
    check_none_is_missing(1 - run(Statement::counter_of_period, arguments));
    return {DatumGetInt64(required_column(1)), DatumGetTimestampTz(required_column(2)),
            !column_is_null(3)};
}

bool try_lock_counter(Datum account_id, TimestampTz period_start)
{
    const Datum arguments[] = {account_id, TimestampTzGetDatum(period_start)};
    return run(Statement::try_lock_counter, arguments) == 1;
}

bool add_to_counter(const EventName &event, TimestampTz period_start, const core::Payload &payload,
                    int64 *tokens_used)
{
    const Datum arguments[] = {event.account_id.value, TimestampTzGetDatum(period_start),
                               Int64GetDatum(payload.tokens), Int32GetDatum(payload.reports),
                               Int32GetDatum(payload.chats)};
    OverflowSubject subject = {&event, period_start};
    ErrorContextCallback callback = {error_context_stack, describe_overflow, &subject};
    error_context_stack = &callback;
    check_none_is_missing(1 - run(Statement::add_to_counter, arguments));
    error_context_stack = callback.previous;

    *tokens_used = DatumGetInt64(required_column(1));
    return column_is_null(2);
}

bool take_from_counter(Datum account_id, TimestampTz period_start, const core::Payload &payload,
                       int64 *tokens_used)
{
    const Datum arguments[] = {account_id, TimestampTzGetDatum(period_start),
                               Int64GetDatum(payload.tokens), Int32GetDatum(payload.reports),
                               Int32GetDatum(payload.chats)};
    if (run(Statement::take_from_counter, arguments) == 0) {
        return false;
    }
    *tokens_used = DatumGetInt64(required_column(1));
    return true;
}

bool period_is_closed_now(Datum account_id, TimestampTz period_start)
{
    const Datum arguments[] = {account_id, TimestampTzGetDatum(period_start)};
    check_none_is_missing(1 - run_latest(Statement::counter_of_period, arguments));
    return !column_is_null(3);
}

void lock_counters(const core::Addition *additions, SetCounter *counters, size_t count)
{
    fill_in_added(Statement::lock_counters, Seeing::transaction, additions, counters, count);
}

/*
 * Not FOR NO KEY UPDATE SKIP LOCKED: where others hold a row FOR KEY SHARE, that can
 * follow its updates and then does wait for whoever makes the next one. The row is
 * locked where it was read instead, or else it has moved on, in other hands.
 */
size_t try_lock_counters(const core::Addition *additions, SetCounter *counters, size_t count)
{
    /* Keeps what is read from being vacuumed away before it is locked. */
    PushActiveSnapshot(GetTransactionSnapshot());
    fill_in_added(Statement::read_counters, Seeing::transaction, additions, counters, count);

    size_t busy_count = 0;
    Relation periods = table_open(extension_table("usage_periods"), RowExclusiveLock);
    TupleTableSlot *slot = table_slot_create(periods, nullptr);
    for (size_t i = 0; i < count; i++) {
        if (counters[i].is_locked || additions[i].row_count == 0) {
            continue;
        }
        TM_FailureData failure;
        counters[i].is_locked =
            table_tuple_lock(periods, &counters[i].row, GetActiveSnapshot(), slot,
                             GetCurrentCommandId(true), LockTupleNoKeyExclusive, LockWaitSkip, 0,
                             &failure) == TM_Ok;
        busy_count += counters[i].is_locked ? 0 : 1;
        ExecClearTuple(slot);
    }
    ExecDropSingleTupleTableSlot(slot);
    table_close(periods, NoLock);
    PopActiveSnapshot();
    return busy_count;
}

void hold_counter(Datum account_id, TimestampTz period_start)
{
    const Datum arguments[] = {account_id, TimestampTzGetDatum(period_start)};
    check_none_is_missing(1 - run(Statement::hold_counter, arguments));
}

void hold_counters(const core::Addition *additions, size_t count)
{
    auto *counters = static_cast<SetCounter *>(palloc0(count * sizeof(SetCounter)));
    fill_in_added(Statement::hold_counters, Seeing::transaction, additions, counters, count);
}

void read_latest_counters(const core::Addition *additions, SetCounter *counters, size_t count)
{
    fill_in_added(Statement::read_counters, Seeing::latest, additions, counters, count);
}

void read_counters(const core::Addition *additions, SetCounter *counters, size_t count)
{
    check_none_is_missing(fill_in(Statement::read_counters, Seeing::transaction, additions,
                                  counters, count,
                                  [&](size_t i) { return additions[i].row_count == 0; }));
}

void add_to_counters(const core::Addition *additions, const SetCounter *counters, size_t count)
{
    const Datum arguments[] = {
        make_array(
            count, TIDOID,
            [&](size_t i) { return PointerGetDatum(const_cast<ItemPointer>(&counters[i].row)); }),
        make_array(count, INT8OID, [&](size_t i) { return Int64GetDatum(additions[i].tokens); }),
        make_array(count, INT8OID, [&](size_t i) { return Int64GetDatum(additions[i].reports); }),
        make_array(count, INT8OID, [&](size_t i) { return Int64GetDatum(additions[i].chats); }),
    };
    const uint64 updated_count = run(Statement::add_to_counters, arguments);
    if (updated_count != count) {
        elog(ERROR, "added to " UINT64_FORMAT " counters instead of %zu", updated_count, count);
    }
}

} // namespace usage_ledger
