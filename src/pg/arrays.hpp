/*
 * arrays.hpp: arrays as arguments of set-based statements.
 */
#pragma once

#include "pg/postgres.hpp"

namespace usage_ledger
{

/* An array of count values of a type, value(i) being each; a null value(i) is not possible. */
template <typename Value> Datum make_array(size_t count, Oid type, Value value)
{
    auto *values =
        static_cast<Datum *>(MemoryContextAllocHuge(CurrentMemoryContext, count * sizeof(Datum)));
    for (size_t i = 0; i < count; i++) {
        values[i] = value(i);
    }

    int16 length;
    bool is_by_value;
    char alignment;
    get_typlenbyvalalign(type, &length, &is_by_value, &alignment);
    ArrayType *array =
        construct_array(values, static_cast<int>(count), type, length, is_by_value, alignment);
    pfree(values);
    return PointerGetDatum(array);
}

} // namespace usage_ledger
