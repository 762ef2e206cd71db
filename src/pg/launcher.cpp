/*
 * launcher.cpp: the process that starts a settler where one is due.
 *
 * It runs as long as the server does, except on a standby, and is connected to no database.
 * core/schedule.hpp decides what is due; this file executes it. One settler runs at a time,
 * unless one takes longer than others have patience for. A changed setting takes effect with
 * the next visit.
 */
#include "pg/postgres.hpp"

#include "pg/worker.hpp"

#include <algorithm>
#include <iterator>

#include "core/schedule.hpp"
#include "pg/settings.hpp"
#include "pg/stats.hpp"
#include "pg/worker_status.hpp"

extern "C" {
PGDLLEXPORT void usage_ledger_launcher_main(Datum);
}

namespace usage_ledger
{

namespace
{

constexpr int32 database_count = core::settle_databases_max;

/* Each database of worker_status has the same place in these. */
core::Visits visits[database_count];

/* Of a visit in progress. */
struct Settler {
    BackgroundWorkerHandle *handle; /* null: an earlier launcher has started it */
    uint32 round_count;             /* that have been noticed */
    bool is_reported;               /* as silent */
};
Settler settlers[database_count];

/* The names do not all have a place yet. */
bool lacks_places;

int64 now_ms()
{
    instr_time now;
    INSTR_TIME_SET_CURRENT(now);
    return static_cast<int64>(INSTR_TIME_GET_MILLISEC(now));
}

uint64 announced_rows()
{
    return pg_atomic_read_u64(&shared->announced_rows);
}

/* ---- which databases are served ---- */

/* The place of a database, a free one, or -1. */
int32 find_place(const char *name)
{
    int32 place = -1;
    with_worker_status([&](const WorkerStatus *status) {
        for (int32 i = database_count - 1; i >= 0; i--) {
            if (strcmp(status->databases[i].name, name) == 0) {
                place = i;
                return;
            }
            if (status->databases[i].name[0] == '\0') {
                place = i;
            }
        }
    });
    return place;
}

/* Frees the places of databases that are served no longer, once they have no settler. */
void free_places()
{
    with_worker_status([](WorkerStatus *status) {
        for (int32 i = 0; i < database_count; i++) {
            if (!visits[i].is_served && !visits[i].is_in_progress) {
                memset(&status->databases[i], 0, sizeof(DatabaseStatus));
                memset(&visits[i], 0, sizeof(visits[i]));
            }
        }
    });
}

void serve(const char *name)
{
    const int32 place = find_place(name);
    if (place < 0) {
        lacks_places = true;
        return;
    }
    with_worker_status([=](WorkerStatus *status) {
        strlcpy(status->databases[place].name, name, NAMEDATALEN);
        status->databases[place].is_served = true;
    });
    visits[place].is_served = true;
}

/* Gives each database in usage_ledger.settle_databases a place. */
void read_databases()
{
    char *copy = pstrdup(settle_databases);
    List *names;
    if (!SplitIdentifierString(copy, ',', &names)) {
        elog(ERROR, "usage_ledger.settle_databases has not been checked");
    }
    for (core::Visits &database : visits) {
        database.is_served = false;
    }
    with_worker_status([](WorkerStatus *status) {
        for (DatabaseStatus &database : status->databases) {
            database.is_served = false;
        }
    });
    lacks_places = false;
    ListCell *cell;
    foreach (cell, names) {
        serve(static_cast<const char *>(lfirst(cell)));
    }
    list_free(names);
    pfree(copy);
    free_places();
}

/* Settlers outlive the launcher that has started them. */
void adopt_settlers()
{
    for (int32 i = 0; i < database_count; i++) {
        if (read_database_status(i).settler_pid != 0) {
            core::begin_visit(&visits[i], announced_rows(), now_ms());
        }
    }
}

/* ---- visits ---- */

bool start_settler(int32 database, const char *name)
{
    BackgroundWorker worker = make_worker("usage_ledger settler", "usage_ledger_settler_main");
    snprintf(worker.bgw_name, BGW_MAXLEN, "usage_ledger settler for %s", name);
    worker.bgw_restart_time = BGW_NEVER_RESTART;
    worker.bgw_main_arg = Int32GetDatum(database);
    strlcpy(worker.bgw_extra, name, BGW_EXTRALEN);
    worker.bgw_notify_pid = MyProcPid;
    settlers[database] = {nullptr, 0, false};
    return RegisterDynamicBackgroundWorker(&worker, &settlers[database].handle);
}

void end_visit(int32 database)
{
    const DatabaseStatus status = read_database_status(database);
    core::end_visit(&visits[database], status.result, settle_pace(), now_ms());
    if (status.result == core::VisitResult::failed) {
        if (!status.has_reason && !settlers[database].is_reported) {
            set_database_error(database, "no settler could start");
        }
        ereport(LOG, (errmsg("could not settle database \"%s\"; next try in " INT64_FORMAT " ms",
                             status.name, visits[database].backoff_ms)));
    }
}

void begin_visit(int32 database)
{
    char name[NAMEDATALEN];
    with_worker_status([&](WorkerStatus *status) {
        DatabaseStatus *of = &status->databases[database];
        of->round_count = 0;
        of->result = core::VisitResult::failed;
        of->has_reason = false;
        strlcpy(name, of->name, NAMEDATALEN);
    });
    core::begin_visit(&visits[database], announced_rows(), now_ms());
    if (!start_settler(database, name)) {
        char message[128];
        snprintf(message, sizeof(message),
                 "no background worker is free: max_worker_processes is %d", max_worker_processes);
        set_database_error(database, message);
        with_worker_status(
            [=](WorkerStatus *status) { status->databases[database].has_reason = true; });
        end_visit(database);
        return;
    }
    char activity[NAMEDATALEN + 32];
    snprintf(activity, sizeof(activity), "settling database %s", name);
    pgstat_report_activity(STATE_RUNNING, activity);
}

bool has_ended(const Settler &settler, const DatabaseStatus &status)
{
    pid_t pid;
    return settler.handle != nullptr ? GetBackgroundWorkerPid(settler.handle, &pid) == BGWH_STOPPED
                                     : status.settler_pid == 0;
}

void report_if_silent(int32 database, const DatabaseStatus &status)
{
    Settler *settler = &settlers[database];
    if (status.round_count != settler->round_count) {
        settler->round_count = status.round_count;
        settler->is_reported = false;
        visits[database].heard_ms = now_ms();
    }
    if (settler->is_reported || !core::is_silent(visits[database], now_ms())) {
        return;
    }
    char message[128];
    snprintf(message, sizeof(message), "settler process %d has finished no round for %d s",
             static_cast<int>(status.settler_pid), static_cast<int>(core::silence_max_ms / 1000));
    set_database_error(database, message);
    ereport(LOG, (errmsg("database \"%s\": %s", status.name, message)));
    settler->is_reported = true;
}

void watch_visits()
{
    for (int32 i = 0; i < database_count; i++) {
        if (!visits[i].is_in_progress) {
            continue;
        }
        const DatabaseStatus status = read_database_status(i);
        if (!has_ended(settlers[i], status)) {
            report_if_silent(i, status);
            continue;
        }
        if (settlers[i].handle != nullptr) {
            pfree(settlers[i].handle);
        }
        end_visit(i);
    }
}

bool is_visiting()
{
    return std::any_of(std::begin(visits), std::end(visits),
                       [](const core::Visits &database) { return database.is_in_progress; });
}

/* Begins the visits that are due. Returns how long nothing is to be done. */
long run_visits()
{
    watch_visits();
    const core::Pace pace = settle_pace();
    for (;;) {
        const size_t next =
            core::next_visit(visits, database_count, pace, announced_rows(), now_ms());
        if (next == database_count) {
            break;
        }
        begin_visit(static_cast<int32>(next));
    }
    if (!is_visiting()) {
        pgstat_report_activity(STATE_IDLE, "waiting for pending usage");
    }

    /* A session that announces rows from now on sees this, or its rows are counted below. */
    pg_atomic_write_u64(&shared->wake_rows, core::wake_rows(visits, database_count, pace));
    pg_memory_barrier();
    return static_cast<long>(
        core::sleep_ms(visits, database_count, pace, announced_rows(), now_ms()));
}

void set_launcher(pid_t pid)
{
    const TimestampTz now = GetCurrentTimestamp();
    with_worker_status([=](WorkerStatus *status) {
        status->launcher_pid = pid;
        status->has_launcher_run = true;
        status->launcher_gone_at = now;
    });
}

void forget_launcher(int, Datum)
{
    shared->launcher_latch = nullptr;
    set_launcher(0);
}

} // namespace

} // namespace usage_ledger

void usage_ledger_launcher_main(Datum)
{
    using namespace usage_ledger;

    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    pqsignal(SIGTERM, die);
    BackgroundWorkerUnblockSignals();
    BackgroundWorkerInitializeConnection(nullptr, nullptr, 0);

    shared->launcher_latch = MyLatch;
    set_launcher(MyProcPid);
    before_shmem_exit(forget_launcher, Datum(0));
    adopt_settlers();
    read_databases();

    for (;;) {
        const long sleep_ms = run_visits();
        (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, sleep_ms,
                        PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
        if (ConfigReloadPending) {
            ConfigReloadPending = false;
            ProcessConfigFile(PGC_SIGHUP);
            read_databases();
        } else if (lacks_places) {
            read_databases();
        }
    }
}
