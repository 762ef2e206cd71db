/*
 * event.hpp: what makes an event acceptable, and a retry the same event.
 */
#pragma once

#include <cstdint>

namespace usage_ledger::core
{

/* What an event adds to its counter. Two calls with one key conflict if their payloads differ. */
struct Payload {
    int64_t tokens;
    int32_t reports;
    int32_t chats;
};

inline bool operator==(const Payload &a, const Payload &b)
{
    return a.tokens == b.tokens && a.reports == b.reports && a.chats == b.chats;
}

/* What reverses an event when it is added to the counter. */
inline Payload operator-(const Payload &payload)
{
    return {-payload.tokens, -payload.reports, -payload.chats};
}

/*
 * Times are microseconds since the server's epoch. The ends of the type's range are minus
 * and plus infinity.
 */
struct EventTimes {
    int64_t occurred_at;
    int64_t now;
    int64_t event_age_max_us;
};

/* Why the arguments of an event are not acceptable. */
enum class InputError {
    none,
    account_null,
    tokens_null,
    key_null,
    key_empty,
    key_too_long,
    tokens_negative,
    tokens_too_many,
    time_too_old,
    time_too_far_ahead,
};

InputError check_key(int64_t key_length);

/* Checks what depends on nothing but the arguments. */
InputError check_arguments(int64_t tokens, int64_t key_length);

/*
 * Checks what depends on the clock. A retry may arrive after its event has grown too old,
 * so look the key up before acting on this.
 */
InputError check_time(const EventTimes &times);

inline bool is_time_error(InputError error)
{
    return error == InputError::time_too_old || error == InputError::time_too_far_ahead;
}

} // namespace usage_ledger::core
