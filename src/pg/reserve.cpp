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
};

constexpr NullableDatum no_value = {0, true};

[[noreturn]] void raise_period_closed(const EventName &name, const Period &period)
{
    ereport(ERROR, (errcode(errcode_period_closed), errmsg("billing period is closed"),
                    errdetail("%s: period from %s to %s.", event_text(name),
                              time_text(period.start), time_text(period.end)),
                    errhint("Reserve once the period has ended, or end it with "
                            "end_usage_period.")));
}

/* Work that cannot be counted must not begin. */
void check_can_be_counted(const EventName &name, const Claim &claim, const Standing &standing)
{
    if (!standing.has_period) {
        check_can_open(name, claim.now);
    } else if (standing.period.is_closed) {
        raise_period_closed(name, standing.period);
    }
}

Reservation hold_tokens(const Claim &claim, Limit *limit, const Standing &standing, bool has_room)
{
    core::Balance balance = balance_of(*limit, standing);
    if (!has_room) {
        store_tokens_held(claim.account_id, *limit);
        count_stat(Stat::limit_reached);
        return {"limit_reached",
                {Int64GetDatum(core::tokens_remaining(balance)), false},
                {TimestampTzGetDatum(standing.expires_at), !has_live_hold(standing, claim.now)}};
    }
    const TimestampTz expires_at = claim.latest + 1;
    balance.tokens_held += claim.tokens;
    write_hold(claim.account_id, claim.idempotency_key, claim.tokens, expires_at,
               balance.tokens_held);
    count_stat(Stat::reserved);
    return {"reserved",
            {Int64GetDatum(core::tokens_remaining(balance)), false},
            {TimestampTzGetDatum(expires_at), false}};
}

/* The claim of a call, at the time that it is called. */
Claim claim_now(const EventName &name, int64 tokens, int64 length_us)
{
    const TimestampTz now = GetCurrentTimestamp();
    return {name.account_id.value,
            name.idempotency_key.value,
            tokens,
            now,
            GetCurrentTransactionStartTimestamp(),
            now + length_us - 1};
}

Reservation reserve(const EventName &name, int64 tokens, int64 length_us)
{
    Limit limit;
    const LimitAccess access =
        lock_limit(name.account_id.value, name.idempotency_key.value, &limit);
    if (access == LimitAccess::counted) {
        return {"replayed", no_value, no_value};
    }
    const Claim claim = claim_now(name, tokens, length_us);
    Standing standing;
    if (access == LimitAccess::unlimited) {
        standing = read_standing(claim);
        check_can_be_counted(name, claim, standing);
        return {"unlimited", no_value, no_value};
    }
    const bool has_room = make_room(claim, &limit, &standing);
    if (standing.is_counted) {
        store_tokens_held(claim.account_id, limit);
        return {"replayed", no_value, no_value};
    }
    check_can_be_counted(name, claim, standing);
    return hold_tokens(claim, &limit, standing, has_room);
}

/* Returns 0 for NULL and for an interval that is outside its limits. */
int64 length_of_argument(FunctionCallInfo fcinfo, const EventName &name)
{
    static const char *const names[] = {nullptr, nullptr, nullptr, "expiry"};
    check_no_null(fcinfo, names, lengthof(names));
    const Datum interval = fcinfo->args[3].value;
    const int64 length_us = core::hold_length_us(period_length_of(interval));
    if (length_us == 0) {
        raise_invalid_argument(
            name.account_id.value, "expiry of a hold is outside its limits",
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

    SPI_connect();
    CountedEvent counted;
    if (key_error != core::InputError::none &&
        !find_counted_event(name.account_id.value, name.idempotency_key.value, &counted)) {
        raise_input_error(key_error, name, tokens, 0);
    }
    const Reservation answer = reserve(name, tokens, length_us);
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
                            answer.expires_at.value};
    const bool nulls[] = {false, answer.tokens_remaining.isnull, answer.expires_at.isnull};
    PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(
        result_type(fcinfo), const_cast<Datum *>(values), const_cast<bool *>(nulls))));
}
}
