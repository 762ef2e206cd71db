/*
 * balance.hpp: what an account may still spend.
 *
 * Holds and limits are tokens. A hold is dead once it has expired, or once its key has an
 * event.
 */
#pragma once

#include <cstdint>
#include <string_view>

#include "core/period.hpp"

namespace usage_ledger::core
{

/* What a call may take of a limit. No field is negative. */
struct Balance {
    int64_t token_limit;
    int64_t tokens_used;
    int64_t tokens_held; /* for other keys, dead holds that have not been deleted among them */
};

/* What is left for the key of the call, never below 0: a limit may be lowered at any time. */
int64_t tokens_remaining(const Balance &balance);

/*
 * Whether a key may hold or spend tokens. What it holds already, by a hold that is not dead, it
 * may keep or lower, whatever the limit.
 */
bool fits(const Balance &balance, int64_t tokens, int64_t tokens_already_held);

/* Whether a scope is a level or below it. The empty level is the whole account. */
bool is_within(std::string_view scope, std::string_view level);

/* The length of a hold in microseconds. 0: it is outside its limits. */
int64_t hold_length_us(const PeriodLength &interval);

} // namespace usage_ledger::core
