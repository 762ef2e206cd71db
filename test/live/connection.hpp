/*
 * connection.hpp: libpq for the live tests: a connection, a result, an account.
 */
#pragma once

#include <libpq-fe.h>

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace usage_ledger::live
{

/* A parameter or a value; nullopt is NULL. */
using Value = std::optional<std::string>;

class Result
{
public:
    explicit Result(PGresult *result) : result_(result, PQclear)
    {
    }

    ExecStatusType status() const
    {
        return PQresultStatus(result_.get());
    }

    bool is_ok() const
    {
        return status() == PGRES_TUPLES_OK || status() == PGRES_COMMAND_OK;
    }

    int row_count() const
    {
        return PQntuples(result_.get());
    }

    int column_count() const
    {
        return PQnfields(result_.get());
    }

    std::string text(int row, int column) const;

    Value value(int row, int column) const
    {
        return PQgetisnull(result_.get(), row, column) != 0 ? Value() : text(row, column);
    }

    /* What a command was, in the end: "COMMIT", or "ROLLBACK" in its place. */
    std::string command() const
    {
        return PQcmdStatus(result_.get());
    }

    /* Empty when there was no error. */
    std::string error_field(int field) const;
    std::string sqlstate() const
    {
        return error_field(PG_DIAG_SQLSTATE);
    }

private:
    std::unique_ptr<PGresult, decltype(&PQclear)> result_;
};

class NoConnection : public std::runtime_error
{
public:
    using std::runtime_error::runtime_error;
};

class Connection
{
public:
    /* A session in the database that the live tests have made. */
    Connection();

    /* One that a connection string describes, and the environment where that is silent. */
    explicit Connection(const std::string &conninfo);

    /* Runs one statement, and returns what came of it, error or not. */
    Result run(const std::string &sql, const std::vector<Value> &parameters = {});

    /* Runs one statement that must succeed; returns its first value. */
    std::string value(const std::string &sql, const std::vector<Value> &parameters = {});

    PGconn *get() const
    {
        return connection_.get();
    }

private:
    std::unique_ptr<PGconn, decltype(&PQfinish)> connection_;
};

/* increment_usage with its first three arguments; columns are outcome, tokens_used, start, end. */
Result increment(Connection &connection, const std::string &account, long tokens,
                 const std::string &key);

/* An account that no other test uses. */
std::string new_account();

/* Takes away what other tests have left, for those that look at the ledger as a whole. */
void empty_ledger(Connection &connection);

/* The tests' database: made before the first test, dropped after the last. */
void create_database();
void drop_database();

} // namespace usage_ledger::live
