#include "times.hpp"

#include <cstdio>
#include <ctime>
#include <stdexcept>

namespace usage_ledger::live
{

namespace
{

/* 2000-01-01 in seconds since 1970-01-01. */
constexpr int64_t epoch_s = 946684800;

} // namespace

std::string text_of(Time time)
{
    const Time fraction = (time % second + second) % second;
    const time_t seconds = (time - fraction) / second + epoch_s;
    tm parts = {};
    gmtime_r(&seconds, &parts);
    char text[64];
    strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &parts);
    std::string result = text;
    if (fraction != 0) {
        (void)snprintf(text, sizeof(text), ".%06d", static_cast<int>(fraction));
        result += text;
        result.erase(result.find_last_not_of('0') + 1);
    }
    return result + "+00";
}

Time time_of(const std::string &text)
{
    int year, month, day_of_month, hours, minutes, seconds, length;
    if (sscanf(text.c_str(), "%d-%d-%d %d:%d:%d%n", &year, &month, &day_of_month, &hours, &minutes,
               &seconds, &length) != 6) {
        throw std::invalid_argument("not a time: " + text);
    }
    tm parts = {};
    parts.tm_year = year - 1900;
    parts.tm_mon = month - 1;
    parts.tm_mday = day_of_month;
    parts.tm_hour = hours;
    parts.tm_min = minutes;
    parts.tm_sec = seconds;

    Time fraction = 0;
    auto digit = static_cast<size_t>(length);
    if (digit < text.size() && text[digit] == '.') {
        for (Time unit = second / 10; unit > 0; unit /= 10) {
            const char c = ++digit < text.size() ? text[digit] : '+';
            if (c < '0' || c > '9') {
                break;
            }
            fraction += (c - '0') * unit;
        }
    }
    return (timegm(&parts) - epoch_s) * second + fraction;
}

} // namespace usage_ledger::live
