/*
 * stats.hpp: what all sessions and the worker share, when the library is in
 * shared_preload_libraries: the statistics that view usage_ledger_stats shows, and the
 * worker's mailbox and status.
 *
 * Entry points count what they answer, when they answer it. So calls of a transaction that
 * rolls back are counted too.
 */
#pragma once

#include "pg/postgres.hpp"

#include "core/batch.hpp"
#include "pg/worker_status.hpp"

namespace usage_ledger
{

/* Over all databases, since the statistics were reset. */
enum class Stat {
    applied,
    queued,
    replayed,
    conflicts,
    refused,
    lock_waits,
    settle_rounds,
    settled_rows,
    reserved,
    limit_reached,
    expired_holds,
};
constexpr int stat_count = 11;

struct Shared {
    /* The mailbox: rows that sessions have announced, in all databases. It only grows. */
    pg_atomic_uint64 announced_rows;
    pg_atomic_uint64 wake_rows; /* the session that announces this one wakes the launcher */
    Latch *launcher_latch;      /* null while there is no launcher */

    WorkerStatus worker_status;

    pg_atomic_uint64 stats[stat_count];
    pg_atomic_uint64 stats_reset_at;
};

/* Null: the library was not preloaded. */
extern Shared *shared;

inline void count_stat(Stat stat, uint64 n = 1)
{
    if (shared != nullptr) {
        pg_atomic_fetch_add_u64(&shared->stats[static_cast<int>(stat)], static_cast<int64>(n));
    }
}

/* Counts the answer of a call or item. */
void count_outcome(core::Outcome outcome);

/* Counts a call that was refused with an SQLSTATE; others, such as 40001, are no refusals. */
void count_refusal(int sqlstate);

/*
 * Runs a call, and counts the refusal if it raises one. If a trigger on our tables makes a
 * call that is refused, and the error fails the outer call too, both are counted.
 */
template <typename Call> void run_counting_refusals(Call call)
{
    PG_TRY();
    {
        call();
    }
    PG_CATCH();
    {
        count_refusal(geterrcode());
        PG_RE_THROW();
    }
    PG_END_TRY();
}

/* For _PG_init, while preloading. */
void request_shared_memory();

} // namespace usage_ledger
