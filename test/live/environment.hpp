/*
 * environment.hpp: numbers from environment variables, such as seeds and lengths of tests.
 */
#pragma once

#include <cstdint>
#include <cstdlib>
#include <string>

namespace usage_ledger::live
{

inline uint64_t number_from_environment(const char *name, uint64_t default_value)
{
    const char *text = std::getenv(name);
    return text != nullptr ? std::stoull(text) : default_value;
}

} // namespace usage_ledger::live
