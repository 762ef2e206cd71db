/*
 * errors.hpp: every error that a caller can be told of, with its SQLSTATE, what
 * it is about (DETAIL) and the way out (HINT).
 */
#pragma once

#include "pg/postgres.hpp"

#include "core/addition.hpp"
#include "core/event.hpp"

namespace usage_ledger
{

/* The account and key that an error is about; either may be null. */
struct EventName {
    NullableDatum account_id;
    NullableDatum idempotency_key;
};

/* What is wrong, without what it is about: also the detail of a batch's item. */
constexpr const char *message_conflict = "idempotency key was already used for another event";
constexpr const char *message_unknown_account = "account is unknown";
constexpr const char *message_no_period =
    "no billing period covers the event and none can be opened";
constexpr const char *message_period_closed = "billing period of the event is closed";
const char *message_of(core::Fault fault);
const char *conflict_text(const core::Payload &counted, const core::Payload &given);

/* 22004 */
[[noreturn]] void raise_null_argument(const char *argument, NullableDatum account_id);
[[noreturn]] void raise_null_array(const char *argument);
[[noreturn]] void raise_null_parameter(const char *argument, const char *parameter);

/* 22004 and 22023: an argument of an event; 22023: of a batch, a cycle or a period */
[[noreturn]] void raise_fault(core::Fault fault, const EventName &event, int64 tokens,
                              TimestampTz occurred_at);
[[noreturn]] void raise_invalid_argument(Datum account_id, const char *what, const char *value,
                                         const char *hint);

[[noreturn]] void raise_malformed_arrays(const char *detail);

/* The argument p_max_rows of a call; 22004 and 22023 */
int32 row_count_argument(FunctionCallInfo fcinfo, int number);

/* UL001 */
[[noreturn]] void raise_conflict(const EventName &event, const core::Payload &counted,
                                 const core::Payload &given);
[[noreturn]] void raise_opening_key_taken(const EventName &event);

/* UL002 */
[[noreturn]] void raise_unknown_account(const EventName &event);
[[noreturn]] void raise_no_period(const EventName &event, TimestampTz time);
[[noreturn]] void raise_unknown_period(Datum account_id, TimestampTz period_start);

/* UL003 */
[[noreturn]] void raise_period_closed(const EventName &event, TimestampTz period_start,
                                      TimestampTz period_end);
[[noreturn]] void raise_event_invoiced(const EventName &event, TimestampTz period_start);

/* UL004 */
[[noreturn]] void raise_unknown_event(const EventName &event);

/*
 * 22003. The server raises it where an event is added to its counter; this error
 * context callback says what it is about.
 */
struct OverflowSubject {
    const EventName *event;
    TimestampTz period_start;
};
void describe_overflow(void *subject);
[[noreturn]] void raise_pending_overflow(Datum account_id, TimestampTz period_start);

/* 23P01 */
[[noreturn]] void raise_period_overlap(Datum account_id, TimestampTz existing_start,
                                       TimestampTz existing_end);

/* XX001: a counter that its events do not explain cannot be closed */
[[noreturn]] void raise_counter_unexplained(Datum account_id, TimestampTz period_start,
                                            const core::Totals &counter,
                                            const core::Totals &events);

/* 40001 */
[[noreturn]] void raise_period_deleted();
[[noreturn]] void raise_snapshot_too_old(Datum account_id, TimestampTz period_start);

/* 55000: statistics are kept in shared memory */
[[noreturn]] void raise_not_preloaded();

/* Not an error: the account's usage stays pending, and nobody else's does. */
void warn_cannot_settle(const core::Addition &addition, const char *reason);

/* The bytes of a text, without fetching it, however long it is. */
int64 text_length(Datum value);

/* A text in double quotes; of one longer than any key may be, the head and the length. */
const char *quoted_text(Datum value);

/* A time in UTC and ISO 8601, whatever the session's DateStyle and TimeZone. */
char *time_text(TimestampTz time);

} // namespace usage_ledger
