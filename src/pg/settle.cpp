/*
 * settle.cpp: settle_usage, and what the background worker does in a round.
 *
 * Pending rows are read and summed by counter; the sums go to those counters that
 * are free and can take them, and their rows leave the queue. All in one
 * transaction, so every snapshot sees a row either in the queue or in its counter.
 *
 * Settling waits for no lock: not for another settler's stretch of the queue, nor
 * for a counter that a worker holds. So it can be part of no deadlock, whatever
 * order workers take their counters in. And no row is taken before its counter is
 * locked, so nobody else who has a counter locked has to look for such rows.
 */
#include "pg/postgres.hpp"

#include "pg/settle.hpp"

#include <algorithm>

#include "core/addition.hpp"
#include "core/limits.hpp"
#include "pg/counters.hpp"
#include "pg/errors.hpp"
#include "pg/pending.hpp"
#include "pg/stats.hpp"

namespace usage_ledger
{

namespace
{

/* Of a huge backlog, so many rows are in memory at once: some 60 MB. */
constexpr int64 rows_at_once = 1000000;

/*
 * The counter of a hot account is free for moments only, between one worker's
 * commit and the next one's call, so a call tries that often before it leaves a
 * counter to the next one.
 */
constexpr int attempt_count_max = 20;
constexpr long attempt_interval_us = 1000;

bool takes_back(const core::Addition &addition)
{
    return addition.tokens < 0 || addition.reports < 0 || addition.chats < 0;
}

/* By counter; what takes back last, so that no part of a counter's rows falls below zero. */
bool comes_before(const PendingRow &a, const PendingRow &b)
{
    const int order = core::compare_counters(a.addition, b.addition);
    return order != 0 ? order < 0 : takes_back(a.addition) < takes_back(b.addition);
}

/* Sums of rows, one for each of some counters, and where the rows of each begin. */
struct Sums {
    core::Addition *sums;
    const PendingRow **rows;
    size_t count;
};

/*
 * Sums the rows of one counter after the other, from a row on, until there are
 * row_count_max of them; the row becomes the first one of the next counter.
 */
Sums sum_up(const PendingRows &pending, size_t *next, int64 row_count_max)
{
    const size_t sum_count_max = Min(pending.count - *next, static_cast<size_t>(row_count_max));
    Sums sums = {static_cast<core::Addition *>(palloc(sum_count_max * sizeof(core::Addition))),
                 static_cast<const PendingRow **>(palloc(sum_count_max * sizeof(PendingRow *))), 0};
    while (*next < pending.count && row_count_max > 0) {
        const PendingRow *row = &pending.rows[*next];
        const PendingRow *const end =
            std::upper_bound(row, const_cast<const PendingRow *>(pending.rows + pending.count),
                             *row, [](const PendingRow &a, const PendingRow &b) {
                                 return core::compare_counters(a.addition, b.addition) < 0;
                             });
        *next = end - pending.rows;

        core::Addition sum = row->addition;
        sums.rows[sums.count] = row;
        while (++row < end && sum.row_count < row_count_max && core::add(&sum, row->addition)) {
        }
        row_count_max -= sum.row_count;
        sums.sums[sums.count++] = sum;
    }
    return sums;
}

SetCounter *lock_free_counters(const Sums &sums, int *attempts_left)
{
    auto *counters = static_cast<SetCounter *>(palloc0(sums.count * sizeof(SetCounter)));
    while (try_lock_counters(sums.sums, counters, sums.count) > 0 && --*attempts_left > 0) {
        pg_usleep(attempt_interval_us);
        CHECK_FOR_INTERRUPTS();
    }
    return counters;
}

/* Whether a counter can take a sum now; warns if it never will. */
bool can_settle(const core::Addition &sum, const SetCounter &counter)
{
    if (!counter.is_locked) {
        return false;
    }
    if (counter.is_closed) {
        /* Whoever closed it since the rows were read has taken them. */
        if (has_pending(account_of(sum), sum.period_start)) {
            warn_cannot_settle(sum, "billing period is closed");
        }
        return false;
    }
    switch (core::fit(counter.totals, sum)) {
    case core::Fit::fits:
        return true;
    case core::Fit::falls_below_zero:
        break; /* until what it takes back is settled with it */
    case core::Fit::overflows:
        warn_cannot_settle(sum, "counter would overflow");
    }
    return false;
}

/* Adds sums to their counters, as far as these can take them; returns how many rows that is. */
int64 settle_sums(const Sums &sums, int *attempts_left)
{
    SetCounter *counters = lock_free_counters(sums, attempts_left);
    int64 row_count = 0;
    size_t settled_count = 0;
    for (size_t i = 0; i < sums.count; i++) {
        if (can_settle(sums.sums[i], counters[i])) {
            sums.sums[settled_count] = sums.sums[i];
            sums.rows[settled_count] = sums.rows[i];
            counters[settled_count++] = counters[i];
            row_count += sums.sums[i].row_count;
        }
    }
    if (row_count == 0) {
        return 0;
    }

    auto *rows = static_cast<ItemPointerData *>(
        MemoryContextAllocHuge(CurrentMemoryContext, row_count * sizeof(ItemPointerData)));
    size_t deleted_count = 0;
    for (size_t i = 0; i < settled_count; i++) {
        for (int64 k = 0; k < sums.sums[i].row_count; k++) {
            rows[deleted_count++] = sums.rows[i][k].row;
        }
    }
    delete_pending(rows, deleted_count);
    add_to_counters(sums.sums, counters, settled_count);
    return row_count;
}

} // namespace

int64 settle(int64 row_count_max)
{
    int64 settled_row_count = 0;
    int attempts_left = attempt_count_max;
    BlockNumber block = 0;
    while (block != InvalidBlockNumber && settled_row_count < row_count_max) {
        PendingRows pending =
            read_pending(&block, Min(row_count_max - settled_row_count, rows_at_once));
        std::sort(pending.rows, pending.rows + pending.count, comes_before);
        size_t next = 0;
        while (next < pending.count && settled_row_count < row_count_max) {
            const Sums sums = sum_up(pending, &next, row_count_max - settled_row_count);
            settled_row_count += settle_sums(sums, &attempts_left);
        }
        if (pending.rows != nullptr) {
            pfree(pending.rows);
        }
    }
    count(Stat::settle_rounds);
    count(Stat::settled_rows, static_cast<uint64>(settled_row_count));
    return settled_row_count;
}

} // namespace usage_ledger

extern "C" {

PG_FUNCTION_INFO_V1(usage_ledger_settle_usage);

Datum usage_ledger_settle_usage(PG_FUNCTION_ARGS)
{
    using namespace usage_ledger;

    const int64 row_count_max = row_count_argument(fcinfo, 0);

    SPI_connect();
    const int64 settled_row_count = settle(row_count_max);
    SPI_finish();

    PG_RETURN_INT64(settled_row_count);
}
}
