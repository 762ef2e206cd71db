/*
 * prune.cpp: prune_usage_events, which forgets the events of closed periods.
 *
 * The periods that were closed first come first. From the first event that is
 * deleted, the period's counter is no longer explained by its events, so the same
 * transaction stamps pruned_at: with infinity while events are left, for the next
 * call to go on, and with the time when none is.
 */
#include "pg/postgres.hpp"

#include "pg/errors.hpp"
#include "pg/events.hpp"
#include "pg/statements.hpp"

namespace usage_ledger
{

namespace
{

/* Periods are looked up by so many at once, for each look passes those of this call again. */
constexpr int64 periods_at_once = 1000;

struct PrunedPeriod {
    pg_uuid_t account_id;
    TimestampTz period_start;
};

/*
 * Locks periods that can be pruned, none that another session is pruning, and no
 * more than can be needed for so many rows.
 */
uint64 lock_prunable_periods(TimestampTz closed_before, int64 row_count_max, PrunedPeriod *periods)
{
    const Datum arguments[] = {TimestampTzGetDatum(closed_before),
                               Int64GetDatum(Min(row_count_max, periods_at_once))};
    const uint64 count = run(Statement::prunable_periods, arguments);
    for (uint64 row = 0; row < count; row++) {
        periods[row] = {*DatumGetUUIDP(required_column(1, row)),
                        DatumGetTimestampTz(required_column(2, row))};
    }
    free_rows();
    return count;
}

int64 prune_period(const PrunedPeriod &period, int64 row_count_max)
{
    const Datum account_id = UUIDPGetDatum(&period.account_id);
    const int64 row_count = prune_events(account_id, period.period_start, row_count_max);
    const TimestampTz pruned_at =
        row_count < row_count_max ? GetCurrentTransactionStartTimestamp() : DT_NOEND;
    const Datum arguments[] = {account_id, TimestampTzGetDatum(period.period_start),
                               TimestampTzGetDatum(pruned_at)};
    run(Statement::mark_pruned, arguments);
    return row_count;
}

int64 prune(TimestampTz closed_before, int64 row_count_max)
{
    auto *periods = static_cast<PrunedPeriod *>(palloc(periods_at_once * sizeof(PrunedPeriod)));
    int64 row_count = 0;
    uint64 period_count;
    do {
        period_count = lock_prunable_periods(closed_before, row_count_max - row_count, periods);
        for (uint64 i = 0; i < period_count && row_count < row_count_max; i++) {
            CHECK_FOR_INTERRUPTS();
            row_count += prune_period(periods[i], row_count_max - row_count);
        }
    } while (period_count > 0 && row_count < row_count_max);
    return row_count;
}

} // namespace

} // namespace usage_ledger

extern "C" {

PG_FUNCTION_INFO_V1(usage_ledger_prune_usage_events);

Datum usage_ledger_prune_usage_events(PG_FUNCTION_ARGS)
{
    using namespace usage_ledger;

    if (PG_ARGISNULL(0)) {
        raise_null_parameter("time", "p_closed_before");
    }
    const int64 row_count_max = row_count_argument(fcinfo, 1);

    SPI_connect();
    const int64 row_count = prune(PG_GETARG_TIMESTAMPTZ(0), row_count_max);
    SPI_finish();

    PG_RETURN_INT64(row_count);
}
}
