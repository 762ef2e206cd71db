/*
 * errors.hpp: the SQLSTATEs of our own, the errors that several functions raise, and the
 * texts of DETAIL. An error that one function raises is written there.
 *
 * Every error says what is wrong (message), with which account and key or period (DETAIL),
 * and what to do (HINT).
 */
#pragma once

#include "pg/postgres.hpp"

#include "core/counter.hpp"
#include "core/event.hpp"

namespace usage_ledger
{

/* UL001: increment.cpp, open_period.cpp */
constexpr int errcode_conflict = MAKE_SQLSTATE('U', 'L', '0', '0', '1');
/* UL002: periods.cpp, close.cpp */
constexpr int errcode_no_account_or_period = MAKE_SQLSTATE('U', 'L', '0', '0', '2');
/* UL003: increment.cpp, void.cpp */
constexpr int errcode_period_closed = MAKE_SQLSTATE('U', 'L', '0', '0', '3');
/* UL004: void.cpp */
constexpr int errcode_no_event = MAKE_SQLSTATE('U', 'L', '0', '0', '4');

/* UL005: errors.cpp */
constexpr int errcode_out_of_time = MAKE_SQLSTATE('U', 'L', '0', '0', '5');

/* The account and key that an error is about. Either may be null; a call without a key has null. */
struct EventName {
    NullableDatum account_id;
    NullableDatum idempotency_key;
};

inline EventName name_without_key(Datum account_id)
{
    return {{account_id, false}, {0, true}};
}

/* Messages that are also the detail of a batch's item. */
constexpr const char *message_conflict = "idempotency key was already used for another event";
constexpr const char *message_unknown_account = "account is unknown";
constexpr const char *message_no_period =
    "no billing period covers the event and none can be opened";
constexpr const char *message_period_closed = "billing period of the event is closed";
constexpr const char *message_period_pruned =
    "billing period of the event is closed and pruned:\nits key may have been counted";
constexpr const char *message_counter_overflow = "counter of the billing period would overflow";
constexpr const char *message_breakdown_overflow =
    "counter or breakdown of the billing period would overflow";
constexpr const char *message_breakdown_malformed = "breakdown of usage is malformed";

struct ErrorText {
    int sqlstate;
    const char *message;
    const char *hint;
};
ErrorText text_of(core::InputError error);
const char *conflict_text(const core::Payload &counted, const core::Payload &given);

/* 22004, 22023 and UL005: an argument of an event */
[[noreturn]] void raise_input_error(core::InputError error, const EventName &event, int64 tokens,
                                    TimestampTz occurred_at);

/* 22004: an argument of any other call, of which detail says more */
[[noreturn]] void raise_null(const char *argument, const char *detail);

/* 22023: an argument of any other call that is outside its limits */
[[noreturn]] void raise_invalid_argument(const EventName &call, const char *what, const char *value,
                                         const char *hint);
[[noreturn]] void raise_invalid_argument(Datum account_id, const char *what, const char *value,
                                         const char *hint);

/* 22023: what is wanted would take a total, which is the counter with what is pending, below zero
 */
[[noreturn]] void raise_below_zero(const EventName &event, const char *what,
                                   const core::WideUsage &total, const char *hint);

/*
 * "Account ..., idempotency key ...", the start of a DETAIL about an event. What is said of it
 * begins on a line of its own, as after period_text: a name alone can fill a line.
 */
const char *event_text(const EventName &event);

/* "Account ..., period from ...", the start of a DETAIL about a period. */
const char *period_text(const core::CounterId &counter);

/* "occurred at ..., the server's clock is at ...": the end of a DETAIL about a time. */
const char *occurred_at_text(TimestampTz occurred_at);

const char *account_text(const NullableDatum &account_id);
const char *usage_text(const core::Usage &totals);
const char *pair_text(const core::Pair &pair);
const char *payload_text(const core::Payload &payload);

/* The bytes of a text, without fetching it, whatever its length. */
int64 text_length(Datum value);

/* A text in double quotes. Of a text longer than any key, the head and the length. */
const char *quoted_text(Datum value);

/* A time in UTC and ISO 8601, whatever the session's DateStyle and TimeZone. */
char *time_text(TimestampTz time);

/*
 * Runs an addition. Where the server raises 22003 in it, an error context callback says which
 * event and counter it is about.
 */
struct OverflowSubject {
    const char *message;
    EventName event;
    const core::CounterId &counter;
};
void set_overflow_text(void *subject);
template <typename Addition> void describe_overflow(OverflowSubject subject, Addition add)
{
    ErrorContextCallback callback = {error_context_stack, set_overflow_text, &subject};
    error_context_stack = &callback;
    add();
    error_context_stack = callback.previous;
}

} // namespace usage_ledger
