/*
 * documents.hpp: SQL of the documents, as it is printed, and psql to run it.
 */
#pragma once

#include <future>
#include <string>

#include "connection.hpp"

namespace usage_ledger::live
{

/* The SQL blocks under a heading of a document. */
std::string snippet(const std::string &document, const std::string &heading,
                    const std::string &ledger_schema = "billing");

/* psql in the background, running a script in the database of the live tests. */
class Psql
{
public:
    explicit Psql(const std::string &script);

    /* Returns once psql waits for a lock. False: it ended before. */
    bool waits_for_lock(Connection &watcher);

    /* Returns the exit status once psql has ended. */
    int finish()
    {
        return status_.get();
    }

private:
    const std::string name_;
    std::future<int> status_;
};

} // namespace usage_ledger::live
