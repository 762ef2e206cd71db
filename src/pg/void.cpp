/*
 * void.cpp: void_usage, which reverses an event once.
 *
 * Marking the event happens once: a second session waits for the first and finds the event
 * marked. Then the event's payload, negated, is settled as any other usage. If the event is
 * still pending, so is its negative.
 */
#include "pg/postgres.hpp"

#include "core/limits.hpp"
#include "pg/arguments.hpp"
#include "pg/counters.hpp"
#include "pg/errors.hpp"
#include "pg/events.hpp"
#include "pg/settlement.hpp"
#include "pg/spi.hpp"
#include "pg/stats.hpp"

namespace usage_ledger
{

namespace
{

struct Answer {
    const char *outcome;
    NullableDatum tokens_used;
};

/* Reads the arguments, and raises if one is outside its limits. */
EventName name_of_arguments(FunctionCallInfo fcinfo)
{
    const EventName name = {fcinfo->args[0], fcinfo->args[1]};
    if (PG_ARGISNULL(0)) {
        raise_input_error(core::InputError::account_null, name, 0, 0);
    }
    if (PG_ARGISNULL(1)) {
        raise_input_error(core::InputError::key_null, name, 0, 0);
    }
    const core::InputError error = core::check_key(text_length(PG_GETARG_DATUM(1)));
    if (error != core::InputError::none) {
        raise_input_error(error, name, 0, 0);
    }
    const NullableDatum &reason = fcinfo->args[2];
    if (!reason.isnull && text_length(reason.value) > core::void_reason_length_max) {
        raise_invalid_argument(
            PG_GETARG_DATUM(0), "reason of a void is too long",
            psprintf("reason %s", quoted_text(reason.value)),
            psprintf("Pass " INT64_FORMAT " bytes at most.", core::void_reason_length_max));
    }
    return {name.account_id, {PointerGetDatum(PG_GETARG_TEXT_PP(1)), false}};
}

[[noreturn]] void raise_unknown_event(const EventName &name)
{
    ereport(ERROR, (errcode(errcode_no_event), errmsg("no event was counted under this key"),
                    errdetail("%s.", event_text(name)),
                    errhint("Pass the account and key of the call that counted it; events of "
                            "closed periods may have been pruned.")));
    pg_unreachable();
}

[[noreturn]] void raise_event_invoiced(const EventName &name, TimestampTz period_start)
{
    ereport(ERROR, (errcode(errcode_period_closed), errmsg("%s", message_period_closed),
                    errdetail("%s: period from %s.", event_text(name), time_text(period_start)),
                    errhint("Usage in a closed period cannot be voided. Issue a credit "
                            "instead.")));
    pg_unreachable();
}

Answer void_counted_event(const EventName &name, NullableDatum reason)
{
    const Datum account_id = name.account_id.value;
    CountedEvent counted;
    while (!void_event(account_id, name.idempotency_key.value, reason, &counted)) {
        if (!find_counted_event(account_id, name.idempotency_key.value, &counted)) {
            raise_unknown_event(name);
        }
        if (counted.is_voided) {
            const CounterState counter = read_counter(counter_id(account_id, counted.period_start));
            return {"replayed", {Int64GetDatum(counter.totals.tokens), false}};
        }
        CHECK_FOR_INTERRUPTS(); /* it was counted between the two */
    }
    const Settlement settlement =
        reverse_usage(counter_id(account_id, counted.period_start), counted.payload);
    if (settlement.outcome == core::Outcome::closed) {
        raise_event_invoiced(name, counted.period_start);
    }
    return {"voided",
            {Int64GetDatum(settlement.tokens_used), settlement.outcome == core::Outcome::queued}};
}

Answer void_usage(FunctionCallInfo fcinfo)
{
    const EventName name = name_of_arguments(fcinfo);

    SPI_connect();
    const Answer answer = void_counted_event(name, fcinfo->args[2]);
    SPI_finish();
    return answer;
}

} // namespace

} // namespace usage_ledger

extern "C" {

PG_FUNCTION_INFO_V1(usage_ledger_void_usage);

Datum usage_ledger_void_usage(PG_FUNCTION_ARGS)
{
    using namespace usage_ledger;

    const Answer answer = count_if_refused([fcinfo] { return void_usage(fcinfo); });
    const Datum values[] = {CStringGetTextDatum(answer.outcome), answer.tokens_used.value};
    const bool nulls[] = {false, answer.tokens_used.isnull};
    PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(
        result_type(fcinfo), const_cast<Datum *>(values), const_cast<bool *>(nulls))));
}
}
