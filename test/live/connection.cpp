#include "connection.hpp"

#include <stdexcept>

namespace usage_ledger::live
{

namespace
{

constexpr const char *database = "usage_ledger_live";

std::unique_ptr<PGconn, decltype(&PQfinish)> connect_to(const char *database_name)
{
    const char *const keywords[] = {"dbname", nullptr};
    const char *const values[] = {database_name, nullptr};
    std::unique_ptr<PGconn, decltype(&PQfinish)> connection(PQconnectdbParams(keywords, values, 0),
                                                            PQfinish);
    if (PQstatus(connection.get()) != CONNECTION_OK) {
        throw std::runtime_error(PQerrorMessage(connection.get()));
    }
    return connection;
}

/* In the database that the environment names. */
void command(const std::string &sql)
{
    auto connection = connect_to(nullptr);
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

Connection::Connection() : connection_(connect_to(database))
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
