/*
 * stats.hpp: what the view usage_ledger_stats shows of all sessions and the worker.
 *
 * Calls are counted when they are made, so one whose transaction rolls back is in.
 */
#pragma once

#include "pg/postgres.hpp"

#include "pg/shared_memory.hpp"

namespace usage_ledger
{

inline void count(Stat stat, uint64 n = 1)
{
    if (shared != nullptr) {
        pg_atomic_fetch_add_u64(&shared->stats[static_cast<int>(stat)], static_cast<int64>(n));
    }
}

/* For the worker: why it could not settle. */
void note_worker_error(const char *message);
bool has_worker_error_since(TimestampTz time);

/* For the launcher: its process, or 0 when it ends. */
void note_launcher(pid_t pid);

/*
 * For the shared memory's first attachment: takes up what a clean shutdown has left, and
 * sees to it that the next one leaves it.
 */
void init_stats();

} // namespace usage_ledger
