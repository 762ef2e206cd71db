#include "pg/postgres.hpp"

#include "pg/errors.hpp"

#include "core/limits.hpp"
#include "pg/spi.hpp"

namespace usage_ledger
{

namespace
{

/* How much of an over-long text a message repeats, in bytes. */
constexpr int quoted_bytes_max = 32;

constexpr const char *hint_null = "Pass a value for the argument.";
constexpr const char *hint_malformed =
    "Pass a model such as \"gpt-5\", and a scope such as \"team/user\"; either may be empty.";

ErrorText text_of_breakdown_error(core::InputError error)
{
    using core::InputError;

    switch (error) {
    case InputError::amount_null:
        return {ERRCODE_NULL_VALUE_NOT_ALLOWED, "tokens of a kind and cost must not be null",
                "Pass 0 where there are none, or leave the argument out."};
    case InputError::cost_too_large:
        return {ERRCODE_INVALID_PARAMETER_VALUE,
                psprintf("cost must be within " INT64_FORMAT " nanos of zero in one event",
                         core::event_cost_max),
                "Check the unit of the argument, which is 10^-9 of a currency unit."};
    case InputError::model_malformed:
        return {ERRCODE_INVALID_PARAMETER_VALUE, "model must not have control characters",
                hint_malformed};
    case InputError::model_reserved:
        return {ERRCODE_INVALID_PARAMETER_VALUE, "model _other is reserved",
                "It stands for the models beyond usage_ledger.max_breakdowns. Pass another name."};
    case InputError::scope_malformed:
        return {ERRCODE_INVALID_PARAMETER_VALUE,
                "scope must not have an empty part or control characters", hint_malformed};
    case InputError::name_too_long:
        return {ERRCODE_INVALID_PARAMETER_VALUE,
                psprintf("model and scope must not be longer than " INT64_FORMAT " bytes",
                         core::name_length_max),
                "Pass a shorter name, such as an identifier."};
    default:
        pg_unreachable();
    }
}

} // namespace

ErrorText text_of(core::InputError error)
{
    using core::InputError;

    switch (error) {
    case InputError::none:
        return {};
    case InputError::account_null:
        return {ERRCODE_NULL_VALUE_NOT_ALLOWED, "account must not be null", hint_null};
    case InputError::tokens_null:
        return {ERRCODE_NULL_VALUE_NOT_ALLOWED, "tokens must not be null", hint_null};
    case InputError::key_null:
        return {ERRCODE_NULL_VALUE_NOT_ALLOWED, "idempotency key must not be null", hint_null};
    case InputError::key_empty:
        return {ERRCODE_INVALID_PARAMETER_VALUE, "idempotency key must not be empty",
                "Derive the key from the run and step that used the tokens, and send the same key "
                "with every retry."};
    case InputError::key_too_long:
        return {ERRCODE_INVALID_PARAMETER_VALUE,
                psprintf("idempotency key must not be longer than " INT64_FORMAT " bytes",
                         core::key_length_max),
                "Send a digest of the long key, such as its SHA-256 in hexadecimal."};
    case InputError::tokens_negative:
        return {ERRCODE_INVALID_PARAMETER_VALUE, "tokens must not be negative",
                "Report the tokens that the event used, zero or more."};
    case InputError::tokens_too_many:
        return {ERRCODE_INVALID_PARAMETER_VALUE,
                psprintf("tokens must not be above " INT64_FORMAT " in one event",
                         core::event_tokens_max),
                "Check the unit of the argument; carry totals over with open_usage_period."};
    case InputError::amount_null:
    case InputError::cost_too_large:
    case InputError::model_malformed:
    case InputError::model_reserved:
    case InputError::scope_malformed:
    case InputError::name_too_long:
        return text_of_breakdown_error(error);
    case InputError::time_too_old:
        return {errcode_out_of_time, "event is older than usage_ledger.max_event_age",
                "Count it in the current period by passing no p_occurred_at, or have a superuser\n"
                "raise the setting, for example to '60d'."};
    case InputError::time_too_far_ahead:
        return {errcode_out_of_time, "event is more than 5 minutes ahead of the server's clock",
                "Count it now by passing no p_occurred_at, and compare the caller's clock with the "
                "server's."};
    }
    pg_unreachable();
}

void raise_input_error(core::InputError error, const EventName &event, int64 tokens,
                       TimestampTz occurred_at)
{
    const ErrorText text = text_of(error);
    const char *detail = event_text(event);
    if (error == core::InputError::tokens_negative || error == core::InputError::tokens_too_many) {
        detail = psprintf("%s:\n" INT64_FORMAT " tokens", detail, tokens);
    } else if (core::is_time_error(error)) {
        detail = psprintf("%s:\n%s", detail, occurred_at_text(occurred_at));
    }
    ereport(ERROR, (errcode(text.sqlstate), errmsg("%s", text.message), errdetail("%s.", detail),
                    errhint("%s", text.hint)));
}

void raise_null(const char *argument, const char *detail)
{
    ereport(ERROR,
            (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must not be null", argument),
             errdetail("%s.", detail), errhint("%s", hint_null)));
}

void raise_invalid_argument(const EventName &call, const char *what, const char *value,
                            const char *hint)
{
    const char *detail = call.idempotency_key.isnull
                             ? psprintf("Account %s: %s", account_text(call.account_id), value)
                             : psprintf("%s:\n%s", event_text(call), value);
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s", what),
                    errdetail("%s.", detail), errhint("%s", hint)));
}

void raise_invalid_argument(Datum account_id, const char *what, const char *value, const char *hint)
{
    raise_invalid_argument(name_without_key(account_id), what, value, hint);
}

void raise_below_zero(const EventName &event, const char *what, const core::WideUsage &total,
                      const char *hint)
{
    /* A total that does not fit a counter is too large to be exceeded. */
    core::Usage totals = {};
    (void)core::to_usage(total, &totals);
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s", what),
                    errdetail("%s:\nthe total is %s.", event_text(event), usage_text(totals)),
                    errhint("%s", hint)));
}

const char *occurred_at_text(TimestampTz occurred_at)
{
    return psprintf("occurred at %s,\nthe server's clock is at %s", time_text(occurred_at),
                    time_text(GetCurrentTimestamp()));
}

const char *account_text(const NullableDatum &account_id)
{
    return account_id.isnull ? "NULL"
                             : DatumGetCString(DirectFunctionCall1(uuid_out, account_id.value));
}

const char *event_text(const EventName &event)
{
    return psprintf("Account %s, idempotency key %s", account_text(event.account_id),
                    event.idempotency_key.isnull ? "NULL"
                                                 : quoted_text(event.idempotency_key.value));
}

const char *period_text(const core::CounterId &counter)
{
    return psprintf("Account %s, period from %s", account_text({account_of(counter), false}),
                    time_text(counter.period_start));
}

const char *usage_text(const core::Usage &totals)
{
    return psprintf(INT64_FORMAT " tokens, " INT64_FORMAT " reports, " INT64_FORMAT " chats",
                    totals.tokens, totals.reports, totals.chats);
}

const char *pair_text(const core::Pair &pair)
{
    return psprintf("scope \"%.*s\", model \"%.*s\"", static_cast<int>(pair.scope.size()),
                    pair.scope.data(), static_cast<int>(pair.model.size()), pair.model.data());
}

const char *payload_text(const core::Payload &payload)
{
    if (payload.breakdown == nullptr) {
        return usage_text(payload);
    }
    StringInfoData text;
    initStringInfo(&text);
    appendStringInfo(&text, "%s, %s", usage_text(payload), pair_text(payload.breakdown->pair));
    for (size_t i = 0; i < core::events_index; i++) {
        const int64 amount = payload.breakdown->amounts.values[i];
        if (amount != 0) {
            appendStringInfo(&text, ", %s " INT64_FORMAT, core::amount_names[i], amount);
        }
    }
    return text.data;
}

const char *conflict_text(const core::Payload &counted, const core::Payload &given)
{
    return psprintf("counted %s;\ngiven %s", payload_text(counted), payload_text(given));
}

int64 text_length(Datum value)
{
    return static_cast<int64>(toast_raw_datum_size(value)) - VARHDRSZ;
}

const char *quoted_text(Datum value)
{
    const int64 length = text_length(value);
    if (length <= core::key_length_max) {
        return psprintf("\"%s\"", TextDatumGetCString(value));
    }
    /* Fetches no more of it than the message repeats. */
    text *head = DatumGetTextPSlice(value, 0, quoted_bytes_max);
    int shown = pg_mbcliplen(VARDATA_ANY(head), VARSIZE_ANY_EXHDR(head), quoted_bytes_max);
    return psprintf("\"%.*s...\" (" INT64_FORMAT " bytes)", shown, VARDATA_ANY(head), length);
}

char *time_text(TimestampTz time)
{
    pg_tm tm;
    fsec_t fsec;
    char buffer[MAXDATELEN + 1];

    if (TIMESTAMP_NOT_FINITE(time)) {
        EncodeSpecialTimestamp(time, buffer);
    } else {
        if (timestamp2tm(time, nullptr, &tm, &fsec, nullptr, nullptr) != 0) {
            elog(ERROR, "timestamp out of range: " INT64_FORMAT, time);
        }
        tm.tm_isdst = 0; /* or no offset would be printed */
        EncodeDateTime(&tm, fsec, true, 0, nullptr, USE_XSD_DATES, buffer);
    }
    return pstrdup(buffer);
}

void set_overflow_text(void *subject)
{
    if (geterrcode() != ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE) {
        return;
    }
    const auto *overflow = static_cast<const OverflowSubject *>(subject);
    errmsg("%s", overflow->message);
    errdetail("%s:\nperiod from %s.", event_text(overflow->event),
              time_text(overflow->counter.period_start));
    errhint("Count it in another period by passing another p_occurred_at.");
}

} // namespace usage_ledger
