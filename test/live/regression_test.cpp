/*
 * Bugs that Model and BadInput have found, each reduced to a short test.
 */
#include <gtest/gtest.h>

#include <string>

#include "connection.hpp"

namespace usage_ledger::live
{
namespace
{

constexpr const char *counter_max = "9223372036854775807";

class Regression : public testing::Test
{
protected:
    Regression()
    {
        connection.value("SET timezone = 'UTC'");
        connection.value("LOAD 'usage_ledger'");
        connection.value("SET usage_ledger.max_event_age = '24000d'");
    }

    void open_full_period(const std::string &of_account)
    {
        connection.value("SELECT open_usage_period($1, '2024-01-01', '2024-02-01', $2)",
                         {of_account, counter_max});
    }

    /* Counts an event in January 2024. The tokens are its key too. */
    Result count(const std::string &for_account, const char *tokens)
    {
        return connection.run("SELECT outcome FROM increment_usage($1, $2, $3,"
                              " p_occurred_at => '2024-01-05')",
                              {for_account, tokens, tokens});
    }

    Connection connection;
    const std::string account = new_account();
};

/* The session has cached the period from before the close. */
TEST_F(Regression, AFullPeriodThatIsClosedRaisesClosedNotOverflow)
{
    for (const char *settlement : {"immediate", "adaptive", "deferred"}) {
        connection.value(std::string("SET usage_ledger.settlement = ") + settlement);
        const std::string full_account = new_account();
        open_full_period(full_account);
        EXPECT_EQ(count(full_account, "0").sqlstate(), "");
        connection.value("SELECT close_usage_period($1, '2024-01-01')", {full_account});
        EXPECT_EQ(count(full_account, "1").sqlstate(), "UL003") << settlement;
    }
}

/* The first item's counter is full, so the second item is refused too and opens no period. */
TEST_F(Regression, ARefusedBatchItemIsNotCountedThroughALaterOneOfItsKey)
{
    open_full_period(account);
    const Result items = connection.run(
        "SELECT outcome, tokens_used FROM increment_usage_batch(array_fill($1::uuid, '{4}'),"
        " '{1,1,7,7}', '{k,k,l,l}',"
        " p_occurred_at => '{2024-01-05,2024-03-05,2024-03-05,2024-03-05}')",
        {account});
    ASSERT_EQ(items.row_count(), 4);
    EXPECT_EQ(items.text(0, 0), "invalid");
    EXPECT_EQ(items.text(1, 0), "invalid");
    EXPECT_EQ(items.text(2, 0) + " " + items.text(2, 1), "applied 7");
    EXPECT_EQ(items.text(3, 0) + " " + items.text(3, 1), "replayed 7");
    EXPECT_EQ(connection.value("SELECT count(*) FROM usage_events"
                               " WHERE account_id = $1 AND idempotency_key = 'k'",
                               {account}),
              "0");
}

/* VACUUM has made room, so the rows of the voids lie before the row of the event. */
TEST_F(Regression, APeriodClosesWhateverTheOrderOfItsPendingRows)
{
    empty_ledger(connection);
    open_full_period(account);
    connection.value("SET client_min_messages = error");
    connection.value("SET usage_ledger.settlement = 'deferred'");
    const std::string other_account = new_account();
    increment(connection, other_account, 1, "k1");
    increment(connection, other_account, 1, "k2");
    EXPECT_EQ(count(account, "5").text(0, 0), "queued");
    EXPECT_EQ(connection.value("SELECT settle_usage()"), "2");
    connection.value("VACUUM usage_pending");
    for (const char *key : {"opening:2024-01-01T00:00:00+00:00", "5"}) {
        connection.value("SELECT void_usage($1, $2, NULL)", {account, key});
    }
    ASSERT_EQ(connection.value("SELECT string_agg(tokens::text, ' ' ORDER BY ctid)"
                               " FROM usage_pending WHERE account_id = $1",
                               {account}),
              "-5 5");

    const Result closed =
        connection.run("SELECT tokens_used FROM close_usage_period($1, '2024-01-01')", {account});
    EXPECT_EQ(closed.sqlstate(), "");
    if (!closed.is_ok()) {
        connection.value("SELECT settle_usage()"); /* leaves no pending rows to other tests */
        return;
    }
    EXPECT_EQ(closed.text(0, 0), "0");
}

/* Such a zone has the same bounds as date_trunc in a session of that time zone. */
TEST_F(Regression, TimeZonesNamedLikeAbbreviationsHaveDaylightSaving)
{
    for (const char *time_zone : {"CET", "EET", "MET", "WET", "EST5EDT"}) {
        if (connection.value("SELECT count(*) FROM pg_timezone_names WHERE name = $1",
                             {time_zone}) == "0") {
            continue; /* Debian has moved these zones to a separate package */
        }
        for (const char *time : {"2026-01-15 12:00+00", "2026-07-15 12:00+00"}) {
            const Result period = connection.run(
                "SELECT u.period_start, u.period_end FROM set_usage_cycle(gen_random_uuid(),"
                " '1 month', NULL, $1) AS a,"
                " increment_usage(a.account_id, 1, 'k', p_occurred_at => $2) AS u",
                {time_zone, time});
            ASSERT_EQ(period.sqlstate(), "");
            connection.value(std::string("SET timezone = '") + time_zone + "'");
            const Result month = connection.run(
                "SELECT date_trunc('month', $1::timestamptz) = $2::timestamptz,"
                " date_trunc('month', $1::timestamptz) + interval '1 month' = $3::timestamptz",
                {time, period.text(0, 0) + ":00", period.text(0, 1) + ":00"});
            connection.value("SET timezone = 'UTC'");
            EXPECT_EQ(month.text(0, 0) + month.text(0, 1), "tt")
                << time_zone << " " << period.text(0, 0) << " - " << period.text(0, 1);
        }
    }
}

/*
 * An account for which no period can be computed affects only its own items. set_usage_cycle
 * refuses such an anchor, so the test writes the table.
 */
TEST_F(Regression, AnAnchorAtAnEndOfTimeRefusesOnlyItsAccountsItems)
{
    for (const char *anchor : {"294276-12-31 23:59:59+00", "4714-11-24 00:00:00+00 BC"}) {
        for (const char *time_zone : {"Asia/Kathmandu", "America/New_York"}) {
            const std::string good_account = new_account(), bad_account = new_account();
            EXPECT_EQ(connection
                          .run("SELECT set_usage_cycle($1, '1 month', $2, $3)",
                               {bad_account, anchor, time_zone})
                          .sqlstate(),
                      "22023");
            connection.value("INSERT INTO usage_accounts (account_id, period_anchor, time_zone)"
                             " VALUES ($1, $2, $3)",
                             {bad_account, anchor, time_zone});
            const Result outcomes = connection.run(
                "SELECT string_agg(outcome, ' ' ORDER BY item)"
                " FROM increment_usage_batch(ARRAY[$1, $2, $1]::uuid[], '{1,1,1}', '{k,k,l}',"
                " p_occurred_at => array_fill(timestamptz '1990-01-05', '{3}'))",
                {good_account, bad_account});
            ASSERT_EQ(outcomes.sqlstate(), "") << anchor << " " << time_zone;
            EXPECT_EQ(outcomes.text(0, 0), "applied unknown_account applied")
                << anchor << " " << time_zone;
        }
    }
}

} // namespace
} // namespace usage_ledger::live
