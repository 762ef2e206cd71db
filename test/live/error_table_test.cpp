/*
 * Reads the table of errors out of docs/reference.md, and provokes each SQLSTATE in it.
 */
#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "connection.hpp"

namespace usage_ledger::live
{
namespace
{

/* The rows of the table under "Errors" in a document. */
std::vector<std::string> rows_of_errors(const std::string &document)
{
    std::ifstream page(SOURCE_DIRECTORY "/" + document);
    std::vector<std::string> rows;
    bool is_section = false;
    for (std::string line; std::getline(page, line);) {
        if (line.rfind("## ", 0) == 0) {
            is_section = line == "## Errors";
        }
        if (is_section && line.rfind("| ", 0) == 0) {
            rows.push_back(line);
        }
    }
    return rows;
}

/* The way on of each code in the table of docs/reference.md. */
std::map<std::string, std::string> table_of_errors()
{
    const std::regex code("`([0-9A-Z]{5}|PGRST[0-9]{3})`");
    std::map<std::string, std::string> ways;
    for (const std::string &line : rows_of_errors("docs/reference.md")) {
        std::istringstream row(line);
        std::string codes, way;
        std::getline(row, codes, '|');
        std::getline(row, codes, '|');
        std::getline(row, way, '|');
        std::getline(row, way, '|');
        for (std::sregex_iterator match(codes.begin(), codes.end(), code), end; match != end;
             ++match) {
            const bool is_new = ways.emplace((*match)[1], way).second;
            EXPECT_TRUE(is_new) << (*match)[1] << " has two rows";
        }
    }
    return ways;
}

/* Makes a fresh connection fail, and returns the SQLSTATE. What it begins is rolled back. */
using Provoke = std::function<std::string(Connection &)>;

Provoke call(const Value &account, const Value &tokens, const Value &key,
             const Value &occurred_at = {})
{
    return [=](Connection &connection) {
        return connection
            .run("SELECT increment_usage($1, $2, $3, p_occurred_at => $4)",
                 {account, tokens, key, occurred_at})
            .sqlstate();
    };
}

/* Runs statements, of which only the last may fail. */
Provoke statements(const std::vector<std::string> &sql)
{
    return [=](Connection &connection) {
        for (size_t i = 0; i + 1 < sql.size(); i++) {
            connection.value(sql[i]);
        }
        return connection.run(sql.back()).sqlstate();
    };
}

/* Calls while another session holds the account's counter. */
Provoke call_that_waits(const std::string &setting)
{
    return [=](Connection &connection) {
        const std::string account = new_account();
        Connection holder;
        increment(holder, account, 1, "before");
        holder.run("BEGIN");
        increment(holder, account, 1, "held");
        connection.value("SELECT set_config('" + setting + "', '10ms', false)");
        return increment(connection, account, 1, "waits").sqlstate();
    };
}

std::string failed_transaction(Connection &connection)
{
    connection.run("BEGIN");
    increment(connection, new_account(), 1, "");
    return increment(connection, new_account(), 1, "k").sqlstate();
}

std::string serialization_failure(Connection &connection)
{
    const std::string account = new_account();
    Connection other;
    increment(other, account, 1, "before");
    connection.run("BEGIN ISOLATION LEVEL REPEATABLE READ");
    connection.value("SELECT count(*) FROM usage_periods");
    increment(other, account, 1, "meanwhile");
    return increment(connection, account, 1, "after").sqlstate();
}

/* Only this session looks for a deadlock, so it is the one that fails. */
std::string deadlock(Connection &connection)
{
    const std::string first = new_account(), second = new_account();
    Connection other;
    other.value("SELECT set_config('deadlock_timeout', '1h', false)");
    connection.value("SELECT set_config('deadlock_timeout', '10ms', false)");
    for (const std::string &account : {first, second}) {
        increment(connection, account, 1, "before");
    }
    other.run("BEGIN");
    connection.run("BEGIN");
    increment(other, first, 1, "a");
    increment(connection, second, 1, "b");
    const std::string call = "SELECT increment_usage('" + second + "', 1, 'c')";
    EXPECT_EQ(PQsendQuery(other.get(), call.c_str()), 1);
    while (Connection().value("SELECT cardinality(pg_blocking_pids($1))",
                              {std::to_string(PQbackendPID(other.get()))}) == "0") {
    }
    return increment(connection, first, 1, "d").sqlstate();
}

/* The first result has the SQLSTATE; PQexec() returns the last, that the connection was lost. */
std::string terminated(Connection &connection)
{
    EXPECT_EQ(PQsendQuery(connection.get(), "SELECT pg_terminate_backend(pg_backend_pid())"), 1);
    return Result(PQgetResult(connection.get())).sqlstate();
}

/* libpq does not report the SQLSTATE of a connection that is refused. */
std::string refused_connection(Connection &connection)
{
    connection.value("CREATE ROLE usage_ledger_full LOGIN CONNECTION LIMIT 0");
    std::string message;
    try {
        Connection("user=usage_ledger_full dbname=" + std::string(PQdb(connection.get())));
    } catch (const NoConnection &error) {
        message = error.what();
    }
    connection.value("DROP ROLE usage_ledger_full");
    return message.find("too many connections") != std::string::npos ? "53300" : message;
}

/* An older function, as a hand-written schema has it. */
constexpr const char *older_function =
    "CREATE FUNCTION increment_usage(p_account_id uuid, p_tokens integer, p_idempotency_key text)"
    " RETURNS void LANGUAGE sql AS ''";

/* A REST gateway passes arguments by name, and does not know their types. */
constexpr const char *call_by_name = "SELECT increment_usage(p_account_id => NULL, p_tokens => "
                                     "NULL, p_idempotency_key => NULL)";

using Provokers = std::map<std::string, Provoke>;

Provokers invalid_arguments()
{
    const std::string account = new_account();
    return {
        {"UL005", call(account, "1", "k", "2001-01-01")},
        {"22004", call(account, {}, "k")},
        {"22007", call(account, "1", "k", "")},
        {"22008", call(account, "1", "k", "2026-02-30")},
        {"22021", call(account, "1", "\xff")},
        {"22023", call(account, "1", "")},
        {"22P02", call("acme", "1", "k")},
        {"22P05", statements({"SELECT increment_usage('" + account +
                              "', 1,"
                              " '{\"key\": \"\\u0000\"}'::json ->> 'key')"})},
        {"42883", statements({"SELECT increment_usage('" + account + "'::text, 1, 'k')"})},
        {"PGRST202", statements({"SELECT increment_usage(p_account_id => '" + account +
                                 "', p_idempotency_key => 'k')"})},
        {"3F000", statements({"SELECT no_such_schema.increment_usage('" + account + "', 1, 'k')"})},
        {"42725", statements({"BEGIN", older_function, call_by_name})},
        {"PGRST203", statements({"BEGIN", older_function, call_by_name})},
    };
}

Provokers refused_states()
{
    const std::string account = "'" + new_account() + "'";
    const std::string count = "SELECT increment_usage(" + account + ", 1, 'k')";
    const std::string open = "SELECT open_usage_period(" + account +
                             ", date_trunc('day', now()), date_trunc('day', now())"
                             " + interval '2 days', 9223372036854775807)";
    const std::string close = "SELECT close_usage_period(account_id, period_start)"
                              " FROM usage_periods WHERE account_id = " +
                              account;
    const std::string falsify =
        "UPDATE usage_periods SET tokens_used = 2 WHERE account_id = " + account;
    return {
        {"UL001", statements({"BEGIN", count, "SELECT increment_usage(" + account + ", 2, 'k')"})},
        {"UL002", statements({"BEGIN", "SET usage_ledger.unknown_account = 'reject'", count})},
        {"UL003",
         statements({"BEGIN", count, close, "SELECT increment_usage(" + account + ", 1, 'late')"})},
        {"UL004", statements({"SELECT void_usage(" + account + ", 'k', NULL)"})},
        {"22003", statements({"BEGIN", open, count})},
        {"23503", statements({"BEGIN", count,
                              "CREATE TABLE customers (account_id uuid REFERENCES usage_accounts)",
                              "INSERT INTO customers VALUES (" + account + ")",
                              "SELECT erase_usage(" + account + ")"})},
        {"23P01", statements({"BEGIN", count, open})},
        {"25006", statements({"BEGIN READ ONLY", count})},
        {"25P02", failed_transaction},
        {"40001", serialization_failure},
        {"40P01", deadlock},
        {"42501", statements({"BEGIN", "SET ROLE pg_read_all_stats", count})},
        {"53300", refused_connection},
        {"55000", statements({"BEGIN",
                              "CREATE SUBSCRIPTION feed CONNECTION '' PUBLICATION ledger"
                              " WITH (connect = false)",
                              "INSERT INTO pg_subscription_rel SELECT oid,"
                              " 'usage_events'::regclass, 'r' FROM pg_subscription",
                              "SELECT settle_usage()"})},
        {"55P03", call_that_waits("lock_timeout")},
        {"57014", call_that_waits("statement_timeout")},
        {"57P01", terminated},
        {"XX001", statements({"BEGIN", count, falsify, close})},
    };
}

/* PostgREST has codes of its own for what the server answers with another. */
std::string code_of_server(const std::string &code)
{
    static const std::map<std::string, std::string> codes = {{"PGRST202", "42883"},
                                                             {"PGRST203", "42725"}};
    const auto found = codes.find(code);
    return found == codes.end() ? code : found->second;
}

TEST(ErrorTable, EveryErrorCanBeProvoked)
{
    Provokers provoke = invalid_arguments();
    provoke.merge(refused_states());
    const std::map<std::string, std::string> table = table_of_errors();
    const std::set<std::string> ways = {" retry ", " fix the caller ",
                                        " count again without a time "};
    for (const auto &[code, way] : table) {
        EXPECT_EQ(ways.count(way), 1U) << code << ":" << way;
        EXPECT_EQ(provoke.count(code), 1U) << "nothing provokes " << code;
    }
    for (const auto &[code, provoke_code] : provoke) {
        EXPECT_EQ(table.count(code), 1U) << code << " has no row";
        Connection connection;
        EXPECT_EQ(provoke_code(connection), code_of_server(code));
    }
}

/* Of the README's short table, a code decides, then what a code begins with, then the rest. */
std::string way_in_readme(const std::string &code)
{
    std::smatch way;
    std::string by_class, rest;
    for (const std::string &row : rows_of_errors("README.md")) {
        if (!std::regex_search(row, way, std::regex("\\*\\*(.*?)\\*\\*"))) {
            continue;
        }
        const std::string codes = row.substr(0, row.find(" | "));
        if (codes.find('`' + code + '`') != std::string::npos) {
            return way[1];
        }
        if (std::regex_search(codes, std::regex("begin with.* " + code.substr(0, 2) + "\\b")) ||
            codes.find('`' + code.substr(0, 7) + '`') != std::string::npos) {
            by_class = way[1];
        }
        if (codes.find("any that is not below") != std::string::npos) {
            rest = way[1];
        }
    }
    return by_class.empty() ? rest : by_class;
}

TEST(ErrorTable, TheReadmeAgrees)
{
    for (const auto &[code, way] : table_of_errors()) {
        EXPECT_EQ(" " + way_in_readme(code) + " ", way) << code;
    }
}

} // namespace
} // namespace usage_ledger::live
