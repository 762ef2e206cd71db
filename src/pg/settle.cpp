/*
 * settle.cpp: settle_usage, and what a settler of the background worker does in a round.
 *
 * Pending rows are read and summed by counter. The sums are added to those counters that are
 * free and can take them, and their rows are deleted, in one transaction: every snapshot sees
 * a row either in the queue or in its counter.
 *
 * Settling never waits, neither for a page range nor for a counter. No row is deleted before
 * its counter is locked, so a session that has a counter locked need not wait for settlers. It
 * may remove all rows of the counter itself, as a close, a credit and an erase do.
 */
#include "pg/postgres.hpp"

#include "pg/settle.hpp"

#include <algorithm>

#include "pg/arguments.hpp"
#include "pg/counters.hpp"
#include "pg/errors.hpp"
#include "pg/extension_tables.hpp"
#include "pg/pending.hpp"
#include "pg/spi.hpp"
#include "pg/stats.hpp"
#include "pg/subscriber.hpp"

namespace usage_ledger
{

namespace
{

/* Pending rows in memory at a time: some 60 MB. */
constexpr int64 chunk_row_count = 1000000;

/* Counters of a distributed ledger that are listed at a time. */
constexpr size_t chunk_counter_count = 1000;

/*
 * The counter of a hot account is free for moments only, between the commit of one session and
 * the call of the next. So settling tries this often before it leaves a counter for the next
 * round.
 */
constexpr int attempt_count_max = 20;
constexpr long attempt_interval_us = 1000;

bool is_reversal(const core::Usage &usage)
{
    return usage.tokens < 0 || usage.reports < 0 || usage.chats < 0;
}

/* By counter. Voids come last, so that no partial sum of a counter falls below zero. */
bool comes_before(const PendingRow &a, const PendingRow &b)
{
    const int order = core::compare_counters(a.counter, b.counter);
    return order != 0 ? order < 0 : is_reversal(a.usage) < is_reversal(b.usage);
}

/* The pending rows of some counters, summed. */
struct Sum {
    const PendingRow *rows; /* the first of row_count rows */
    int64 row_count;        /* 0: they stay pending */
    core::Usage usage;
    size_t first_pair; /* of pair_count breakdowns */
    size_t pair_count;
};
struct Sums {
    Sum *sums;
    CounterState *counters; /* of the same index */
    size_t count;
    PairSums pairs;
};

/*
 * Sums the rows of one counter after the other, from a row on, until they are row_count_max.
 * The row becomes the first one of the next counter.
 *
 * REQUIRES: the rows are sorted by comes_before.
 */
Sums sum_up(const PendingRows &pending, size_t *next, int64 row_count_max)
{
    Assert(std::is_sorted(pending.rows + *next, pending.rows + pending.count, comes_before));
    const size_t sum_count_max = Min(pending.count - *next, static_cast<size_t>(row_count_max));
    Sums sums = {static_cast<Sum *>(palloc(sum_count_max * sizeof(Sum))),
                 static_cast<CounterState *>(palloc0(sum_count_max * sizeof(CounterState))),
                 0,
                 {}};
    while (*next < pending.count && row_count_max > 0) {
        const PendingRow *row = &pending.rows[*next];
        const PendingRow *const end = std::upper_bound(
            row, const_cast<const PendingRow *>(pending.rows + pending.count), *row,
            [](const PendingRow &a, const PendingRow &b) { return a.counter < b.counter; });
        *next = end - pending.rows;

        Sum sum = {row, 1, row->usage, sums.pairs.count, 0};
        while (++row < end && sum.row_count < row_count_max && core::add(&sum.usage, row->usage)) {
            sum.row_count++;
        }
        row_count_max -= sum.row_count;
        sum_pairs(sum.rows, static_cast<size_t>(sum.row_count), &sums.pairs);
        sum.pair_count = sums.pairs.count - sum.first_pair;
        sums.counters[sums.count].id = sum.rows->counter;
        sums.sums[sums.count++] = sum;
    }
    return sums;
}

void lock_free_counters(const Sums &sums, int *attempts_left)
{
    while (try_lock_counters(sums.counters, sums.count) > 0 && --*attempts_left > 0) {
        pg_usleep(attempt_interval_us);
        CHECK_FOR_INTERRUPTS();
    }
}

/* Not an error: the counter's usage stays pending, and others are settled. */
void warn_cannot_settle(const Sum &sum, const char *reason,
                        const char *hint = "It stays pending and is part of usage_totals.")
{
    ereport(WARNING, (errmsg("pending usage cannot be settled: %s", reason),
                      errdetail("%s:\n%s.", period_text(sum.rows->counter), usage_text(sum.usage)),
                      errhint("%s", hint)));
}

void warn_of_malformed_rows(const PendingRows &pending)
{
    if (pending.malformed_count > 0) {
        ereport(WARNING,
                (errmsg("pending usage cannot be settled: %s", message_breakdown_malformed),
                 errdetail("%s; such rows: %zu.", pending.malformed_row, pending.malformed_count),
                 errhint("It stays pending and is part of usage_totals. Run verify_usage, and "
                         "write what the breakdown was, or NULL.")));
    }
}

/* Whether a counter can take a sum now. Warns if it never will. */
bool can_settle(const Sum &sum, const CounterState &counter)
{
    if (counter.is_missing) {
        /* An erase since the rows were read has deleted them. */
        if (has_pending(counter.id)) {
            warn_cannot_settle(sum, "billing period does not exist",
                               "It stays pending. Restore the period's row, which was deleted by "
                               "hand, or delete the pending rows too.");
        }
        return false;
    }
    if (!counter.is_locked) {
        return false;
    }
    if (counter.is_closed) {
        /* A close since the rows were read has taken them. */
        if (has_pending(counter.id)) {
            warn_cannot_settle(sum, "billing period is closed");
        }
        return false;
    }
    switch (core::fit(counter.totals, sum.usage)) {
    case core::Fit::fits:
        return true;
    case core::Fit::falls_below_zero:
        break; /* until the event that it voids is settled with it */
    case core::Fit::overflows:
        warn_cannot_settle(sum, message_counter_overflow);
    }
    return false;
}

/*
 * Finds the places in usage_breakdown of those sums that are to be settled, and adds to them,
 * without writing them. Leaves out sums that do not fit. Returns the number of places.
 */
size_t add_pairs(const Sums &sums, Place **places)
{
    PairSum *const pairs = sums.pairs.sums;
    size_t pair_count = 0;
    for (size_t i = 0; i < sums.count; i++) {
        Sum *sum = &sums.sums[i];
        sum->pair_count = sum->row_count > 0 ? sum->pair_count : 0;
        std::copy_n(pairs + sum->first_pair, sum->pair_count, pairs + pair_count);
        sum->first_pair = pair_count;
        pair_count += sum->pair_count;
    }
    if (pair_count == 0) {
        return 0;
    }
    *places = find_places(pairs, pair_count);
    for (size_t i = 0; i < sums.count; i++) {
        Sum *sum = &sums.sums[i];
        if (!add_to_places(*places + sum->first_pair, pairs + sum->first_pair, sum->pair_count)) {
            warn_cannot_settle(*sum, message_breakdown_overflow);
            sum->row_count = 0;
        }
    }
    return pair_count;
}

/* Folds those sums that their counters can take. */
Settled fold(const Sums &sums)
{
    auto *counters = static_cast<CounterState *>(palloc(sums.count * sizeof(CounterState)));
    auto *usage = static_cast<core::Usage *>(palloc(sums.count * sizeof(core::Usage)));
    size_t folded_count = 0;
    Settled settled = {0, false};
    for (size_t i = 0; i < sums.count; i++) {
        settled.has_left_rows |= !sums.counters[i].is_locked && !sums.counters[i].is_missing;
        if (!can_settle(sums.sums[i], sums.counters[i])) {
            sums.sums[i].row_count = 0;
        }
    }
    Place *places = nullptr;
    const size_t pair_count = add_pairs(sums, &places);
    for (size_t i = 0; i < sums.count; i++) {
        if (sums.sums[i].row_count == 0) {
            continue;
        }
        counters[folded_count] = sums.counters[i];
        usage[folded_count++] = sums.sums[i].usage;
        settled.row_count += sums.sums[i].row_count;
    }
    if (settled.row_count == 0) {
        return settled;
    }

    auto *row_tids = static_cast<ItemPointerData *>(
        MemoryContextAllocHuge(CurrentMemoryContext, settled.row_count * sizeof(ItemPointerData)));
    size_t tid_count = 0;
    for (size_t i = 0; i < sums.count; i++) {
        for (int64 k = 0; k < sums.sums[i].row_count; k++) {
            row_tids[tid_count++] = sums.sums[i].rows[k].tid;
        }
    }
    if (!try_to_delete_pending(counters[0].id, row_tids, tid_count)) {
        return {0, true}; /* they are read again in the next round */
    }
    add_to_counters(counters, usage, folded_count);
    write_places(places, pair_count);
    return settled;
}

Settled settle_sums(const Sums &sums, int *attempts_left)
{
    lock_free_counters(sums, attempts_left);
    return fold(sums);
}

/* Settles one counter of a distributed ledger. Its rows are read when it is locked. */
Settled settle_counter(const core::CounterId &id, int64 row_count_max)
{
    CounterState counter = {};
    counter.id = id;
    if (try_lock_counters(&counter, 1) > 0) {
        return {0, true};
    }
    PendingRows pending = read_pending_of(id, Min(row_count_max, chunk_row_count));
    MemoryContext caller = MemoryContextSwitchTo(pending.context);
    Settled settled = {0, false};
    if (pending.count > 0) {
        std::sort(pending.rows, pending.rows + pending.count, comes_before);
        size_t next = 0;
        const Sums sums = sum_up(pending, &next, row_count_max);
        sums.counters[0] = counter;
        settled = fold(sums);
    }
    MemoryContextSwitchTo(caller);
    MemoryContextDelete(pending.context);
    return settled;
}

/*
 * Settles a distributed ledger: counter by counter, in their order. It has no page ranges to share
 * between settlers, so each skips the counters that another one has.
 */
Settled settle_distributed(int64 row_count_max, Accounts scope)
{
    Settled all = {0, false};
    auto *counters =
        static_cast<core::CounterId *>(palloc(chunk_counter_count * sizeof(core::CounterId)));
    core::CounterId last = {{}, DT_NOBEGIN};
    size_t count;
    do {
        count = find_pending_counters(last, scope, counters, chunk_counter_count);
        for (size_t i = 0; i < count && all.row_count < row_count_max; i++) {
            CHECK_FOR_INTERRUPTS();
            last = counters[i];
            const Settled settled = settle_counter(last, row_count_max - all.row_count);
            all.row_count += settled.row_count;
            all.has_left_rows |= settled.has_left_rows;
        }
    } while (count == chunk_counter_count && all.row_count < row_count_max);
    return all;
}

Settled settle_pages(int64 row_count_max)
{
    Settled all = {0, false};
    int attempts_left = attempt_count_max;
    BlockNumber block = 0;
    while (block != InvalidBlockNumber && all.row_count < row_count_max) {
        PendingRows pending =
            read_pending(&block, Min(row_count_max - all.row_count, chunk_row_count));
        MemoryContext caller = MemoryContextSwitchTo(pending.context);
        all.has_left_rows |= pending.has_skipped_pages;
        warn_of_malformed_rows(pending);
        std::sort(pending.rows, pending.rows + pending.count, comes_before);
        size_t next = 0;
        while (next < pending.count && all.row_count < row_count_max) {
            const Sums sums = sum_up(pending, &next, row_count_max - all.row_count);
            const Settled settled = settle_sums(sums, &attempts_left);
            all.row_count += settled.row_count;
            all.has_left_rows |= settled.has_left_rows;
        }
        MemoryContextSwitchTo(caller);
        MemoryContextDelete(pending.context);
    }
    return all;
}

} // namespace

Settled settle(int64 row_count_max, Accounts scope)
{
    Assert(row_count_max > 0);
    /* From here on, nobody can distribute the queue. */
    LockRelationOid(extension_table("usage_pending"), RowExclusiveLock);
    const Settled all =
        is_distributed() ? settle_distributed(row_count_max, scope) : settle_pages(row_count_max);
    count_stat(Stat::settle_rounds);
    count_stat(Stat::settled_rows, static_cast<uint64>(all.row_count));
    return all;
}

} // namespace usage_ledger

extern "C" {

PG_FUNCTION_INFO_V1(usage_ledger_settle_usage);

Datum usage_ledger_settle_usage(PG_FUNCTION_ARGS)
{
    using namespace usage_ledger;

    const int64 row_count_max = row_count_argument(fcinfo, 0);

    check_not_fed();
    SPI_connect();
    const int64 settled_row_count = settle(row_count_max, Accounts::all).row_count;
    SPI_finish();

    PG_RETURN_INT64(settled_row_count);
}
}
