/*
 * Settlement modes: mixed between sessions and switched during a session, with retries
 * and concurrent settlers.
 */
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "connection.hpp"
#include "sessions.hpp"

namespace usage_ledger::live
{
namespace
{

TEST(Settlement, MixedModesOnOneAccountCountEveryAcknowledgedKeyOnce)
{
    constexpr int session_count = 32, calls_per_session = 60, settler_count = 3;
    const std::string account = new_account();
    const std::vector<std::string> modes = {"immediate", "adaptive", "deferred"};

    OutcomeCounts outcomes;
    std::atomic<int64_t> tokens_acknowledged{0};
    std::atomic<int> violations{0};
    std::atomic<bool> is_done{false};
    std::vector<std::thread> settlers;
    for (int settler = 0; settler < settler_count; settler++) {
        settlers.emplace_back([&] {
            Connection connection;
            while (!is_done) {
                const Result settled = connection.run("SELECT settle_usage(100)");
                EXPECT_EQ(settled.sqlstate(), "");
                violations +=
                    std::stoi(connection.value("SELECT count(*) FROM verify_usage($1)", {account}));
            }
        });
    }

    in_sessions(session_count, [&](Connection &connection, int session) {
        std::mt19937 random(static_cast<unsigned>(session));
        for (int call = 0; call < calls_per_session; call++) {
            connection.value("SET usage_ledger.settlement = " + modes[random() % modes.size()]);
            const long tokens = static_cast<long>(random() % 1000);
            const std::string key = std::to_string(session) + ":" + std::to_string(call);
            outcomes.add(increment(connection, account, tokens, key));
            tokens_acknowledged += tokens;
            for (unsigned retry = random() % 3; retry > 0; retry--) {
                connection.value("SET usage_ledger.settlement = " + modes[random() % modes.size()]);
                EXPECT_EQ(increment(connection, account, tokens, key).text(0, 0), "replayed");
            }
        }
    });
    is_done = true;
    for (std::thread &settler : settlers) {
        settler.join();
    }

    std::map<std::string, int> counts = outcomes.counts();
    EXPECT_EQ(counts["applied"] + counts["queued"], session_count * calls_per_session);
    EXPECT_GT(counts["applied"], 0);
    EXPECT_GT(counts["queued"], 0);
    EXPECT_EQ(violations, 0);

    Connection connection;
    const std::string total = std::to_string(tokens_acknowledged);
    EXPECT_EQ(connection.value("SELECT tokens_used FROM current_usage($1)", {account}), total);
    connection.value("SELECT settle_usage()");
    EXPECT_EQ(connection.value("SELECT count(*) FROM usage_pending"), "0");
    EXPECT_EQ(
        connection.value("SELECT tokens_used FROM usage_periods WHERE account_id = $1", {account}),
        total);
    EXPECT_EQ(connection.value("SELECT count(*) FROM verify_usage($1)", {account}), "0");
}

TEST(Settlement, AdaptiveAndDeferredNeverWaitForTheCounter)
{
    const std::string account = new_account();
    Connection holder, caller;
    increment(caller, account, 1, "open the period");
    holder.value("BEGIN");
    EXPECT_EQ(increment(holder, account, 10, "held").text(0, 0), "applied");

    caller.value("SET lock_timeout = '1ms'");
    EXPECT_EQ(increment(caller, account, 100, "waits").sqlstate(), "55P03");
    for (const char *mode : {"adaptive", "deferred"}) {
        caller.value(std::string("SET usage_ledger.settlement = ") + mode);
        EXPECT_EQ(increment(caller, account, 100, mode).text(0, 0), "queued");
    }
    EXPECT_EQ(caller.value("SELECT settle_usage()"), "0");

    holder.value("COMMIT");
    EXPECT_EQ(caller.value("SELECT settle_usage()"), "2");
    EXPECT_EQ(
        caller.value("SELECT tokens_used FROM usage_periods WHERE account_id = $1", {account}),
        "211");
}

/* Settlers work on one backlog in parallel, and no row is folded twice. */
TEST(Settlement, ConcurrentSettlersFoldABacklogOnce)
{
    constexpr int account_count = 200, rows_per_account = 2500, session_count = 4;
    Connection connection;
    connection.value("CREATE TABLE backlog_accounts AS SELECT gen_random_uuid() AS account_id"
                     " FROM generate_series(1, $1::integer)",
                     {std::to_string(account_count)});
    connection.value("SELECT count(increment_usage(account_id, 0, 'open')) FROM backlog_accounts");
    connection.value("INSERT INTO usage_pending SELECT account_id, period_start, 1, 1, 0"
                     " FROM backlog_accounts JOIN usage_periods USING (account_id),"
                     " generate_series(1, $1::integer)",
                     {std::to_string(rows_per_account)});

    /* A settler that is cancelled midway has settled nothing. */
    connection.value("SET statement_timeout = '20ms'");
    EXPECT_EQ(connection.run("SELECT settle_usage(500000)").sqlstate(), "57014");
    connection.value("RESET statement_timeout");
    EXPECT_EQ(connection.value("SELECT count(*) FROM usage_pending"),
              std::to_string(account_count * rows_per_account));

    /* A settler that finds no free page range settles nothing and tries again. */
    std::atomic<int64_t> settled{0};
    in_sessions(session_count, [&](Connection &settler, int) {
        constexpr int round_count_max = 1000;
        for (int round = 0;
             round < round_count_max && settler.value("SELECT count(*) FROM usage_pending") != "0";
             round++) {
            settled += std::stol(settler.value("SELECT settle_usage(50000)"));
        }
    });

    EXPECT_EQ(settled, account_count * rows_per_account);
    EXPECT_EQ(connection.value("SELECT min(tokens_used) || ' ' || max(tokens_used) FROM"
                               " usage_periods JOIN backlog_accounts USING (account_id)"),
              std::to_string(rows_per_account) + " " + std::to_string(rows_per_account));

    /* The pending rows had no events. Subtract them, so that the events explain the counters. */
    connection.value("UPDATE usage_periods SET tokens_used = 0, reports_used = 0"
                     " WHERE account_id IN (SELECT account_id FROM backlog_accounts)");
    EXPECT_EQ(connection.value("SELECT count(*) FROM verify_usage()"), "0");
}

} // namespace
} // namespace usage_ledger::live
