#include "core/balance.hpp"

#include <algorithm>
#include <cassert>

#include "core/counter.hpp"
#include "core/limits.hpp"

namespace usage_ledger::core
{

int64_t tokens_remaining(const Balance &balance)
{
    assert(balance.token_limit >= 0 && balance.tokens_used >= 0 && balance.tokens_held >= 0);
    const int128 left = int128{balance.token_limit} - balance.tokens_used - balance.tokens_held;
    return left > 0 ? static_cast<int64_t>(left) : 0;
}

bool fits(const Balance &balance, int64_t tokens, int64_t tokens_already_held)
{
    return tokens <= std::max(tokens_remaining(balance), tokens_already_held);
}

bool is_within(std::string_view scope, std::string_view level)
{
    return level.empty() || (scope.substr(0, level.size()) == level &&
                             (scope.size() == level.size() || scope[level.size()] == '/'));
}

int64_t hold_length_us(const PeriodLength &interval)
{
    /* As the server compares intervals: a month has 30 days. */
    const int128 days = int128{interval.months} * 30 + interval.days;
    const int128 length_us = days * microseconds_per_day + interval.time_us;
    return length_us > 0 && length_us <= hold_length_max_us ? static_cast<int64_t>(length_us) : 0;
}

} // namespace usage_ledger::core
