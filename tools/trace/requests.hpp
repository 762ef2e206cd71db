/*
 * requests.hpp: the trace, a list of LLM requests to be billed.
 */
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace usage_ledger::trace
{

struct Request {
    int64_t tokens; /* read and written */
};

/*
 * Reads a CSV file whose header names ContextTokens and GeneratedTokens, in any
 * order among other columns. Throws std::runtime_error, with the line that is wrong.
 */
std::vector<Request> read_requests(const std::string &path);

/* Generates a trace: many small requests and a few large ones. */
std::vector<Request> make_requests(int count, uint64_t seed);

} // namespace usage_ledger::trace
