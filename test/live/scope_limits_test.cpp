/*
 * Limits of scopes under concurrency: at no level used + live holds pass the limit.
 *
 * LIMITS_MS is the length of each load.
 */
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "connection.hpp"
#include "environment.hpp"
#include "sessions.hpp"

namespace usage_ledger::live
{
namespace
{

constexpr int client_count = 8, call_count_min = 400;
constexpr int team_count = 3, user_count = 4; /* with the account, 16 limits on 3 levels */
constexpr long account_limit = 2000, team_limit = 800, user_limit = 300, tokens_max = 120;

struct Job {
    std::string key, scope;
    long tokens;
};

/* What the events and holds say about each limit, without what the ledger says. */
const char *const excess_sql =
    "WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now)"
    " SELECT l.scope, used.tokens + live.tokens - l.token_limit, l.tokens_held - held.tokens"
    " FROM clock, usage_limits AS l,"
    " LATERAL (SELECT COALESCE(sum(tokens), 0) AS tokens FROM usage_events AS e"
    " WHERE e.account_id = l.account_id AND voided_at IS NULL AND"
    " (l.scope = '' OR split_part(breakdown, E'\\t', 1) || '/' LIKE l.scope || '/%')) AS used,"
    " LATERAL (SELECT COALESCE(sum(tokens), 0) AS tokens FROM usage_holds AS h"
    " WHERE h.account_id = l.account_id AND h.expires_at > now AND"
    " (l.scope = '' OR h.scope || '/' LIKE l.scope || '/%') AND NOT EXISTS (SELECT"
    " FROM usage_events AS e WHERE e.account_id = h.account_id"
    " AND e.idempotency_key = h.idempotency_key)) AS live,"
    " LATERAL (SELECT COALESCE(sum(tokens), 0) AS tokens FROM usage_holds AS h"
    " WHERE h.account_id = l.account_id AND"
    " (l.scope = '' OR h.scope || '/' LIKE l.scope || '/%')) AS held"
    " WHERE l.account_id = $1";

class ScopeClient
{
public:
    ScopeClient(Connection &connection, int session, const std::string &account,
                OutcomeCounts &outcomes)
        : connection_(connection), session_(session), account_(account), outcomes_(outcomes),
          random_(static_cast<unsigned>(session))
    {
        connection_.value("SET deadlock_timeout = '20ms'");
        connection_.value("SET synchronous_commit = off");
    }

    void make_calls(const std::string &settlement)
    {
        connection_.value("SET usage_ledger.settlement = " + settlement);
        Job job = {std::to_string(session_) + ":" + std::to_string(job_count_++), any_scope(),
                   1 + static_cast<long>(random_() % tokens_max)};
        const unsigned die = random_() % 10;
        if (die < 5) {
            reserve_and_record(job);
        } else if (die < 6) {
            /* The work turns out to be for another team. */
            reserve(job, "1 hour");
            job.scope = any_scope();
            reserve_and_record(job);
        } else if (die < 7) {
            reserve(job, std::to_string(1 + random_() % 20) + " ms");
        } else if (die < 8 && !counted_.empty()) {
            call("void", "SELECT * FROM void_usage($1, $2, 'test')", {account_, counted_.back()});
            counted_.pop_back();
        } else {
            spend(job);
        }
    }

private:
    /* Most scopes are of a user, some are of a team or of nobody. */
    std::string any_scope()
    {
        const std::string team = "t" + std::to_string(random_() % team_count);
        const unsigned die = random_() % 10;
        return die == 0   ? ""
               : die == 1 ? team
                          : team + "/u" + std::to_string(random_() % user_count) +
                                (die == 2 ? "/deep" : "");
    }

    bool call(const std::string &kind, const std::string &sql, const std::vector<Value> &parameters)
    {
        const Result result = connection_.run(sql, parameters);
        const std::string outcome = result.is_ok() ? result.text(0, 0) : result.sqlstate();
        outcomes_.add(kind + ": " + outcome);
        return outcome == "reserved" || outcome == "applied" || outcome == "queued";
    }

    bool reserve(const Job &job, const std::string &expires_in)
    {
        return call("reserve", "SELECT * FROM reserve_usage($1, $2, $3, $4, $5)",
                    {account_, std::to_string(job.tokens), job.key, expires_in, job.scope});
    }

    void reserve_and_record(const Job &job)
    {
        if (reserve(job, "1 hour") &&
            call("record", "SELECT * FROM record_usage($1, $2, $3, $4, p_output_tokens => $5)",
                 {account_, job.key, "m" + std::to_string(random_() % 3), job.scope,
                  std::to_string(job.tokens)})) {
            counted_.push_back(job.key);
        }
    }

    void spend(const Job &job)
    {
        if (call("spend", "SELECT * FROM spend_usage($1, $2, $3, p_scope => $4)",
                 {account_, std::to_string(job.tokens), job.key, job.scope})) {
            counted_.push_back(job.key);
        }
    }

    Connection &connection_;
    const int session_;
    const std::string account_;
    OutcomeCounts &outcomes_;
    std::mt19937 random_;
    std::vector<std::string> counted_;
    long job_count_ = 0;
};

class ScopeLimits : public testing::TestWithParam<const char *>
{
protected:
    void set_limits()
    {
        set_limit("", account_limit);
        for (int team = 0; team < team_count; team++) {
            const std::string scope = "t" + std::to_string(team);
            set_limit(scope, team_limit);
            for (int user = 0; user < user_count; user++) {
                set_limit(scope + "/u" + std::to_string(user), user_limit);
            }
        }
    }

    void set_limit(const std::string &scope, long tokens)
    {
        observer_.value("SELECT set_usage_limit($1, $2, $3)",
                        {account_, std::to_string(tokens), scope});
    }

    /* Until the clients are done. */
    void watch()
    {
        Connection connection;
        while (!is_over_) {
            compare(connection.run(excess_sql, {account_}));
            snapshot_count_++;
        }
    }

    void compare(const Result &snapshot)
    {
        for (int row = 0; row < snapshot.row_count(); row++) {
            if (std::stol(snapshot.text(row, 1)) > 0) {
                outcomes_.add("watch: overrun of " + snapshot.text(row, 0));
            }
            if (snapshot.text(row, 2) != "0") {
                outcomes_.add("watch: tokens_held of " + snapshot.text(row, 0) + " differs");
            }
        }
    }

    void settle()
    {
        Connection connection;
        while (!is_over_) {
            connection.value("SELECT settle_usage(20)");
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }
    }

    Connection observer_;
    const std::string account_ = new_account();
    OutcomeCounts outcomes_;
    std::atomic<bool> is_over_{false};
    std::atomic<int> call_count_{0};
    int snapshot_count_ = 0;
};

TEST_P(ScopeLimits, AreNeverOverrunAtAnyLevel)
{
    set_limits();
    const auto end = std::chrono::steady_clock::now() +
                     std::chrono::milliseconds(number_from_environment("LIMITS_MS", 400));
    std::thread watcher([&] { watch(); });
    std::thread settler([&] { settle(); });
    const std::string mode = GetParam();
    const std::vector<std::string> settlements =
        mode == "mixed" ? std::vector<std::string>{"immediate", "adaptive", "deferred"}
                        : std::vector<std::string>{mode};
    in_sessions(client_count, [&](Connection &connection, int session) {
        ScopeClient client(connection, session, account_, outcomes_);
        /* Every second session brings more pairs than fit, so that _other is in the load. */
        connection.value(std::string("SET usage_ledger.max_breakdowns = ") +
                         (session % 2 == 0 ? "9" : "1000"));
        while (std::chrono::steady_clock::now() < end || call_count_ < call_count_min) {
            client.make_calls(settlements[static_cast<size_t>(call_count_) % settlements.size()]);
            call_count_++;
        }
    });
    is_over_ = true;
    watcher.join();
    settler.join();

    EXPECT_GT(snapshot_count_, 0);
    for (const auto &[what, count] : outcomes_.counts()) {
        const std::string outcome = what.substr(what.find(": ") + 2);
        EXPECT_TRUE(outcome == "reserved" || outcome == "limit_reached" || outcome == "applied" ||
                    outcome == "queued" || outcome == "voided" || outcome == "replayed")
            << what << ", " << count << " times";
    }
    EXPECT_GT(outcomes_.counts()["reserve: limit_reached"], 0);
    EXPECT_EQ(observer_.value("SELECT count(*) FROM verify_usage($1)", {account_}), "0");
    /* What each level has used is what its events say, before and after they are folded. */
    const std::string difference =
        "SELECT count(*) FROM usage_balances AS b WHERE account_id = $1 AND tokens_used <> (SELECT"
        " COALESCE(sum(tokens), 0) FROM usage_events AS e WHERE e.account_id = b.account_id"
        " AND voided_at IS NULL AND (b.scope = '' OR"
        " split_part(breakdown, E'\\t', 1) || '/' LIKE b.scope || '/%'))";
    EXPECT_EQ(observer_.value(difference, {account_}), "0");
    observer_.value("SELECT settle_usage()");
    EXPECT_EQ(observer_.value(difference, {account_}), "0");
}

INSTANTIATE_TEST_SUITE_P(Modes, ScopeLimits,
                         testing::Values("immediate", "adaptive", "deferred", "mixed"),
                         [](const auto &info) { return std::string(info.param); });

} // namespace
} // namespace usage_ledger::live
