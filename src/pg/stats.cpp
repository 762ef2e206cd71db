/*
 * stats.cpp: the statistics in shared memory, which a file keeps over a clean restart.
 */
#include "pg/postgres.hpp"

#include "pg/stats.hpp"

#include "pg/arguments.hpp"
#include "pg/errors.hpp"

namespace usage_ledger
{

Shared *shared;

namespace
{

constexpr const char *file_name = PGSTAT_STAT_PERMANENT_DIRECTORY "/usage_ledger.stat";
constexpr const char *temporary_file_name = PGSTAT_STAT_PERMANENT_DIRECTORY "/usage_ledger.tmp";

/* The content of the file. A file of another version is ignored. */
struct Saved {
    uint32 version;
    uint64 stats[stat_count];
    uint64 stats_reset_at;
};
constexpr uint32 saved_version = 0x554C0004;

void load()
{
    FILE *file = AllocateFile(file_name, PG_BINARY_R);
    if (file == nullptr) {
        if (errno != ENOENT) {
            ereport(LOG,
                    (errcode_for_file_access(), errmsg("could not read \"%s\": %m", file_name)));
        }
        return;
    }
    Saved saved;
    const bool is_read = fread(&saved, sizeof(saved), 1, file) == 1;
    FreeFile(file);
    (void)unlink(file_name); /* a restart after a crash must not read it again */
    if (!is_read || saved.version != saved_version) {
        ereport(LOG, (errmsg("ignoring statistics in \"%s\"", file_name)));
        return;
    }
    for (int i = 0; i < stat_count; i++) {
        pg_atomic_write_u64(&shared->stats[i], saved.stats[i]);
    }
    pg_atomic_write_u64(&shared->stats_reset_at, saved.stats_reset_at);
}

void save(int code, Datum)
{
    if (code != 0) {
        return;
    }
    Saved saved = {};
    saved.version = saved_version;
    for (int i = 0; i < stat_count; i++) {
        saved.stats[i] = pg_atomic_read_u64(&shared->stats[i]);
    }
    saved.stats_reset_at = pg_atomic_read_u64(&shared->stats_reset_at);

    FILE *file = AllocateFile(temporary_file_name, PG_BINARY_W);
    bool is_written = file != nullptr && fwrite(&saved, sizeof(saved), 1, file) == 1;
    if (file != nullptr && FreeFile(file) != 0) {
        is_written = false;
    }
    if (!is_written) {
        ereport(LOG, (errcode_for_file_access(),
                      errmsg("could not write \"%s\": %m", temporary_file_name)));
        (void)unlink(temporary_file_name);
        return;
    }
    (void)durable_rename(temporary_file_name, file_name, LOG);
}

shmem_request_hook_type previous_shmem_request_hook;
shmem_startup_hook_type previous_shmem_startup_hook;

void request()
{
    if (previous_shmem_request_hook != nullptr) {
        previous_shmem_request_hook();
    }
    RequestAddinShmemSpace(sizeof(Shared));
}

/* Reads what a clean shutdown has saved, and registers this server's own saving. */
void init()
{
    memset(shared, 0, sizeof(Shared));
    pg_atomic_init_u64(&shared->announced_rows, 0);
    pg_atomic_init_u64(&shared->wake_rows, PG_UINT64_MAX);
    for (int i = 0; i < stat_count; i++) {
        pg_atomic_init_u64(&shared->stats[i], 0);
    }
    pg_atomic_init_u64(&shared->stats_reset_at, static_cast<uint64>(GetCurrentTimestamp()));
    init_worker_status();
    if (!IsUnderPostmaster) {
        on_shmem_exit(save, Datum(0));
        load();
    }
}

void attach()
{
    if (previous_shmem_startup_hook != nullptr) {
        previous_shmem_startup_hook();
    }
    bool is_found;
    LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
    shared = static_cast<Shared *>(ShmemInitStruct("usage_ledger", sizeof(Shared), &is_found));
    worker_status = &shared->worker_status;
    if (!is_found) {
        init();
    }
    LWLockRelease(AddinShmemInitLock);
}

} // namespace

void count_outcome(core::Outcome outcome)
{
    switch (outcome) {
    case core::Outcome::applied:
        return count_stat(Stat::applied);
    case core::Outcome::queued:
        return count_stat(Stat::queued);
    case core::Outcome::replayed:
        return count_stat(Stat::replayed);
    case core::Outcome::conflict:
        return count_stat(Stat::conflicts);
    default:
        return count_stat(Stat::refused);
    }
}

void count_refusal(int sqlstate)
{
    switch (sqlstate) {
    case errcode_conflict:
        count_stat(Stat::conflicts);
        break;
    case errcode_no_account_or_period:
    case errcode_period_closed:
    case errcode_no_event:
    case errcode_out_of_time:
    case ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE:
    case ERRCODE_NULL_VALUE_NOT_ALLOWED:
    case ERRCODE_INVALID_PARAMETER_VALUE:
        count_stat(Stat::refused);
    }
}

void request_shared_memory()
{
    previous_shmem_request_hook = shmem_request_hook;
    shmem_request_hook = request;
    previous_shmem_startup_hook = shmem_startup_hook;
    shmem_startup_hook = attach;
}

} // namespace usage_ledger

extern "C" {

PG_FUNCTION_INFO_V1(usage_ledger_stats);
PG_FUNCTION_INFO_V1(usage_ledger_stats_reset);

Datum usage_ledger_stats(PG_FUNCTION_ARGS)
{
    using namespace usage_ledger;

    Datum values[stat_count + 4];
    bool nulls[lengthof(values)];
    memset(nulls, true, sizeof(nulls)); /* the library was not preloaded */
    if (shared != nullptr) {
        WorkerError error = read_worker_error();
        pid_t launcher_pid = 0;
        with_worker_status(
            [&](const WorkerStatus *status) { launcher_pid = status->launcher_pid; });
        for (int i = 0; i < stat_count; i++) {
            values[i] = Int64GetDatum(static_cast<int64>(pg_atomic_read_u64(&shared->stats[i])));
            nulls[i] = false;
        }
        values[stat_count] = Int32GetDatum(launcher_pid);
        nulls[stat_count] = launcher_pid == 0;
        if (error.at != 0) {
            values[stat_count + 1] = text_of_worker(error.message);
            values[stat_count + 2] = TimestampTzGetDatum(error.at);
            nulls[stat_count + 1] = nulls[stat_count + 2] = false;
        }
        values[stat_count + 3] = TimestampTzGetDatum(
            static_cast<TimestampTz>(pg_atomic_read_u64(&shared->stats_reset_at)));
        nulls[stat_count + 3] = false;
    }
    PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(result_type(fcinfo), values, nulls)));
}

Datum usage_ledger_stats_reset(PG_FUNCTION_ARGS)
{
    using namespace usage_ledger;

    if (shared == nullptr) {
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("usage_ledger must be loaded via shared_preload_libraries"),
                        errdetail("Without that no statistics are kept."),
                        errhint("Add it to shared_preload_libraries and restart the server.")));
    }
    for (int i = 0; i < stat_count; i++) {
        pg_atomic_write_u64(&shared->stats[i], 0);
    }
    pg_atomic_write_u64(&shared->stats_reset_at, static_cast<uint64>(GetCurrentTimestamp()));
    forget_worker_errors();
    PG_RETURN_VOID();
}
}
