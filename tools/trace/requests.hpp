/*
 * requests.hpp: the trace, a list of LLM requests to be billed.
 */
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "request_list.hpp"

namespace usage_ledger::trace
{

/*
 * Reads the first `count_max` requests of a file, CSV or JSON. Throws std::runtime_error
 * with each line that is wrong.
 */
std::vector<Request> read_requests(const std::string &path, size_t count_max);

/* The same from the contents of a file. `name` is the file's, for error messages. */
std::vector<Request> parse_requests(const std::string &name, std::string contents,
                                    size_t count_max);

/* Generates a trace: many small requests and a few large ones. */
std::vector<Request> make_requests(int count, uint64_t seed);

} // namespace usage_ledger::trace
