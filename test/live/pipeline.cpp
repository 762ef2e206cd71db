#include "pipeline.hpp"

#include <stdexcept>

namespace usage_ledger::live
{

namespace
{

void check(Connection &connection, bool is_done)
{
    if (!is_done || PQstatus(connection.get()) != CONNECTION_OK) {
        throw std::runtime_error(std::string("connection lost: ") +
                                 PQerrorMessage(connection.get()));
    }
}

void send(Connection &connection, const Query &query)
{
    std::vector<const char *> values;
    for (const Value &parameter : query.parameters) {
        values.push_back(parameter ? parameter->c_str() : nullptr);
    }
    check(connection, PQsendQueryPrepared(connection.get(), query.statement.c_str(),
                                          static_cast<int>(values.size()), values.data(), nullptr,
                                          nullptr, 0) == 1);
}

} // namespace

std::vector<Result> run_in_pipeline(Connection &connection,
                                    const std::vector<std::vector<Query>> &groups)
{
    check(connection, PQenterPipelineMode(connection.get()) == 1);
    for (const std::vector<Query> &group : groups) {
        for (const Query &query : group) {
            send(connection, query);
        }
        check(connection, PQpipelineSync(connection.get()) == 1);
    }

    std::vector<Result> results;
    for (const std::vector<Query> &group : groups) {
        for (size_t i = 0; i < group.size(); i++) {
            results.emplace_back(PQgetResult(connection.get()));
            check(connection, PQgetResult(connection.get()) == nullptr);
        }
        const Result sync(PQgetResult(connection.get()));
        check(connection, sync.status() == PGRES_PIPELINE_SYNC);
    }
    check(connection, PQexitPipelineMode(connection.get()) == 1);
    return results;
}

} // namespace usage_ledger::live
