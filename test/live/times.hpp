/*
 * times.hpp: converts times between the server's numbers and its text in UTC.
 */
#pragma once

#include <cstdint>
#include <string>

namespace usage_ledger::live
{

/* Microseconds since 2000-01-01 00:00 UTC. */
using Time = int64_t;

constexpr Time second = 1000000, minute = 60 * second, hour = 60 * minute, day = 24 * hour;

/* "2024-03-10 07:00:00.000001+00", for the years 1 to 9999. */
std::string text_of(Time time);

Time time_of(const std::string &text);

} // namespace usage_ledger::live
