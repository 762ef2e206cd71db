#include "database.hpp"

#include <stdexcept>

namespace usage_ledger::trace
{

ConnectionHandle connect(const std::string &connection_string)
{
    ConnectionHandle connection(PQconnectdb(connection_string.c_str()), PQfinish);
    if (PQstatus(connection.get()) != CONNECTION_OK) {
        throw std::runtime_error(PQerrorMessage(connection.get()));
    }
    return connection;
}

ResultHandle query(PGconn *connection, const std::string &sql)
{
    ResultHandle result(PQexec(connection, sql.c_str()), PQclear);
    const ExecStatusType status = PQresultStatus(result.get());
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
        throw std::runtime_error(PQerrorMessage(connection));
    }
    return result;
}

} // namespace usage_ledger::trace
