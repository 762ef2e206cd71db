/*
 * counting.hpp: the steps of a call that counts one event once: increment_usage, record_usage and
 * credit_usage.
 *
 * A call finds the period, records the event, and adds to the counter or leaves that to a
 * settler, in that order:
 *
 * - The insert into usage_events comes before the counter's lock. Two calls with one key meet
 *   there, so the second one learns that it is a replay before it has locked or written
 *   anything. And a session that waits for a hot counter has recorded its event already: it
 *   holds the lock for one update and the commit.
 *
 * - The insert is also the lookup of the key. A new event, the common case, needs no second
 *   lookup. And since a unique check reads no snapshot, SERIALIZABLE sees no conflict between
 *   different keys.
 */
#pragma once

#include "pg/postgres.hpp"

#include "pg/errors.hpp"
#include "pg/events.hpp"
#include "pg/settlement.hpp"

namespace usage_ledger
{

struct Answer {
    core::Outcome outcome;
    int64 tokens_used; /* unless the usage is queued */
    TimestampTz period_start;
    TimestampTz period_end;
    bool is_counter_missing; /* its account was erased, or it was deleted by hand */
};

/* The arguments account and key. Raises 22004 if one of account, tokens and key is NULL. */
EventName name_of_arguments(FunctionCallInfo fcinfo);

/*
 * Answers from the first call with this key, if there was one. A retry never gets another
 * answer than its first call, whatever has happened to the clock, the account or the period.
 * will_write: the caller goes on to write to usage_events.
 */
bool answer_replay(const Event &event, Answer *answer, bool will_write);

/* Adds a recorded event to its counter, or queues it; is_first_write as in add_usage. */
using Add = Settlement (*)(const Event &event, const core::CounterId &counter, bool is_first_write);

/* key_error: an error that does not matter if the event has been counted before. */
Answer count_event(const Event &event, core::InputError key_error, Add add);

Datum datum_of_answer(const Answer &answer);

/*
 * Counts the event of a call's arguments, which read() reads. It raises if one is outside its
 * limits, or sets the error if only a lookup of the key can tell.
 */
Datum count_arguments(FunctionCallInfo fcinfo,
                      Event (*read)(FunctionCallInfo fcinfo, core::InputError *key_error));

} // namespace usage_ledger
