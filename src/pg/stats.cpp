/*
 * stats.cpp: the statistics in shared memory, kept in a file over a clean restart.
 */
#include "pg/postgres.hpp"

#include "pg/stats.hpp"

#include <algorithm>

#include "pg/errors.hpp"

namespace usage_ledger
{

namespace
{

constexpr const char *file_name = PGSTAT_STAT_PERMANENT_DIRECTORY "/usage_ledger.stat";
constexpr const char *temporary_file_name = PGSTAT_STAT_PERMANENT_DIRECTORY "/usage_ledger.tmp";

/* What is in the file; another version of it is ignored. */
struct Saved {
    uint32 version;
    uint64 stats[stat_count];
    TimestampTz stats_reset_at;
    TimestampTz worker_error_at;
    char worker_error[worker_error_length_max + 1];
};
constexpr uint32 saved_version = 0x554C0001;

/* The worker's message may be in the encoding of another database, and no text in ours. */
Datum text_of_worker_error(char *message)
{
    const int length = static_cast<int>(strlen(message));
    if (!pg_verifymbstr(message, length, true)) {
        std::replace_if(
            message, message + length, [](char byte) { return IS_HIGHBIT_SET(byte); }, '?');
    }
    return PointerGetDatum(cstring_to_text_with_len(message, length));
}

/* What can be read of the shared memory under its lock. */
struct Noted {
    TimestampTz stats_reset_at;
    TimestampTz worker_error_at;
    char worker_error[worker_error_length_max + 1];
    pid_t launcher_pid;
};

Noted read_noted()
{
    Noted noted;
    SpinLockAcquire(&shared->mutex);
    noted.stats_reset_at = shared->stats_reset_at;
    noted.worker_error_at = shared->worker_error_at;
    memcpy(noted.worker_error, shared->worker_error, sizeof(noted.worker_error));
    noted.launcher_pid = shared->launcher_pid;
    SpinLockRelease(&shared->mutex);
    return noted;
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
    (void)unlink(file_name); /* or a crash would bring old figures back */
    if (!is_read || saved.version != saved_version) {
        ereport(LOG, (errmsg("ignoring statistics in \"%s\"", file_name)));
        return;
    }
    for (int i = 0; i < stat_count; i++) {
        pg_atomic_write_u64(&shared->stats[i], saved.stats[i]);
    }
    shared->stats_reset_at = saved.stats_reset_at;
    shared->worker_error_at = saved.worker_error_at;
    strlcpy(shared->worker_error, saved.worker_error, sizeof(shared->worker_error));
}

void save(int code, Datum)
{
    if (code != 0) {
        return;
    }
    const Noted noted = read_noted();
    Saved saved = {};
    saved.version = saved_version;
    for (int i = 0; i < stat_count; i++) {
        saved.stats[i] = pg_atomic_read_u64(&shared->stats[i]);
    }
    saved.stats_reset_at = noted.stats_reset_at;
    saved.worker_error_at = noted.worker_error_at;
    strlcpy(saved.worker_error, noted.worker_error, sizeof(saved.worker_error));

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

} // namespace

void note_worker_error(const char *message)
{
    const int length =
        pg_mbcliplen(message, static_cast<int>(strlen(message)), worker_error_length_max);
    const TimestampTz now = GetCurrentTimestamp();
    SpinLockAcquire(&shared->mutex);
    shared->worker_error_at = now;
    memcpy(shared->worker_error, message, static_cast<size_t>(length));
    shared->worker_error[length] = '\0';
    SpinLockRelease(&shared->mutex);
}

bool has_worker_error_since(TimestampTz time)
{
    return read_noted().worker_error_at >= time;
}

void note_launcher(pid_t pid)
{
    SpinLockAcquire(&shared->mutex);
    shared->launcher_pid = pid;
    SpinLockRelease(&shared->mutex);
}

void init_stats()
{
    SpinLockInit(&shared->mutex);
    for (int i = 0; i < stat_count; i++) {
        pg_atomic_init_u64(&shared->stats[i], 0);
    }
    shared->stats_reset_at = GetCurrentTimestamp();
    if (!IsUnderPostmaster) {
        on_shmem_exit(save, Datum(0));
        load();
    }
}

} // namespace usage_ledger

extern "C" {

PG_FUNCTION_INFO_V1(usage_ledger_stats);
PG_FUNCTION_INFO_V1(usage_ledger_stats_reset);

Datum usage_ledger_stats(PG_FUNCTION_ARGS)
{
    using namespace usage_ledger;

    TupleDesc type;
    if (get_call_result_type(fcinfo, nullptr, &type) != TYPEFUNC_COMPOSITE) {
        elog(ERROR, "usage_ledger_stats must return a row");
    }

    Datum values[stat_count + 4];
    bool nulls[lengthof(values)];
    memset(nulls, true, sizeof(nulls)); /* not preloaded: nothing is known */
    if (shared != nullptr) {
        Noted noted = read_noted();
        const bool has_error = noted.worker_error_at != 0;
        for (int i = 0; i < stat_count; i++) {
            values[i] = Int64GetDatum(static_cast<int64>(pg_atomic_read_u64(&shared->stats[i])));
            nulls[i] = false;
        }
        values[stat_count] = Int32GetDatum(noted.launcher_pid);
        nulls[stat_count] = noted.launcher_pid == 0;
        if (has_error) {
            values[stat_count + 1] = text_of_worker_error(noted.worker_error);
            values[stat_count + 2] = TimestampTzGetDatum(noted.worker_error_at);
            nulls[stat_count + 1] = nulls[stat_count + 2] = false;
        }
        values[stat_count + 3] = TimestampTzGetDatum(noted.stats_reset_at);
        nulls[stat_count + 3] = false;
    }
    PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(type, values, nulls)));
}

Datum usage_ledger_stats_reset(PG_FUNCTION_ARGS)
{
    using namespace usage_ledger;

    if (shared == nullptr) {
        raise_not_preloaded();
    }
    for (int i = 0; i < stat_count; i++) {
        pg_atomic_write_u64(&shared->stats[i], 0);
    }
    const TimestampTz now = GetCurrentTimestamp();
    SpinLockAcquire(&shared->mutex);
    shared->stats_reset_at = now;
    shared->worker_error_at = 0;
    shared->worker_error[0] = '\0';
    SpinLockRelease(&shared->mutex);
    PG_RETURN_VOID();
}
}
