/*
 * batch_arguments.hpp: the arrays that a batch is given, and its items in them.
 */
#pragma once

#include "pg/postgres.hpp"

#include "pg/batch.hpp"

namespace usage_ledger
{

/* Raises 22004 if one of the leading arguments is NULL. */
void require_arrays(FunctionCallInfo fcinfo, const char *const *names, size_t count,
                    const char *detail);

struct Elements {
    Datum *values;
    bool *nulls;
    int count;
};

/* The elements of an array argument, which must be count; of a NULL array, none. */
Elements optional_elements(FunctionCallInfo fcinfo, int argument, Oid type, int count);

inline bool has_element(const Elements &elements, int i)
{
    return elements.count > 0 && !elements.nulls[i];
}

/* The arrays that every batch has, and which arguments they are. */
struct Arrays {
    Elements accounts, keys, reports, chats, times;
};
struct ArrayNumbers {
    int accounts, keys, reports, chats, times;
};
Arrays arrays_of_arguments(FunctionCallInfo fcinfo, const ArrayNumbers &numbers);

/* Reads an item's account and key, and returns its first error. */
core::InputError read_name(Item *item, const Arrays &arrays, int i, core::InputError usage_error);

/* read_usage(item, i) sets the usage of an item, and returns the first error in it. */
template <typename ReadUsage> Batch make_batch(const Arrays &arrays, ReadUsage read_usage)
{
    const auto count = static_cast<size_t>(arrays.accounts.count);
    const Batch batch = {allocate<Item>(count), count};
    const TimestampTz now = GetCurrentTransactionStartTimestamp();
    for (int i = 0; i < arrays.accounts.count; i++) {
        Item *item = &batch.items[i];
        *item = {};
        item->payload.reports =
            has_element(arrays.reports, i) && DatumGetBool(arrays.reports.values[i]) ? 1 : 0;
        item->payload.chats =
            has_element(arrays.chats, i) && DatumGetBool(arrays.chats.values[i]) ? 1 : 0;
        item->occurred_at =
            has_element(arrays.times, i) ? DatumGetTimestampTz(arrays.times.values[i]) : now;
        item->error = read_name(item, arrays, i, read_usage(item, i));
        if (item->error != core::InputError::none &&
            !core::may_be_restored(item->error,
                                   Max(item->key_length, core::longest_name(item->payload)))) {
            item->outcome = Outcome::invalid;
        }
    }
    return batch;
}

} // namespace usage_ledger
