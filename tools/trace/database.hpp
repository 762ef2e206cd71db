/*
 * database.hpp: the part of libpq that the trace needs, with owning handles.
 */
#pragma once

#include <libpq-fe.h>

#include <memory>
#include <string>

namespace usage_ledger::trace
{

using ConnectionHandle = std::unique_ptr<PGconn, decltype(&PQfinish)>;
using ResultHandle = std::unique_ptr<PGresult, decltype(&PQclear)>;

/* Both throw std::runtime_error with the server's message. */
ConnectionHandle connect(const std::string &connection_string);
ResultHandle query(PGconn *connection, const std::string &sql);

} // namespace usage_ledger::trace
