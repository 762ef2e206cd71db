#include "core/event.hpp"

#include <algorithm>

#include "core/limits.hpp"

namespace usage_ledger::core
{

namespace
{

/* Bytes below 0x20 are control characters in every encoding of a server. */
bool has_control_character(std::string_view name)
{
    return std::any_of(name.begin(), name.end(),
                       [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

bool has_empty_part(std::string_view path)
{
    return !path.empty() &&
           (path.front() == '/' || path.back() == '/' || path.find("//") != std::string_view::npos);
}

} // namespace

bool operator==(const Payload &a, const Payload &b)
{
    const Usage &usage_of_a = a, &usage_of_b = b;
    if (!(usage_of_a == usage_of_b)) {
        return false;
    }
    return a.breakdown == nullptr || b.breakdown == nullptr ? a.breakdown == b.breakdown
                                                            : *a.breakdown == *b.breakdown;
}

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

bool may_be_restored(InputError error, int64_t length)
{
    return (error == InputError::key_too_long || error == InputError::name_too_long) &&
           length <= restored_length_max;
}

int64_t longest_name(const Payload &payload)
{
    if (payload.breakdown == nullptr) {
        return 0;
    }
    const auto &[scope, model] = payload.breakdown->pair;
    return static_cast<int64_t>(std::max(scope.size(), model.size()));
}

InputError check_tokens(int64_t tokens)
{
    if (tokens < 0) {
        return InputError::tokens_negative;
    }
    return tokens > event_tokens_max ? InputError::tokens_too_many : InputError::none;
}

InputError check_arguments(int64_t tokens, int64_t key_length)
{
    const InputError error = check_tokens(tokens);
    return error != InputError::none ? error : check_key(key_length);
}

InputError check_scope(std::string_view scope)
{
    if (has_control_character(scope) || has_empty_part(scope)) {
        return InputError::scope_malformed;
    }
    return scope.size() > name_length_max ? InputError::name_too_long : InputError::none;
}

InputError check_breakdown(const Breakdown &breakdown)
{
    for (size_t i = 0; i < kind_count; i++) {
        const InputError error = check_tokens(breakdown.amounts.values[i]);
        if (error != InputError::none) {
            return error;
        }
    }
    if (tokens_of(breakdown.amounts) > event_tokens_max) {
        return InputError::tokens_too_many;
    }
    const int64_t cost = breakdown.amounts.values[cost_index];
    if (cost < -event_cost_max || cost > event_cost_max) {
        return InputError::cost_too_large;
    }
    const auto &[scope, model] = breakdown.pair;
    if (has_control_character(model)) {
        return InputError::model_malformed;
    }
    if (model == other_model) {
        return InputError::model_reserved;
    }
    const InputError error = check_scope(scope);
    return error == InputError::none && model.size() > name_length_max ? InputError::name_too_long
                                                                       : error;
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
