/*
 * release.cpp: release_usage, which gives back what a key holds.
 */
#include "pg/postgres.hpp"

#include "pg/arguments.hpp"
#include "pg/errors.hpp"
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
    const Datum account_id = name.account_id.value, key = name.idempotency_key.value;
    Release release = {false, {0, true}};
    Limit limit;
    if (!lock_existing_limit(account_id, &limit)) {
        return release;
    }
    const TimestampTz now = GetCurrentTimestamp();
    Standing standing = read_standing({account_id, key, 0, now, now, now});
    if (standing.is_counted || !standing.has_hold) {
        return release;
    }
    release.is_released = has_live_hold(standing, now);
    delete_hold(account_id, key);
    limit.tokens_held -= standing.tokens_held;
    standing.tokens_held = 0;
    store_tokens_held(account_id, limit);
    if (!limit.is_unlimited) {
        release.tokens_remaining = {
            Int64GetDatum(core::tokens_remaining(balance_of(limit, standing))), false};
    }
    return release;
}

Release release_with_arguments(FunctionCallInfo fcinfo)
{
    const EventName name = key_arguments(fcinfo);

    SPI_connect();
    const Release answer = release(name);
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
