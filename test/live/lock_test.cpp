/*
 * Compares the model of the locks (test/model/lock_model.py) with the server: whether each
 * call waits for a session that keeps a lock.
 */
#include <array>
#include <cstdio>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "connection.hpp"

namespace usage_ledger::live
{
namespace
{

/* A and B come last in the order of counters, after the other accounts of the batch of 33. */
const std::string a = "'ffffffff-0000-0000-0000-00000000000a'";
const std::string b = "'ffffffff-0000-0000-0000-00000000000b'";
const std::string others = "SELECT ('fffffffe-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid"
                           " FROM generate_series(1, ";

std::string of_account(const std::string &account)
{
    return " WHERE account_id = " + account;
}

std::string batch(const std::string &accounts, const std::string &keys)
{
    return "SELECT count(*) FROM increment_usage_batch(" + accounts +
           ", array_fill(1::bigint,"
           " ARRAY[cardinality(" +
           accounts + ")]), " + keys + ")";
}

std::string batch_of(const std::string &first_key, const std::string &second_key)
{
    return batch("ARRAY[" + a + ", " + a + ", " + b + "]::uuid[]",
                 "ARRAY['" + first_key + "', '" + second_key + "', 'h']");
}

/* A batch of more periods than a transaction holds by a lock each. */
std::string batch_of_33(const std::string &accounts, const std::string &key)
{
    return batch("ARRAY(" + accounts + ")", "array_fill('" + key +
                                                "'::text, ARRAY[cardinality("
                                                "ARRAY(" +
                                                accounts + "))])");
}

std::string close_period(const std::string &account)
{
    return "SELECT close_usage_period(account_id, period_start) FROM usage_periods" +
           of_account(account);
}

struct Call {
    std::string settlement;
    std::string sql;
};

std::string count(const std::string &key)
{
    return "SELECT increment_usage(" + a + ", 1, '" + key + "')";
}

/* The model's calls. */
const std::map<std::string, Call> calls = {
    {"immediate A", {"immediate", count("new")}},
    {"adaptive A", {"adaptive", count("new")}},
    {"deferred A", {"deferred", count("new")}},
    {"immediate A, key f", {"immediate", count("f")}},
    {"retry e", {"immediate", count("e")}},
    {"void e", {"deferred", "SELECT void_usage(" + a + ", 'e', 'test')"}},
    {"credit A, key f", {"deferred", "SELECT credit_usage(" + a + ", 1, 'f', 'test')"}},
    {"batch A B, immediate", {"immediate", batch_of("f", "g")}},
    {"batch A B, retry e", {"immediate", batch_of("e", "f")}},
    {"batch A B, adaptive", {"adaptive", batch_of("new", "newer")}},
    {"batch of 33",
     {"deferred", batch_of_33(others + "33) AS n UNION ALL SELECT " + a + "::uuid", "f")}},
    {"close A", {"immediate", close_period(a)}},
    {"close B", {"immediate", close_period(b)}},
    {"end A", {"immediate", "SELECT end_usage_period(" + a + ")"}},
    {"erase A", {"immediate", "SELECT erase_usage(" + a + ")"}},
    {"settle", {"immediate", "SELECT settle_usage()"}},
    {"set cycle A", {"immediate", "SELECT set_usage_cycle(" + a + ", '1 month')"}},
    {"reserve A", {"immediate", "SELECT reserve_usage(" + a + ", 1, 'new')"}},
    {"release A", {"immediate", "SELECT release_usage(" + a + ", 'held')"}},
    {"spend A, key f", {"immediate", "SELECT spend_usage(" + a + ", 1, 'f')"}},
};

/* What a session does to keep a lock of the model. */
const std::map<std::string, Call> keepers = {
    {"limit A X", {"immediate", "SELECT FROM usage_limits" + of_account(a) + " FOR NO KEY UPDATE"}},
    {"account A X", {"immediate", "SELECT FROM usage_accounts" + of_account(a) + " FOR UPDATE"}},
    {"key f X",
     {"immediate",
      "INSERT INTO usage_events SELECT account_id, period_start, now(), now(), 1, 0, 0,"
      " 'f' FROM usage_periods" +
          of_account(a)}},
    {"event e X",
     {"immediate", "UPDATE usage_events SET void_reason = 'kept'" + of_account(a) +
                       " AND idempotency_key = 'e'"}},
    {"row A KS", {"immediate", "SELECT FROM usage_periods" + of_account(a) + " FOR KEY SHARE"}},
    {"row A NKU",
     {"immediate", "SELECT FROM usage_periods" + of_account(a) + " FOR NO KEY UPDATE"}},
    {"row A U", {"immediate", close_period(a)}},
    {"hold A S", {"deferred", count("kept")}},
    {"hold ledger S", {"deferred", batch_of_33(others + "33) AS n", "kept")}},
};

struct Expectation {
    std::string call, lock;
    bool waits;
};

std::vector<Expectation> expectations_of_model()
{
    FILE *pipe = popen("python3 " SOURCE_DIRECTORY "/test/model/lock_model.py waits", "r");
    std::string output;
    std::array<char, 4096> buffer;
    while (pipe != nullptr && fgets(buffer.data(), buffer.size(), pipe) != nullptr) {
        output += buffer.data();
    }
    EXPECT_TRUE(pipe != nullptr && pclose(pipe) == 0);
    std::vector<Expectation> expectations;
    std::istringstream lines(output);
    std::string call, name, mode, waits;
    while (std::getline(lines, call, '|') && std::getline(lines, name, '|') &&
           std::getline(lines, mode, '|') && std::getline(lines, waits)) {
        expectations.push_back({call, name + " " + mode, waits == "True"});
    }
    return expectations;
}

void begin(Connection &connection, const Call &call)
{
    connection.value("SELECT set_config('usage_ledger.settlement', $1, false)", {call.settlement});
    ASSERT_TRUE(connection.run("BEGIN").is_ok());
}

TEST(Locks, CallsWaitAsTheModelSays)
{
    const std::vector<Expectation> expectations = expectations_of_model();
    ASSERT_EQ(expectations.size(), calls.size() * keepers.size());

    Connection keeper, caller;
    empty_ledger(keeper);
    keeper.value(batch_of_33(others + "33) AS n UNION ALL SELECT " + a +
                                 "::uuid UNION ALL SELECT " + b + "::uuid",
                             "e"));
    keeper.value("SELECT set_usage_limit(" + a + ", 1000)");
    keeper.value("SELECT reserve_usage(" + a + ", 1, 'held')");
    caller.value("SELECT set_config('lock_timeout', '100ms', false)");
    for (const auto &[call, lock, waits] : expectations) {
        begin(keeper, keepers.at(lock));
        const Result kept = keeper.run(keepers.at(lock).sql);
        ASSERT_TRUE(kept.is_ok()) << lock << ": " << kept.sqlstate();
        begin(caller, calls.at(call));
        /* 55P03: it would wait until the other session ends. */
        const std::string sqlstate = caller.run(calls.at(call).sql).sqlstate();
        EXPECT_EQ(sqlstate == "55P03", waits) << call << " next to " << lock << ": " << sqlstate;
        EXPECT_TRUE(sqlstate.empty() || sqlstate == "55P03") << call << ": " << sqlstate;
        ASSERT_TRUE(caller.run("ROLLBACK").is_ok());
        ASSERT_TRUE(keeper.run("ROLLBACK").is_ok());
    }
    empty_ledger(keeper);
}

} // namespace
} // namespace usage_ledger::live
