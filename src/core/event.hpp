/*
 * event.hpp: what makes an event acceptable, and a retry the same event.
 */
#pragma once

#include <cstdint>

namespace usage_ledger::core
{

/* What an event adds to the counters. Two calls with one key agree on it, or conflict. */
struct Payload {
    int64_t tokens;
    int32_t reports;
    int32_t chats;
};

inline bool operator==(const Payload &a, const Payload &b)
{
    return a.tokens == b.tokens && a.reports == b.reports && a.chats == b.chats;
}

/* What takes an event back: added to a counter, it undoes the payload. */
inline Payload operator-(const Payload &payload)
{
    return {-payload.tokens, -payload.reports, -payload.chats};
}

/*
 * Times are microseconds on the server's scale, whatever its epoch; the ends of
 * the type's range are minus and plus infinity.
 */
struct EventTimes {
    int64_t occurred_at;
    int64_t now;
    int64_t event_age_max_us;
};

enum class Fault {
    none,
    account_null,
    tokens_null,
    key_null,
    key_empty,
    key_too_long,
    tokens_negative,
    tokens_too_many,
    time_not_finite,
    time_too_old,
    time_too_far_ahead,
    counter_overflow,
};

Fault check_key(int64_t key_length);

/* Judges what depends on nothing but the arguments. */
Fault check_arguments(int64_t tokens, int64_t key_length, int64_t occurred_at);

/*
 * Judges what depends on the clock. A retry may come when its event has grown
 * too old, so look the key up before acting on this.
 */
Fault check_time(const EventTimes &times);

} // namespace usage_ledger::core
