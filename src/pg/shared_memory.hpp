/*
 * shared_memory.hpp: what all sessions and the worker share, when the library is in
 * shared_preload_libraries.
 */
#pragma once

#include "pg/postgres.hpp"

namespace usage_ledger
{

/* What is counted, over all databases, since the statistics were reset. */
enum class Stat {
    applied,
    queued,
    replayed,
    conflicts,
    refused,
    lock_waits,
    settle_rounds,
    settled_rows,
};
constexpr int stat_count = 8;

constexpr int worker_error_length_max = 255;

struct Shared {
    /* worker.cpp's */
    pg_atomic_uint64 queued_row_count; /* since the last round, in all databases */
    Latch *launcher_latch;             /* null while there is none */
    bool has_settler_succeeded;        /* the last one; read when it has stopped */

    /* stats.cpp's */
    pg_atomic_uint64 stats[stat_count];
    slock_t mutex; /* of what follows */
    TimestampTz stats_reset_at;
    TimestampTz worker_error_at; /* 0: none */
    char worker_error[worker_error_length_max + 1];
    pid_t launcher_pid; /* 0: none */
};

/* Null: the library was not preloaded. */
extern Shared *shared;

/* For _PG_init, while preloading. */
void request_shared_memory();

} // namespace usage_ledger
