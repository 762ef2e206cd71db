/*
 * pipeline.hpp: several statements in one round trip.
 */
#pragma once

#include <string>
#include <vector>

#include "connection.hpp"

namespace usage_ledger::live
{

/* A prepared statement to be run. */
struct Query {
    std::string statement;
    std::vector<Value> parameters;
};

/*
 * Runs groups of statements, each group a transaction of its own if it begins none, and
 * returns what came of each statement, in order. Where one fails, the rest of its group
 * is not run. Throws if the connection is lost.
 */
std::vector<Result> run_in_pipeline(Connection &connection,
                                    const std::vector<std::vector<Query>> &groups);

} // namespace usage_ledger::live
