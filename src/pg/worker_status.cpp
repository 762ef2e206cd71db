#include "pg/postgres.hpp"

#include "pg/worker_status.hpp"

#include <algorithm>

#include "pg/stats.hpp"

namespace usage_ledger
{

WorkerStatus *worker_status;

DatabaseStatus read_database_status(int32 database)
{
    DatabaseStatus copy;
    with_worker_status([&](const WorkerStatus *status) { copy = status->databases[database]; });
    return copy;
}

void set_database_error(int32 database, const char *message)
{
    const int length =
        pg_mbcliplen(message, static_cast<int>(strlen(message)), worker_error_length_max);
    const TimestampTz now = GetCurrentTimestamp();
    with_worker_status([=](WorkerStatus *status) {
        DatabaseStatus *to = &status->databases[database];
        to->error_at = now;
        memcpy(to->error, message, static_cast<size_t>(length));
        to->error[length] = '\0';
    });
}

void forget_worker_errors()
{
    with_worker_status([](WorkerStatus *status) {
        for (DatabaseStatus &database : status->databases) {
            database.error_at = 0;
        }
    });
}

WorkerError read_worker_error()
{
    WorkerError error = {};
    if (RecoveryInProgress()) {
        return error; /* a standby has no worker */
    }
    bool has_launcher = false;
    bool has_launcher_run = false;
    with_worker_status([&](const WorkerStatus *status) {
        has_launcher = status->launcher_pid != 0;
        has_launcher_run = status->has_launcher_run;
        if (!has_launcher) {
            error.at = status->launcher_gone_at;
            return;
        }
        for (const DatabaseStatus &database : status->databases) {
            if (database.is_served && database.error_at > error.at) {
                error.at = database.error_at;
                memcpy(error.message, database.error, sizeof(error.message));
            }
        }
    });
    if (!has_launcher && has_launcher_run) {
        strlcpy(error.message, "the launcher has ended, and will be started again",
                sizeof(error.message));
    } else if (!has_launcher) {
        snprintf(error.message, sizeof(error.message),
                 "the launcher has not started: it needs one of max_worker_processes, which is %d",
                 max_worker_processes);
    }
    return error;
}

Datum text_of_worker(char *text)
{
    const int length = static_cast<int>(strlen(text));
    if (!pg_verifymbstr(text, length, true)) {
        std::replace_if(
            text, text + length, [](char byte) { return IS_HIGHBIT_SET(byte); }, '?');
    }
    return PointerGetDatum(cstring_to_text_with_len(text, length));
}

void init_worker_status()
{
    SpinLockInit(&worker_status->mutex);
    worker_status->launcher_gone_at = GetCurrentTimestamp();
}

} // namespace usage_ledger

extern "C" {

PG_FUNCTION_INFO_V1(usage_ledger_worker);

Datum usage_ledger_worker(PG_FUNCTION_ARGS)
{
    using namespace usage_ledger;

    InitMaterializedSRF(fcinfo, 0);
    const auto *result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    if (worker_status == nullptr) {
        PG_RETURN_NULL(); /* no rows: the library was not preloaded */
    }
    for (int32 i = 0; i < core::settle_databases_max; i++) {
        DatabaseStatus status = read_database_status(i);
        if (!status.is_served) {
            continue;
        }
        const bool has_error = status.error_at != 0;
        const Datum values[] = {
            text_of_worker(status.name),
            Int32GetDatum(status.settler_pid),
            TimestampTzGetDatum(status.settled_at),
            has_error ? text_of_worker(status.error) : Datum(0),
            TimestampTzGetDatum(status.error_at),
        };
        const bool nulls[] = {false, status.settler_pid == 0, status.settled_at == 0, !has_error,
                              !has_error};
        tuplestore_putvalues(result->setResult, result->setDesc, const_cast<Datum *>(values),
                             const_cast<bool *>(nulls));
    }
    PG_RETURN_NULL();
}
}
