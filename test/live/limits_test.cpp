/*
 * Limits and reservations under concurrency: used + live holds never pass a limit.
 *
 * LIMITS_MS is the length of each load.
 */
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <map>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "connection.hpp"
#include "environment.hpp"
#include "limit_load.hpp"
#include "sessions.hpp"

namespace usage_ledger::live
{
namespace
{

int load_duration_ms()
{
    return static_cast<int>(number_from_environment("LIMITS_MS", 400));
}

class LimitsUnderLoad : public testing::TestWithParam<std::tuple<const char *, const char *>>
{
protected:
    /* "mixed" means all others. */
    static std::vector<std::string> choices(const std::string &choice,
                                            const std::vector<std::string> &all)
    {
        return choice == "mixed" ? all : std::vector<std::string>{choice};
    }

    static std::vector<std::string> settlements()
    {
        return choices(std::get<0>(GetParam()), {"immediate", "adaptive", "deferred"});
    }

    static std::vector<std::string> isolation_levels()
    {
        return choices(std::get<1>(GetParam()),
                       {"read committed", "repeatable read", "serializable"});
    }
};

/* As a part of a test's name. */
std::string joined(const std::string &a, const std::string &b)
{
    std::string name = a + "_" + b;
    std::replace(name.begin(), name.end(), ' ', '_');
    return name;
}

std::string name_of(const testing::TestParamInfo<LimitsUnderLoad::ParamType> &info)
{
    return joined(std::get<0>(info.param), std::get<1>(info.param));
}

TEST_P(LimitsUnderLoad, AreNeverOverrun)
{
    LimitLoad load({settlements(), isolation_levels(), false});
    load.run(load_duration_ms());
    load.check();
    for (const char *outcome : {"reserve: reserved", "reserve: limit_reached",
                                "spend: limit_reached", "release: released", "void: voided"}) {
        EXPECT_GT(load.outcomes().counts().count(outcome), 0U) << outcome;
    }
}

INSTANTIATE_TEST_SUITE_P(
    Modes, LimitsUnderLoad,
    testing::Combine(testing::Values("immediate", "adaptive", "deferred", "mixed"),
                     testing::Values("read committed", "repeatable read", "serializable", "mixed")),
    name_of);

class LimitsOfShortPeriods : public LimitsUnderLoad
{
};

/* A period ends every 150 ms, and is closed soon. */
TEST_P(LimitsOfShortPeriods, AreNeverOverrun)
{
    LimitLoad load({settlements(), isolation_levels(), true});
    load.run(3 * load_duration_ms());
    load.check();
}

INSTANTIATE_TEST_SUITE_P(Modes, LimitsOfShortPeriods,
                         testing::Values(std::make_tuple("immediate", "read committed"),
                                         std::make_tuple("mixed", "mixed")),
                         name_of);

/* Runs a body in each session and round. All sessions begin a round together. */
template <typename Body> void in_rounds(int session_count, int round_count, Body body)
{
    std::atomic<int> arrival_count{0};
    in_sessions(session_count, [&](Connection &connection, int session) {
        for (int round = 0; round < round_count; round++) {
            arrival_count++;
            while (arrival_count < session_count * (round + 1)) {
                std::this_thread::yield();
            }
            body(connection, session, round);
        }
    });
}

/* On a slow machine, something has expired before it was used. Then a test tries again. */
constexpr int attempt_count_max = 20;

class Limits : public testing::Test
{
protected:
    void SetUp() override
    {
        observer.value("SET statement_timeout = '30s'"); /* fails rather than hangs */
        set_limit(100);
    }

    void TearDown() override
    {
        EXPECT_EQ(observer.value("SELECT count(*) FROM verify_usage($1)", {account}), "0");
    }

    void set_limit(long limit)
    {
        observer.value("SELECT set_usage_limit($1, $2)", {account, std::to_string(limit)});
    }

    Result reserve(Connection &connection, long tokens, const std::string &key,
                   const std::string &expires_in = "15 minutes")
    {
        return connection.run("SELECT * FROM reserve_usage($1, $2, $3, $4)",
                              {account, std::to_string(tokens), key, expires_in});
    }

    /* The outcome and the tokens that remain. */
    std::string reserved(long tokens, const std::string &key,
                         const std::string &expires_in = "15 minutes")
    {
        const Result result = reserve(observer, tokens, key, expires_in);
        return result.text(0, 0) + " " + result.value(0, 1).value_or("NULL");
    }

    /* Limit, used, held and remaining tokens. */
    std::string balance()
    {
        return observer.value("SELECT concat_ws(' ', token_limit, tokens_used, tokens_held,"
                              " tokens_remaining) FROM usage_balances WHERE account_id = $1",
                              {account});
    }

    void count(long tokens, const std::string &key)
    {
        EXPECT_EQ(increment(observer, account, tokens, key).text(0, 0), "applied") << key;
    }

    bool has_passed(const std::string &time)
    {
        return observer.value("SELECT clock_timestamp() >= $1", {time}) == "t";
    }

    void wait_until(const std::string &time)
    {
        observer.value("SELECT pg_sleep(extract(epoch FROM $1 - clock_timestamp()) + 0.001)",
                       {time});
    }

    Connection observer;
    std::string account = new_account();
};

TEST_F(Limits, UsageWithoutAHoldIsCountedInFull)
{
    EXPECT_EQ(reserved(100, "held"), "reserved 0");
    count(50, "not held");
    EXPECT_EQ(balance(), "100 50 100 0");
    count(100, "held");
    EXPECT_EQ(balance(), "100 150 0 0");
    EXPECT_EQ(reserved(1, "next"), "limit_reached 0");
}

TEST_F(Limits, UsageAboveItsHoldIsCountedInFull)
{
    EXPECT_EQ(reserved(60, "long"), "reserved 40");
    count(130, "long");
    EXPECT_EQ(balance(), "100 130 0 0");
    EXPECT_EQ(reserved(1, "next"), "limit_reached 0");
}

TEST_F(Limits, UsageAfterItsHoldHasExpiredIsCountedInFull)
{
    wait_until(reserve(observer, 100, "late", "1 ms").text(0, 2));
    EXPECT_EQ(reserved(100, "next"), "reserved 0");
    count(100, "late");
    EXPECT_EQ(balance(), "100 100 100 0");
    count(100, "next");
    EXPECT_EQ(balance(), "100 200 0 0");
    EXPECT_EQ(reserved(1, "third"), "limit_reached 0");
}

TEST_F(Limits, ARepeatedReservationReplacesItsHold)
{
    EXPECT_EQ(reserved(60, "stream"), "reserved 40");
    EXPECT_EQ(reserved(60, "stream"), "reserved 40");
    EXPECT_EQ(reserved(100, "stream"), "reserved 0");
    EXPECT_EQ(reserved(101, "stream").substr(0, 13), "limit_reached");
    EXPECT_EQ(balance(), "100 0 100 0");
    EXPECT_EQ(reserved(30, "stream"), "reserved 70");
    EXPECT_EQ(balance(), "100 0 30 70");
}

/* In each round 20 sessions want 30 of 100 tokens of a new account. */
class LimitsAtOnce : public Limits
{
protected:
    static constexpr int session_count = 20, round_count = 20;

    void run(const std::string &setting)
    {
        std::vector<OutcomeCounts> outcomes(round_count);
        in_rounds(session_count, round_count, [&](Connection &connection, int session, int round) {
            if (round == 0) {
                connection.value(setting);
            }
            outcomes[round].add(
                connection.run("SELECT outcome FROM reserve_usage($1, 30, $2)",
                               {accounts[static_cast<size_t>(round)], std::to_string(session)}));
        });
        for (const OutcomeCounts &of_round : outcomes) {
            EXPECT_EQ(of_round.counts(),
                      (std::map<std::string, int>{{"reserved", 3},
                                                  {"limit_reached", session_count - 3}}));
        }
        for (const std::string &id : accounts) {
            EXPECT_EQ(observer.value("SELECT count(*) FROM verify_usage($1)", {id}), "0");
        }
    }

    std::vector<std::string> accounts;
};

TEST_F(LimitsAtOnce, OnlyWhatFitsIsReserved)
{
    for (int round = 0; round < round_count; round++) {
        account = new_account();
        set_limit(100);
        accounts.push_back(account);
    }
    run("SELECT 1");
}

TEST_F(LimitsAtOnce, OnlyWhatFitsTheDefaultIsReservedForUnknownAccounts)
{
    for (int round = 0; round < round_count; round++) {
        accounts.push_back(new_account());
    }
    run("SET usage_ledger.default_token_limit = 100");
}

/* A retry and the count of one key, at the same time: no hold is given back twice. */
TEST_F(Limits, ARetriedReservationNextToItsCountReleasesOnce)
{
    constexpr int session_count = 4, round_count = 100;
    set_limit(10 * round_count + 10);
    reserve(observer, 1, "stays");
    for (int round = 0; round < round_count; round++) {
        ASSERT_EQ(reserve(observer, 10, std::to_string(round)).text(0, 0), "reserved");
    }
    OutcomeCounts outcomes;
    in_rounds(session_count, round_count, [&](Connection &connection, int session, int round) {
        const std::string key = std::to_string(round);
        const Result result = session % 2 == 0 ? increment(connection, account, 10, key)
                                               : reserve(connection, 10, key);
        outcomes.add(result.is_ok() ? "ok" : result.sqlstate());
    });
    EXPECT_EQ(outcomes.counts(), (std::map<std::string, int>{{"ok", session_count * round_count}}));
    EXPECT_EQ(balance(), "1010 1000 1 9");
    EXPECT_EQ(reserved(9, "rest"), "reserved 0");
}

TEST_F(Limits, ARolledBackReservationHoldsNothing)
{
    observer.value("BEGIN");
    EXPECT_EQ(reserved(100, "first"), "reserved 0");
    observer.value("SAVEPOINT before");
    EXPECT_EQ(reserved(50, "first"), "reserved 50");
    EXPECT_EQ(reserved(50, "second"), "reserved 0");
    observer.value("ROLLBACK TO before");
    EXPECT_EQ(reserved(1, "second"), "limit_reached 0");
    observer.value("ROLLBACK");
    EXPECT_EQ(balance(), "100 0 0 100");
    EXPECT_EQ(reserved(100, "second"), "reserved 0");
}

TEST_F(Limits, SpendingIsJudgedByThePeriodOfItsEvent)
{
    const std::string spend =
        "SELECT outcome FROM spend_usage($1, $2, $3, p_occurred_at => now() - $4::interval)";
    const auto spent = [&](long tokens, const std::string &key, const std::string &age) {
        return observer.value(spend, {account, std::to_string(tokens), key, age});
    };
    observer.value("SELECT open_usage_period($1, date_trunc('day', now()) - interval '9 days',"
                   " date_trunc('day', now()) - interval '2 days')",
                   {account});
    EXPECT_EQ(spent(100, "earlier", "5 days"), "applied");
    EXPECT_EQ(spent(1, "earlier too", "5 days"), "limit_reached");
    EXPECT_EQ(spent(100, "now", "0"), "applied");
    EXPECT_EQ(spent(1, "now too", "0"), "limit_reached");
}

/*
 * A hold is counted after a snapshot is taken, and expires. Its usage is not in that snapshot,
 * perhaps not even its period. It takes room nevertheless.
 */
class LimitsOfOldSnapshots : public Limits,
                             public testing::WithParamInterface<std::tuple<const char *, bool>>
{
};

TEST_P(LimitsOfOldSnapshots, TakeIntoAccountWhatWasCountedSince)
{
    const auto [isolation_level, has_period] = GetParam();
    bool is_in_time = false;
    for (int attempt = 0; attempt < attempt_count_max && !is_in_time; attempt++) {
        account = new_account();
        set_limit(100);
        if (has_period) {
            count(0, "opens the period");
        }
        const std::string expires_at = reserve(observer, 90, "short", "300 ms").text(0, 2);
        Connection old;
        old.value(std::string("BEGIN ISOLATION LEVEL ") + isolation_level);
        old.value("SELECT count(*) FROM usage_holds");
        count(90, "short");
        is_in_time = !has_passed(expires_at);
        wait_until(expires_at);
        const Result result = reserve(old, 90, "next");
        const bool commits = old.run("COMMIT").command() == "COMMIT";
        if (is_in_time && result.is_ok() && commits) {
            EXPECT_EQ(result.text(0, 0), "limit_reached");
            EXPECT_EQ(balance(), "100 90 0 10");
        }
    }
    EXPECT_TRUE(is_in_time);
}

INSTANTIATE_TEST_SUITE_P(Modes, LimitsOfOldSnapshots,
                         testing::Combine(testing::Values("repeatable read", "serializable"),
                                          testing::Bool()),
                         [](const testing::TestParamInfo<LimitsOfOldSnapshots::ParamType> &info) {
                             return joined(std::get<0>(info.param), std::get<1>(info.param)
                                                                        ? "of_a_period"
                                                                        : "of_a_new_period");
                         });

bool is_waiting(Connection &observer, Connection &session)
{
    return observer.value("SELECT count(*) FROM pg_stat_activity WHERE pid = $1"
                          " AND wait_event_type = 'Lock'",
                          {std::to_string(PQbackendPID(session.get()))}) == "1";
}

/*
 * A reservation waits until the next period has begun, and a hold is counted there. The
 * reservation has to see that, although its transaction began in the period before.
 */
TEST_F(Limits, AReservationThatWaitsForTheEndOfAPeriodFitsTheNextOne)
{
    bool is_in_time = false;
    for (int attempt = 0; attempt < attempt_count_max && !is_in_time; attempt++) {
        account = new_account();
        set_limit(100);
        const std::string end =
            observer.value("SELECT period_end FROM open_usage_period($1, date_trunc('day', now()),"
                           " date_trunc('milliseconds', now()) + interval '300 ms')",
                           {account});
        EXPECT_EQ(reserved(90, "first"), "reserved 10");
        Connection holder, late;
        holder.value("BEGIN");
        holder.value("SELECT 1 FROM usage_limits WHERE account_id = $1 FOR UPDATE", {account});
        const std::string reservation =
            "SELECT * FROM reserve_usage('" + account + "', 90, 'late')";
        ASSERT_EQ(PQsendQuery(late.get(), reservation.c_str()), 1);
        while (!is_waiting(observer, late)) {
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        is_in_time = !has_passed(end);
        wait_until(end);
        count(90, "first");
        holder.value("COMMIT");
        const Result result(PQgetResult(late.get()));
        EXPECT_EQ(result.text(0, 0), "limit_reached");
        EXPECT_EQ(balance(), "100 90 0 10");
    }
    EXPECT_TRUE(is_in_time);
}

} // namespace
} // namespace usage_ledger::live
