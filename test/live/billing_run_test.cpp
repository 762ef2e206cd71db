/*
 * Runs the billing run of the documents while a customer's period is held. Calls of the
 * other customers must be answered meanwhile.
 */
#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "connection.hpp"
#include "documents.hpp"

namespace usage_ledger::live
{
namespace
{

const std::string first = "bbbbbbbb-0000-0000-0000-000000000001";
const std::string second = "bbbbbbbb-0000-0000-0000-000000000002";

/* Counts in a period that ended two days ago. */
Result count_late(Connection &connection, const std::string &account, const std::string &key)
{
    return connection.run("SELECT increment_usage($1, 1, $2,"
                          " p_occurred_at => now() - interval '3 days')",
                          {account, key});
}

using Section = std::pair<std::string, std::string>; /* document and heading */

class BillingRun : public testing::TestWithParam<Section>
{
};

TEST_P(BillingRun, HoldsUpNoOtherCustomer)
{
    Connection connection, holder;
    empty_ledger(connection);
    for (const std::string &account : {first, second}) {
        connection.value("SELECT open_usage_period($1, today - interval '40 days',"
                         " today - interval '2 days', 10) FROM date_trunc('day', now()) AS today",
                         {account});
    }
    holder.run("BEGIN");
    ASSERT_TRUE(count_late(holder, second, "slow").is_ok());

    Psql run(snippet(GetParam().first, GetParam().second, "public"));
    ASSERT_TRUE(run.waits_for_lock(connection));
    /* The first account's period is closed, and the run waits for the second's. */
    connection.value("SELECT set_config('statement_timeout', '10s', false)");
    EXPECT_EQ(count_late(connection, first, "late").sqlstate(), "UL003");
    holder.run("COMMIT");

    EXPECT_EQ(run.finish(), 0);
    EXPECT_EQ(connection.value("SELECT array_agg(tokens_used ORDER BY account_id)"
                               " FROM usage_periods WHERE closed_at IS NOT NULL"),
              "{10,11}");
    empty_ledger(connection);
}

INSTANTIATE_TEST_SUITE_P(Documents, BillingRun,
                         testing::Values(Section("README.md", "Billing"),
                                         Section("docs/billing.md", "The billing run")));

} // namespace
} // namespace usage_ledger::live
