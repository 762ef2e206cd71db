#include "pg/postgres.hpp"

#include "pg/batch_arguments.hpp"

#include "core/limits.hpp"
#include "pg/errors.hpp"

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

} // namespace

void require_arrays(FunctionCallInfo fcinfo, const char *const *names, size_t count,
                    const char *detail)
{
    for (size_t i = 0; i < count; i++) {
        if (PG_ARGISNULL(i)) {
            raise_null(names[i], detail);
        }
    }
}

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

Arrays arrays_of_arguments(FunctionCallInfo fcinfo, const ArrayNumbers &numbers)
{
    const Elements accounts = elements_of(PG_GETARG_DATUM(numbers.accounts), UUIDOID);
    const int count = accounts.count;
    if (count > core::batch_items_max) {
        raise_malformed_arrays(psprintf("Arrays have %d elements", count));
    }
    return {accounts, optional_elements(fcinfo, numbers.keys, TEXTOID, count),
            optional_elements(fcinfo, numbers.reports, BOOLOID, count),
            optional_elements(fcinfo, numbers.chats, BOOLOID, count),
            optional_elements(fcinfo, numbers.times, TIMESTAMPTZOID, count)};
}

core::InputError read_name(Item *item, const Arrays &arrays, int i, core::InputError usage_error)
{
    if (arrays.accounts.nulls[i]) {
        return core::InputError::account_null;
    }
    if (usage_error == core::InputError::tokens_null ||
        usage_error == core::InputError::amount_null) {
        return usage_error;
    }
    if (arrays.keys.nulls[i]) {
        return core::InputError::key_null;
    }
    text *key = DatumGetTextPP(arrays.keys.values[i]);
    item->account_id = DatumGetUUIDP(arrays.accounts.values[i])->data;
    item->key = VARDATA_ANY(key);
    item->key_length = VARSIZE_ANY_EXHDR(key);
    return usage_error != core::InputError::none ? usage_error : core::check_key(item->key_length);
}

} // namespace usage_ledger
