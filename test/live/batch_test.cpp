/*
 * Batches from many concurrent clients, and large batches.
 */
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "connection.hpp"
#include "sessions.hpp"

namespace usage_ledger::live
{
namespace
{

/*
 * Every session sends the same events, each in another order. Every fourth session sends
 * them in single calls, the others in batches.
 */
TEST(Batch, OverlappingBatchesInAnyOrderAllSucceed)
{
    constexpr int session_count = 12, account_count = 20, keys_per_account = 20, batch_size = 40;
    std::vector<std::string> accounts;
    for (int i = 0; i < account_count; i++) {
        accounts.push_back(new_account());
    }

    OutcomeCounts outcomes;
    in_sessions(session_count, [&](Connection &connection, int session) {
        std::mt19937 random(static_cast<unsigned>(session));
        std::vector<int> events(account_count * keys_per_account);
        for (size_t i = 0; i < events.size(); i++) {
            events[i] = static_cast<int>(i);
        }
        std::shuffle(events.begin(), events.end(), random);
        for (size_t start = 0; start < events.size(); start += batch_size) {
            std::vector<std::string> ids, tokens, keys;
            for (size_t i = start; i < start + batch_size; i++) {
                ids.push_back(accounts[static_cast<size_t>(events[i] % account_count)]);
                tokens.push_back(std::to_string(events[i]));
                keys.push_back("key" + std::to_string(events[i]));
            }
            if (session % 4 == 0) {
                for (size_t i = 0; i < ids.size(); i++) {
                    outcomes.add(increment(connection, ids[i], std::stol(tokens[i]), keys[i]));
                }
                continue;
            }
            const Result result = connection.run(
                "SELECT outcome FROM increment_usage_batch($1, $2, $3) ORDER BY item",
                {array_literal(ids), array_literal(tokens), array_literal(keys)});
            ASSERT_EQ(result.sqlstate(), "") << result.error_field(PG_DIAG_MESSAGE_PRIMARY);
            for (int i = 0; i < result.row_count(); i++) {
                outcomes.add(result.text(i, 0));
            }
        }
    });

    constexpr int event_count = account_count * keys_per_account;
    EXPECT_EQ(outcomes.counts(),
              (std::map<std::string, int>{{"applied", event_count},
                                          {"replayed", (session_count - 1) * event_count}}));
    Connection connection;
    EXPECT_EQ(connection.value("SELECT sum(tokens_used) FROM usage_totals WHERE account_id = "
                               "ANY ($1::uuid[])",
                               {array_literal(accounts)}),
              std::to_string(event_count * (event_count - 1) / 2));
    EXPECT_EQ(connection.value("SELECT count(*) FROM verify_usage()"), "0");
}

TEST(Batch, OfAHundredThousandItemsFreesItsMemory)
{
    Connection connection;
    connection.value("SET synchronous_commit = off");
    const std::string sql = "SELECT count(*) FILTER (WHERE outcome = $1) FROM"
                            " (SELECT array_agg(md5('batch ' || n % 1000)::uuid) AS accounts,"
                            " array_agg(1::bigint) AS tokens, array_agg('large ' || n) AS keys"
                            " FROM generate_series(1, 100000) AS n) AS a,"
                            " increment_usage_batch(accounts, tokens, keys)";
    const auto session_bytes = [&connection] {
        return std::stol(
            connection.value("SELECT sum(total_bytes) FROM pg_backend_memory_contexts"));
    };

    EXPECT_EQ(connection.value(sql, {"applied"}), "100000");
    EXPECT_EQ(connection.value(sql, {"replayed"}), "100000");
    const long bytes_before = session_bytes();
    for (int i = 0; i < 3; i++) {
        EXPECT_EQ(connection.value(sql, {"replayed"}), "100000");
    }
    EXPECT_LT(session_bytes() - bytes_before, 65536);
    EXPECT_EQ(connection.value("SELECT count(*) FROM verify_usage()"), "0");
}

/* A trigger that each statement fires counts the statements of a call. */
TEST(Batch, RunsAConstantNumberOfStatements)
{
    Connection connection;
    connection.value("CREATE SEQUENCE statements_run");
    connection.value("CREATE FUNCTION count_statement() RETURNS trigger LANGUAGE plpgsql AS"
                     " 'BEGIN PERFORM nextval(''statements_run''); RETURN NULL; END'");
    for (const char *table : {"usage_accounts", "usage_periods", "usage_events"}) {
        create_trigger(connection,
                       std::string("CREATE TRIGGER count_statement AFTER INSERT OR UPDATE OR"
                                   " DELETE ON ") +
                           table + " FOR EACH STATEMENT EXECUTE FUNCTION count_statement()");
    }
    /* $1 of the batch is its number of items, or of pairs of items. */
    const auto statements_of = [&](const char *batch, int count) {
        connection.value("SELECT setval('statements_run', 1)");
        connection.value(batch, {std::to_string(count)});
        return std::stoi(connection.value("SELECT last_value FROM statements_run"));
    };
    const char *first_items =
        "SELECT count(*) FROM (SELECT array_agg(gen_random_uuid()) AS accounts,"
        " array_agg(1::bigint) AS tokens, array_agg('k'::text) AS keys"
        " FROM generate_series(1, $1::integer)) AS a,"
        " increment_usage_batch(accounts, tokens, keys)";
    const int one = statements_of(first_items, 1), many = statements_of(first_items, 2000);

    /* A full counter refuses both items of each pair, after the event has been recorded. */
    connection.value("CREATE TABLE full_accounts AS SELECT gen_random_uuid() AS account_id, n"
                     " FROM generate_series(1, 201) AS n");
    connection.value("SELECT count(open_usage_period(account_id, date_trunc('milliseconds', now()) "
                     "- interval '1 second',"
                     " date_trunc('milliseconds', now()) + interval '1 hour', "
                     "9223372036854775807)) FROM full_accounts");
    const char *refused_items =
        "SELECT count(*) FROM (SELECT array_agg(account_id ORDER BY n, item) AS accounts,"
        " array_agg(1::bigint) AS tokens, array_agg('k'::text) AS keys,"
        " array_agg(now() - item * interval '1 minute' ORDER BY n, item) AS times"
        " FROM full_accounts, generate_series(0, 1) AS item"
        " WHERE n = 201 AND $1::integer = 1 OR n < 201 AND $1::integer > 1) AS a,"
        " increment_usage_batch(accounts, tokens, keys, p_occurred_at => times)";
    const int one_refused = statements_of(refused_items, 1),
              many_refused = statements_of(refused_items, 200);
    for (const char *table : {"usage_accounts", "usage_periods", "usage_events"}) {
        connection.value(std::string("DROP TRIGGER count_statement ON ") + table);
    }
    EXPECT_GT(one, 1);
    EXPECT_EQ(one, many);
    EXPECT_GT(one_refused, 1);
    EXPECT_EQ(one_refused, many_refused);
    EXPECT_EQ(connection.value("SELECT count(*) FROM usage_events JOIN full_accounts"
                               " USING (account_id) WHERE idempotency_key = 'k'"),
              "0");
}

} // namespace
} // namespace usage_ledger::live
