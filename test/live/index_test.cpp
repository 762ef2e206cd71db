/*
 * No index hides a row, although calls write to the indexes while vacuum works on them. A close
 * that reads by an index does not count a row that the index has lost.
 *
 * A BRIN index lost rows that were inserted into a page range that vacuum had just found full and
 * was summarizing. So batches fill page ranges quickly here, while slow sessions are still
 * inserting into the pages that they have begun. Almost every one of their events opens a period,
 * which no summary covers yet. With that index, 20 seconds hid events of several periods.
 *
 * INDEX_SECONDS is the length of the load.
 */
#include <gtest/gtest.h>

#include <chrono>
#include <iostream>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "connection.hpp"
#include "environment.hpp"
#include "sessions.hpp"

namespace usage_ledger::live
{
namespace
{

constexpr int account_count = 2000, batch_account_count = 8;

/* Makes calls of every kind in every settlement mode. */
class Caller
{
public:
    Caller(Connection &connection, int number, const std::vector<std::string> &accounts,
           OutcomeCounts *counts)
        : connection_(connection), accounts_(accounts), key_prefix_(std::to_string(number) + ":"),
          random_(static_cast<unsigned>(number)), counts_(counts), last_(new_event())
    {
    }

    void make_one_call()
    {
        change_settlement();
        const unsigned choice = random(10);
        if (choice < 7) {
            call(new_event());
        } else if (choice < 8) {
            call_in_transaction();
        } else if (choice < 9) {
            call(last_);
        } else {
            counts_->add(connection_.run("SELECT outcome FROM void_usage($1, $2, NULL)",
                                         {last_.account, last_.key}));
        }
    }

    void call_batch()
    {
        change_settlement();
        std::string ids, keys;
        for (int i = 0; i < 1000; i++) {
            const Event event = new_event();
            ids += (i == 0 ? "{" : ",") + event.account;
            keys += (i == 0 ? "{" : ",") + event.key;
        }
        const Result result =
            connection_.run("SELECT DISTINCT outcome FROM increment_usage_batch($1,"
                            " array_fill(1::bigint, ARRAY[1000]), $2)",
                            {ids + "}", keys + "}"});
        counts_->add(result.is_ok() ? "batch" : result.sqlstate());
    }

private:
    struct Event {
        std::string account, key;
    };

    unsigned random(unsigned below)
    {
        return static_cast<unsigned>(random_() % below);
    }

    void change_settlement()
    {
        static const char *const modes[] = {"immediate", "adaptive", "deferred"};
        connection_.value(std::string("SET usage_ledger.settlement = ") + modes[random(3)]);
    }

    Event new_event()
    {
        return {accounts_[random(static_cast<unsigned>(accounts_.size()))],
                key_prefix_ + std::to_string(key_number_++)};
    }

    bool call(const Event &event)
    {
        const Result result = increment(connection_, event.account, 1, event.key);
        counts_->add(result);
        last_ = event;
        return result.is_ok();
    }

    /* All calls are for one account, so that transactions cannot deadlock. */
    void call_in_transaction()
    {
        const std::string account = new_event().account;
        connection_.value("BEGIN");
        for (unsigned calls = 1 + random(3); calls > 0 && call({account, new_event().key});
             calls--) {
        }
        connection_.value(random(3) == 0 ? "ROLLBACK" : "COMMIT");
    }

    Connection &connection_;
    const std::vector<std::string> &accounts_;
    const std::string key_prefix_;
    std::mt19937 random_;
    OutcomeCounts *const counts_;
    int key_number_ = 0;
    Event last_;
};

/* Closes some of the periods that have ended. */
void close_periods(Connection &connection, OutcomeCounts *counts)
{
    const Result ended = connection.run("SELECT account_id, period_start FROM usage_periods"
                                        " WHERE closed_at IS NULL AND period_end < now()"
                                        " ORDER BY random() LIMIT 100");
    for (int row = 0; row < ended.row_count(); row++) {
        counts->add(connection.run("SELECT 'closed' FROM close_usage_period($1, $2)",
                                   {ended.text(row, 0), ended.text(row, 1)}));
    }
}

/*
 * The number of keys of an index by which it does not find as many rows as a sequential scan
 * does.
 */
int keys_with_hidden_rows(Connection &connection, const std::string &index)
{
    connection.value("BEGIN");
    connection.value("SET LOCAL client_min_messages = error");
    /* The planner can choose this index or a sequential scan. */
    connection.value("UPDATE pg_index SET indisvalid = indexrelid = $1::regclass WHERE indrelid ="
                     " (SELECT indrelid FROM pg_index WHERE indexrelid = $1::regclass)",
                     {index});
    const Result parts = connection.run(
        "SELECT indrelid::regclass, string_agg(pg_get_indexdef(indexrelid, k, true), ', '),"
        " string_agg('k' || k, ', '), COALESCE(pg_get_expr(indpred, indrelid), 'true')"
        " FROM pg_index, generate_series(1, indnkeyatts) AS k WHERE indexrelid = $1::regclass"
        " GROUP BY indexrelid, indrelid, indpred",
        {index});
    const std::string table = parts.text(0, 0), columns = parts.text(0, 1),
                      names = parts.text(0, 2), predicate = parts.text(0, 3);

    for (const char *way : {"enable_indexscan", "enable_indexonlyscan", "enable_bitmapscan"}) {
        connection.value(std::string("SET LOCAL ") + way + " = off");
    }
    connection.value("CREATE TEMPORARY TABLE scanned (" + names +
                     ", row_count) ON COMMIT DROP AS"
                     " SELECT " +
                     columns + ", count(*) FROM " + table + " WHERE " + predicate + " GROUP BY " +
                     columns);

    for (const char *way : {"enable_indexscan", "enable_indexonlyscan", "enable_bitmapscan"}) {
        connection.value(std::string("SET LOCAL ") + way + " = on");
    }
    connection.value("SET LOCAL enable_seqscan = off");
    const std::string differing = "SELECT count(*) FROM scanned WHERE row_count <>"
                                  " (SELECT count(*) FROM " +
                                  table + " WHERE (" + columns + ") = (" + names + ") AND " +
                                  predicate + ")";
    std::string plan;
    const Result lines = connection.run("EXPLAIN " + differing);
    for (int row = 0; row < lines.row_count(); row++) {
        plan += lines.text(row, 0) + "\n";
    }
    EXPECT_NE(plan.find(index), std::string::npos) << plan;
    const int count = std::stoi(connection.value(differing));
    connection.value("ROLLBACK");
    return count;
}

/* Autovacuum looks for work every second, and finds some after a few rows. */
class EagerAutovacuum
{
public:
    explicit EagerAutovacuum(Connection &connection) : connection_(connection)
    {
        for (const auto &[name, value] : settings_) {
            connection_.value(std::string("ALTER SYSTEM SET ") + name + " = " + value);
        }
        connection_.value("SELECT pg_reload_conf()");
    }

    ~EagerAutovacuum()
    {
        for (const auto &[name, value] : settings_) {
            connection_.run(std::string("ALTER SYSTEM RESET ") + name);
        }
        connection_.run("SELECT pg_reload_conf()");
    }

    EagerAutovacuum(const EagerAutovacuum &) = delete;
    EagerAutovacuum &operator=(const EagerAutovacuum &) = delete;

private:
    Connection &connection_;
    const std::map<const char *, const char *> settings_ = {
        {"autovacuum_naptime", "1"},
        {"autovacuum_vacuum_threshold", "50"},
        {"autovacuum_vacuum_insert_threshold", "50"}};
};

/* The periods of each begin at a moment of its own. */
std::vector<std::string> accounts_with_short_periods(Connection &connection)
{
    std::vector<std::string> accounts;
    for (int i = 0; i < account_count; i++) {
        accounts.push_back(
            connection.value("SELECT account_id FROM set_usage_cycle(gen_random_uuid(), '3 s',"
                             " now() + $1::integer * interval '1 ms')",
                             {std::to_string(i)}));
    }
    return accounts;
}

/* Lets sessions write for INDEX_SECONDS, and counts what came of their calls and closes. */
void run_load(const std::vector<std::string> &accounts,
              const std::vector<std::string> &batch_accounts, OutcomeCounts *calls,
              OutcomeCounts *closes)
{
    constexpr int slow_count = 16, batches = slow_count, closer = batches + 1, pruner = closer + 1;
    const auto end = std::chrono::steady_clock::now() +
                     std::chrono::seconds(number_from_environment("INDEX_SECONDS", 25));
    in_sessions(pruner + 1, [&](Connection &session, int number) {
        session.value("SET synchronous_commit = off");
        Caller caller(session, number, number == batches ? batch_accounts : accounts, calls);
        while (std::chrono::steady_clock::now() < end) {
            if (number < slow_count) {
                caller.make_one_call();
                session.value("SELECT pg_sleep(random() * 0.02)");
            } else if (number == batches) {
                caller.call_batch();
                session.value("SELECT pg_sleep(0.02)");
            } else if (number == closer) {
                close_periods(session, closes);
            } else {
                session.value("SELECT prune_usage_events(now() - interval '10 s', 2000)");
                session.value("SELECT settle_usage()");
                session.value("SELECT pg_sleep(0.2)");
            }
        }
    });
    for (const OutcomeCounts *counts : {calls, closes}) {
        for (const auto &[outcome, count] : counts->counts()) {
            std::cout << count << " " << outcome << ", ";
        }
    }
    std::cout << std::endl;
}

TEST(Indexes, FindEveryRowWrittenDuringAutovacuum)
{
    Connection connection;
    connection.value("SET synchronous_commit = off");
    empty_ledger(connection);
    const std::vector<std::string> accounts = accounts_with_short_periods(connection);
    std::vector<std::string> batch_accounts;
    for (int i = 0; i < batch_account_count; i++) {
        batch_accounts.push_back(new_account());
    }
    const EagerAutovacuum autovacuum(connection);
    OutcomeCounts calls, closes;
    run_load(accounts, batch_accounts, &calls, &closes);

    const int closed_count = closes.counts()["closed"];
    EXPECT_GT(closed_count, 0);
    EXPECT_EQ(closes.counts(), (std::map<std::string, int>{{"closed", closed_count}}));
    const Result indexes = connection.run(
        "SELECT indexrelid::regclass FROM pg_index WHERE indrelid IN ('usage_accounts'::regclass,"
        " 'usage_periods'::regclass, 'usage_events'::regclass, 'usage_pending'::regclass)");
    EXPECT_GT(indexes.row_count(), 0);
    for (int row = 0; row < indexes.row_count(); row++) {
        const std::string index = indexes.text(row, 0);
        EXPECT_EQ(keys_with_hidden_rows(connection, index), 0) << index;
    }
    EXPECT_EQ(connection.value("SELECT count(*) FROM verify_usage()"), "0");
    empty_ledger(connection);
}

} // namespace
} // namespace usage_ledger::live
