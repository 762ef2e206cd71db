/*
 * run.hpp: sends the whole trace to one contender and audits the result.
 */
#pragma once

#include <array>
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

/* What was counted of a model: the kinds of tokens, then the number of events. */
struct ModelTally {
    std::string model;
    std::array<std::string, kind_count + 1> figures;
};

inline bool operator==(const ModelTally &a, const ModelTally &b)
{
    return a.model == b.model && a.figures == b.figures;
}

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
    std::vector<ModelTally> models; /* of a way that breaks usage down, the most used first */
};

/* The same of the requests themselves. */
std::vector<ModelTally> tally_models(const std::vector<Request> &requests);

/*
 * Sets up a contender, sends every request with retries as a job runner does, and audits
 * what was counted. Shows progress on standard error. Throws std::runtime_error if the
 * database fails in any other way than by an error of a call.
 */
Tally run(const Contender &contender, const Place &place, const std::vector<Request> &requests,
          const Options &options);

} // namespace usage_ledger::trace
