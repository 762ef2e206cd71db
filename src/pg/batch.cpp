/*
 * batch.cpp: increment_usage_batch, which counts many events in a constant number of
 * statements: its arguments and its answers. batch_keys.cpp finds out which events to count
 * and records them; batch_counters.cpp adds them up.
 *
 * Its steps are those of a single call (increment.cpp), each for all items together, and it
 * takes its locks in the same order: accounts whose periods must be opened, then keys, then
 * counters, each sorted. So the order in which callers list their items does not matter.
 */
#include "pg/postgres.hpp"

#include "core/limits.hpp"
#include "pg/batch.hpp"
#include "pg/errors.hpp"
#include "pg/stats.hpp"

namespace usage_ledger
{

namespace
{

[[noreturn]] void raise_malformed_arrays(const char *detail)
{
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("arrays of a batch are malformed"), errdetail("%s.", detail),
                    errhint("Pass arrays of one dimension and equal length, of " INT64_FORMAT
                            " elements at most.",
                            core::batch_items_max)));
}

struct Elements {
    Datum *values;
    bool *nulls;
    int count;
};

Elements elements_of(Datum array_datum, Oid type)
{
    ArrayType *array = DatumGetArrayTypeP(array_datum);
    if (ARR_NDIM(array) > 1) {
        raise_malformed_arrays(psprintf("An array has %d dimensions", ARR_NDIM(array)));
    }
    int16 length;
    bool is_by_value;
    char alignment;
    get_typlenbyvalalign(type, &length, &is_by_value, &alignment);
    Elements elements;
    deconstruct_array(array, type, length, is_by_value, alignment, &elements.values,
                      &elements.nulls, &elements.count);
    return elements;
}

/* The elements of an array argument, which must be count; of a NULL array, none. */
Elements optional_elements(FunctionCallInfo fcinfo, int argument, Oid type, int count)
{
    if (PG_ARGISNULL(argument)) {
        return {nullptr, nullptr, 0};
    }
    const Elements elements = elements_of(PG_GETARG_DATUM(argument), type);
    if (elements.count != count) {
        raise_malformed_arrays(psprintf("Arrays have %d and %d elements", count, elements.count));
    }
    return elements;
}

bool has_element(const Elements &elements, int i)
{
    return elements.count > 0 && !elements.nulls[i];
}

/* Reads an item's account and key, which the arguments must have, and checks it. */
core::InputError read_name(Item *item, const Elements &accounts, const Elements &tokens,
                           const Elements &keys, int i)
{
    if (accounts.nulls[i]) {
        return core::InputError::account_null;
    }
    if (tokens.nulls[i]) {
        return core::InputError::tokens_null;
    }
    if (keys.nulls[i]) {
        return core::InputError::key_null;
    }
    text *key = DatumGetTextPP(keys.values[i]);
    item->account_id = DatumGetUUIDP(accounts.values[i])->data;
    item->key = VARDATA_ANY(key);
    item->key_length = VARSIZE_ANY_EXHDR(key);
    return core::check_arguments(item->payload.tokens, item->key_length);
}

Batch batch_of_arguments(FunctionCallInfo fcinfo)
{
    static const char *const required[] = {"array of accounts", "array of tokens",
                                           "array of idempotency keys"};
    for (size_t i = 0; i < lengthof(required); i++) {
        if (PG_ARGISNULL(i)) {
            raise_null(required[i],
                       "A batch needs an array of accounts, one of tokens and one of keys");
        }
    }
    const Elements accounts = elements_of(PG_GETARG_DATUM(0), UUIDOID);
    const int count = accounts.count;
    if (count > core::batch_items_max) {
        raise_malformed_arrays(psprintf("Arrays have %d elements", count));
    }
    const Elements tokens = optional_elements(fcinfo, 1, INT8OID, count);
    const Elements keys = optional_elements(fcinfo, 2, TEXTOID, count);
    const Elements reports = optional_elements(fcinfo, 3, BOOLOID, count);
    const Elements chats = optional_elements(fcinfo, 4, BOOLOID, count);
    const Elements times = optional_elements(fcinfo, 5, TIMESTAMPTZOID, count);

    const Batch batch = {allocate<Item>(count), static_cast<size_t>(count)};
    const TimestampTz now = GetCurrentTransactionStartTimestamp();
    for (int i = 0; i < count; i++) {
        Item *item = &batch.items[i];
        *item = {};
        item->payload = {
            tokens.nulls[i] ? 0 : DatumGetInt64(tokens.values[i]),
            has_element(reports, i) && DatumGetBool(reports.values[i]) ? 1 : 0,
            has_element(chats, i) && DatumGetBool(chats.values[i]) ? 1 : 0,
        };
        item->occurred_at = has_element(times, i) ? DatumGetTimestampTz(times.values[i]) : now;
        item->error = read_name(item, accounts, tokens, keys, i);
        if (item->error != core::InputError::none &&
            !core::may_be_restored(item->error, item->key_length)) {
            item->outcome = Outcome::invalid;
        }
    }
    return batch;
}

void count_items(const Batch &batch)
{
    ItemList all = {allocate<Item *>(batch.count), batch.count};
    auto *tids = allocate<ItemPointerData>(batch.count);
    for (size_t i = 0; i < batch.count; i++) {
        all.items[i] = &batch.items[i];
        ItemPointerSetInvalid(&tids[i]);
    }
    const ItemList valid = select(all, is_undecided);
    if (valid.count > 0) {
        record_items(batch, valid, tids);
        add_items(batch, valid, tids);
    }
}

/* Why an item was refused; sqlstate 0: it was not. */
struct Refusal {
    int sqlstate;
    const char *detail;
};

Refusal refusal_of(const Item &item)
{
    const ErrorText error = text_of(item.error);
    switch (item.outcome) {
    case Outcome::conflict:
        return {errcode_conflict,
                psprintf("%s: %s", message_conflict, conflict_text(item.counted, item.payload))};
    case Outcome::unknown_account:
        return {errcode_no_account_or_period, item.period == core::PeriodState::no_cycle
                                                  ? message_no_period
                                                  : message_unknown_account};
    case Outcome::closed:
        return {errcode_period_closed, message_period_closed};
    case Outcome::out_of_time:
        return {error.sqlstate,
                psprintf("%s: %s", error.message, occurred_at_text(item.occurred_at))};
    case Outcome::invalid:
        /* An invalid item without an input error did not fit its counter. */
        if (item.error == core::InputError::none) {
            return {ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, message_counter_overflow};
        }
        return {error.sqlstate, error.message};
    default:
        return {0, ""};
    }
}

void return_rows(const Batch &batch, const ReturnSetInfo *result)
{
    for (size_t i = 0; i < batch.count; i++) {
        const Item &item = batch.items[i];
        const Refusal refusal = refusal_of(item);
        const bool is_refused = refusal.sqlstate != 0;
        count_outcome(item.outcome);
        const Datum values[] = {
            Int32GetDatum(static_cast<int32>(i + 1)),
            CStringGetTextDatum(core::name_of(item.outcome)),
            Int64GetDatum(item.tokens_used),
            TimestampTzGetDatum(item.period_start),
            TimestampTzGetDatum(item.period_end),
            CStringGetTextDatum(refusal.detail),
            CStringGetTextDatum(unpack_sql_state(refusal.sqlstate)),
        };
        const bool nulls[] = {false,
                              false,
                              is_refused || item.outcome == Outcome::queued ||
                                  item.is_counter_missing,
                              is_refused,
                              is_refused || item.is_counter_missing,
                              !is_refused,
                              !is_refused};
        tuplestore_putvalues(result->setResult, result->setDesc, const_cast<Datum *>(values),
                             const_cast<bool *>(nulls));
    }
}

/* Allocates everything in SPI's own context, which SPI_finish frees. */
void increment_batch(FunctionCallInfo fcinfo)
{
    SPI_connect();
    const Batch batch = batch_of_arguments(fcinfo);
    count_items(batch);
    return_rows(batch, reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo));
    SPI_finish();
}

} // namespace

} // namespace usage_ledger

extern "C" {

PG_FUNCTION_INFO_V1(usage_ledger_increment_usage_batch);

Datum usage_ledger_increment_usage_batch(PG_FUNCTION_ARGS)
{
    using namespace usage_ledger;

    InitMaterializedSRF(fcinfo, 0);
    run_counting_refusals([fcinfo] { increment_batch(fcinfo); });
    PG_RETURN_NULL();
}
}
