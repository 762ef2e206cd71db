/*
 * reserve.cpp: reserve_usage, which holds tokens for a key before the work, so that they can be
 * counted after it.
 *
 * Counting the key ends the hold, with no code for it: a hold is dead once its key has an event.
 * So the call that counts takes no lock of limits, and a reservation that runs at the same time
 * cannot give the same tokens back twice.
 */
#include "pg/postgres.hpp"

#include "pg/accounts.hpp"
#include "pg/arguments.hpp"
#include "pg/breakdowns.hpp"
#include "pg/counters.hpp"
#include "pg/errors.hpp"
#include "pg/holds.hpp"
#include "pg/increment.hpp"
#include "pg/limits.hpp"
#include "pg/spi.hpp"
#include "pg/stats.hpp"

namespace usage_ledger
{

namespace
{

struct Reservation {
    const char *outcome;
    NullableDatum tokens_remaining;
    NullableDatum expires_at;
    std::string_view refused_by;
    bool is_refused;
};

constexpr NullableDatum no_value = {0, true};

[[noreturn]] void raise_period_closed(const EventName &name, const Period &period)
{
    ereport(ERROR, (errcode(errcode_period_closed), errmsg("billing period is closed"),
                    errdetail("%s:\nperiod from %s to %s.", event_text(name),
                              time_text(period.start), time_text(period.end)),
                    errhint("Reserve once the period has ended, or end it with "
                            "end_usage_period.")));
}

/* Work that cannot be counted must not begin. */
void check_can_be_counted(const Claim &claim, const Standing &standing)
{
    const EventName name = {{claim.account_id, false}, {claim.idempotency_key, false}};
    if (!standing.has_period) {
        check_can_open(name, claim.earliest);
    } else if (standing.period.is_closed) {
        raise_period_closed(name, standing.period);
    }
}

/* Finds the period of an account without a limit, as the standing of others has it. */
void find_current_period(const Claim &claim, Standing *standing)
{
    Period period;
    CounterReading reading;
    standing->has_period =
        find_period(claim.account_id, claim.earliest, &period) &&
        read_counter(counter_id(claim.account_id, period.start), &reading, GetLatestSnapshot()) &&
        claim.earliest < reading.period_end;
    if (standing->has_period) {
        standing->period = {period.start, reading.period_end, reading.is_closed};
    }
}

Reservation reserve(const Claim &claim)
{
    Standing standing;
    const Room room = take_room(claim, Use::hold, &standing);
    if (room == Room::unlimited) {
        find_current_period(claim, &standing);
    }
    if (room != Room::counted) {
        check_can_be_counted(claim, standing);
    }
    const NullableDatum remaining = {Int64GetDatum(standing.tokens_remaining), false};
    const Datum expires_at = TimestampTzGetDatum(standing.hold.expires_at);
    switch (room) {
    case Room::counted:
        return {"replayed", no_value, no_value, {}, false};
    case Room::unlimited:
        return {"unlimited", no_value, no_value, {}, false};
    case Room::refused:
        count_stat(Stat::limit_reached);
        return {"limit_reached",
                remaining,
                {expires_at, !has_live_hold(standing)},
                standing.refused_by,
                true};
    case Room::taken:
        count_stat(Stat::reserved);
        return {"reserved", remaining, {expires_at, false}, {}, false};
    }
    pg_unreachable();
}

/* Raises if it is NULL or outside its limits. */
int64 length_of_argument(FunctionCallInfo fcinfo, const EventName &name)
{
    if (PG_ARGISNULL(3)) {
        raise_null("expiry", event_text(name));
    }
    const Datum interval = fcinfo->args[3].value;
    const int64 length_us = core::hold_length_us(period_length_of(interval));
    if (length_us == 0) {
        raise_invalid_argument(
            name, "expiry of a hold is outside its limits",
            psprintf("expires in %s", DatumGetCString(DirectFunctionCall1(interval_out, interval))),
            "Pass more than 0, and 24 hours at most. A longer piece of work reserves again, with "
            "the same key.");
    }
    return length_us;
}

Reservation reserve_with_arguments(FunctionCallInfo fcinfo)
{
    core::InputError key_error;
    const EventName name = check_leading_arguments(fcinfo, &key_error);
    const int64 tokens = PG_GETARG_INT64(1);
    const int64 length_us = length_of_argument(fcinfo, name);
    const std::string_view scope = scope_argument(fcinfo, 4, name, &key_error);

    SPI_connect();
    CountedEvent counted;
    if (key_error != core::InputError::none &&
        !find_counted_event(name.account_id.value, name.idempotency_key.value, &counted)) {
        raise_input_error(key_error, name, tokens, 0);
    }
    const Reservation answer = reserve({name.account_id.value, name.idempotency_key.value, scope,
                                        tokens, GetCurrentTransactionStartTimestamp(), length_us});
    SPI_finish();
    return answer;
}

} // namespace

} // namespace usage_ledger

extern "C" {

PG_FUNCTION_INFO_V1(usage_ledger_reserve_usage);

Datum usage_ledger_reserve_usage(PG_FUNCTION_ARGS)
{
    using namespace usage_ledger;

    Reservation answer;
    run_counting_refusals([&] { answer = reserve_with_arguments(fcinfo); });
    const Datum values[] = {CStringGetTextDatum(answer.outcome), answer.tokens_remaining.value,
                            answer.expires_at.value, text_datum(answer.refused_by)};
    const bool nulls[] = {false, answer.tokens_remaining.isnull, answer.expires_at.isnull,
                          !answer.is_refused};
    PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(
        result_type(fcinfo), const_cast<Datum *>(values), const_cast<bool *>(nulls))));
}
}
