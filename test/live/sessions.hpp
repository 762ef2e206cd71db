/*
 * sessions.hpp: runs concurrent sessions and counts the outcomes of their calls.
 */
#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <string>

#include "connection.hpp"

namespace usage_ledger::live
{

/* Counts the results of calls: outcomes, and SQLSTATEs of errors. */
class OutcomeCounts
{
public:
    void add(const Result &result);
    void add(const std::string &what);

    std::map<std::string, int> counts() const
    {
        return counts_;
    }

private:
    std::mutex mutex_;
    std::map<std::string, int> counts_;
};

/* Runs a body in each session, each in a thread. They all start once every one has connected. */
void in_sessions(int session_count, const std::function<void(Connection &, int)> &body);

} // namespace usage_ledger::live
