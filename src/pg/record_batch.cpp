/*
 * record_batch.cpp: record_usage_batch, which counts a batch of events with their breakdowns as
 * increment_usage_batch does.
 */
#include "pg/postgres.hpp"

#include "pg/batch.hpp"
#include "pg/batch_arguments.hpp"
#include "pg/breakdowns.hpp"

namespace usage_ledger
{

namespace
{

constexpr int first_amount = 4; /* among the arguments */

struct BreakdownArrays {
    Elements models, scopes;
    Elements amounts[core::events_index];
};

/* Reads the breakdown of an item, and returns the first error in it. */
core::InputError read_breakdown(const BreakdownArrays &arrays, int i, core::Breakdown *breakdown)
{
    *breakdown = {};
    if (has_element(arrays.scopes, i)) {
        breakdown->pair.scope = text_view(arrays.scopes.values[i]);
    }
    if (has_element(arrays.models, i)) {
        breakdown->pair.model = text_view(arrays.models.values[i]);
    }
    for (size_t amount = 0; amount < core::events_index; amount++) {
        const Elements &elements = arrays.amounts[amount];
        if (elements.count > 0 && elements.nulls[i]) {
            return core::InputError::amount_null;
        }
        breakdown->amounts.values[amount] =
            elements.count > 0 ? DatumGetInt64(elements.values[i]) : 0;
    }
    breakdown->amounts.values[core::events_index] = 1;
    return core::check_breakdown(*breakdown);
}

Batch batch_of_arguments(FunctionCallInfo fcinfo)
{
    static const char *const required[] = {"array of accounts", "array of idempotency keys"};
    require_arrays(fcinfo, required, lengthof(required),
                   "A batch needs an array of accounts and one of keys");
    const Arrays arrays = arrays_of_arguments(fcinfo, {0, 1, 10, 11, 12});
    const int count = arrays.accounts.count;
    BreakdownArrays breakdown_arrays = {optional_elements(fcinfo, 2, TEXTOID, count),
                                        optional_elements(fcinfo, 3, TEXTOID, count),
                                        {}};
    for (size_t i = 0; i < core::events_index; i++) {
        breakdown_arrays.amounts[i] =
            optional_elements(fcinfo, first_amount + static_cast<int>(i), INT8OID, count);
    }
    auto *breakdowns = allocate<core::Breakdown>(static_cast<size_t>(count));
    return make_batch(arrays, [&](Item *item, int i) {
        core::Breakdown *breakdown = &breakdowns[i];
        const core::InputError error = read_breakdown(breakdown_arrays, i, breakdown);
        item->payload.breakdown = breakdown;
        if (error == core::InputError::none || error == core::InputError::name_too_long) {
            item->payload.tokens = core::tokens_of(breakdown->amounts);
        }
        return error;
    });
}

} // namespace

} // namespace usage_ledger

extern "C" {

PG_FUNCTION_INFO_V1(usage_ledger_record_usage_batch);

Datum usage_ledger_record_usage_batch(PG_FUNCTION_ARGS)
{
    using namespace usage_ledger;

    run_batch(fcinfo, batch_of_arguments);
    PG_RETURN_NULL();
}
}
