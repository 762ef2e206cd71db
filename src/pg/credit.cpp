/*
 * credit.cpp: credit_usage, which takes tokens off an account's current period, as an event with
 * negative tokens.
 *
 * A total must not fall below zero. So a credit is never queued: in every settlement mode it
 * locks the counter, folds what is pending, and compares. What other sessions have queued and not
 * yet committed can only raise the total.
 */
#include "pg/postgres.hpp"

#include "core/limits.hpp"
#include "pg/arguments.hpp"
#include "pg/counters.hpp"
#include "pg/counting.hpp"
#include "pg/errors.hpp"
#include "pg/events.hpp"
#include "pg/pending.hpp"
#include "pg/spi.hpp"
#include "pg/stats.hpp"

namespace usage_ledger
{

namespace
{

/* Adds a credit, whose tokens are negative, to the counter. An Add of counting.hpp. */
Settlement add_credit(const Event &event, const core::CounterId &id, bool)
{
    CounterState counter = {};
    counter.id = id;
    lock_counters(&counter, 1);
    Settlement settlement =
        settlement_of(event, {counter.totals.tokens, counter.period_end, counter.is_closed},
                      core::Outcome::applied);
    if (settlement.outcome != core::Outcome::applied) {
        return settlement;
    }
    core::WideUsage total = core::wide(counter.totals);
    take_pending(id, &total);
    core::add(&total, event.payload);
    if (core::is_below_zero(total)) {
        core::add(&total, -event.payload);
        raise_below_zero(name_of(event), "credit exceeds the total of the billing period", total,
                         "Credit no more than the total, or credit a later period too.");
    }
    const core::Usage totals = totals_of(id, total);
    core::Usage change = -counter.totals;
    (void)core::add(&change, totals);
    add_to_counters(&counter, &change, 1);
    settlement.counter.tokens_used = totals.tokens;
    return settlement;
}

/* Reads the arguments, and raises if one is outside its limits, but the key or the reason. */
Event event_of_arguments(FunctionCallInfo fcinfo)
{
    const EventName name = name_of_arguments(fcinfo);
    const int64 tokens = PG_GETARG_INT64(1);
    if (tokens < 1 || tokens > core::event_tokens_max) {
        raise_invalid_argument(
            name, "credit is outside its limits", psprintf(INT64_FORMAT " tokens", tokens),
            psprintf("Pass 1 to " INT64_FORMAT " tokens.", core::event_tokens_max));
    }
    const int64 key_length = text_length(PG_GETARG_DATUM(2));
    const core::InputError error = core::check_key(key_length);
    if (error != core::InputError::none && !core::may_be_restored(error, key_length)) {
        raise_input_error(error, name, tokens, 0);
    }
    return {PG_GETARG_DATUM(0),
            PointerGetDatum(PG_GETARG_TEXT_PP(2)),
            {-tokens, 0, 0},
            GetCurrentTransactionStartTimestamp()};
}

void keep_reason(const Event &event, Datum reason)
{
    static Statement statement = {
        "usage_events",
        "UPDATE %s SET void_reason = $3"
        " WHERE account_id OPERATOR(pg_catalog.=) $1 AND idempotency_key OPERATOR(pg_catalog.=) $2",
        {UUIDOID, TEXTOID, TEXTOID}};
    const Datum arguments[] = {event.account_id, event.idempotency_key, reason};
    run(&statement, arguments);
}

Answer credit_event(const Event &event, const NullableDatum &reason)
{
    Answer answer;
    if (answer_replay(event, &answer, true)) {
        return answer;
    }
    check_reason(name_of(event), reason);
    answer = count_event(event, core::check_key(text_length(event.idempotency_key)), add_credit);
    if (answer.outcome == core::Outcome::applied && !reason.isnull) {
        keep_reason(event, reason.value);
    }
    return answer;
}

Answer credit(FunctionCallInfo fcinfo)
{
    const Event event = event_of_arguments(fcinfo);

    SPI_connect();
    const Answer answer = credit_event(event, fcinfo->args[3]);
    SPI_finish();
    return answer;
}

} // namespace

} // namespace usage_ledger

extern "C" {

PG_FUNCTION_INFO_V1(usage_ledger_credit_usage);

Datum usage_ledger_credit_usage(PG_FUNCTION_ARGS)
{
    using namespace usage_ledger;

    Answer answer;
    run_counting_refusals([&] { answer = credit(fcinfo); });
    count_outcome(answer.outcome);
    PG_RETURN_DATUM(datum_of_answer(answer));
}
}
