#include "pg/postgres.hpp"

#include "pg/events.hpp"

#include "pg/arrays.hpp"
#include "pg/statements.hpp"

namespace usage_ledger
{

namespace
{

template <typename Value> Datum array_of(const Event *events, size_t count, Oid type, Value value)
{
    return make_array(count, type, [&](size_t i) { return value(events[i]); });
}

Datum account_ids_of(const Event *events, size_t count)
{
    return array_of(events, count, UUIDOID, [](const Event &event) { return event.account_id; });
}

Datum keys_of(const Event *events, size_t count)
{
    return array_of(events, count, TEXTOID,
                    [](const Event &event) { return event.idempotency_key; });
}

bool has_name(const Event &event, Datum account_id, Datum key)
{
    const text *a = DatumGetTextPP(event.idempotency_key), *b = DatumGetTextPP(key);
    return memcmp(DatumGetUUIDP(event.account_id), DatumGetUUIDP(account_id), UUID_LEN) == 0 &&
           VARSIZE_ANY_EXHDR(a) == VARSIZE_ANY_EXHDR(b) &&
           memcmp(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(a)) == 0;
}

/* COUNTED_EVENT as a statement returned it, from a column on. */
CountedEvent counted_event_of_row(uint64 row, int first_column)
{
    return {{DatumGetInt64(required_column(first_column, row)),
             DatumGetInt32(required_column(first_column + 1, row)),
             DatumGetInt32(required_column(first_column + 2, row))},
            DatumGetTimestampTz(required_column(first_column + 3, row)),
            !column_is_null(first_column + 4, row)};
}

} // namespace

bool record_event(const Event &event, TimestampTz period_start)
{
    const Datum arguments[] = {event.account_id,
                               event.idempotency_key,
                               TimestampTzGetDatum(period_start),
                               TimestampTzGetDatum(event.occurred_at),
                               Int64GetDatum(event.payload.tokens),
                               Int32GetDatum(event.payload.reports),
                               Int32GetDatum(event.payload.chats)};
    return run(Statement::record_event, arguments) == 1;
}

bool find_counted_event(Datum account_id, Datum idempotency_key, CountedEvent *counted)
{
    const Datum arguments[] = {account_id, idempotency_key};
    if (run(Statement::event_of_key, arguments) == 0) {
        return false;
    }
    *counted = counted_event_of_row(0, 1);
    return true;
}

bool void_event(Datum account_id, Datum idempotency_key, NullableDatum reason, CountedEvent *voided)
{
    const Datum arguments[] = {account_id, idempotency_key, reason.value};
    if (run(Statement::void_event, arguments, reason.isnull ? "  n" : nullptr) == 0) {
        return false;
    }
    *voided = counted_event_of_row(0, 1);
    return true;
}

core::Totals sum_of_events(Datum account_id, TimestampTz period_start)
{
    const Datum arguments[] = {account_id, TimestampTzGetDatum(period_start)};
    run(Statement::sum_of_events, arguments);
    return {DatumGetInt64(required_column(1)), DatumGetInt64(required_column(2)),
            DatumGetInt64(required_column(3))};
}

int64 prune_events(Datum account_id, TimestampTz period_start, int64 row_count_max)
{
    const Datum arguments[] = {account_id, TimestampTzGetDatum(period_start)};
    const uint64 row_count =
        run(Statement::prune_events, arguments, nullptr, static_cast<uint64>(row_count_max));
    free_rows();
    return static_cast<int64>(row_count);
}

void record_events(const Event *events, const TimestampTz *period_starts, ItemPointerData *rows,
                   size_t count)
{
    const Datum arguments[] = {
        account_ids_of(events, count),
        keys_of(events, count),
        make_array(count, TIMESTAMPTZOID,
                   [&](size_t i) { return TimestampTzGetDatum(period_starts[i]); }),
        array_of(events, count, TIMESTAMPTZOID,
                 [](const Event &event) { return TimestampTzGetDatum(event.occurred_at); }),
        array_of(events, count, INT8OID,
                 [](const Event &event) { return Int64GetDatum(event.payload.tokens); }),
        array_of(events, count, INT4OID,
                 [](const Event &event) { return Int32GetDatum(event.payload.reports); }),
        array_of(events, count, INT4OID,
                 [](const Event &event) { return Int32GetDatum(event.payload.chats); }),
    };
    const uint64 row_count = run(Statement::record_events, arguments);

    /* The rows come in the order of the events, without those whose key was taken. */
    uint64 row = 0;
    for (size_t i = 0; i < count; i++) {
        ItemPointerSetInvalid(&rows[i]);
        if (row < row_count &&
            has_name(events[i], required_column(1, row), required_column(2, row))) {
            rows[i] = *reinterpret_cast<ItemPointer>(DatumGetPointer(required_column(3, row)));
            row++;
        }
    }
    if (row != row_count) {
        elog(ERROR, "recorded events came back out of order");
    }
}

void delete_events(const ItemPointerData *rows, size_t count)
{
    const Datum array = make_array(count, TIDOID, [&](size_t i) {
        return PointerGetDatum(const_cast<ItemPointer>(&rows[i]));
    });
    run(Statement::delete_events, &array);
}

void find_counted_events(const Event *events, CountedEvent *counted, bool *is_counted, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        is_counted[i] = false;
    }
    const Datum arguments[] = {account_ids_of(events, count), keys_of(events, count)};
    const uint64 row_count = run(Statement::events_of_keys, arguments);
    for (uint64 row = 0; row < row_count; row++) {
        const auto i = static_cast<size_t>(DatumGetInt64(required_column(1, row)) - 1);
        is_counted[i] = true;
        counted[i] = counted_event_of_row(row, 2);
    }
}

} // namespace usage_ledger
