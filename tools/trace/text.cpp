#include "text.hpp"

#include <iconv.h>

#include <algorithm>
#include <stdexcept>

namespace usage_ledger::trace
{

namespace
{

/* The byte order mark says which byte comes first. */
std::string utf8_of_utf16(std::string &text)
{
    /* A UTF-16 unit takes two bytes, and at most three in UTF-8. */
    std::string converted(text.size() / 2 * 3 + 4, '\0');
    char *in = text.data(), *out = converted.data();
    size_t in_left = text.size(), out_left = converted.size();
    iconv_t conversion = iconv_open("UTF-8", "UTF-16");
    if (conversion == reinterpret_cast<iconv_t>(-1)) {
        throw std::runtime_error("this system cannot convert UTF-16");
    }
    const size_t result = iconv(conversion, &in, &in_left, &out, &out_left);
    iconv_close(conversion);
    if (result == static_cast<size_t>(-1)) {
        throw std::runtime_error("it has a byte order mark of UTF-16, but is not UTF-16");
    }
    converted.resize(converted.size() - out_left);
    return converted;
}

bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

} // namespace

std::string remove_byte_order_mark(std::string text)
{
    if (text.compare(0, 3, "\xef\xbb\xbf") == 0) {
        return text.substr(3);
    }
    if (text.compare(0, 2, "\xff\xfe") == 0 || text.compare(0, 2, "\xfe\xff") == 0) {
        return utf8_of_utf16(text);
    }
    return text;
}

std::string_view take_line(std::string_view &text)
{
    const size_t end = std::min(text.find_first_of("\r\n"), text.size());
    const size_t end_size = text.substr(end, 2) == "\r\n" ? 2 : (end < text.size() ? 1 : 0);
    const std::string_view line = text.substr(0, end + end_size);
    text.remove_prefix(line.size());
    return line;
}

std::string_view trim(std::string_view text)
{
    while (!text.empty() && is_blank(text.front())) {
        text.remove_prefix(1);
    }
    while (!text.empty() && is_blank(text.back())) {
        text.remove_suffix(1);
    }
    return text;
}

std::string quote(std::string_view text)
{
    constexpr size_t size_max = 200;
    size_t size = std::min(text.size(), size_max);
    /* Does not cut a character of several bytes. */
    while (size < text.size() && size > 0 && (text[size] & 0xc0) == 0x80) {
        size--;
    }
    std::string quoted = "\"";
    for (const char c : text.substr(0, size)) {
        quoted += static_cast<unsigned char>(c) < ' ' || c == '\x7f' ? '?' : c;
    }
    return quoted + (size < text.size() ? "...\"" : "\"");
}

} // namespace usage_ledger::trace
