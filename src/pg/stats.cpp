/*
 * stats.cpp: the statistics in shared memory, which a file keeps over a clean restart.
 */
#include "pg/postgres.hpp"

#include "pg/stats.hpp"

#include <algorithm>

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
    WorkerStatus worker_status;
};
constexpr uint32 saved_version = 0x554C0002;

/* The worker's message may be in another database's encoding, and invalid in this one's. */
Datum text_of_worker_error(char *message)
{
    const int length = static_cast<int>(strlen(message));
    if (!pg_verifymbstr(message, length, true)) {
        std::replace_if(
            message, message + length, [](char byte) { return IS_HIGHBIT_SET(byte); }, '?');
    }
    return PointerGetDatum(cstring_to_text_with_len(message, length));
}

WorkerStatus read_worker_status()
{
    SpinLockAcquire(&shared->mutex);
    const WorkerStatus status = shared->worker_status;
    SpinLockRelease(&shared->mutex);
    return status;
}

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
    shared->worker_status = saved.worker_status;
    shared->worker_status.launcher_pid = 0;
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
    saved.worker_status = read_worker_status();

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
    SpinLockInit(&shared->mutex);
    pg_atomic_init_u64(&shared->queued_row_count, 0);
    for (int i = 0; i < stat_count; i++) {
        pg_atomic_init_u64(&shared->stats[i], 0);
    }
    shared->worker_status.stats_reset_at = GetCurrentTimestamp();
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

void set_worker_error(const char *message)
{
    const int length =
        pg_mbcliplen(message, static_cast<int>(strlen(message)), worker_error_length_max);
    const TimestampTz now = GetCurrentTimestamp();
    SpinLockAcquire(&shared->mutex);
    shared->worker_status.error_at = now;
    memcpy(shared->worker_status.error, message, static_cast<size_t>(length));
    shared->worker_status.error[length] = '\0';
    SpinLockRelease(&shared->mutex);
}

bool has_worker_error_since(TimestampTz time)
{
    return read_worker_status().error_at >= time;
}

void set_launcher(pid_t pid)
{
    SpinLockAcquire(&shared->mutex);
    shared->worker_status.launcher_pid = pid;
    SpinLockRelease(&shared->mutex);
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
        WorkerStatus status = read_worker_status();
        for (int i = 0; i < stat_count; i++) {
            values[i] = Int64GetDatum(static_cast<int64>(pg_atomic_read_u64(&shared->stats[i])));
            nulls[i] = false;
        }
        values[stat_count] = Int32GetDatum(status.launcher_pid);
        nulls[stat_count] = status.launcher_pid == 0;
        if (status.error_at != 0) {
            values[stat_count + 1] = text_of_worker_error(status.error);
            values[stat_count + 2] = TimestampTzGetDatum(status.error_at);
            nulls[stat_count + 1] = nulls[stat_count + 2] = false;
        }
        values[stat_count + 3] = TimestampTzGetDatum(status.stats_reset_at);
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
    const TimestampTz now = GetCurrentTimestamp();
    SpinLockAcquire(&shared->mutex);
    shared->worker_status.stats_reset_at = now;
    shared->worker_status.error_at = 0;
    shared->worker_status.error[0] = '\0';
    SpinLockRelease(&shared->mutex);
    PG_RETURN_VOID();
}
}
