/*
 * connection.hpp: libpq for the live tests: connections, results, accounts.
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

    /* The command that was executed. For a COMMIT this can be "ROLLBACK". */
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
    /* Connects to the database of the live tests. */
    Connection();

    /* Takes a connection string; what it does not name comes from the environment. */
    explicit Connection(const std::string &conninfo);

    /* Runs one statement and returns its result, which may be an error. */
    Result run(const std::string &sql, const std::vector<Value> &parameters = {});

    /* Runs one statement and returns its first value. Throws if the statement fails. */
    std::string value(const std::string &sql, const std::vector<Value> &parameters = {});

    PGconn *get() const
    {
        return connection_.get();
    }

private:
    std::unique_ptr<PGconn, decltype(&PQfinish)> connection_;
};

/* Calls increment_usage with its first three arguments and returns all its columns. */
Result increment(Connection &connection, const std::string &account, long tokens,
                 const std::string &key);

/* An account that no other test uses. */
std::string new_account();

/* An array as a parameter. REQUIRES: the elements need no quotes. */
std::string array_literal(const std::vector<std::string> &elements);

/* Removes the rows of other tests, for a test that checks the whole ledger. */
void empty_ledger(Connection &connection);

/* Creates a trigger on a table of the ledger, whose guard would refuse it. */
void create_trigger(Connection &connection, const std::string &sql);

/* The tests' database is created before the first test and dropped after the last. */
void create_database();
void drop_database();

} // namespace usage_ledger::live
