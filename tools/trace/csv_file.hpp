/*
 * csv_file.hpp: reads requests from CSV, with libcsv.
 */
#pragma once

#include <string_view>

#include "request_list.hpp"

namespace usage_ledger::trace
{

/*
 * The first row is the header. Fields are separated by commas, semicolons, tabs or
 * vertical bars, whichever shows known columns in the header. Empty rows are skipped.
 */
void read_csv(std::string_view text, RequestList &requests);

} // namespace usage_ledger::trace
