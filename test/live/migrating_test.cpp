/*
 * Runs the migration and the import of docs/migrating.md while workers go on calling. No
 * call is lost, none is counted twice, and the import holds up no other customer.
 */
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>

#include "connection.hpp"
#include "documents.hpp"
#include "sessions.hpp"

namespace usage_ledger::live
{
namespace
{

std::string file(const std::string &name)
{
    std::ifstream stream(std::string(SOURCE_DIRECTORY "/") + name);
    std::stringstream text;
    text << stream.rdbuf();
    return text.str();
}

/* The script may contain several statements. */
void run_script(Connection &connection, const std::string &sql)
{
    const Result result(PQexec(connection.get(), sql.c_str()));
    ASSERT_EQ(result.error_field(PG_DIAG_MESSAGE_PRIMARY), "");
}

class Migrating : public testing::Test
{
protected:
    void SetUp() override
    {
        Connection connection;
        run_script(connection, "DROP EXTENSION usage_ledger; CREATE ROLE worker;" +
                                   file("test/handwritten_schema.sql"));
        run_script(connection,
                   "INSERT INTO usage_periods (account_id, period_start, period_end)"
                   " SELECT md5(i::text)::uuid, date_trunc('month', now()),"
                   " date_trunc('month', now()) + interval '1 month'"
                   " FROM generate_series(0, 7) AS i;"
                   "INSERT INTO usage_events SELECT 'old ' || i, md5((i % 8)::text)::uuid, 1"
                   " FROM generate_series(1, 50000) AS i");
    }

    void TearDown() override
    {
        Connection connection;
        run_script(connection,
                   "DROP VIEW usage_periods; DROP TABLE usage_periods_before, usage_events_before;"
                   "DROP FUNCTION refuse_usage_write(), increment_usage(uuid, integer, text),"
                   " increment_usage(uuid, integer, boolean, boolean);"
                   "DROP EXTENSION usage_ledger; DROP SCHEMA billing;"
                   "DROP OWNED BY worker; DROP ROLE worker; CREATE EXTENSION usage_ledger");
    }
};

TEST_F(Migrating, ConcurrentCallsAreCountedOnce)
{
    constexpr int session_count = 8;
    std::atomic<bool> is_done{false};
    std::atomic<int> counted{0}, counted_after{0};
    std::atomic<bool> is_migrated{false};
    OutcomeCounts failures;

    std::thread migration([&] {
        Connection connection;
        std::this_thread::sleep_for(std::chrono::milliseconds(300));
        run_script(connection, snippet("docs/migrating.md", "The migration"));
        is_migrated = true;
        std::this_thread::sleep_for(std::chrono::milliseconds(300));
        is_done = true;
    });
    in_sessions(session_count, [&](Connection &connection, int session) {
        for (int call = 0; !is_done; call++) {
            const std::string key = std::to_string(session) + ":" + std::to_string(call);
            const bool is_after = is_migrated;
            const auto try_to_count = [&] {
                return connection.run("SELECT increment_usage(md5($1)::uuid, 1, $2)",
                                      {std::to_string(session), key});
            };
            for (Result result = try_to_count(); !result.is_ok(); result = try_to_count()) {
                failures.add(result); /* a job runner retries with the same key */
                ASSERT_LT(failures.counts().size(), 5U);
            }
            counted++;
            counted_after += is_after ? 1 : 0;
        }
    });
    migration.join();

    Connection connection;
    EXPECT_GT(counted_after, 0);
    EXPECT_GT(counted, counted_after);
    EXPECT_EQ(connection.value("SELECT sum(tokens_used) FROM usage_periods"),
              std::to_string(counted));
    EXPECT_EQ(connection.value("SELECT count(*) FROM billing.usage_events"
                               " WHERE idempotency_key NOT LIKE 'old%'"
                               " AND idempotency_key NOT LIKE 'opening:%'"),
              std::to_string(counted));
    EXPECT_EQ(connection.value("SELECT count(*) FROM billing.verify_usage()"), "0");
    /* The worker could read the old table, which had no policies. */
    connection.run("SET ROLE worker");
    EXPECT_EQ(connection.value("SELECT sum(tokens_used) FROM usage_periods"),
              std::to_string(counted));
    /* In each session, at most the call in progress has failed, and only once. */
    int failure_count = 0;
    for (const auto &[sqlstate, count] : failures.counts()) {
        failure_count += count;
    }
    EXPECT_LE(failure_count, session_count);
}

class Importing : public testing::Test
{
protected:
    void SetUp() override
    {
        run_script(connection, "DROP EXTENSION usage_ledger; CREATE SCHEMA billing;"
                               "CREATE EXTENSION usage_ledger SCHEMA billing;" +
                                   snippet("docs/migrating.md", "The importing role"));
    }

    void TearDown() override
    {
        run_script(connection, snippet("docs/migrating.md", "After the import") +
                                   "DROP EXTENSION usage_ledger; DROP SCHEMA billing;"
                                   "CREATE EXTENSION usage_ledger");
    }

    Connection connection;
};

/*
 * The import is held up in its second chunk. An account of the first chunk opens another
 * period, and an account of the second counts now.
 */
TEST_F(Importing, HoldsUpNoOtherCustomer)
{
    const std::string first = new_account(), second = new_account(), held = new_account();
    const auto count = [](Connection &session, const std::string &account, const std::string &key,
                          const std::string &age) {
        return session.run("SELECT outcome FROM billing.increment_usage($1, 1, $2,"
                           " p_occurred_at => now() - $3::interval)",
                           {account, key, age});
    };
    Connection holder;
    holder.value("SELECT set_config('usage_ledger.max_event_age', '200d', false)");
    ASSERT_TRUE(count(holder, held, "now", "0").is_ok());
    ASSERT_TRUE(count(holder, held, "before", "100 days").is_ok());
    holder.run("BEGIN");
    ASSERT_TRUE(count(holder, held, "held", "100 days").is_ok());
    connection.value("INSERT INTO usage_import (account_id, tokens, idempotency_key, occurred_at)"
                     " SELECT CASE WHEN n <= 1000 THEN $1::uuid ELSE $2::uuid END, 1, 'old ' || n,"
                     " now() - interval '100 days' FROM generate_series(1, 1500) AS n"
                     " UNION ALL SELECT $3, 1, 'held', now() - interval '100 days'"
                     " RETURNING 1",
                     {first, second, held});

    Psql import("\\c - importer\n" + snippet("docs/migrating.md", "The import"));
    ASSERT_TRUE(import.waits_for_lock(connection));
    connection.value("SELECT set_config('statement_timeout', '10s', false)");
    EXPECT_EQ(count(connection, first, "late", "33 days").sqlstate(), "");
    EXPECT_EQ(count(connection, second, "live", "0").sqlstate(), "");
    holder.run("COMMIT");

    EXPECT_EQ(import.finish(), 0);
    EXPECT_EQ(
        connection.value("SELECT string_agg(outcome || ' ' || n, ', ' ORDER BY outcome) FROM"
                         " (SELECT outcome, count(*) AS n FROM usage_import GROUP BY 1) AS o"),
        "queued 1500, replayed 1");
    EXPECT_EQ(connection.value("SELECT count(*) FROM billing.verify_usage()"), "0");
}

} // namespace
} // namespace usage_ledger::live
