/*
 * worker.cpp: the launcher, and the settlers that it starts.
 *
 * The launcher runs as long as the server does, except on a standby, and is connected to no
 * database. At every interval, or sooner when many rows are pending, it starts a settler for
 * each database that it serves, one after the other. A settler runs until nothing is left to
 * settle. So no process of ours keeps a database from being dropped, an error needs no cleanup,
 * and a changed setting takes effect in the next round.
 */
#include "pg/postgres.hpp"

#include "pg/worker.hpp"

#include "pg/settings.hpp"
#include "pg/settle.hpp"
#include "pg/stats.hpp"

extern "C" {
PGDLLEXPORT void usage_ledger_launcher_main(Datum);
PGDLLEXPORT void usage_ledger_settler_main(Datum);
}

namespace usage_ledger
{

namespace
{

/* The launcher restarts this long after it has ended. */
constexpr int launcher_restart_s = 5;

/* After a failure, a database is retried after the interval, doubled each time, up to this. */
constexpr long backoff_max_ms = 300000;

/*
 * A database is visited this often even if no session has announced pending rows: some may
 * date from before a restart, or could not be settled then.
 */
constexpr long idle_visit_interval_ms = 10000;

/* ---- in a session that queues usage ---- */

/* Rows that this transaction has queued. */
uint64 queued_row_count;

void publish_queued_rows(XactEvent event, void *)
{
    if (event == XACT_EVENT_COMMIT && queued_row_count > 0) {
        const uint64 before = pg_atomic_fetch_add_u64(&shared->queued_row_count,
                                                      static_cast<int64>(queued_row_count));
        const auto full_round = static_cast<uint64>(settle_row_count);
        Latch *latch = shared->launcher_latch;
        if (before < full_round && before + queued_row_count >= full_round && latch != nullptr) {
            SetLatch(latch);
        }
    }
    if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT) {
        queued_row_count = 0;
    }
}

BackgroundWorker make_worker(const char *type, const char *function)
{
    BackgroundWorker worker = {};
    strlcpy(worker.bgw_name, type, BGW_MAXLEN);
    strlcpy(worker.bgw_type, type, BGW_MAXLEN);
    worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
    strlcpy(worker.bgw_library_name, "usage_ledger", sizeof(worker.bgw_library_name));
    strlcpy(worker.bgw_function_name, function, sizeof(worker.bgw_function_name));
    return worker;
}

/* ---- in the launcher ---- */

struct ServedDatabase {
    char name[NAMEDATALEN];
    bool is_served;
    long backoff_ms; /* 0 unless its last settler failed */
    TimestampTz last_visit_at;
};
List *databases; /* of ServedDatabase, in TopMemoryContext */

ServedDatabase *served_database(const char *name)
{
    ListCell *cell;
    foreach (cell, databases) {
        auto *database = static_cast<ServedDatabase *>(lfirst(cell));
        if (strcmp(database->name, name) == 0) {
            return database;
        }
    }
    MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
    auto *database = static_cast<ServedDatabase *>(palloc0(sizeof(ServedDatabase)));
    strlcpy(database->name, name, NAMEDATALEN);
    databases = lappend(databases, database);
    MemoryContextSwitchTo(caller);
    return database;
}

/* Reads usage_ledger.settle_databases into the list. */
void read_databases()
{
    ListCell *cell;
    foreach (cell, databases) {
        static_cast<ServedDatabase *>(lfirst(cell))->is_served = false;
    }
    char *names = pstrdup(settle_databases);
    List *name_list;
    if (!SplitIdentifierString(names, ',', &name_list)) {
        ereport(LOG, (errmsg("usage_ledger.settle_databases is not a list of names: %s",
                             settle_databases)));
        return;
    }
    foreach (cell, name_list) {
        served_database(static_cast<const char *>(lfirst(cell)))->is_served = true;
    }
    list_free(name_list);
    pfree(names);
}

/* Starts a settler and waits until it has stopped. Returns whether it succeeded. */
bool run_settler(const ServedDatabase &database)
{
    BackgroundWorker settler = make_worker("usage_ledger settler", "usage_ledger_settler_main");
    snprintf(settler.bgw_name, BGW_MAXLEN, "usage_ledger settler for %s", database.name);
    settler.bgw_restart_time = BGW_NEVER_RESTART;
    strlcpy(settler.bgw_extra, database.name, BGW_EXTRALEN);
    settler.bgw_notify_pid = MyProcPid;

    shared->has_settler_succeeded = false;
    BackgroundWorkerHandle *handle;
    if (!RegisterDynamicBackgroundWorker(&settler, &handle)) {
        ereport(LOG,
                (errmsg("no background worker is free to settle database \"%s\"", database.name),
                 errhint("Raise max_worker_processes.")));
        return false;
    }
    if (WaitForBackgroundWorkerShutdown(handle) == BGWH_POSTMASTER_DIED) {
        proc_exit(1);
    }
    pfree(handle);
    return shared->has_settler_succeeded;
}

bool is_due(const ServedDatabase &database, bool has_pending, TimestampTz now)
{
    const long wait_ms = database.backoff_ms > 0 ? database.backoff_ms
                         : has_pending           ? 0
                                                 : idle_visit_interval_ms;
    return database.is_served &&
           TimestampDifferenceExceeds(database.last_visit_at, now, static_cast<int>(wait_ms));
}

void visit(ServedDatabase *database)
{
    char activity[NAMEDATALEN + 32];
    snprintf(activity, sizeof(activity), "settling database %s", database->name);
    pgstat_report_activity(STATE_RUNNING, activity);

    const TimestampTz started_at = GetCurrentTimestamp();
    if (run_settler(*database)) {
        database->backoff_ms = 0;
    } else {
        if (!has_worker_error_since(started_at)) {
            char message[NAMEDATALEN + 64];
            snprintf(message, sizeof(message), "no settler for database \"%s\" could start",
                     database->name);
            set_worker_error(message);
        }
        database->backoff_ms =
            Min(Max(2 * database->backoff_ms, 2L * settle_interval_ms), backoff_max_ms);
        ereport(LOG, (errmsg("could not settle database \"%s\"; next try in %ld ms", database->name,
                             database->backoff_ms)));
    }
    database->last_visit_at = GetCurrentTimestamp();
}

void run_round()
{
    const bool has_pending = pg_atomic_exchange_u64(&shared->queued_row_count, 0) > 0;
    ListCell *cell;
    foreach (cell, databases) {
        auto *database = static_cast<ServedDatabase *>(lfirst(cell));
        if (is_due(*database, has_pending, GetCurrentTimestamp())) {
            visit(database);
        }
    }
    pgstat_report_activity(STATE_IDLE, "waiting for pending usage");
}

/* The latch may have been set and reset while the launcher waited for a settler. */
bool is_round_full()
{
    return pg_atomic_read_u64(&shared->queued_row_count) >= static_cast<uint64>(settle_row_count);
}

void forget_launcher(int, Datum)
{
    shared->launcher_latch = nullptr;
    set_launcher(0);
}

/* ---- in a settler ---- */

/* Settles the rows of a round in one transaction. Returns how many. */
int64 settle_round()
{
    int64 settled_row_count = 0;
    SetCurrentStatementStartTimestamp();
    StartTransactionCommand();
    PushActiveSnapshot(GetTransactionSnapshot());
    if (OidIsValid(get_extension_oid("usage_ledger", true))) {
        SPI_connect();
        settled_row_count = settle(settle_row_count);
        SPI_finish();
    }
    PopActiveSnapshot();
    CommitTransactionCommand();
    return settled_row_count;
}

/* An error ends the settler; usage_ledger_stats shows it. */
void settle_all()
{
    PG_TRY();
    {
        while (settle_round() == settle_row_count) {
            CHECK_FOR_INTERRUPTS();
        }
    }
    PG_CATCH();
    {
        MemoryContextSwitchTo(TopMemoryContext);
        set_worker_error(CopyErrorData()->message);
        PG_RE_THROW();
    }
    PG_END_TRY();
}

} // namespace

void register_launcher()
{
    RegisterXactCallback(publish_queued_rows, nullptr);

    /*
     * pg_upgrade reads the old cluster's next transaction id before it starts the server. What
     * is written after that is lost in the new cluster.
     */
    if (IsBinaryUpgrade) {
        return;
    }

    BackgroundWorker launcher = make_worker("usage_ledger launcher", "usage_ledger_launcher_main");
    launcher.bgw_restart_time = launcher_restart_s;
    RegisterBackgroundWorker(&launcher);
}

void note_queued_rows(uint64 row_count)
{
    if (shared != nullptr) {
        queued_row_count += row_count;
    }
}

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
    read_databases();

    for (;;) {
        run_round();
        (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
                        is_round_full() ? 0 : settle_interval_ms, PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
        if (ConfigReloadPending) {
            ConfigReloadPending = false;
            ProcessConfigFile(PGC_SIGHUP);
            read_databases();
        }
    }
}

void usage_ledger_settler_main(Datum)
{
    using namespace usage_ledger;

    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    pqsignal(SIGTERM, die);
    BackgroundWorkerUnblockSignals();
    BackgroundWorkerInitializeConnection(MyBgworkerEntry->bgw_extra, nullptr, 0);

    pgstat_report_activity(STATE_RUNNING, "settling pending usage");
    settle_all();
    pgstat_report_activity(STATE_IDLE, nullptr);
    shared->has_settler_succeeded = true;
}
