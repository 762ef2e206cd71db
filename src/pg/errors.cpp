#include "pg/postgres.hpp"

#include "pg/errors.hpp"

#include "core/limits.hpp"
#include "pg/settings.hpp"
#include "pg/stats.hpp"

namespace usage_ledger
{

namespace
{

constexpr int errcode_conflict = MAKE_SQLSTATE('U', 'L', '0', '0', '1');
constexpr int errcode_no_account_or_period = MAKE_SQLSTATE('U', 'L', '0', '0', '2');
constexpr int errcode_period_closed = MAKE_SQLSTATE('U', 'L', '0', '0', '3');
constexpr int errcode_no_event = MAKE_SQLSTATE('U', 'L', '0', '0', '4');

/* How much of an over-long text a message repeats, in bytes. */
constexpr int text_shown_max = 64;

const char *account_text(const NullableDatum &account_id)
{
    return account_id.isnull ? "NULL"
                             : DatumGetCString(DirectFunctionCall1(uuid_out, account_id.value));
}

const char *key_text(const NullableDatum &key)
{
    return key.isnull ? "NULL" : quoted_text(key.value);
}

/* "Account ..., idempotency key ...", how every DETAIL about an event begins. */
const char *event_text(const EventName &event)
{
    return psprintf("Account %s, idempotency key %s", account_text(event.account_id),
                    key_text(event.idempotency_key));
}

/* "Account ..., period from ...", how every DETAIL about a period begins. */
const char *period_text(Datum account_id, TimestampTz period_start)
{
    return psprintf("Account %s, period from %s", account_text({account_id, false}),
                    time_text(period_start));
}

const char *totals_text(const core::Totals &totals)
{
    return psprintf(INT64_FORMAT " tokens, " INT64_FORMAT " reports, " INT64_FORMAT " chats",
                    totals.tokens, totals.reports, totals.chats);
}

const char *payload_text(const core::Payload &payload)
{
    return totals_text({payload.tokens, payload.reports, payload.chats});
}

constexpr const char *hint_null = "Pass a value for the argument.";

struct FaultText {
    int sqlstate;
    const char *message;
    const char *hint;
};

FaultText text_of(core::Fault fault)
{
    switch (fault) {
    case core::Fault::none:
        break;
    case core::Fault::account_null:
        return {ERRCODE_NULL_VALUE_NOT_ALLOWED, "account must not be null", hint_null};
    case core::Fault::tokens_null:
        return {ERRCODE_NULL_VALUE_NOT_ALLOWED, "tokens must not be null", hint_null};
    case core::Fault::key_null:
        return {ERRCODE_NULL_VALUE_NOT_ALLOWED, "idempotency key must not be null", hint_null};
    case core::Fault::key_empty:
        return {ERRCODE_INVALID_PARAMETER_VALUE, "idempotency key must not be empty",
                "Derive the key from the run and step that used the tokens, and send the same key "
                "with every retry."};
    case core::Fault::key_too_long:
        return {ERRCODE_INVALID_PARAMETER_VALUE,
                psprintf("idempotency key must not be longer than " INT64_FORMAT " bytes",
                         core::key_length_max),
                "Send a digest of the long key, such as its SHA-256 in hexadecimal."};
    case core::Fault::tokens_negative:
        return {ERRCODE_INVALID_PARAMETER_VALUE, "tokens must not be negative",
                "Report the tokens that the event used, zero or more."};
    case core::Fault::tokens_too_many:
        return {ERRCODE_INVALID_PARAMETER_VALUE,
                psprintf("tokens must not be above " INT64_FORMAT " in one event",
                         core::event_tokens_max),
                "Check the unit of the argument; carry totals over with open_usage_period."};
    case core::Fault::time_not_finite:
        return {ERRCODE_INVALID_PARAMETER_VALUE, "time of the event must be finite",
                "Pass the time when the event happened, or NULL for now."};
    case core::Fault::time_too_old:
        return {ERRCODE_INVALID_PARAMETER_VALUE, "event is older than usage_ledger.max_event_age",
                "Count it now by passing no p_occurred_at, or raise usage_ledger.max_event_age."};
    case core::Fault::time_too_far_ahead:
        return {ERRCODE_INVALID_PARAMETER_VALUE,
                "event is more than 5 minutes ahead of the server's clock",
                "Set the reporter's clock, or count it now by passing no p_occurred_at."};
    case core::Fault::counter_overflow:
        return {ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, "counter of the billing period would overflow",
                "Count it in another period by passing another p_occurred_at."};
    }
    pg_unreachable();
}

[[noreturn]] void raise_null(const char *argument, const char *detail)
{
    ereport(ERROR,
            (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must not be null", argument),
             errdetail("%s.", detail), errhint("%s", hint_null)));
    pg_unreachable();
}

} // namespace

int64 text_length(Datum value)
{
    return static_cast<int64>(toast_raw_datum_size(value)) - VARHDRSZ;
}

const char *quoted_text(Datum value)
{
    /* Fetches no more of it than is shown. */
    const int64 length = text_length(value);
    if (length <= core::key_length_max) {
        return psprintf("\"%s\"", TextDatumGetCString(value));
    }
    text *head = DatumGetTextPSlice(value, 0, text_shown_max);
    int shown = pg_mbcliplen(VARDATA_ANY(head), VARSIZE_ANY_EXHDR(head), text_shown_max);
    return psprintf("\"%.*s...\" (" INT64_FORMAT " bytes)", shown, VARDATA_ANY(head), length);
}

const char *conflict_text(const core::Payload &counted, const core::Payload &given)
{
    return psprintf("counted %s; given %s", payload_text(counted), payload_text(given));
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

void raise_null_argument(const char *argument, NullableDatum account_id)
{
    raise_null(argument, psprintf("Account %s", account_text(account_id)));
}

const char *message_of(core::Fault fault)
{
    return text_of(fault).message;
}

void raise_fault(core::Fault fault, const EventName &event, int64 tokens, TimestampTz occurred_at)
{
    count(Stat::refused);
    const FaultText text = text_of(fault);
    const char *detail = event_text(event);
    if (fault == core::Fault::tokens_negative || fault == core::Fault::tokens_too_many) {
        detail = psprintf("%s: " INT64_FORMAT " tokens", detail, tokens);
    } else if (fault == core::Fault::time_too_old || fault == core::Fault::time_too_far_ahead) {
        detail = psprintf("%s: occurred at %s", detail, time_text(occurred_at));
    }
    ereport(ERROR, (errcode(text.sqlstate), errmsg("%s", text.message), errdetail("%s.", detail),
                    errhint("%s", text.hint)));
    pg_unreachable();
}

void raise_invalid_argument(Datum account_id, const char *what, const char *value, const char *hint)
{
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s", what),
                    errdetail("Account %s: %s.", account_text({account_id, false}), value),
                    errhint("%s", hint)));
    pg_unreachable();
}

void raise_conflict(const EventName &event, const core::Payload &counted,
                    const core::Payload &given)
{
    count(Stat::conflicts);
    ereport(ERROR,
            (errcode(errcode_conflict), errmsg("%s", message_conflict),
             errdetail("%s: %s.", event_text(event), conflict_text(counted, given)),
             errhint("Send the first call's tokens and flags with a retry, and a new key with a "
                     "new event.")));
    pg_unreachable();
}

void raise_opening_key_taken(const EventName &event)
{
    ereport(ERROR, (errcode(errcode_conflict),
                    errmsg("idempotency key of the opening totals is already used"),
                    errdetail("%s.", event_text(event)),
                    errhint("Open the period without totals and count them with increment_usage "
                            "under a key of your own.")));
    pg_unreachable();
}

void raise_unknown_account(const EventName &event)
{
    count(Stat::refused);
    ereport(ERROR, (errcode(errcode_no_account_or_period), errmsg("%s", message_unknown_account),
                    errdetail("%s.", event_text(event)),
                    errhint("Register the account with set_usage_cycle, or set "
                            "usage_ledger.unknown_account to \"register\".")));
    pg_unreachable();
}

void raise_no_period(const EventName &event, TimestampTz time)
{
    count(Stat::refused);
    ereport(ERROR, (errcode(errcode_no_account_or_period), errmsg("%s", message_no_period),
                    errdetail("%s: occurred at %s.", event_text(event), time_text(time)),
                    errhint("Mend the account's cycle with set_usage_cycle, or open a period with "
                            "open_usage_period.")));
    pg_unreachable();
}

void raise_unknown_period(Datum account_id, TimestampTz period_start)
{
    ereport(ERROR, (errcode(errcode_no_account_or_period), errmsg("billing period does not exist"),
                    errdetail("%s.", period_text(account_id, period_start)),
                    errhint("Pass the account and period_start of a row of usage_totals.")));
    pg_unreachable();
}

void raise_period_closed(const EventName &event, TimestampTz period_start, TimestampTz period_end)
{
    count(Stat::refused);
    /* A period can be closed before it has ended; what happens now falls in it then. */
    const bool has_ended = period_end <= GetCurrentTransactionStartTimestamp();
    ereport(ERROR, (errcode(errcode_period_closed), errmsg("%s", message_period_closed),
                    errdetail("%s: period from %s to %s.", event_text(event),
                              time_text(period_start), time_text(period_end)),
                    has_ended ? errhint("Count it in the open period by passing no p_occurred_at.")
                              : errhint("Count it once the period has ended, by passing no "
                                        "p_occurred_at.")));
    pg_unreachable();
}

void raise_event_invoiced(const EventName &event, TimestampTz period_start)
{
    ereport(ERROR, (errcode(errcode_period_closed), errmsg("%s", message_period_closed),
                    errdetail("%s: period from %s.", event_text(event), time_text(period_start)),
                    errhint("What is invoiced stays counted: give credit for it instead.")));
    pg_unreachable();
}

void raise_unknown_event(const EventName &event)
{
    ereport(ERROR, (errcode(errcode_no_event), errmsg("no event was counted under this key"),
                    errdetail("%s.", event_text(event)),
                    errhint("Pass the account and key of the call that counted it; events of "
                            "closed periods may have been pruned.")));
    pg_unreachable();
}

void describe_overflow(void *subject)
{
    if (geterrcode() != ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE) {
        return;
    }
    count(Stat::refused);
    const auto *overflow = static_cast<const OverflowSubject *>(subject);
    const FaultText text = text_of(core::Fault::counter_overflow);
    errmsg("%s", text.message);
    errdetail("%s: period from %s.", event_text(*overflow->event),
              time_text(overflow->period_start));
    errhint("%s", text.hint);
}

void raise_period_overlap(Datum account_id, TimestampTz existing_start, TimestampTz existing_end)
{
    ereport(ERROR,
            (errcode(ERRCODE_EXCLUSION_VIOLATION),
             errmsg("billing period overlaps one that exists"),
             errdetail("Account %s: period from %s to %s.", account_text({account_id, false}),
                       time_text(existing_start), time_text(existing_end)),
             errhint("Open the period in a gap between the periods that exist.")));
    pg_unreachable();
}

void raise_pending_overflow(Datum account_id, TimestampTz period_start)
{
    ereport(ERROR,
            (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
             errmsg("%s", text_of(core::Fault::counter_overflow).message),
             errdetail("%s: what is pending does not fit.", period_text(account_id, period_start)),
             errhint("Void events of the period, and close it then.")));
    pg_unreachable();
}

void raise_counter_unexplained(Datum account_id, TimestampTz period_start,
                               const core::Totals &counter, const core::Totals &events)
{
    ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
                    errmsg("counter of the billing period differs from its events"),
                    errdetail("%s: counter %s; events %s.", period_text(account_id, period_start),
                              totals_text(counter), totals_text(events)),
                    errhint("See verify_usage, and find out who else has written to the tables of "
                            "the ledger.")));
    pg_unreachable();
}

void raise_snapshot_too_old(Datum account_id, TimestampTz period_start)
{
    ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                    errmsg("could not serialize access due to usage queued meanwhile"),
                    errdetail("%s.", period_text(account_id, period_start)),
                    errhint("Retry the transaction.")));
    pg_unreachable();
}

void raise_period_deleted()
{
    ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                    errmsg("billing period was deleted by hand since it was found"),
                    errdetail("usage_periods has no row for it."),
                    errhint("Retry the transaction; the period is opened anew then.")));
    pg_unreachable();
}

void raise_not_preloaded()
{
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("usage_ledger must be loaded via shared_preload_libraries"),
                    errdetail("Without that no statistics are kept."),
                    errhint("Add it to shared_preload_libraries and restart the server.")));
    pg_unreachable();
}

int32 row_count_argument(FunctionCallInfo fcinfo, int number)
{
    if (PG_ARGISNULL(number)) {
        raise_null_parameter("number of rows", "p_max_rows");
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

void warn_cannot_settle(const core::Addition &addition, const char *reason)
{
    const Datum account_id = PointerGetDatum(const_cast<uint8_t *>(addition.account_id));
    ereport(WARNING, (errmsg("pending usage cannot be settled: %s", reason),
                      errdetail("%s: %s.", period_text(account_id, addition.period_start),
                                totals_text({addition.tokens, addition.reports, addition.chats})),
                      errhint("It stays pending and is part of usage_totals.")));
}

void raise_null_parameter(const char *argument, const char *parameter)
{
    raise_null(argument, psprintf("Argument %s is null", parameter));
}

void raise_null_array(const char *argument)
{
    raise_null(argument, "A batch needs an array of accounts, one of tokens and one of keys");
}

void raise_malformed_arrays(const char *detail)
{
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("arrays of a batch are malformed"), errdetail("%s.", detail),
                    errhint("Pass arrays of one dimension and equal length, of " INT64_FORMAT
                            " elements at most.",
                            core::batch_items_max)));
    pg_unreachable();
}

} // namespace usage_ledger
