/*
 * batch.cpp: increment_usage_batch, many events counted in a constant number of
 * statements.
 *
 * Here are the arguments and the answers; batch_keys.cpp finds out what is to be
 * counted and records it, batch_counters.cpp adds it up.
 *
 * Its steps are those of a single call (increment.cpp), each for all items at
 * once, and it takes its locks in the same order: accounts whose periods must be
 * opened, then keys, then counters, each sorted. So batches that overlap, in
 * whatever order their callers list the items, wait for each other but never in a
 * circle.
 */
#include "pg/postgres.hpp"

#include <algorithm>

#include "core/limits.hpp"
#include "pg/batch.hpp"
#include "pg/errors.hpp"
#include "pg/settings.hpp"
#include "pg/stats.hpp"

namespace usage_ledger
{

namespace
{

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

/* An array argument of a batch of count items; one that may be left out is empty then. */
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

Batch batch_of_arguments(FunctionCallInfo fcinfo)
{
    static const char *const required[] = {"array of accounts", "array of tokens",
                                           "array of idempotency keys"};
    for (int i = 0; i < static_cast<int>(lengthof(required)); i++) {
        if (PG_ARGISNULL(i)) {
            raise_null_array(required[i]);
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

    const Batch batch = {allocate<Item>(count), static_cast<size_t>(count),
                         GetCurrentTransactionStartTimestamp()};
    for (int i = 0; i < count; i++) {
        Item *item = &batch.items[i];
        *item = {};
        item->payload = {
            tokens.nulls[i] ? 0 : DatumGetInt64(tokens.values[i]),
            has_element(reports, i) && DatumGetBool(reports.values[i]) ? 1 : 0,
            has_element(chats, i) && DatumGetBool(chats.values[i]) ? 1 : 0,
        };
        item->occurred_at =
            has_element(times, i) ? DatumGetTimestampTz(times.values[i]) : batch.now;
        if (accounts.nulls[i]) {
            item->fault = core::Fault::account_null;
        } else if (tokens.nulls[i]) {
            item->fault = core::Fault::tokens_null;
        } else if (keys.nulls[i]) {
            item->fault = core::Fault::key_null;
        } else {
            text *key = DatumGetTextPP(keys.values[i]);
            item->account_id = DatumGetUUIDP(accounts.values[i])->data;
            item->key = VARDATA_ANY(key);
            item->key_length = VARSIZE_ANY_EXHDR(key);
            item->fault =
                core::check_arguments(item->payload.tokens, item->key_length, item->occurred_at);
        }
        if (item->fault != core::Fault::none) {
            item->verdict = Verdict::invalid;
        }
    }
    return batch;
}

/* All items, in the order given. */
ItemList items_of(const Batch &batch)
{
    ItemList list = {allocate<Item *>(batch.count), batch.count};
    for (size_t i = 0; i < batch.count; i++) {
        list.items[i] = &batch.items[i];
    }
    return list;
}

/* Those of a list that are not decided yet. */
ItemList undecided_of(const ItemList &list)
{
    ItemList undecided = {allocate<Item *>(list.count), 0};
    for (size_t i = 0; i < list.count; i++) {
        if (list.items[i]->verdict == Verdict::undecided) {
            undecided.items[undecided.count++] = list.items[i];
        }
    }
    return undecided;
}

/* Counts those of a list that are undecided; false: they are to be counted once more. */
bool count_items(const Batch &batch, const ItemList &list)
{
    auto *rows = allocate<ItemPointerData>(batch.count);
    for (size_t i = 0; i < batch.count; i++) {
        ItemPointerSetInvalid(&rows[i]);
    }
    const ItemList undecided = undecided_of(list);
    for (size_t i = 0; i < undecided.count; i++) {
        Item *item = undecided.items[i];
        item->fault = core::check_time({item->occurred_at, batch.now, event_age_max_us()});
    }
    record_items(batch, undecided, rows);
    return settle_items(batch, list, rows);
}

void count_batch(const Batch &batch)
{
    /* One round, but where a counter has refused an item and left its key to a later one. */
    ItemList list = undecided_of(items_of(batch));
    while (list.count > 0) {
        if (count_items(batch, list)) {
            list = undecided_of(list);
        }
    }
}

const char *detail_of(const Item &item)
{
    switch (item.verdict) {
    case Verdict::conflict:
        return psprintf("%s: %s", message_conflict, conflict_text(item.counted, item.payload));
    case Verdict::invalid:
        return message_of(item.fault);
    case Verdict::unknown_account:
        return item.period == core::ItemPeriod::no_cycle ? message_no_period
                                                         : message_unknown_account;
    case Verdict::closed:
        return message_period_closed;
    default:
        return nullptr;
    }
}

Stat stat_of(Verdict verdict)
{
    switch (verdict) {
    case Verdict::applied:
        return Stat::applied;
    case Verdict::queued:
        return Stat::queued;
    case Verdict::replayed:
        return Stat::replayed;
    case Verdict::conflict:
        return Stat::conflicts;
    default:
        return Stat::refused;
    }
}

void put_answers(const Batch &batch, const ReturnSetInfo *result)
{
    for (size_t i = 0; i < batch.count; i++) {
        const Item &item = batch.items[i];
        const char *detail = detail_of(item);
        const bool is_counted = detail == nullptr;
        count(stat_of(item.verdict));
        const Datum values[] = {
            Int32GetDatum(static_cast<int32>(i + 1)),
            CStringGetTextDatum(core::outcome_of(item.verdict)),
            Int64GetDatum(item.tokens_used),
            TimestampTzGetDatum(item.period_start),
            TimestampTzGetDatum(item.period_end),
            is_counted ? Datum(0) : CStringGetTextDatum(detail),
        };
        const bool nulls[] = {
            false,       false,       !is_counted || item.verdict == Verdict::queued,
            !is_counted, !is_counted, is_counted};
        tuplestore_putvalues(result->setResult, result->setDesc, const_cast<Datum *>(values),
                             const_cast<bool *>(nulls));
    }
}

} // namespace

ItemList copy_of(const ItemList &list)
{
    ItemList copy = {allocate<Item *>(list.count), list.count};
    std::copy(list.items, list.items + list.count, copy.items);
    return copy;
}

Datum account_of(const Item &item)
{
    return PointerGetDatum(const_cast<uint8_t *>(item.account_id));
}

Event event_of(const Item &item)
{
    return {account_of(item),
            PointerGetDatum(cstring_to_text_with_len(item.key, static_cast<int>(item.key_length))),
            item.payload, item.occurred_at};
}

void record(const ItemList &items, ItemPointerData *rows)
{
    auto *events = allocate<Event>(items.count);
    auto *starts = allocate<TimestampTz>(items.count);
    for (size_t i = 0; i < items.count; i++) {
        events[i] = event_of(*items.items[i]);
        starts[i] = items.items[i]->period_start;
    }
    record_events(events, starts, rows, items.count);
}

} // namespace usage_ledger

extern "C" {

PG_FUNCTION_INFO_V1(usage_ledger_increment_usage_batch);

Datum usage_ledger_increment_usage_batch(PG_FUNCTION_ARGS)
{
    using namespace usage_ledger;

    InitMaterializedSRF(fcinfo, 0);

    /* Everything is allocated in SPI's own context, and freed with it. */
    SPI_connect();
    const Batch batch = batch_of_arguments(fcinfo);
    if (batch.count > 0) {
        count_batch(batch);
        put_answers(batch, reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo));
    }
    SPI_finish();

    PG_RETURN_NULL();
}
}
