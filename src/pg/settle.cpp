/*
 * settle.cpp: settle_usage, and what the background worker does in a round.
 *
 * Pending rows are taken out of the queue, summed by counter, and added to the
 * counters that are free; sums whose counter is not, or cannot take them, go
 * back into the queue as a row each. All in one transaction, so every snapshot
 * sees a row either in the queue or in its counter.
 *
 * Settling waits for no lock: not for another settler's stretch of the queue, nor
 * for a counter that a worker holds. So it can be part of no deadlock, whatever
 * order workers take their counters in.
 */
#include "pg/postgres.hpp"

#include "pg/settle.hpp"

#include "core/addition.hpp"
#include "core/limits.hpp"
#include "pg/counters.hpp"
#include "pg/errors.hpp"
#include "pg/pending.hpp"

namespace usage_ledger
{

namespace
{

/*
 * The counter of a hot account is free for moments only, between one worker's
 * commit and the next one's call, so it is tried that often before its sum goes
 * back into the queue.
 */
constexpr int attempt_count_max = 20;
constexpr long attempt_interval_us = 1000;

SetCounter *lock_free_counters(const TakenUsage &taken)
{
    auto *counters = static_cast<SetCounter *>(palloc0(taken.count * sizeof(SetCounter)));
    for (int attempt = 0; attempt < attempt_count_max; attempt++) {
        if (attempt > 0) {
            pg_usleep(attempt_interval_us);
            CHECK_FOR_INTERRUPTS();
        }
        if (try_lock_counters(taken.additions, counters, taken.count) == 0) {
            break;
        }
    }
    return counters;
}

/* Whether a counter can take an addition now; warns if it never will. */
bool can_settle(const core::Addition &addition, const SetCounter &counter)
{
    if (!counter.is_locked) {
        return false;
    }
    if (counter.is_closed) {
        warn_cannot_settle(addition, "billing period is closed");
        return false;
    }
    if (!core::fits(counter.totals, addition)) {
        warn_cannot_settle(addition, "counter would overflow");
        return false;
    }
    return true;
}

} // namespace

size_t settle_sums(const core::Addition *sums, const SetCounter *counters, size_t count)
{
    auto *applied = static_cast<core::Addition *>(palloc(count * sizeof(core::Addition)));
    auto *queued = static_cast<core::Addition *>(palloc(count * sizeof(core::Addition)));
    auto *locked = static_cast<SetCounter *>(palloc(count * sizeof(SetCounter)));
    size_t applied_count = 0, queued_count = 0;
    for (size_t i = 0; i < count; i++) {
        if (sums[i].row_count == 0) {
            continue;
        }
        if (counters[i].is_locked) {
            locked[applied_count] = counters[i];
            applied[applied_count++] = sums[i];
        } else {
            queued[queued_count++] = sums[i];
        }
    }
    if (applied_count > 0) {
        add_to_counters(applied, locked, applied_count);
    }
    if (queued_count > 0) {
        enqueue_all(queued, queued_count);
    }
    return queued_count;
}

int64 settle(int64 row_count_max)
{
    const TakenUsage taken = take_pending(row_count_max);
    if (taken.count == 0) {
        return 0;
    }
    SetCounter *counters = lock_free_counters(taken);

    int64 settled_row_count = 0;
    const core::Addition *last_settled = nullptr;
    for (size_t i = 0; i < taken.count; i++) {
        const core::Addition &addition = taken.additions[i];
        /* Two sums for one counter: the second waits for the next round. */
        const bool is_second =
            last_settled != nullptr && core::compare_counters(*last_settled, addition) == 0;
        if (is_second || !can_settle(addition, counters[i])) {
            counters[i].is_locked = false; /* as far as this round goes */
            continue;
        }
        settled_row_count += addition.row_count;
        last_settled = &addition;
    }
    (void)settle_sums(taken.additions, counters, taken.count);
    return settled_row_count;
}

} // namespace usage_ledger

extern "C" {

PG_FUNCTION_INFO_V1(usage_ledger_settle_usage);

Datum usage_ledger_settle_usage(PG_FUNCTION_ARGS)
{
    using namespace usage_ledger;

    if (PG_ARGISNULL(0)) {
        raise_null_row_count();
    }
    const int32 row_count_max = PG_GETARG_INT32(0);
    if (row_count_max < 1 || row_count_max > core::settled_rows_max) {
        raise_row_count_outside_limits(row_count_max, core::settled_rows_max);
    }

    SPI_connect();
    const int64 settled_row_count = settle(row_count_max);
    SPI_finish();

    PG_RETURN_INT64(settled_row_count);
}
}
