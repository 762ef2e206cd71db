/*
 * pipeline.hpp: several statements in one round trip.
 */
#pragma once

#include <string>
#include <vector>

#include "connection.hpp"

namespace usage_ledger::live
{

/* A prepared statement and its parameters. */
struct Query {
    std::string statement;
    std::vector<Value> parameters;
};

/*
 * Runs groups of statements and returns the result of each statement, in order. A group
 * that does not begin a transaction is one by itself. When a statement fails, the rest of
 * its group is skipped. Throws if the connection is lost.
 */
std::vector<Result> run_in_pipeline(Connection &connection,
                                    const std::vector<std::vector<Query>> &groups);

} // namespace usage_ledger::live
