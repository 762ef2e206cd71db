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

#include "pg/batch.hpp"
#include "pg/batch_arguments.hpp"
#include "pg/errors.hpp"
#include "pg/stats.hpp"

namespace usage_ledger
{

namespace
{

Batch batch_of_arguments(FunctionCallInfo fcinfo)
{
    static const char *const required[] = {"array of accounts", "array of tokens",
                                           "array of idempotency keys"};
    require_arrays(fcinfo, required, lengthof(required),
                   "A batch needs an array of accounts, one of tokens and one of keys");
    const Arrays arrays = arrays_of_arguments(fcinfo, {0, 2, 3, 4, 5});
    const Elements tokens = optional_elements(fcinfo, 1, INT8OID, arrays.accounts.count);
    return make_batch(arrays, [&](Item *item, int i) {
        item->payload.tokens = tokens.nulls[i] ? 0 : DatumGetInt64(tokens.values[i]);
        return tokens.nulls[i] ? core::InputError::tokens_null
                               : core::check_tokens(item->payload.tokens);
    });
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
                psprintf("%s:\n%s", message_conflict, conflict_text(item.counted, item.payload))};
    case Outcome::unknown_account:
        return {errcode_no_account_or_period, item.period == core::PeriodState::no_cycle
                                                  ? message_no_period
                                                  : message_unknown_account};
    case Outcome::closed:
        return {errcode_period_closed, item.period == core::PeriodState::pruned
                                           ? message_period_pruned
                                           : message_period_closed};
    case Outcome::out_of_time:
        return {error.sqlstate,
                psprintf("%s:\n%s", error.message, occurred_at_text(item.occurred_at))};
    case Outcome::invalid:
        /* An invalid item without an input error did not fit its counter or breakdown. */
        if (item.error == core::InputError::none) {
            return {ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, item.payload.breakdown == nullptr
                                                            ? message_counter_overflow
                                                            : message_breakdown_overflow};
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

} // namespace

void run_batch(FunctionCallInfo fcinfo, Batch (*read)(FunctionCallInfo))
{
    InitMaterializedSRF(fcinfo, 0);
    run_counting_refusals([&] {
        SPI_connect();
        const Batch batch = read(fcinfo);
        count_items(batch);
        return_rows(batch, reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo));
        SPI_finish();
    });
}

} // namespace usage_ledger

extern "C" {

PG_FUNCTION_INFO_V1(usage_ledger_increment_usage_batch);

Datum usage_ledger_increment_usage_batch(PG_FUNCTION_ARGS)
{
    using namespace usage_ledger;

    run_batch(fcinfo, batch_of_arguments);
    PG_RETURN_NULL();
}
}
