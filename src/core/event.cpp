#include "core/event.hpp"

#include "core/limits.hpp"

namespace usage_ledger::core
{

Fault check_key(int64_t key_length)
{
    if (key_length <= 0) {
        return Fault::key_empty;
    }
    if (key_length > key_length_max) {
        return Fault::key_too_long;
    }
    return Fault::none;
}

Fault check_arguments(int64_t tokens, int64_t key_length, int64_t occurred_at)
{
    const Fault key_fault = check_key(key_length);
    if (key_fault != Fault::none) {
        return key_fault;
    }
    if (tokens < 0) {
        return Fault::tokens_negative;
    }
    if (tokens > event_tokens_max) {
        return Fault::tokens_too_many;
    }
    if (occurred_at == INT64_MIN || occurred_at == INT64_MAX) {
        return Fault::time_not_finite;
    }
    return Fault::none;
}

Fault check_time(const EventTimes &times)
{
    /* Only now is added to, which is a sane clock: an occurred_at near the ends cannot overflow. */
    if (times.occurred_at < times.now - times.event_age_max_us) {
        return Fault::time_too_old;
    }
    if (times.occurred_at > times.now + clock_skew_max_us) {
        return Fault::time_too_far_ahead;
    }
    return Fault::none;
}

} // namespace usage_ledger::core
