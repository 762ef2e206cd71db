/*
 * event.hpp: what makes an event acceptable, and a retry the same event.
 */
#pragma once

#include <cstdint>
#include <string_view>

#include "core/breakdown.hpp"

namespace usage_ledger::core
{

/*
 * What an event uses, many of them together, or a counter's totals; negative if it reverses
 * an event.
 */
struct Usage {
    int64_t tokens;
    int64_t reports; /* of one event, they fit an integer of SQL */
    int64_t chats;
};

inline bool operator==(const Usage &a, const Usage &b)
{
    return a.tokens == b.tokens && a.reports == b.reports && a.chats == b.chats;
}

inline Usage operator-(const Usage &usage)
{
    return {-usage.tokens, -usage.reports, -usage.chats};
}

/*
 * What an event counts: two calls with one key conflict if theirs differ. Plain usage has no
 * breakdown. The tokens of a breakdown are those of the usage.
 */
struct Payload : Usage {
    const Breakdown *breakdown = nullptr;
};

bool operator==(const Payload &a, const Payload &b);

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
    amount_null,
    cost_too_large,
    model_malformed,
    model_reserved,
    scope_malformed,
    name_too_long,
};

InputError check_key(int64_t key_length);

/*
 * Whether an event with this error may have been counted before, in a database of another
 * encoding, where its key, model or scope was shorter. Look the key up before acting on the
 * error. length: that of the longest of them.
 */
bool may_be_restored(InputError error, int64_t length);

/* The length of the scope or the model of a breakdown, whichever is longer; 0: plain usage. */
int64_t longest_name(const Payload &payload);

InputError check_tokens(int64_t tokens);

/* Checks what depends on nothing but the arguments, and the key last: see may_be_restored. */
InputError check_arguments(int64_t tokens, int64_t key_length);

/* Checks a scope, and its length last. */
InputError check_scope(std::string_view scope);

/*
 * Checks a breakdown, and the lengths last: see may_be_restored. A model or scope is malformed
 * that has control characters, and so is a scope with an empty part. All others are kept as given.
 */
InputError check_breakdown(const Breakdown &breakdown);

/*
 * Checks what depends on the clock. A retry may arrive after its event has grown too old, so
 * look the key up before acting on this. Times are microseconds since the server's epoch; the
 * ends of the type's range are minus and plus infinity.
 */
InputError check_time(int64_t occurred_at, int64_t now, int64_t event_age_max_us);

inline bool is_time_error(InputError error)
{
    return error == InputError::time_too_old || error == InputError::time_too_far_ahead;
}

} // namespace usage_ledger::core
