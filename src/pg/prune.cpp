/*
 * prune.cpp: prune_usage_events, which deletes the events of closed periods, those closed
 * first coming first.
 *
 * From the first deleted event on, the period's events no longer explain its counter. So the
 * same transaction stamps pruned_at: with infinity while events are left, which lets the next
 * call go on, and with the time when none is.
 *
 * An event that a foreign key refers to is left, and the others are deleted.
 */
#include "pg/postgres.hpp"

#include "core/counter.hpp"
#include "pg/arguments.hpp"
#include "pg/errors.hpp"
#include "pg/referenced_events.hpp"
#include "pg/spi.hpp"

namespace usage_ledger
{

namespace
{

/* Periods are fetched in chunks of this size. */
constexpr int64 chunk_period_count = 1000;

struct PeriodToPrune {
    core::CounterId id;
    TimestampTz closed_at;
};

/* The condition is the predicate of index usage_periods_prunable. */
#define WHERE_PRUNABLE                                                                             \
    " WHERE closed_at OPERATOR(pg_catalog.<) $1"                                                   \
    " AND (pruned_at IS NULL OR pruned_at OPERATOR(pg_catalog.=) 'infinity')"

/* On Citus, a statement locks rows of one account: so the periods are locked when it is their turn.
 */
bool try_lock_distributed(const core::CounterId &period, TimestampTz closed_before)
{
    static Statement statement = {"usage_periods",
                                  "SELECT FROM %s" WHERE_PRUNABLE
                                  " AND account_id OPERATOR(pg_catalog.=) $2"
                                  " AND period_start OPERATOR(pg_catalog.=) $3"
                                  " FOR NO KEY UPDATE SKIP LOCKED",
                                  {TIMESTAMPTZOID, UUIDOID, TIMESTAMPTZOID}};
    const Datum arguments[] = {TimestampTzGetDatum(closed_before), account_of(period),
                               TimestampTzGetDatum(period.period_start)};
    return run(&statement, arguments) == 1;
}

/*
 * Locks periods that can be pruned and that no other session is pruning, and that come after a
 * period. A later call starts again with those that have events left.
 */
uint64 lock_prunable_periods(TimestampTz closed_before, const PeriodToPrune &after,
                             int64 period_count_max, PeriodToPrune *periods)
{
    static Statement statement = {
        "usage_periods",
        "SELECT account_id, period_start, closed_at FROM %s" WHERE_PRUNABLE
        " AND (closed_at, account_id, period_start) OPERATOR(pg_catalog.>) ($2, $3, $4)"
        " ORDER BY closed_at, account_id, period_start LIMIT $5 FOR NO KEY UPDATE SKIP LOCKED",
        {TIMESTAMPTZOID, TIMESTAMPTZOID, UUIDOID, TIMESTAMPTZOID, INT8OID},
        {},
        "SELECT account_id, period_start, closed_at FROM %s" WHERE_PRUNABLE
        " AND (closed_at, account_id, period_start) OPERATOR(pg_catalog.>) ($2, $3, $4)"
        " ORDER BY closed_at, account_id, period_start LIMIT $5"};
    const Datum arguments[] = {TimestampTzGetDatum(closed_before),
                               TimestampTzGetDatum(after.closed_at), account_of(after.id),
                               TimestampTzGetDatum(after.id.period_start),
                               Int64GetDatum(period_count_max)};
    lock_for_write(&statement);
    const uint64 count = run(&statement, arguments);
    for (uint64 row = 0; row < count; row++) {
        periods[row] = {
            counter_id(required_column(1, row), DatumGetTimestampTz(required_column(2, row))),
            DatumGetTimestampTz(required_column(3, row))};
    }
    free_rows();
    return count;
}

/* Deletes events of a locked period. Returns how many. */
int64 delete_events(const core::CounterId &period, int64 row_count_max)
{
    static Statement statement = {"usage_events",
                                  "DELETE FROM %s" WHERE_COUNTER " RETURNING true",
                                  {UUIDOID, TIMESTAMPTZOID, INT8OID},
                                  {},
                                  "DELETE FROM %1$s" WHERE_COUNTER
                                  " AND ctid OPERATOR(pg_catalog.=) ANY"
                                  " (ARRAY(SELECT ctid FROM %1$s" WHERE_COUNTER " LIMIT $3))"
                                  " RETURNING true"};
    const Datum arguments[] = {account_of(period), TimestampTzGetDatum(period.period_start),
                               Int64GetDatum(row_count_max)};
    const uint64 row_count =
        run(&statement, arguments, nullptr, static_cast<uint64>(row_count_max));
    free_rows();
    return static_cast<int64>(row_count);
}

/* Stops at the first row. With a LIMIT the planner would read by the primary key. */
bool has_events(const core::CounterId &period)
{
    static Statement statement = {"usage_events",
                                  "SELECT FROM %s" WHERE_COUNTER,
                                  {UUIDOID, TIMESTAMPTZOID},
                                  {},
                                  "SELECT FROM %s" WHERE_COUNTER " LIMIT 1"};
    return run_for_counter(&statement, period, 1) > 0;
}

void stamp_pruned(const core::CounterId &period, TimestampTz pruned_at)
{
    static Statement statement = {"usage_periods",
                                  "UPDATE %s SET pruned_at = $3" WHERE_COUNTER,
                                  {UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID}};
    const Datum arguments[] = {account_of(period), TimestampTzGetDatum(period.period_start),
                               TimestampTzGetDatum(pruned_at)};
    run(&statement, arguments);
}

/* referenced: those that could not be deleted; null if no foreign key refers to any event. */
int64 prune_period(const core::CounterId &period, int64 row_count_max, ReferencedEvents *referenced)
{
    const int64 row_count = referenced == nullptr
                                ? delete_events(period, row_count_max)
                                : delete_unreferenced_events(period, row_count_max, referenced);
    const bool is_finished =
        (referenced == nullptr && row_count < row_count_max) || !has_events(period);
    if (row_count > 0 || is_finished) {
        stamp_pruned(period, is_finished ? GetCurrentTransactionStartTimestamp() : DT_NOEND);
    }
    return row_count;
}

int64 prune(TimestampTz closed_before, int64 row_count_max)
{
    ReferencedEvents referenced = {};
    ReferencedEvents *const may_be_referenced =
        foreign_keys_refer_to_events() ? &referenced : nullptr;
    auto *periods =
        static_cast<PeriodToPrune *>(palloc(chunk_period_count * sizeof(PeriodToPrune)));
    PeriodToPrune last = {{}, DT_NOBEGIN};
    int64 rows_left = row_count_max;
    uint64 period_count;
    do {
        period_count =
            lock_prunable_periods(closed_before, last, Min(rows_left, chunk_period_count), periods);
        for (uint64 i = 0; i < period_count && rows_left > 0; i++) {
            CHECK_FOR_INTERRUPTS();
            last = periods[i];
            if (is_distributed() && !try_lock_distributed(last.id, closed_before)) {
                continue;
            }
            rows_left -= prune_period(last.id, rows_left, may_be_referenced);
        }
    } while (period_count > 0 && rows_left > 0);
    warn_of_referenced_events(referenced);
    return row_count_max - rows_left;
}

} // namespace

} // namespace usage_ledger

extern "C" {

PG_FUNCTION_INFO_V1(usage_ledger_prune_usage_events);

Datum usage_ledger_prune_usage_events(PG_FUNCTION_ARGS)
{
    using namespace usage_ledger;

    if (PG_ARGISNULL(0)) {
        raise_null("time", "Argument p_closed_before is null");
    }
    const int64 row_count_max = row_count_argument(fcinfo, 1);

    SPI_connect();
    const int64 row_count = prune(PG_GETARG_TIMESTAMPTZ(0), row_count_max);
    SPI_finish();

    PG_RETURN_INT64(row_count);
}
}
