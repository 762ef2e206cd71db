/*
 * void.cpp: void_usage, which reverses an event once, in every settlement mode under its
 * counter's lock: an event is changed only by a session that has this lock.
 *
 * If the counter is too small because the event is still pending, the negative is queued too,
 * and a settler folds both.
 */
#include "pg/postgres.hpp"

#include "pg/arguments.hpp"
#include "pg/breakdowns.hpp"
#include "pg/counters.hpp"
#include "pg/errors.hpp"
#include "pg/events.hpp"
#include "pg/pending.hpp"
#include "pg/spi.hpp"
#include "pg/stats.hpp"
#include "pg/worker.hpp"

namespace usage_ledger
{

namespace
{

struct Answer {
    const char *outcome;
    NullableDatum tokens_used;
};

[[noreturn]] void raise_unknown_event(const EventName &name)
{
    const core::InputError error = core::check_key(text_length(name.idempotency_key.value));
    if (error != core::InputError::none) {
        raise_input_error(error, name, 0, 0);
    }
    ereport(ERROR, (errcode(errcode_no_event), errmsg("no event was counted under this key"),
                    errdetail("%s.", event_text(name)),
                    errhint("Pass the account and key of the call that counted it; events of "
                            "closed periods may have been pruned.")));
}

[[noreturn]] void raise_period_missing(const EventName &name, const core::CounterId &counter)
{
    ereport(ERROR,
            (errcode(errcode_no_account_or_period),
             errmsg("billing period of the event does not exist"),
             errdetail("%s:\nperiod from %s.", event_text(name), time_text(counter.period_start)),
             errhint("Its row was deleted by hand: restore it, or delete the event too.")));
}

[[noreturn]] void raise_event_invoiced(const EventName &name, TimestampTz period_start)
{
    ereport(ERROR, (errcode(errcode_period_closed), errmsg("%s", message_period_closed),
                    errdetail("%s:\nperiod from %s.", event_text(name), time_text(period_start)),
                    errhint("Usage in a closed period cannot be voided. Give a credit with "
                            "credit_usage instead.")));
}

/* Adds the negative of an event to its counter and breakdown. False: it does not fit yet. */
bool try_to_add(const CounterState &counter, const core::Payload &change)
{
    if (core::fit(counter.totals, change) != core::Fit::fits) {
        return false;
    }
    if (change.breakdown != nullptr) {
        const PairSum sum = {counter.id, change.breakdown->pair,
                             core::sum_of(change.breakdown->amounts)};
        Place *place = find_places(&sum, 1);
        if (!add_to_place(place, sum.sum)) {
            return false;
        }
        write_places(place, 1);
    }
    add_to_counters(&counter, &change, 1);
    return true;
}

/*
 * Subtracts usage from a locked counter, or queues that. Returns the tokens after it. Raises
 * where a credit stands against the usage. Usage that other sessions have queued and not yet
 * committed can only raise the total.
 */
NullableDatum subtract(const EventName &name, const CounterState &counter,
                       const core::Payload &payload)
{
    core::Payload change = {-payload};
    core::Breakdown breakdown;
    if (payload.breakdown != nullptr) {
        breakdown = {payload.breakdown->pair, -payload.breakdown->amounts};
        change.breakdown = &breakdown;
    }
    core::WideUsage total = core::wide(counter.totals);
    add_pending(counter.id, &total);
    core::WideUsage rest = total;
    core::add(&rest, change);
    if (core::is_below_zero(rest)) {
        raise_below_zero(name, "void exceeds the total of the billing period", total,
                         "Void the credit of the period first.");
    }
    if (!try_to_add(counter, change)) {
        enqueue(counter.id, change);
        note_queued_rows(1);
        return {0, true};
    }
    return {Int64GetDatum(counter.totals.tokens + change.tokens), false};
}

/*
 * Marks an event as voided. False: no event has this key, or it is voided already.
 *
 * REQUIRES: its counter is locked.
 */
bool mark_voided(const EventName &name, NullableDatum reason)
{
    static Statement statement = {
        "usage_events",
        "UPDATE %s SET voided_at = pg_catalog.now(), void_reason = COALESCE($3, void_reason)"
        " WHERE account_id OPERATOR(pg_catalog.=) $1 AND idempotency_key OPERATOR(pg_catalog.=) $2"
        " AND voided_at IS NULL",
        {UUIDOID, TEXTOID, TEXTOID}};
    const Datum arguments[] = {name.account_id.value, name.idempotency_key.value, reason.value};
    return run(&statement, arguments, reason.isnull ? "  n" : nullptr) == 1;
}

Answer void_counted_event(const EventName &name, NullableDatum reason)
{
    const Datum account_id = name.account_id.value, key = name.idempotency_key.value;
    for (;;) {
        CountedEvent counted;
        const bool is_found = find_counted_event(account_id, key, &counted, true);
        if (!is_found || !counted.is_voided) {
            check_reason(name, reason);
        }
        if (!is_found) {
            raise_unknown_event(name);
        }
        const core::CounterId id = counter_id(account_id, counted.period_start);
        CounterReading reading = {};
        const bool has_counter = read_counter(id, &reading);
        if (counted.is_voided) {
            return {"replayed", {Int64GetDatum(reading.tokens_used), !has_counter}};
        }
        if (!has_counter) {
            /* Unless the account was erased since the event was found. */
            if (find_counted_event(account_id, key, &counted)) {
                raise_period_missing(name, id);
            }
            continue;
        }
        CounterState counter = {};
        counter.id = id;
        lock_counters(&counter, 1);
        if (counter.is_closed) {
            raise_event_invoiced(name, counted.period_start);
        }
        if (mark_voided(name, reason)) {
            return {"voided", subtract(name, counter, counted.payload)};
        }
        CHECK_FOR_INTERRUPTS(); /* another session has voided or deleted it in the meantime */
    }
}

Answer void_usage(FunctionCallInfo fcinfo)
{
    const EventName name = key_arguments(fcinfo);

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

    Answer answer;
    run_counting_refusals([&] { answer = void_usage(fcinfo); });
    const Datum values[] = {CStringGetTextDatum(answer.outcome), answer.tokens_used.value};
    const bool nulls[] = {false, answer.tokens_used.isnull};
    PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(
        result_type(fcinfo), const_cast<Datum *>(values), const_cast<bool *>(nulls))));
}
}
