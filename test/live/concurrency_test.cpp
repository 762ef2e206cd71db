/*
 * Concurrent sessions from a client's point of view: READ COMMITTED, autocommit.
 */
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <mutex>
#include <string>

#include "connection.hpp"
#include "sessions.hpp"

namespace usage_ledger::live
{
namespace
{

class Concurrency : public testing::Test
{
protected:
    void TearDown() override
    {
        EXPECT_EQ(observer.value("SELECT count(*) FROM verify_usage($1)", {account}), "0");
    }

    std::string total()
    {
        return observer.value("SELECT sum(tokens_used) FROM usage_totals WHERE account_id = $1",
                              {account});
    }

    std::string period_count()
    {
        return observer.value("SELECT count(*) FROM usage_periods WHERE account_id = $1",
                              {account});
    }

    /* Counts an event at the start of the test, so that no month ends between two calls. */
    Result increment_at_start(Connection &connection, long tokens, const std::string &key)
    {
        return connection.run("SELECT * FROM increment_usage($1, $2, $3, p_occurred_at => $4)",
                              {account, std::to_string(tokens), key, start});
    }

    Connection observer;
    const std::string account = new_account();
    const std::string start = observer.value("SELECT now()");
};

TEST_F(Concurrency, ThirtyTwoSessionsOnOneAccountLoseNothing)
{
    constexpr int session_count = 32, calls_per_session = 50;
    OutcomeCounts outcomes;
    in_sessions(session_count, [&](Connection &connection, int session) {
        for (int call = 0; call < calls_per_session; call++) {
            outcomes.add(increment(connection, account, 3,
                                   std::to_string(session) + ":" + std::to_string(call)));
        }
    });

    EXPECT_EQ(outcomes.counts(),
              (std::map<std::string, int>{{"applied", session_count * calls_per_session}}));
    EXPECT_EQ(total(), std::to_string(3 * session_count * calls_per_session));
}

TEST_F(Concurrency, ConcurrentRetriesOfOneKeyCountOnceAndNeverFail)
{
    constexpr int session_count = 32, round_count = 25;
    increment(observer, account, 0, "open the period");
    for (int round = 0; round < round_count; round++) {
        const std::string key = "round " + std::to_string(round);
        OutcomeCounts outcomes;
        in_sessions(session_count, [&](Connection &connection, int) {
            outcomes.add(increment(connection, account, 7, key));
        });
        ASSERT_EQ(outcomes.counts(),
                  (std::map<std::string, int>{{"applied", 1}, {"replayed", session_count - 1}}));
    }
    EXPECT_EQ(total(), std::to_string(7 * round_count));
}

TEST_F(Concurrency, ConcurrentRetriesOfTheFirstKeyOfAnAccountCountOnce)
{
    constexpr int session_count = 32;
    OutcomeCounts outcomes;
    in_sessions(session_count, [&](Connection &connection, int) {
        outcomes.add(increment_at_start(connection, 7, "first"));
    });
    EXPECT_EQ(outcomes.counts(),
              (std::map<std::string, int>{{"applied", 1}, {"replayed", session_count - 1}}));
    EXPECT_EQ(total(), "7");
    EXPECT_EQ(period_count(), "1");
}

TEST_F(Concurrency, ConcurrentPayloadsOfOneKeyApplyOneAndConflictTheRest)
{
    constexpr int session_count = 16;
    OutcomeCounts outcomes;
    std::atomic<int> applied_tokens{0};
    in_sessions(session_count, [&](Connection &connection, int session) {
        const int tokens = session + 1;
        const Result result = increment(connection, account, tokens, "contested");
        outcomes.add(result);
        if (result.is_ok()) {
            applied_tokens = tokens;
        }
    });
    EXPECT_EQ(outcomes.counts(),
              (std::map<std::string, int>{{"applied", 1}, {"UL001", session_count - 1}}));
    EXPECT_EQ(total(), std::to_string(applied_tokens));
}

TEST_F(Concurrency, FiftySessionsOpenAMissingPeriodOnce)
{
    constexpr int session_count = 50;
    OutcomeCounts outcomes;
    in_sessions(session_count, [&](Connection &connection, int session) {
        outcomes.add(increment_at_start(connection, 11, std::to_string(session)));
    });
    EXPECT_EQ(outcomes.counts(), (std::map<std::string, int>{{"applied", session_count}}));
    EXPECT_EQ(period_count(), "1");
    EXPECT_EQ(total(), std::to_string(11 * session_count));
}

/*
 * However slow the machine is, the first event is in the period, because it is counted in
 * the transaction that opens the period. The last event of each session is after it.
 */
TEST_F(Concurrency, AtAPeriodEndEveryEventIsCountedInItsOwnPeriod)
{
    constexpr int session_count = 16;
    observer.value("SELECT set_usage_cycle($1, '100 years', now() - interval '1 year')", {account});
    std::string end;
    const auto open_period = [&] {
        observer.value("BEGIN");
        end = observer.value("SELECT period_end FROM open_usage_period($1, "
                             "date_trunc('milliseconds', now()) - interval '1 day',"
                             " date_trunc('milliseconds', now()) + interval '1 second')",
                             {account});
        observer.value("SELECT increment_usage($1, 1, 'first')", {account});
        observer.value("COMMIT");
    };

    OutcomeCounts outcomes;
    std::once_flag is_open;
    std::atomic<int> call_count{0};
    in_sessions(session_count, [&](Connection &connection, int session) {
        std::call_once(is_open, open_period);
        bool is_over = false;
        for (int call = 0; !is_over; call++) {
            is_over =
                connection.value("SELECT clock_timestamp() > $1::timestamptz + interval '300 ms'",
                                 {end}) == "t";
            const std::string key = std::to_string(session) + ":" + std::to_string(call);
            outcomes.add(increment(connection, account, 1, key));
            call_count++;
        }
    });

    EXPECT_EQ(outcomes.counts(), (std::map<std::string, int>{{"applied", call_count}}));
    EXPECT_EQ(total(), std::to_string(1 + call_count));
    EXPECT_EQ(period_count(), "2");
    EXPECT_EQ(observer.value("SELECT count(DISTINCT period_start) FROM usage_events"
                             " WHERE account_id = $1",
                             {account}),
              "2");
    EXPECT_EQ(observer.value("SELECT count(*) FROM usage_events AS e JOIN usage_periods AS p"
                             " USING (account_id, period_start)"
                             " WHERE account_id = $1"
                             " AND (occurred_at < p.period_start OR occurred_at >= p.period_end)",
                             {account}),
              "0");

    /* A retry after the end is answered from the period before it. */
    const Result retry = increment(observer, account, 1, "first");
    EXPECT_EQ(retry.text(0, 0), "replayed");
    EXPECT_EQ(retry.text(0, 3), end);
    EXPECT_EQ(total(), std::to_string(1 + call_count));
}

/* One call of each kind on the account's breakdown; call and session choose mode and names. */
void count_broken_down(Connection &connection, const std::string &account, int session, int call)
{
    static const char *const modes[] = {"immediate", "adaptive", "deferred"};
    const std::string key = std::to_string(session) + ":" + std::to_string(call),
                      model = "model " + std::to_string((session + call) % 5),
                      scope =
                          "team " + std::to_string(call % 3) + "/" + std::to_string(session % 4);
    connection.value(std::string("SET usage_ledger.settlement = ") + modes[(session + call) % 3]);
    connection.value("SELECT record_usage($1, $2, $3, $4, 5, 4, 3, 2, 1, -7)",
                     {account, key, model, scope});
    connection.value("SELECT count(*) FROM record_usage_batch(ARRAY[$1, $1, $1]::uuid[],"
                     " ARRAY[$2, $2 || ' second', $2 || ' third'], ARRAY[$3, $3, ''],"
                     " ARRAY[$4, '', $4], ARRAY[5, 6, 7])",
                     {account, key, model, scope}); /* the first item replays or conflicts */
    if (call % 4 == 0) {
        connection.value("SELECT void_usage($1, $2, NULL)", {account, key});
    } else if (call % 5 == 0) {
        connection.value("SELECT settle_usage()");
    }
}

TEST_F(Concurrency, BreakdownIsThatOfTheEventsInEverySnapshot)
{
    constexpr int session_count = 12, calls_per_session = 40;
    std::atomic<int> left(session_count);
    in_sessions(session_count + 1, [&](Connection &connection, int session) {
        connection.value("SET client_min_messages = error");
        connection.value("LOAD 'usage_ledger'");
        connection.value("SET usage_ledger.max_breakdowns = 6");
        for (int call = 0; call < calls_per_session && session < session_count; call++) {
            count_broken_down(connection, account, session, call);
        }
        left -= session < session_count ? 1 : 0;
        while (session == session_count && left > 0) {
            EXPECT_EQ(connection.value("SELECT count(*) FROM verify_usage($1)", {account}), "0");
        }
    });

    observer.value("SELECT settle_usage()");
    EXPECT_EQ(observer.value("SELECT count(*) FROM usage_pending WHERE account_id = $1", {account}),
              "0");
    EXPECT_EQ(
        observer.value("SELECT max(pairs) FROM (SELECT count(*) FILTER (WHERE model <> '_other')"
                       " AS pairs FROM usage_breakdown WHERE account_id = $1"
                       " GROUP BY period_start) AS periods",
                       {account}),
        "6");
    EXPECT_EQ(
        observer.value("SELECT sum(events) FROM usage_breakdown WHERE account_id = $1", {account}),
        std::to_string(session_count * calls_per_session * 11 / 4));
    EXPECT_EQ(total(),
              observer.value("SELECT sum(input_tokens + cache_read_tokens + cache_write_tokens"
                             " + output_tokens + reasoning_tokens)"
                             " FROM usage_breakdown WHERE account_id = $1",
                             {account}));
}

} // namespace
} // namespace usage_ledger::live
