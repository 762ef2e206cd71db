/*
 * No function makes the session's memory grow. The memory contexts use no more after many
 * calls than after the first ones. Each call has a transaction of its own.
 */
#include <gtest/gtest.h>

#include <ostream>
#include <string>

#include "connection.hpp"

namespace usage_ledger::live
{
namespace
{

/* A chunk leaked by each call takes at least 16 bytes, however small it is. */
constexpr int warm_up_count = 1000, call_count = 5000;
constexpr long growth_max_bytes = 4 * call_count;

struct Calls {
    const char *name;
    const char *settlement;
    const char *command; /* $1 is the account, $2 the number of the call */
};

void PrintTo(const Calls &calls, std::ostream *stream)
{
    *stream << calls.name;
}

class Memory : public testing::TestWithParam<Calls>
{
};

TEST_P(Memory, IsReleasedByEachCall)
{
    Connection connection;
    const std::string account = new_account();
    /* Catches errors, as callers do. */
    connection.value("CREATE OR REPLACE PROCEDURE pg_temp.repeat(command text, account uuid,"
                     " first integer, last integer) LANGUAGE plpgsql AS $$ BEGIN"
                     "  FOR i IN first .. last LOOP"
                     "   BEGIN EXECUTE command USING account, i;"
                     "   EXCEPTION WHEN SQLSTATE 'UL001' OR SQLSTATE '22023' THEN END;"
                     "   COMMIT;"
                     "  END LOOP; END $$");
    const auto repeat = [&](int first, int last) {
        connection.value(
            "CALL pg_temp.repeat($1, $2, $3, $4)",
            {GetParam().command, account, std::to_string(first), std::to_string(last)});
    };
    const auto session_bytes = [&] {
        return std::stol(
            connection.value("SELECT sum(used_bytes) FROM pg_backend_memory_contexts"));
    };

    connection.value("SET synchronous_commit = off");
    connection.value("SET client_min_messages = error");
    connection.value("SELECT outcome FROM increment_usage($1, 1, 'first')", {account});
    connection.value(std::string("SET usage_ledger.settlement = ") + GetParam().settlement);
    repeat(1, warm_up_count);
    session_bytes();
    const long bytes_before = session_bytes();
    repeat(warm_up_count + 1, warm_up_count + call_count);
    EXPECT_LT(session_bytes() - bytes_before, growth_max_bytes);
    connection.value("SELECT settle_usage()"); /* pending rows would slow down the other tests */
}

const Calls all_calls[] = {
    {"increment_usage", "immediate", "SELECT increment_usage($1, 1, $2::text)"},
    {"increment_usage_adaptive", "adaptive", "SELECT increment_usage($1, 1, $2::text)"},
    {"increment_usage_deferred", "deferred", "SELECT increment_usage($1, 1, $2::text)"},
    {"increment_usage_replay", "immediate", "SELECT increment_usage($1, 1, 'first')"},
    {"increment_usage_conflict", "immediate", "SELECT increment_usage($1, 2, 'first')"},
    {"increment_usage_invalid", "immediate", "SELECT increment_usage($1, 1, '')"},
    {"increment_usage_new_account", "immediate",
     "SELECT increment_usage(md5($1::text || $2)::uuid, 1, 'k')"},
    {"increment_usage_batch", "immediate",
     "SELECT increment_usage_batch(ARRAY[$1, $1, md5($1::text || $2)::uuid], '{1,1,1}',"
     " ARRAY[$2::text, 'first', 'k'])"},
    {"increment_usage_batch_deferred", "deferred",
     "SELECT increment_usage_batch(ARRAY[$1, $1], '{1,2}', ARRAY[$2::text, 'first'])"},
    {"record_usage", "immediate", "SELECT record_usage($1, $2::text, 'm', 's', 1, 2)"},
    {"record_usage_replay", "immediate",
     "SELECT record_usage($1, 'r', 'm', 's', 1), record_usage($1, 'r', 'm', 's', 1)"},
    {"record_usage_new_pair", "immediate",
     "SELECT record_usage($1, $2::text, 'm' || $2, 's', 1), void_usage($1, $2::text, 'memory')"},
    {"record_usage_batch", "immediate",
     "SELECT record_usage_batch(ARRAY[$1, $1], ARRAY[$2::text, 'first'], ARRAY['m', 'n'])"},
    {"record_and_settle", "deferred",
     "SELECT record_usage($1, $2::text, 'm' || $2 % 3, 's', 1),"
     " record_usage_batch(ARRAY[$1], ARRAY['b' || $2]), settle_usage()"},
    {"settle_usage", "deferred", "SELECT increment_usage($1, 1, $2::text), settle_usage()"},
    {"current_usage", "immediate", "SELECT current_usage($1)"},
    {"verify_usage", "immediate", "SELECT verify_usage($1)"},
    {"set_usage_cycle", "immediate",
     "SELECT set_usage_cycle($1, make_interval(days => 1 + $2 % 100))"},
    {"open_close_and_prune", "immediate",
     "SELECT open_usage_period($1, timestamptz '1990-01-01Z' + make_interval(mins => $2),"
     " timestamptz '1990-01-01Z' + make_interval(mins => $2 + 1), 5),"
     " close_usage_period($1, timestamptz '1990-01-01Z' + make_interval(mins => $2)),"
     " prune_usage_events('infinity')"},
    {"reserve_usage", "immediate",
     "SELECT set_usage_limit($1, 1000000000), reserve_usage($1, 1, $2::text)"},
    {"reserve_usage_dead_hold", "immediate",
     "SELECT set_usage_limit($1, $2 + 1), reserve_usage($1, 1, $2::text),"
     " reserve_usage($1, 10, 'more'), increment_usage($1, 1, $2::text)"},
    {"reserve_usage_invalid", "immediate", "SELECT reserve_usage($1, 1, 'k', '2 days')"},
    {"release_usage", "immediate",
     "SELECT set_usage_limit($1, 1000000000), reserve_usage($1, 1, 'k'), release_usage($1, 'k')"},
    {"spend_usage", "deferred",
     "SELECT set_usage_limit($1, 1000000000), spend_usage($1, 1, $2::text)"},
    {"limits_of_scopes", "immediate",
     "SELECT set_usage_limit($1, 1000000000, 'a/b'), reserve_usage($1, 1, $2::text, p_scope => "
     "'a/b/c'),"
     " spend_usage($1, 1, $2::text, p_scope => 'a/b/c'), reserve_usage($1, 1, 'k', p_scope => 'a'),"
     " release_usage($1, 'k')"},
    {"reserve_usage_scope_refused", "immediate",
     "SELECT set_usage_limit($1, 5, 'a'), reserve_usage($1, 1, $2::text, p_scope => 'a/b'),"
     " increment_usage($1, 1, $2::text), reserve_usage($1, 6, 'more', p_scope => 'a/b')"},
    {"reserve_usage_scope_invalid", "immediate",
     "SELECT reserve_usage($1, 1, 'k', p_scope => '/')"},
    {"erase_usage", "immediate", "SELECT increment_usage($1, 1, 'k'), erase_usage($1)"},
    {"end_usage_period", "immediate",
     "SELECT increment_usage($1, 1, $2::text), end_usage_period($1)"},
    {"credit_usage", "deferred",
     "SELECT increment_usage($1, 1, $2::text), credit_usage($1, 1, 'credit ' || $2, 'memory')"},
    {"void_usage", "immediate",
     "SELECT increment_usage($1, 1, $2::text), void_usage($1, $2::text, 'memory')"},
};
INSTANTIATE_TEST_SUITE_P(Function, Memory, testing::ValuesIn(all_calls),
                         [](const testing::TestParamInfo<Calls> &info) {
                             return std::string(info.param.name);
                         });

} // namespace
} // namespace usage_ledger::live
