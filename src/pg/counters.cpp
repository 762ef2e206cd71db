#include "pg/postgres.hpp"

#include "pg/counters.hpp"

#include "pg/arrays.hpp"
#include "pg/errors.hpp"
#include "pg/statements.hpp"

namespace usage_ledger
{

namespace
{

Datum account_ids_of(const core::Addition *additions, size_t count)
{
    return make_array(count, UUIDOID,
                      [&](size_t i) { return PointerGetDatum(additions[i].account_id); });
}

Datum starts_of(const core::Addition *additions, size_t count)
{
    return make_array(count, TIMESTAMPTZOID,
                      [&](size_t i) { return TimestampTzGetDatum(additions[i].period_start); });
}

/* Locks those that are not locked, by one statement or the other; returns how many all are. */
size_t lock(Statement statement, const core::Addition *additions, LockedCounter *counters,
            size_t count)
{
    auto *wanted = static_cast<size_t *>(palloc(count * sizeof(size_t)));
    size_t wanted_count = 0;
    for (size_t i = 0; i < count; i++) {
        if (!counters[i].is_locked) {
            wanted[wanted_count++] = i;
        }
    }

    const Datum arguments[] = {
        make_array(wanted_count, UUIDOID,
                   [&](size_t i) { return PointerGetDatum(additions[wanted[i]].account_id); }),
        make_array(
            wanted_count, TIMESTAMPTZOID,
            [&](size_t i) { return TimestampTzGetDatum(additions[wanted[i]].period_start); }),
    };
    const uint64 locked_count = run(statement, arguments);
    for (uint64 row = 0; row < locked_count; row++) {
        LockedCounter *counter = &counters[wanted[DatumGetInt64(required_column(1, row)) - 1]];
        counter->is_locked = true;
        counter->row = *reinterpret_cast<ItemPointer>(DatumGetPointer(required_column(2, row)));
        counter->totals = {DatumGetInt64(required_column(3, row)),
                           DatumGetInt64(required_column(4, row)),
                           DatumGetInt64(required_column(5, row))};
        counter->is_closed = !column_is_null(6, row);
    }
    pfree(wanted);
    return count - wanted_count + locked_count;
}

} // namespace

Counter read_counter(Datum account_id, TimestampTz period_start)
{
    const Datum arguments[] = {account_id, TimestampTzGetDatum(period_start)};
    if (run(Statement::counter_of_period, arguments) == 0) {
        elog(ERROR, "usage period from %s has no row", time_text(period_start));
    }
    return {DatumGetInt64(required_column(1)), DatumGetTimestampTz(required_column(2)),
            !column_is_null(3)};
}

bool try_lock_counter(Datum account_id, TimestampTz period_start)
{
    const Datum arguments[] = {account_id, TimestampTzGetDatum(period_start)};
    return run(Statement::try_lock_counter, arguments) == 1;
}

bool add_to_counter(Datum account_id, TimestampTz period_start, const core::Payload &payload,
                    int64 *tokens_used)
{
    const Datum arguments[] = {account_id, TimestampTzGetDatum(period_start),
                               Int64GetDatum(payload.tokens), Int32GetDatum(payload.reports),
                               Int32GetDatum(payload.chats)};
    if (run(Statement::add_to_counter, arguments) == 0) {
        return false;
    }
    *tokens_used = DatumGetInt64(required_column(1));
    return true;
}

void read_counters(const core::Addition *additions, Counter *counters, size_t count)
{
    const Datum arguments[] = {account_ids_of(additions, count), starts_of(additions, count)};
    const uint64 row_count = run(Statement::counters_of_periods, arguments);
    if (row_count != count) {
        elog(ERROR, "found " UINT64_FORMAT " usage periods instead of %zu", row_count, count);
    }
    for (uint64 row = 0; row < row_count; row++) {
        counters[DatumGetInt64(required_column(1, row)) - 1] = {
            DatumGetInt64(required_column(2, row)), DatumGetTimestampTz(required_column(3, row)),
            !column_is_null(4, row)};
    }
}

void lock_counters(const core::Addition *additions, LockedCounter *counters, size_t count)
{
    const size_t locked_count = lock(Statement::lock_counters, additions, counters, count);
    if (locked_count != count) {
        elog(ERROR, "locked %zu counters instead of %zu", locked_count, count);
    }
}

size_t try_lock_counters(const core::Addition *additions, LockedCounter *counters, size_t count)
{
    return lock(Statement::try_lock_counters, additions, counters, count);
}

void add_to_counters(const core::Addition *additions, const LockedCounter *counters, size_t count)
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
