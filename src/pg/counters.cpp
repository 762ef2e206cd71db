#include "pg/postgres.hpp"

#include "pg/counters.hpp"

#include "pg/arrays.hpp"
#include "pg/errors.hpp"
#include "pg/statements.hpp"

namespace usage_ledger
{

namespace
{

/*
 * Runs a statement for those of a set that are chosen, and fills their counters
 * in from the rows that it returns; returns how many got none.
 */
template <typename Choice>
size_t fill_in(Statement statement, const core::Addition *additions, SetCounter *counters,
               size_t count, bool is_locking, Choice is_chosen)
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
                   [&](size_t i) { return PointerGetDatum(additions[chosen[i]].account_id); }),
        make_array(
            chosen_count, TIMESTAMPTZOID,
            [&](size_t i) { return TimestampTzGetDatum(additions[chosen[i]].period_start); }),
    };
    const uint64 row_count = run(statement, arguments);
    for (uint64 row = 0; row < row_count; row++) {
        counters[chosen[DatumGetInt64(required_column(1, row)) - 1]] = {
            is_locking,
            !column_is_null(4, row),
            *reinterpret_cast<ItemPointer>(DatumGetPointer(required_column(2, row))),
            DatumGetTimestampTz(required_column(3, row)),
            {DatumGetInt64(required_column(5, row)), DatumGetInt64(required_column(6, row)),
             DatumGetInt64(required_column(7, row))}};
    }
    pfree(chosen);
    return chosen_count - row_count;
}

size_t lock(Statement statement, const core::Addition *additions, SetCounter *counters,
            size_t count)
{
    return fill_in(statement, additions, counters, count, true,
                   [&](size_t i) { return !counters[i].is_locked && additions[i].row_count > 0; });
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

void lock_counters(const core::Addition *additions, SetCounter *counters, size_t count)
{
    const size_t missing_count = lock(Statement::lock_counters, additions, counters, count);
    if (missing_count > 0) {
        elog(ERROR, "%zu usage periods have no row", missing_count);
    }
}

size_t try_lock_counters(const core::Addition *additions, SetCounter *counters, size_t count)
{
    return lock(Statement::try_lock_counters, additions, counters, count);
}

void read_counters(const core::Addition *additions, SetCounter *counters, size_t count)
{
    const size_t missing_count = fill_in(Statement::read_counters, additions, counters, count,
                                         false, [&](size_t i) { return !counters[i].is_locked; });
    if (missing_count > 0) {
        elog(ERROR, "%zu usage periods have no row", missing_count);
    }
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
