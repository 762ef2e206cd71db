/*
 * settler.cpp: a settler of the background worker. It settles what is pending in one database,
 * round by round, and ends when nothing is left. So no process of ours keeps a database from
 * being dropped, and an error needs no cleanup.
 */
#include "pg/postgres.hpp"

#include "pg/worker.hpp"

#include "core/schedule.hpp"
#include "pg/holds.hpp"
#include "pg/settings.hpp"
#include "pg/settle.hpp"
#include "pg/spi.hpp"
#include "pg/subscriber.hpp"
#include "pg/worker_status.hpp"

extern "C" {
PGDLLEXPORT void usage_ledger_settler_main(Datum);
}

namespace usage_ledger
{

namespace
{

int32 my_database; /* in worker_status */

template <typename Function> void with_my_status(Function function)
{
    with_worker_status(
        [function](WorkerStatus *status) { function(&status->databases[my_database]); });
}

emit_log_hook_type previous_emit_log_hook;

/* Every error that ends the settler passes here, also one that keeps it from connecting. */
void note_error(ErrorData *error)
{
    if (error->elevel >= ERROR && error->message != nullptr) {
        set_database_error(my_database, error->message);
        with_my_status([](DatabaseStatus *status) { status->has_reason = true; });
    }
    if (previous_emit_log_hook != nullptr) {
        previous_emit_log_hook(error);
    }
}

void note_end(int, Datum)
{
    with_my_status([](DatabaseStatus *status) { status->settler_pid = 0; });
}

void note_start(int32 database)
{
    my_database = database;
    with_my_status([](DatabaseStatus *status) { status->settler_pid = MyProcPid; });
    before_shmem_exit(note_end, Datum(0));
    previous_emit_log_hook = emit_log_hook;
    emit_log_hook = note_error;
}

void note_round()
{
    const TimestampTz now = GetCurrentTimestamp();
    with_my_status([now](DatabaseStatus *status) {
        status->round_count++;
        status->settled_at = now;
        status->error_at = 0;
    });
}

/*
 * Sets what settling depends on, so that no setting of the database, of a role or of the server
 * stops it. The source outranks all of these. The user is set for each round.
 *
 * A commit waits for no standby, because the settler holds counters until it ends. If the
 * commit is lost in a failover, the rows are still pending.
 */
void set_dependencies()
{
    static const char *const settings[][2] = {
        {"search_path", "pg_catalog, pg_temp"},
        {"row_security", "on"},
        {"session_replication_role", "origin"},
        {"default_transaction_isolation", "read committed"},
        {"default_transaction_read_only", "off"},
        {"default_transaction_deferrable", "off"},
        {"synchronous_commit", "local"},
        {"statement_timeout", "0"},
        {"idle_in_transaction_session_timeout", "0"},
#if PG_VERSION_NUM >= 170000
        {"transaction_timeout", "0"},
#endif
        {"exit_on_error", "off"},
        {"enable_indexscan", "on"},
        {"enable_tidscan", "on"},
        {"enable_nestloop", "on"},
        {"plan_cache_mode", "auto"},
    };
    for (const auto &setting : settings) {
        SetConfigOption(setting[0], setting[1], PGC_SUSET, PGC_S_OVERRIDE);
    }
}

/* Also while it connects: the database itself may be locked. */
void limit_lock_waits()
{
    char limit_ms[32];
    snprintf(limit_ms, sizeof(limit_ms), INT64_FORMAT, core::lock_wait_max_ms(settle_pace()));
    SetConfigOption("lock_timeout", limit_ms, PGC_SUSET, PGC_S_OVERRIDE);
}

/* Why nothing may be settled in this database, or null. */
const char *reason_to_pass_over()
{
    if (!OidIsValid(get_extension_oid("usage_ledger", true))) {
        return "extension usage_ledger is not installed";
    }
    const Feed feed = find_feed();
    return feed.table == nullptr
               ? nullptr
               : psprintf("subscription \"%s\" feeds table \"%s\", so the publisher settles",
                          feed.subscription, feed.table);
}

/* Says why once, not at every visit. */
void pass_over(const char *reason)
{
    const DatabaseStatus before = read_database_status(my_database);
    set_database_error(my_database, reason);
    if (before.error_at == 0 || strcmp(before.error, reason) != 0) {
        ereport(LOG, (errmsg("database \"%s\" is not settled: %s", before.name, reason)));
    }
}

/* Does a step of the settler's work in one transaction. False: nothing may be done here. */
template <typename Step> bool run_step(Step step)
{
    SetCurrentStatementStartTimestamp();
    StartTransactionCommand();
    BeginTransactionBlock(); /* otherwise Citus commits each statement on another node by itself */
    CommitTransactionCommand();
    StartTransactionCommand();
    PushActiveSnapshot(GetTransactionSnapshot());
    Oid user;
    int context;
    GetUserIdAndSecContext(&user, &context);
    SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, context | SECURITY_LOCAL_USERID_CHANGE);

    const char *reason = reason_to_pass_over();
    if (reason != nullptr) {
        pass_over(reason);
    } else {
        SPI_connect();
        step();
        SPI_finish();
    }

    SetUserIdAndSecContext(user, context);
    PopActiveSnapshot();
    EndTransactionBlock(false);
    CommitTransactionCommand();
    return reason == nullptr;
}

/* Dead holds do no harm but to take space, so not every visit looks for them. */
bool sweep_is_due()
{
    bool is_due = false;
    const TimestampTz now = GetCurrentTimestamp();
    with_my_status([&](DatabaseStatus *status) {
        const int64 since_us = now - status->swept_at;
        is_due = since_us < 0 || since_us >= core::sweep_interval_ms * 1000;
    });
    return is_due;
}

/* Of a distributed ledger, the coordinator sweeps for all nodes. */
bool sweeps_here()
{
    if (!is_distributed()) {
        return true;
    }
    if (SPI_execute("SELECT groupid FROM pg_catalog.pg_dist_local_group", true, 1) !=
        SPI_OK_SELECT) {
        elog(ERROR, "could not look for the group of this node");
    }
    return DatumGetInt32(required_column(1)) == 0;
}

void sweep()
{
    core::CounterId account = {};
    bool has_more = true;
    while (has_more) {
        CHECK_FOR_INTERRUPTS();
        if (!run_step([&] { has_more = sweeps_here() && sweep_dead_holds(&account); })) {
            return;
        }
        note_round();
    }
    const TimestampTz now = GetCurrentTimestamp();
    with_my_status([now](DatabaseStatus *status) { status->swept_at = now; });
}

core::VisitResult settle_all()
{
    Settled settled;
    do {
        CHECK_FOR_INTERRUPTS();
        if (!run_step([&] { settled = settle(settle_row_count, Accounts::of_node); })) {
            return core::VisitResult::done;
        }
        note_round();
    } while (settled.row_count == settle_row_count);
    if (sweep_is_due()) {
        sweep();
    }
    return settled.has_left_rows ? core::VisitResult::rows_left : core::VisitResult::done;
}

} // namespace

} // namespace usage_ledger

void usage_ledger_settler_main(Datum database)
{
    using namespace usage_ledger;

    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    pqsignal(SIGTERM, die);
    note_start(DatumGetInt32(database));
    BackgroundWorkerUnblockSignals();
    limit_lock_waits();
    set_dependencies();
    BackgroundWorkerInitializeConnection(MyBgworkerEntry->bgw_extra, nullptr, 0);

    pgstat_report_activity(STATE_RUNNING, "settling pending usage");
    const core::VisitResult result = settle_all();
    pgstat_report_activity(STATE_IDLE, nullptr);
    with_my_status([result](DatabaseStatus *status) { status->result = result; });
}
