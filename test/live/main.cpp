/*
 * Tests over libpq, against the server that the PG* environment variables name.
 * (scripts/with_cluster.sh starts one.) They use a database of their own.
 */
#include <gtest/gtest.h>

#include "connection.hpp"

namespace
{

class Database : public testing::Environment
{
    void SetUp() override
    {
        usage_ledger::live::create_database();
    }

    void TearDown() override
    {
        usage_ledger::live::drop_database();
    }
};

} // namespace

int main(int argc, char **argv)
{
    testing::InitGoogleTest(&argc, argv);
    testing::AddGlobalTestEnvironment(new Database);
    return RUN_ALL_TESTS();
}
