#include "core/event.hpp"

#include "core/limits.hpp"

namespace usage_ledger::core
{

InputError check_key(int64_t key_length)
{
    if (key_length <= 0) {
        return InputError::key_empty;
    }
    if (key_length > key_length_max) {
        return InputError::key_too_long;
    }
    return InputError::none;
}

bool may_be_restored(InputError error, int64_t key_length)
{
    return error == InputError::key_too_long && key_length <= restored_key_length_max;
}

InputError check_arguments(int64_t tokens, int64_t key_length)
{
    if (tokens < 0) {
        return InputError::tokens_negative;
    }
    if (tokens > event_tokens_max) {
        return InputError::tokens_too_many;
    }
    return check_key(key_length);
}

InputError check_time(int64_t occurred_at, int64_t now, int64_t event_age_max_us)
{
    /* now is far from the ends of the range, so these sums cannot overflow. */
    if (occurred_at < now - event_age_max_us) {
        return InputError::time_too_old;
    }
    if (occurred_at > now + clock_skew_max_us) {
        return InputError::time_too_far_ahead;
    }
    return InputError::none;
}

} // namespace usage_ledger::core
