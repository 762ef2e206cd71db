/*
 * run.hpp: sends the whole trace to one contender and audits the result.
 */
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "contender.hpp"
#include "requests.hpp"

namespace usage_ledger::trace
{

struct Options {
    std::string connection_string;
    int worker_count = 8;
    int account_count = 5;
    uint64_t seed = 1;
    int dropped_reply_percent = 10;
    int storm_percent = 10;
};

/* Sums of tokens are decimal numbers: counted several times, they may not fit 64 bits. */
struct Tally {
    std::string tokens_sent;
    std::string tokens_counted;
    std::string tokens_lost;
    std::string tokens_counted_twice;
    std::string tokens_above_limit;
    int64_t refused_count; /* requests that were not admitted */
    int64_t error_count;
    std::string first_error;
};

/*
 * Sets up a contender, sends every request with retries as a job runner does, and audits
 * what was counted. Shows progress on standard error. Throws std::runtime_error if the
 * database fails in any other way than by an error of a call.
 */
Tally run(const Contender &contender, const Place &place, const std::vector<Request> &requests,
          const Options &options);

} // namespace usage_ledger::trace
