/*
 * The contract with a single client: transactions, SQLSTATEs, and a session whose memory
 * does not grow.
 */
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "connection.hpp"

namespace usage_ledger::live
{
namespace
{

class Contract : public testing::Test
{
protected:
    Connection connection;
    const std::string account = new_account();
};

TEST_F(Contract, UsageAndABusinessRowCommitOrRollBackTogether)
{
    connection.value("CREATE TEMPORARY TABLE reports (title text)");
    const auto reports_and_tokens = [this] {
        return connection.value("SELECT count(*) || ' ' || COALESCE("
                                "(SELECT sum(tokens_used) FROM usage_totals WHERE account_id = $1),"
                                " 0) FROM reports",
                                {account});
    };

    for (const char *end : {"ROLLBACK", "COMMIT"}) {
        connection.value("BEGIN");
        connection.value("INSERT INTO reports VALUES ('quarterly')");
        EXPECT_EQ(increment(connection, account, 500, "quarterly").text(0, 0), "applied");
        EXPECT_EQ(reports_and_tokens(), "1 500");
        connection.value(end);
        EXPECT_EQ(reports_and_tokens(), end == std::string("COMMIT") ? "1 500" : "0 0");
    }
}

TEST_F(Contract, AnErrorRollsBackTheBusinessRow)
{
    connection.value("CREATE TEMPORARY TABLE reports (title text)");
    increment(connection, account, 500, "taken");

    connection.value("BEGIN");
    connection.value("INSERT INTO reports VALUES ('quarterly')");
    EXPECT_EQ(increment(connection, account, 501, "taken").sqlstate(), "UL001");
    EXPECT_EQ(connection.run("COMMIT").sqlstate(), "");
    EXPECT_EQ(connection.value("SELECT count(*) FROM reports"), "0");
}

TEST_F(Contract, EveryErrorHasItsSqlstateDetailAndHint)
{
    const std::string closed = new_account(), full = new_account();
    increment(connection, account, 1, "taken");
    increment(connection, closed, 1, "before");
    connection.value("UPDATE usage_periods SET closed_at = now() WHERE account_id = $1", {closed});
    connection.value(
        "SELECT open_usage_period($1, date_trunc('milliseconds', now()) - interval '1 day',"
        " date_trunc('milliseconds', now()) + interval '1 day', 9223372036854775807)",
        {full});

    /* DETAIL must name the account, and the key if the call has one. */
    const auto expect_error = [](const std::string &sqlstate, const Value &of_account,
                                 const Value &key, const Result &result) {
        const std::string detail = result.error_field(PG_DIAG_MESSAGE_DETAIL);
        EXPECT_EQ(result.sqlstate(), sqlstate) << detail;
        EXPECT_NE(detail.find(of_account.value_or("NULL")), std::string::npos) << detail;
        EXPECT_NE(detail.find(key.value_or("NULL").substr(0, 32)), std::string::npos) << detail;
        EXPECT_NE(result.error_field(PG_DIAG_MESSAGE_HINT), "") << sqlstate;
    };

    struct Case {
        const char *sqlstate;
        Value account, tokens, key, occurred_at;
    };
    const std::vector<Case> cases = {
        {"UL001", account, "2", "taken", {}},
        {"UL003", closed, "1", "after", {}},
        {"22003", full, "1", "one more", {}},
        {"22004", {}, "1", "k", {}},
        {"22004", account, {}, "k", {}},
        {"22004", account, "1", {}, {}},
        {"22023", account, "1", "", {}},
        {"22023", account, "1", std::string(256, 'k'), {}},
        {"22023", account, "-1", "k", {}},
        {"22023", account, "1000000000001", "k", {}},
        {"UL005", account, "1", "k", "infinity"},
        {"UL005", account, "1", "k", "2001-01-01"},
        {"UL005", account, "1", "k", "2999-01-01"},
    };
    for (const Case &c : cases) {
        expect_error(c.sqlstate, c.account, c.key,
                     connection.run("SELECT increment_usage($1, $2, $3, p_occurred_at => $4)",
                                    {c.account, c.tokens, c.key, c.occurred_at}));
    }

    const std::string unknown = new_account();
    connection.value("SET usage_ledger.unknown_account = 'reject'");
    expect_error("UL002", unknown, "k", increment(connection, unknown, 1, "k"));
    expect_error("UL004", account, "not counted",
                 connection.run("SELECT void_usage($1, 'not counted', NULL)", {account}));
    expect_error("23P01", full, "",
                 connection.run("SELECT open_usage_period($1, date_trunc('milliseconds', now()), "
                                "date_trunc('milliseconds', now()) + interval '1 hour')",
                                {full}));
}

/*
 * A replay writes nothing, but PostgreSQL refuses the INSERT that finds its key before the
 * INSERT runs. So a replay fails too, unless something else makes the call look the key up
 * first. Here that is the time of the event.
 */
TEST_F(Contract, AReadOnlyTransactionRefusesNewEventsAndMostReplays)
{
    increment(connection, account, 1, "before");
    connection.value("SET default_transaction_read_only = on");
    EXPECT_EQ(increment(connection, account, 1, "fresh").sqlstate(), "25006");
    EXPECT_EQ(increment(connection, new_account(), 1, "fresh").sqlstate(), "25006");
    EXPECT_EQ(increment(connection, account, 1, "before").sqlstate(), "25006");
    EXPECT_EQ(connection.value("SELECT outcome FROM increment_usage($1, 1, 'before',"
                               " p_occurred_at => '2001-01-01')",
                               {account}),
              "replayed");
}

TEST_F(Contract, TwoHundredThousandCallsDoNotGrowTheSession)
{
    constexpr int batch_size = 1000, warm_up_batch_count = 20, batch_count = 200;
    const auto session_bytes = [this] {
        return std::stol(
            connection.value("SELECT sum(used_bytes) FROM pg_backend_memory_contexts"));
    };
    /* Every tenth call is a replay. The last call of each batch fails. */
    const auto run_batch = [this](int batch) {
        ASSERT_EQ(PQenterPipelineMode(connection.get()), 1);
        for (int call = 0; call < batch_size; call++) {
            const int number = batch * batch_size + call - (call % 10 == 9 ? 1 : 0);
            const std::string key = call < batch_size - 1 ? std::to_string(number) : "";
            const char *const parameters[] = {account.c_str(), key.c_str()};
            ASSERT_EQ(
                PQsendQueryPrepared(connection.get(), "call", 2, parameters, nullptr, nullptr, 0),
                1);
            ASSERT_EQ(PQpipelineSync(connection.get()), 1);
        }
        for (int call = 0; call < batch_size; call++) {
            const Result result(PQgetResult(connection.get()));
            ASSERT_EQ(result.sqlstate(), call < batch_size - 1 ? "" : "22023");
            ASSERT_EQ(PQgetResult(connection.get()), nullptr);
            ASSERT_EQ(Result(PQgetResult(connection.get())).sqlstate(), ""); /* the sync */
        }
        ASSERT_EQ(PQexitPipelineMode(connection.get()), 1);
    };

    connection.value("SET synchronous_commit = off");
    ASSERT_TRUE(
        Result(PQprepare(connection.get(), "call", "SELECT increment_usage($1, 1, $2)", 0, nullptr))
            .is_ok());
    for (int batch = 0; batch < warm_up_batch_count; batch++) {
        ASSERT_NO_FATAL_FAILURE(run_batch(batch));
    }
    const long bytes_before = session_bytes();
    for (int batch = warm_up_batch_count; batch < batch_count; batch++) {
        ASSERT_NO_FATAL_FAILURE(run_batch(batch));
    }
    const long bytes_after = session_bytes();

    /* One byte leaked per call would be 180,000. The allowance is for the server's caches. */
    EXPECT_LT(bytes_after - bytes_before, 65536);
    EXPECT_EQ(
        connection.value("SELECT tokens_used FROM usage_totals WHERE account_id = $1", {account}),
        std::to_string(batch_count * (batch_size - batch_size / 10)));
    EXPECT_EQ(connection.value("SELECT count(*) FROM verify_usage($1)", {account}), "0");
}

} // namespace
} // namespace usage_ledger::live
