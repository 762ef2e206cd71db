/*
 * increment.cpp: increment_usage, which counts one event once.
 */
#include "pg/postgres.hpp"

#include "pg/increment.hpp"

#include "pg/arguments.hpp"
#include "pg/errors.hpp"

namespace usage_ledger
{

EventName check_leading_arguments(FunctionCallInfo fcinfo, core::InputError *key_error)
{
    const EventName name = name_of_arguments(fcinfo);
    const int64 tokens = PG_GETARG_INT64(1);
    const int64 key_length = text_length(PG_GETARG_DATUM(2));
    *key_error = core::check_arguments(tokens, key_length);
    if (*key_error != core::InputError::none && !core::may_be_restored(*key_error, key_length)) {
        raise_input_error(*key_error, name, tokens, 0);
    }
    return {name.account_id, {PointerGetDatum(PG_GETARG_TEXT_PP(2)), false}};
}

Event event_of_arguments(FunctionCallInfo fcinfo, core::InputError *key_error)
{
    const EventName name = check_leading_arguments(fcinfo, key_error);
    const bool is_report = !PG_ARGISNULL(3) && PG_GETARG_BOOL(3);
    const bool is_chat = !PG_ARGISNULL(4) && PG_GETARG_BOOL(4);
    const TimestampTz occurred_at =
        PG_ARGISNULL(5) ? GetCurrentTransactionStartTimestamp() : PG_GETARG_TIMESTAMPTZ(5);
    return {name.account_id.value,
            name.idempotency_key.value,
            {PG_GETARG_INT64(1), is_report ? 1 : 0, is_chat ? 1 : 0},
            occurred_at};
}

} // namespace usage_ledger

extern "C" {

PG_FUNCTION_INFO_V1(usage_ledger_increment_usage);

Datum usage_ledger_increment_usage(PG_FUNCTION_ARGS)
{
    using namespace usage_ledger;

    PG_RETURN_DATUM(count_arguments(fcinfo, event_of_arguments));
}
}
