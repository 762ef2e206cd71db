/*
 * worker.cpp: the launcher's registration, and its mailbox: sessions announce the rows that
 * they have queued when they commit.
 */
#include "pg/postgres.hpp"

#include "pg/worker.hpp"

#include "pg/stats.hpp"

namespace usage_ledger
{

namespace
{

/* The launcher restarts this long after it has ended. */
constexpr int launcher_restart_s = 5;

/* Rows that this transaction has queued. */
uint64 queued_row_count;

void announce_queued_rows(XactEvent event, void *)
{
    if (event == XACT_EVENT_COMMIT && queued_row_count > 0) {
        const uint64 before =
            pg_atomic_fetch_add_u64(&shared->announced_rows, static_cast<int64>(queued_row_count));
        const uint64 wake_rows = pg_atomic_read_u64(&shared->wake_rows);
        Latch *latch = shared->launcher_latch;
        if (before < wake_rows && before + queued_row_count >= wake_rows && latch != nullptr) {
            SetLatch(latch);
        }
    }
    /* The rows of a prepared transaction are announced when it is committed. */
    if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE) {
        queued_row_count = 0;
    }
}

ProcessUtility_hook_type previous_process_utility;

/*
 * COMMIT PREPARED, in whatever session, runs no callback of the transaction that it commits.
 * How many rows that has queued is not known.
 */
void notice_commit_prepared(PlannedStmt *statement, const char *sql, bool is_read_only_tree,
                            ProcessUtilityContext context, ParamListInfo parameters,
                            QueryEnvironment *environment, DestReceiver *receiver,
                            QueryCompletion *completion)
{
    /* The statement may be gone once it has been executed. */
    const bool is_commit_prepared =
        IsA(statement->utilityStmt, TransactionStmt) &&
        castNode(TransactionStmt, statement->utilityStmt)->kind == TRANS_STMT_COMMIT_PREPARED;
    (previous_process_utility != nullptr ? previous_process_utility : standard_ProcessUtility)(
        statement, sql, is_read_only_tree, context, parameters, environment, receiver, completion);
    if (is_commit_prepared) {
        note_queued_rows(1);
    }
}

} // namespace

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

void register_launcher()
{
    RegisterXactCallback(announce_queued_rows, nullptr);
    previous_process_utility = ProcessUtility_hook;
    ProcessUtility_hook = notice_commit_prepared;

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
