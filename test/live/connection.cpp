#include "connection.hpp"

namespace usage_ledger::live
{

namespace
{

constexpr const char *database = "usage_ledger_live";

std::unique_ptr<PGconn, decltype(&PQfinish)> connect_to(const std::string &conninfo)
{
    std::unique_ptr<PGconn, decltype(&PQfinish)> connection(PQconnectdb(conninfo.c_str()),
                                                            PQfinish);
    if (PQstatus(connection.get()) != CONNECTION_OK) {
        throw NoConnection(PQerrorMessage(connection.get()));
    }
    return connection;
}

/* Runs a command in the database that the environment names. */
void command(const std::string &sql)
{
    auto connection = connect_to("");
    const Result result(PQexec(connection.get(), sql.c_str()));
    if (!result.is_ok()) {
        throw std::runtime_error(sql + ": " + result.error_field(PG_DIAG_MESSAGE_PRIMARY));
    }
}

} // namespace

std::string Result::text(int row, int column) const
{
    if (row >= row_count() || column >= PQnfields(result_.get())) {
        throw std::out_of_range("no such value; error: " + error_field(PG_DIAG_MESSAGE_PRIMARY));
    }
    return PQgetvalue(result_.get(), row, column);
}

std::string Result::error_field(int field) const
{
    const char *value = PQresultErrorField(result_.get(), field);
    return value != nullptr ? value : "";
}

Connection::Connection() : Connection(std::string("dbname=") + database)
{
}

Connection::Connection(const std::string &conninfo) : connection_(connect_to(conninfo))
{
}

Result Connection::run(const std::string &sql, const std::vector<Value> &parameters)
{
    std::vector<const char *> values;
    for (const Value &parameter : parameters) {
        values.push_back(parameter ? parameter->c_str() : nullptr);
    }
    return Result(PQexecParams(get(), sql.c_str(), static_cast<int>(values.size()), nullptr,
                               values.data(), nullptr, nullptr, 0));
}

std::string Connection::value(const std::string &sql, const std::vector<Value> &parameters)
{
    const Result result = run(sql, parameters);
    if (!result.is_ok()) {
        throw std::runtime_error(sql + ": " + result.error_field(PG_DIAG_MESSAGE_PRIMARY));
    }
    return result.row_count() > 0 ? result.text(0, 0) : "";
}

Result increment(Connection &connection, const std::string &account, long tokens,
                 const std::string &key)
{
    return connection.run("SELECT * FROM increment_usage($1, $2, $3)",
                          {account, std::to_string(tokens), key});
}

std::string new_account()
{
    Connection connection;
    return connection.value("SELECT gen_random_uuid()");
}

std::string array_literal(const std::vector<std::string> &elements)
{
    std::string literal = "{";
    for (const std::string &element : elements) {
        literal += (literal == "{" ? "" : ",") + element;
    }
    return literal + "}";
}

void empty_ledger(Connection &connection)
{
    connection.value("TRUNCATE usage_accounts, usage_periods, usage_events, usage_pending,"
                     " usage_breakdown, usage_limits, usage_holds");
}

void create_trigger(Connection &connection, const std::string &sql)
{
    connection.value("SET session_replication_role = replica");
    connection.value(sql);
    connection.value("RESET session_replication_role");
}

void create_database()
{
    command(std::string("CREATE DATABASE ") + database);
    Connection().value("CREATE EXTENSION usage_ledger");
}

void drop_database()
{
    command(std::string("DROP DATABASE ") + database);
}

} // namespace usage_ledger::live
