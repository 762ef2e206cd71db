/*
 * json_file.hpp: reads requests from JSON, with nlohmann/json.
 */
#pragma once

#include <string_view>

#include "request_list.hpp"

namespace usage_ledger::trace
{

/*
 * JSON lines, or one or several documents. A record is an object that stands by itself,
 * in an array that does, or in a list of records of another object.
 */
void read_json(std::string_view text, RequestList &requests);

} // namespace usage_ledger::trace
