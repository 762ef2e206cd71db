/*
 * void.cpp: void_usage, which takes an event back once.
 *
 * Marking the event is what happens once: whoever comes second waits for the first,
 * and finds it marked. The event's payload, negated, then goes the way of any other
 * usage. What is taken back may still be pending; its negative joins it there.
 */
#include "pg/postgres.hpp"

#include "core/limits.hpp"
#include "pg/apply.hpp"
#include "pg/counters.hpp"
#include "pg/errors.hpp"
#include "pg/events.hpp"

namespace usage_ledger
{

namespace
{

struct Answer {
    const char *outcome;
    NullableDatum tokens_used;
};

Answer void_counted_event(Datum account_id, Datum key, NullableDatum reason)
{
    const EventName name = {{account_id, false}, {key, false}};
    CountedEvent counted;
    while (!void_event(account_id, key, reason, &counted)) {
        if (!find_counted_event(account_id, key, &counted)) {
            raise_unknown_event(name);
        }
        if (counted.is_voided) {
            const Counter counter = read_counter(account_id, counted.period_start);
            return {"replayed", {Int64GetDatum(counter.tokens_used), false}};
        }
        CHECK_FOR_INTERRUPTS(); /* it was counted between the two */
    }
    const Applied applied = take_back(name, counted.period_start, counted.payload);
    switch (applied.result) {
    case ApplyResult::applied:
        break;
    case ApplyResult::queued:
        return {"voided", {0, true}};
    case ApplyResult::closed:
        raise_event_invoiced(name, counted.period_start);
    }
    return {"voided", {Int64GetDatum(applied.tokens_used), false}};
}

void check_reason(Datum account_id, NullableDatum reason)
{
    if (reason.isnull) {
        return;
    }
    if (text_length(reason.value) > core::void_reason_length_max) {
        raise_invalid_argument(
            account_id, "reason of a void is too long",
            psprintf("reason %s", quoted_text(reason.value)),
            psprintf("Pass " INT64_FORMAT " bytes at most.", core::void_reason_length_max));
    }
}

} // namespace

} // namespace usage_ledger

extern "C" {

PG_FUNCTION_INFO_V1(usage_ledger_void_usage);

Datum usage_ledger_void_usage(PG_FUNCTION_ARGS)
{
    using namespace usage_ledger;

    const EventName name = {fcinfo->args[0], fcinfo->args[1]};
    if (PG_ARGISNULL(0)) {
        raise_fault(core::Fault::account_null, name, 0, 0);
    }
    if (PG_ARGISNULL(1)) {
        raise_fault(core::Fault::key_null, name, 0, 0);
    }
    const core::Fault key_fault = core::check_key(text_length(PG_GETARG_DATUM(1)));
    if (key_fault != core::Fault::none) {
        raise_fault(key_fault, name, 0, 0);
    }
    check_reason(PG_GETARG_DATUM(0), fcinfo->args[2]);

    TupleDesc type;
    if (get_call_result_type(fcinfo, nullptr, &type) != TYPEFUNC_COMPOSITE) {
        elog(ERROR, "void_usage must return a row");
    }

    SPI_connect();
    const Answer answer = void_counted_event(
        PG_GETARG_DATUM(0), PointerGetDatum(PG_GETARG_TEXT_PP(1)), fcinfo->args[2]);
    SPI_finish();

    const Datum values[] = {CStringGetTextDatum(answer.outcome), answer.tokens_used.value};
    const bool nulls[] = {false, answer.tokens_used.isnull};
    PG_RETURN_DATUM(HeapTupleGetDatum(
        heap_form_tuple(type, const_cast<Datum *>(values), const_cast<bool *>(nulls))));
}
}
