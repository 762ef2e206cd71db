/*
 * sessions.hpp: many sessions at once, and what came of their calls.
 */
#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <string>

#include "connection.hpp"

namespace usage_ledger::live
{

/* Counts what calls came to: outcomes, and SQLSTATEs of errors. */
class Tally
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

/* Runs a body in every one of a number of sessions, all let go together once connected. */
void in_sessions(int session_count, const std::function<void(Connection &, int)> &body);

} // namespace usage_ledger::live
