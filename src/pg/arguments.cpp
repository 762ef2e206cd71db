#include "pg/postgres.hpp"

#include "pg/arguments.hpp"

#include "pg/breakdowns.hpp"

#include "core/limits.hpp"
#include "pg/settings.hpp"

namespace usage_ledger
{

void check_no_null(FunctionCallInfo fcinfo, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (names[i] != nullptr && PG_ARGISNULL(i)) {
            raise_null(names[i], psprintf("Account %s", account_text(fcinfo->args[0])));
        }
    }
}

EventName key_arguments(FunctionCallInfo fcinfo)
{
    const EventName name = {fcinfo->args[0], fcinfo->args[1]};
    if (PG_ARGISNULL(0)) {
        raise_input_error(core::InputError::account_null, name, 0, 0);
    }
    if (PG_ARGISNULL(1)) {
        raise_input_error(core::InputError::key_null, name, 0, 0);
    }
    const int64 key_length = text_length(PG_GETARG_DATUM(1));
    const core::InputError error = core::check_key(key_length);
    if (error != core::InputError::none && !core::may_be_restored(error, key_length)) {
        raise_input_error(error, name, 0, 0);
    }
    return {name.account_id, {PointerGetDatum(PG_GETARG_TEXT_PP(1)), false}};
}

core::InputError check_event_time(TimestampTz occurred_at)
{
    const core::InputError error =
        core::check_time(occurred_at, GetCurrentTransactionStartTimestamp(), event_age_max_us());
    return error == core::InputError::time_too_far_ahead
               ? core::check_time(occurred_at, GetCurrentTimestamp(), event_age_max_us())
               : error;
}

void check_reason(const EventName &name, const NullableDatum &reason)
{
    if (!reason.isnull && text_length(reason.value) > core::void_reason_length_max) {
        raise_invalid_argument(
            name, "reason is too long", psprintf("reason %s", quoted_text(reason.value)),
            psprintf("Pass " INT64_FORMAT " bytes at most.", core::void_reason_length_max));
    }
}

std::string_view scope_argument(FunctionCallInfo fcinfo, int number, const EventName &call,
                                core::InputError *error_if_new)
{
    if (PG_ARGISNULL(number)) {
        return {};
    }
    const Datum argument = PointerGetDatum(PG_GETARG_TEXT_PP(number));
    const std::string_view scope = text_view(argument);
    const core::InputError error = core::check_scope(scope);
    if (error_if_new != nullptr && core::may_be_restored(error, static_cast<int64>(scope.size()))) {
        *error_if_new = error;
    } else if (error != core::InputError::none) {
        const ErrorText text = text_of(error);
        raise_invalid_argument(call, text.message, psprintf("scope %s", quoted_text(argument)),
                               text.hint);
    }
    return scope;
}

int32 row_count_argument(FunctionCallInfo fcinfo, int number)
{
    if (PG_ARGISNULL(number)) {
        raise_null("number of rows", "Argument p_max_rows is null");
    }
    const int32 row_count = PG_GETARG_INT32(number);
    if (row_count < 1 || row_count > core::call_rows_max) {
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("number of rows is outside its limits"),
                        errdetail("Argument p_max_rows is %d.", row_count),
                        errhint("Pass 1 to %d, and call again while rows are left.",
                                core::call_rows_max)));
    }
    return row_count;
}

TupleDesc result_type(FunctionCallInfo fcinfo)
{
    TupleDesc type;
    if (get_call_result_type(fcinfo, nullptr, &type) != TYPEFUNC_COMPOSITE) {
        elog(ERROR, "function %u must return a row", fcinfo->flinfo->fn_oid);
    }
    return type;
}

} // namespace usage_ledger
