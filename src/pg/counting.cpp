#include "pg/postgres.hpp"

#include "pg/counting.hpp"

#include "pg/arguments.hpp"
#include "pg/periods.hpp"
#include "pg/spi.hpp"
#include "pg/stats.hpp"

namespace usage_ledger
{

namespace
{

[[noreturn]] void raise_conflict(const Event &event, const core::Payload &counted)
{
    ereport(
        ERROR,
        (errcode(errcode_conflict), errmsg("%s", message_conflict),
         errdetail("%s:\n%s.", event_text(name_of(event)), conflict_text(counted, event.payload)),
         errhint("Send the first call's payload with a retry, and a new key with a new event.")));
}

const char *hint_of_closed(const Event &event, const Period &period)
{
    if (is_pruned(counter_id(event.account_id, period.start))) {
        return "Events of the period have been pruned, so the key may have been counted. If\n"
               "not, count it in the open period: pass no p_occurred_at, in a new transaction.";
    }
    /* A period can be closed before it has ended. Then now is still in it. */
    if (period.end > GetCurrentTimestamp()) {
        return "Count it once the period has ended, or end it with end_usage_period: pass no\n"
               "p_occurred_at, in a new transaction.";
    }
    return "Count it in the open period: pass no p_occurred_at, in a new transaction.";
}

[[noreturn]] void raise_period_closed(const Event &event, const Period &period)
{
    ereport(ERROR, (errcode(errcode_period_closed), errmsg("%s", message_period_closed),
                    errdetail("%s:\nperiod from %s to %s.", event_text(name_of(event)),
                              time_text(period.start), time_text(period.end)),
                    errhint("%s", hint_of_closed(event, period))));
}

/* Moves an event from a period that was ended before it to the one that covers it. */
TimestampTz move_on(const Event &event, TimestampTz ended_period_start)
{
    /* Events go on to the next period one by one: the first one opens it. */
    CounterState ended = {};
    ended.id = counter_id(event.account_id, ended_period_start);
    lock_counters(&ended, 1);
    forget_ended_periods();
    Period period;
    if (!find_period(event.account_id, event.occurred_at, &period)) {
        period = open_period_covering(name_of(event), event.occurred_at, LockWaitSkip);
    }
    move_event(event, period.start);
    return period.start;
}

Answer add_event(const Event &event, TimestampTz period_start, bool is_first_write, Add add)
{
    Settlement settlement = add(event, counter_id(event.account_id, period_start), is_first_write);
    while (settlement.outcome == core::Outcome::undecided) {
        CHECK_FOR_INTERRUPTS();
        period_start = move_on(event, period_start);
        settlement = add(event, counter_id(event.account_id, period_start), false);
    }
    const CounterReading &counter = settlement.counter;
    if (settlement.outcome == core::Outcome::closed) {
        raise_period_closed(event, {period_start, counter.period_end, true});
    }
    return {settlement.outcome, counter.tokens_used, period_start, counter.period_end, false};
}

/*
 * The row type of the answer. It never changes, so it is made once per backend:
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

} // namespace

EventName name_of_arguments(FunctionCallInfo fcinfo)
{
    const EventName name = {fcinfo->args[0], fcinfo->args[2]};
    static const core::InputError null_errors[] = {
        core::InputError::account_null, core::InputError::tokens_null, core::InputError::key_null};
    for (size_t i = 0; i < lengthof(null_errors); i++) {
        if (PG_ARGISNULL(i)) {
            raise_input_error(null_errors[i], name, 0, 0);
        }
    }
    return name;
}

bool answer_replay(const Event &event, Answer *answer, bool will_write)
{
    CountedEvent counted;
    if (!find_counted_event(event.account_id, event.idempotency_key, &counted, will_write)) {
        return false;
    }
    if (!(counted.payload == event.payload)) {
        raise_conflict(event, counted.payload);
    }
    CounterReading counter = {};
    const bool has_counter =
        read_counter(counter_id(event.account_id, counted.period_start), &counter);
    *answer = {core::Outcome::replayed, counter.tokens_used, counted.period_start,
               counter.period_end, !has_counter};
    return true;
}

Answer count_event(const Event &event, core::InputError key_error, Add add)
{
    const bool is_first_write = !TransactionIdIsValid(GetTopTransactionIdIfAny());
    Answer replay;

    const core::InputError error =
        key_error != core::InputError::none ? key_error : check_event_time(event.occurred_at);
    Period period;
    const bool is_found = find_period(event.account_id, event.occurred_at, &period);

    if (error != core::InputError::none || !is_found || period.is_closed) {
        /* Not an answer yet: it may be a retry. */
        if (answer_replay(event, &replay, true)) {
            return replay;
        }
        if (error != core::InputError::none) {
            raise_input_error(error, name_of(event), event.payload.tokens, event.occurred_at);
        }
        if (is_found) {
            raise_period_closed(event, period);
        }
        period = open_period_covering(name_of(event), event.occurred_at);
    }

    /* If the key is taken but not found, its event was deleted in between. The key is free. */
    while (!record_event(event, period.start)) {
        if (answer_replay(event, &replay, false)) {
            return replay;
        }
        CHECK_FOR_INTERRUPTS();
    }
    return add_event(event, period.start, is_first_write, add);
}

Datum datum_of_answer(const Answer &answer)
{
    const Datum values[] = {
        CStringGetTextDatum(core::name_of(answer.outcome)), Int64GetDatum(answer.tokens_used),
        TimestampTzGetDatum(answer.period_start), TimestampTzGetDatum(answer.period_end)};
    const bool nulls[lengthof(values)] = {
        false, answer.outcome == core::Outcome::queued || answer.is_counter_missing, false,
        answer.is_counter_missing};
    return HeapTupleGetDatum(
        heap_form_tuple(answer_type(), const_cast<Datum *>(values), const_cast<bool *>(nulls)));
}

Datum count_arguments(FunctionCallInfo fcinfo,
                      Event (*read)(FunctionCallInfo fcinfo, core::InputError *key_error))
{
    Answer answer;
    run_counting_refusals([&] {
        core::InputError key_error;
        const Event event = read(fcinfo, &key_error);
        SPI_connect();
        answer = count_event(event, key_error, add_usage);
        SPI_finish();
    });
    count_outcome(answer.outcome);
    return datum_of_answer(answer);
}

} // namespace usage_ledger
