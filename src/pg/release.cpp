/*
 * release.cpp: release_usage, which gives back what a key holds.
 */
#include "pg/postgres.hpp"

#include "pg/arguments.hpp"
#include "pg/errors.hpp"
#include "pg/events.hpp"
#include "pg/holds.hpp"
#include "pg/limits.hpp"
#include "pg/spi.hpp"
#include "pg/stats.hpp"

namespace usage_ledger
{

namespace
{

struct Release {
    bool is_released;
    NullableDatum tokens_remaining;
};

/*
 * A dead hold gives nothing back. Its tokens were counted, or others may have them: so the answer
 * is the same whether or not it has been deleted already.
 */
Release release(const EventName &name)
{
    const Claim claim = {name.account_id.value,
                         name.idempotency_key.value,
                         {},
                         0,
                         GetCurrentTransactionStartTimestamp(),
                         0};
    Standing standing;
    bool is_locked = false;
    for (;;) {
        if (!find_standing(claim, &standing) || standing.is_counted) {
            return {false, {0, true}};
        }
        find_hold(claim, &standing);
        if (!standing.has_hold) {
            return {false, {0, true}};
        }
        if (is_locked) {
            break;
        }
        is_locked = lock_limit(claim.account_id);
    }
    const bool is_released = has_live_hold(standing);
    delete_hold(claim.account_id, claim.idempotency_key);
    standing.balance.tokens_held -= standing.hold.tokens;
    return {is_released,
            {Int64GetDatum(core::tokens_remaining(standing.balance)),
             !is_released || standing.is_unlimited}};
}

Release release_with_arguments(FunctionCallInfo fcinfo)
{
    const EventName name = key_arguments(fcinfo);

    SPI_connect();
    const Release answer = release(name);
    const core::InputError error = core::check_key(text_length(name.idempotency_key.value));
    CountedEvent counted;
    if (!answer.is_released && error != core::InputError::none &&
        !find_counted_event(name.account_id.value, name.idempotency_key.value, &counted)) {
        raise_input_error(error, name, 0, 0);
    }
    SPI_finish();
    return answer;
}

} // namespace

} // namespace usage_ledger

extern "C" {

PG_FUNCTION_INFO_V1(usage_ledger_release_usage);

Datum usage_ledger_release_usage(PG_FUNCTION_ARGS)
{
    using namespace usage_ledger;

    Release answer;
    run_counting_refusals([&] { answer = release_with_arguments(fcinfo); });
    const Datum values[] = {CStringGetTextDatum(answer.is_released ? "released" : "replayed"),
                            answer.tokens_remaining.value};
    const bool nulls[] = {false, answer.tokens_remaining.isnull};
    PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(
        result_type(fcinfo), const_cast<Datum *>(values), const_cast<bool *>(nulls))));
}
}
