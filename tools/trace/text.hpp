/*
 * text.hpp: small operations on text.
 */
#pragma once

#include <string>
#include <string_view>

namespace usage_ledger::trace
{

/* Converts UTF-8 or UTF-16 with a byte order mark to UTF-8 without one. */
std::string remove_byte_order_mark(std::string text);

/*
 * Removes the first line from `text` and returns it, with its end: LF, CR or CRLF.
 * Nothing is left of an empty text.
 */
std::string_view take_line(std::string_view &text);

/* Without spaces, tabs and line ends at either end. */
std::string_view trim(std::string_view text);

/* In double quotes, for an error message: the start of it, without control characters. */
std::string quote(std::string_view text);

} // namespace usage_ledger::trace
