/*
 * The connection breaks between any two messages that client and server exchange. The
 * client cannot know whether its call was counted. It calls again with the same key, and
 * the event is counted once.
 */
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "connection.hpp"
#include "proxy.hpp"

namespace usage_ledger::live
{
namespace
{

constexpr int tokens = 7;

/* A way to count one event. The ways differ in the messages that they exchange. */
struct Conversation {
    const char *name;
    bool (*count)(Connection &connection, const std::string &account, const std::string &key);
};

const Conversation conversations[] = {
    {"a call",
     [](Connection &connection, const std::string &account, const std::string &key) {
         return increment(connection, account, tokens, key).is_ok();
     }},
    {"a simple query",
     [](Connection &connection, const std::string &account, const std::string &key) {
         const std::string sql =
             "SELECT * FROM increment_usage('" + account + "', 7, '" + key + "')";
         return Result(PQexec(connection.get(), sql.c_str())).is_ok();
     }},
    {"a batch",
     [](Connection &connection, const std::string &account, const std::string &key) {
         return connection
             .run("SELECT * FROM increment_usage_batch(ARRAY[$1]::uuid[], ARRAY[7], ARRAY[$2])",
                  {account, key})
             .is_ok();
     }},
    {"a transaction",
     [](Connection &connection, const std::string &account, const std::string &key) {
         return connection.run("BEGIN").is_ok() &&
                increment(connection, account, tokens, key).is_ok() &&
                connection.run("COMMIT").is_ok();
     }},
};

class LostReply : public testing::TestWithParam<const char *>
{
protected:
    /* Counts an event over a connection that is cut. Returns whether the client got the answer. */
    bool count_through(const Cut &cut, const Conversation &conversation, const std::string &key)
    {
        const Proxy proxy(cut);
        Connection connection(proxy.conninfo());
        return connection.run(std::string("SET usage_ledger.settlement = ") + GetParam()).is_ok() &&
               conversation.count(connection, account, key);
    }

    std::string retry(const std::string &key)
    {
        Connection connection;
        connection.value(std::string("SET usage_ledger.settlement = ") + GetParam());
        return increment(connection, account, tokens, key).text(0, 0);
    }

    const std::string account = new_account();
};

TEST_P(LostReply, ARetryCountsTheEventExactlyOnce)
{
    int event_count = 0;
    for (const Conversation &conversation : conversations) {
        for (const Cut::Side side : {Cut::requests, Cut::replies}) {
            int fresh_count = 0, replay_count = 0;
            bool is_known = false;
            for (int cut = 0; !is_known; cut++) {
                const std::string key = std::to_string(event_count++);
                is_known = count_through({side, cut}, conversation, key);
                const std::string outcome = retry(key);
                (outcome == "replayed" ? replay_count : fresh_count)++;
                if (is_known) {
                    EXPECT_EQ(outcome, "replayed");
                }
                ASSERT_LT(cut, 100);
            }
            EXPECT_GT(fresh_count, 0) << conversation.name;
            EXPECT_GT(replay_count, side == Cut::replies ? 1 : 0) << conversation.name;
        }
    }
    Connection connection;
    EXPECT_EQ(
        connection.value("SELECT tokens_used FROM usage_totals WHERE account_id = $1", {account}),
        std::to_string(event_count * tokens));
    EXPECT_EQ(connection.value("SELECT count(*) FROM verify_usage($1)", {account}), "0");
}

INSTANTIATE_TEST_SUITE_P(Settlement, LostReply,
                         testing::Values("immediate", "adaptive", "deferred"),
                         [](const auto &info) { return std::string(info.param); });

} // namespace
} // namespace usage_ledger::live
