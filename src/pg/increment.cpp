/*
 * increment.cpp: increment_usage, one event counted once.
 *
 * A call finds the period, records the event, and adds to the counter (or, if
 * usage_ledger.settlement says so, leaves that to a settler), in that order:
 *
 * - The insert into usage_events comes before the counter's lock. It is where
 *   two calls with one key meet, so the loser learns that it is a replay before
 *   it has locked or written anything. And whoever waits for a hot counter has
 *   its event in place already: the lock is held for one update and the commit.
 *
 * - The insert is also the lookup of the key. A fresh event, the common case,
 *   is not looked up a second time; and since a unique check reads no snapshot,
 *   SERIALIZABLE sees no conflict between different keys.
 *
 * - Every call takes what it needs in the order account, key, counter, and
 *   nobody who holds a counter waits for anything but the commit. So single
 *   calls cannot deadlock; transactions of several calls can, if they touch the
 *   same accounts in different orders.
 */
#include "pg/postgres.hpp"

#include "core/event.hpp"
#include "pg/apply.hpp"
#include "pg/counters.hpp"
#include "pg/errors.hpp"
#include "pg/events.hpp"
#include "pg/periods.hpp"
#include "pg/settings.hpp"
#include "pg/stats.hpp"

namespace usage_ledger
{

namespace
{

struct Answer {
    const char *outcome;
    bool is_queued; /* there is no tokens_used yet */
    int64 tokens_used;
    TimestampTz period_start;
    TimestampTz period_end;
};

/*
 * Answers from the first call with this key, if there was one: a retry never gets
 * another verdict than its first call, whatever has become of the clock, the
 * account or the period since.
 */
bool answer_replay(const Event &event, Answer *answer)
{
    CountedEvent counted;
    if (!find_counted_event(event.account_id, event.idempotency_key, &counted)) {
        return false;
    }
    if (!(counted.payload == event.payload)) {
        raise_conflict(name_of(event), counted.payload, event.payload);
    }
    const Counter counter = read_counter(event.account_id, counted.period_start);
    count(Stat::replayed);
    *answer = {"replayed", false, counter.tokens_used, counted.period_start, counter.period_end};
    return true;
}

Answer apply_event(const Event &event, const Period &period, bool is_first_write)
{
    const Applied applied = apply(name_of(event), period.start, event.payload, is_first_write);
    switch (applied.result) {
    case ApplyResult::applied:
        break;
    case ApplyResult::queued:
        count(Stat::queued);
        return {"queued", true, 0, period.start, period.end};
    case ApplyResult::closed:
        raise_period_closed(name_of(event), period.start, period.end);
    }
    count(Stat::applied);
    return {"applied", false, applied.tokens_used, period.start, period.end};
}

Answer count_event(const Event &event)
{
    const bool is_first_write = !TransactionIdIsValid(GetTopTransactionIdIfAny());
    Answer replay;

    core::Fault fault = core::check_time(
        {event.occurred_at, GetCurrentTransactionStartTimestamp(), event_age_max_us()});
    Period period;
    bool is_found = find_period(event.account_id, event.occurred_at, &period);

    if (fault != core::Fault::none || !is_found || period.is_closed) {
        /* Not a verdict yet: it may be a retry. */
        if (answer_replay(event, &replay)) {
            return replay;
        }
        if (fault != core::Fault::none) {
            raise_fault(fault, name_of(event), event.payload.tokens, event.occurred_at);
        }
        if (is_found) {
            raise_period_closed(name_of(event), period.start, period.end);
        }
        period = open_period_covering(name_of(event), event.occurred_at);
    }

    /* Taken, yet not to be found: the event was deleted in between, so the key is free again. */
    while (!record_event(event, period.start)) {
        if (answer_replay(event, &replay)) {
            return replay;
        }
        CHECK_FOR_INTERRUPTS();
    }
    return apply_event(event, period, is_first_write);
}

/* Reads the arguments of increment_usage; raises if one is outside its limits. */
Event event_of_arguments(FunctionCallInfo fcinfo)
{
    const EventName name = {fcinfo->args[0], fcinfo->args[2]};
    static const core::Fault null_faults[] = {core::Fault::account_null, core::Fault::tokens_null,
                                              core::Fault::key_null};
    for (int i = 0; i < static_cast<int>(lengthof(null_faults)); i++) {
        if (PG_ARGISNULL(i)) {
            raise_fault(null_faults[i], name, 0, 0);
        }
    }

    const int64 tokens = PG_GETARG_INT64(1);
    const bool is_report = !PG_ARGISNULL(3) && PG_GETARG_BOOL(3);
    const bool is_chat = !PG_ARGISNULL(4) && PG_GETARG_BOOL(4);
    const TimestampTz occurred_at =
        PG_ARGISNULL(5) ? GetCurrentTransactionStartTimestamp() : PG_GETARG_TIMESTAMPTZ(5);

    const core::Fault fault =
        core::check_arguments(tokens, text_length(PG_GETARG_DATUM(2)), occurred_at);
    if (fault != core::Fault::none) {
        raise_fault(fault, name, tokens, occurred_at);
    }

    return {PG_GETARG_DATUM(0),
            PointerGetDatum(PG_GETARG_TEXT_PP(2)),
            {tokens, is_report ? 1 : 0, is_chat ? 1 : 0},
            occurred_at};
}

/*
 * The row type of increment_usage, which is fixed: made once per backend, where
 * get_call_result_type would look it up in the catalogs at every call.
 */
TupleDesc answer_type()
{
    static TupleDesc type = nullptr;
    if (type == nullptr) {
        MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
        TupleDesc made = CreateTemplateTupleDesc(4);
        TupleDescInitEntry(made, 1, "outcome", TEXTOID, -1, 0);
        TupleDescInitEntry(made, 2, "tokens_used", INT8OID, -1, 0);
        TupleDescInitEntry(made, 3, "period_start", TIMESTAMPTZOID, -1, 0);
        TupleDescInitEntry(made, 4, "period_end", TIMESTAMPTZOID, -1, 0);
        type = BlessTupleDesc(made);
        MemoryContextSwitchTo(caller);
    }
    return type;
}

Datum datum_of_answer(const Answer &answer)
{
    const Datum values[] = {CStringGetTextDatum(answer.outcome), Int64GetDatum(answer.tokens_used),
                            TimestampTzGetDatum(answer.period_start),
                            TimestampTzGetDatum(answer.period_end)};
    const bool nulls[lengthof(values)] = {false, answer.is_queued, false, false};
    return HeapTupleGetDatum(
        heap_form_tuple(answer_type(), const_cast<Datum *>(values), const_cast<bool *>(nulls)));
}

} // namespace

} // namespace usage_ledger

extern "C" {

PG_FUNCTION_INFO_V1(usage_ledger_increment_usage);

Datum usage_ledger_increment_usage(PG_FUNCTION_ARGS)
{
    using namespace usage_ledger;

    const Event event = event_of_arguments(fcinfo);

    SPI_connect();
    const Answer answer = count_event(event);
    SPI_finish();

    PG_RETURN_DATUM(datum_of_answer(answer));
}
}
