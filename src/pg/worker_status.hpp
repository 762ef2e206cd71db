/*
 * worker_status.hpp: what the background worker's processes tell each other, and what view
 * usage_ledger_worker shows of them. It is in shared memory.
 */
#pragma once

#include "pg/postgres.hpp"

#include "core/limits.hpp"
#include "core/schedule.hpp"

namespace usage_ledger
{

constexpr int worker_error_length_max = 255;

/* A database that the worker serves, or that still has a settler. */
struct DatabaseStatus {
    char name[NAMEDATALEN]; /* empty: nothing is here */
    bool is_served;
    pid_t settler_pid; /* 0: none. The settler sets it, so it outlives the launcher. */

    /* Of the present visit, else of the last. */
    uint32 round_count;       /* rounds that the settler has finished */
    core::VisitResult result; /* failed, until the settler says otherwise */
    bool has_reason;          /* if it has failed: error says why */

    TimestampTz settled_at; /* 0: never */
    TimestampTz swept_at;   /* 0: never */
    TimestampTz error_at;   /* 0: there is no error */
    char error[worker_error_length_max + 1];
};

struct WorkerStatus {
    slock_t mutex;      /* of all that follows */
    pid_t launcher_pid; /* 0: there is no launcher */
    bool has_launcher_run;
    TimestampTz launcher_gone_at; /* since the launcher ended, or else since the server started */
    DatabaseStatus databases[core::settle_databases_max];
};

/* Null: the library was not preloaded. */
extern WorkerStatus *worker_status;

/* Calls a function that reads or changes the status. It must be short and not raise. */
template <typename Function> void with_worker_status(Function function)
{
    SpinLockAcquire(&worker_status->mutex);
    function(worker_status);
    SpinLockRelease(&worker_status->mutex);
}

/* A copy of a database's status. */
DatabaseStatus read_database_status(int32 database);

/* Sets why a database is not settled. */
void set_database_error(int32 database, const char *message);

/* Forgets all errors, until they occur again. */
void forget_worker_errors();

/* Why the worker does not settle: the newest reason, if there is one. */
struct WorkerError {
    TimestampTz at; /* 0: none */
    char message[worker_error_length_max + 1];
};
WorkerError read_worker_error();

/* A text of the worker, which may be in another database's encoding, and invalid in this one's. */
Datum text_of_worker(char *text);

void init_worker_status();

} // namespace usage_ledger
