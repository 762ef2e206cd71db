/*
 * record.cpp: record_usage, which counts one event once, as increment_usage does, with its
 * breakdown by scope, model, kinds of tokens and cost.
 */
#include "pg/postgres.hpp"

#include "core/limits.hpp"
#include "pg/breakdowns.hpp"
#include "pg/counting.hpp"
#include "pg/errors.hpp"

namespace usage_ledger
{

namespace
{

constexpr int first_amount = 4; /* among the arguments */

/* All kinds together, or the first kind that is outside its limits, for the error. */
int64 tokens_or_wrong_kind(const core::Amounts &amounts)
{
    int64 sum = 0;
    for (size_t i = 0; i < core::kind_count; i++) {
        if (core::check_tokens(amounts.values[i]) != core::InputError::none) {
            return amounts.values[i];
        }
        sum += amounts.values[i];
    }
    return sum;
}

/* A name, or of one that is far too long, enough to tell. */
std::string_view name_argument(FunctionCallInfo fcinfo, int number)
{
    if (PG_ARGISNULL(number)) {
        return {};
    }
    const Datum name = PG_GETARG_DATUM(number);
    return text_view(
        text_length(name) <= core::restored_length_max
            ? name
            : PointerGetDatum(DatumGetTextPSlice(name, 0, core::restored_length_max + 1)));
}

/* Reads the arguments of a breakdown. Raises if an amount is NULL. */
core::Breakdown breakdown_of_arguments(FunctionCallInfo fcinfo, const EventName &name)
{
    core::Breakdown breakdown = {};
    breakdown.pair = {name_argument(fcinfo, 3), name_argument(fcinfo, 2)};
    for (size_t i = 0; i < core::events_index; i++) {
        if (PG_ARGISNULL(first_amount + i)) {
            raise_input_error(core::InputError::amount_null, name, 0, 0);
        }
        breakdown.amounts.values[i] = PG_GETARG_INT64(first_amount + i);
    }
    breakdown.amounts.values[core::events_index] = 1;
    return breakdown;
}

/*
 * Reads the arguments, and raises if one is outside its limits, unless only a lookup of the
 * key can tell.
 */
Event event_of_arguments(FunctionCallInfo fcinfo, core::InputError *key_error)
{
    auto *breakdown = static_cast<core::Breakdown *>(palloc(sizeof(core::Breakdown)));
    const EventName name = {fcinfo->args[0], fcinfo->args[1]};
    if (PG_ARGISNULL(0)) {
        raise_input_error(core::InputError::account_null, name, 0, 0);
    }
    *breakdown = breakdown_of_arguments(fcinfo, name);
    if (PG_ARGISNULL(1)) {
        raise_input_error(core::InputError::key_null, name, 0, 0);
    }
    const TimestampTz occurred_at =
        PG_ARGISNULL(12) ? GetCurrentTransactionStartTimestamp() : PG_GETARG_TIMESTAMPTZ(12);
    const bool is_report = !PG_ARGISNULL(10) && PG_GETARG_BOOL(10);
    const bool is_chat = !PG_ARGISNULL(11) && PG_GETARG_BOOL(11);
    const int64 tokens = tokens_or_wrong_kind(breakdown->amounts);
    const core::Payload payload = {{tokens, is_report ? 1 : 0, is_chat ? 1 : 0}, breakdown};

    const int64 key_length = text_length(PG_GETARG_DATUM(1));
    *key_error = core::check_breakdown(*breakdown);
    if (*key_error == core::InputError::none) {
        *key_error = core::check_key(key_length);
    }
    if (*key_error != core::InputError::none &&
        !core::may_be_restored(*key_error, Max(key_length, core::longest_name(payload)))) {
        raise_input_error(*key_error, name, tokens, occurred_at);
    }
    return {PG_GETARG_DATUM(0), PointerGetDatum(PG_GETARG_TEXT_PP(1)), payload, occurred_at};
}

} // namespace

} // namespace usage_ledger

extern "C" {

PG_FUNCTION_INFO_V1(usage_ledger_record_usage);

Datum usage_ledger_record_usage(PG_FUNCTION_ARGS)
{
    using namespace usage_ledger;

    PG_RETURN_DATUM(count_arguments(fcinfo, event_of_arguments));
}
}
