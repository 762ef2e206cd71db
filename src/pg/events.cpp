#include "pg/postgres.hpp"

#include "pg/events.hpp"

#include <algorithm>

#include "pg/breakdowns.hpp"
#include "pg/spi.hpp"

namespace usage_ledger
{

namespace
{

#define COUNTED_EVENT "tokens, reports, chats, period_start, voided_at, breakdown"

/* Reads the column of an event, whose name is for an error. */
const core::Breakdown *breakdown_of_row(uint64 row, int column, const EventName &name)
{
    if (column_is_null(column, row)) {
        return nullptr;
    }
    const Datum text = required_column(column, row);
    auto *breakdown = static_cast<core::Breakdown *>(palloc(sizeof(core::Breakdown)));
    if (!core::read_breakdown(text_view(text), breakdown)) {
        raise_malformed_breakdown(malformed_text(event_text(name), text));
    }
    return breakdown;
}

/* COUNTED_EVENT in a returned row, from a column on. */
CountedEvent counted_event_of_row(uint64 row, int first_column, const EventName &name)
{
    return {{{DatumGetInt64(required_column(first_column, row)),
              DatumGetInt32(required_column(first_column + 1, row)),
              DatumGetInt32(required_column(first_column + 2, row))},
             breakdown_of_row(row, first_column + 5, name)},
            DatumGetTimestampTz(required_column(first_column + 3, row)),
            !column_is_null(first_column + 4, row)};
}

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

/* The columns of usage_events. */
enum EventColumn : AttrNumber {
    event_account_id = 1,
    event_period_start,
    event_occurred_at,
    event_recorded_at,
    event_tokens,
    event_reports,
    event_chats,
    event_idempotency_key,
    event_voided_at,
    event_void_reason,
    event_breakdown
};
constexpr int event_column_count = event_breakdown;

/* All columns of an event that is new. */
struct NewEvent {
    NullableDatum columns[event_column_count];
};

NewEvent new_event(const Event &event, TimestampTz period_start)
{
    const core::Breakdown *breakdown = event.payload.breakdown;
    return {{{event.account_id, false},
             {TimestampTzGetDatum(period_start), false},
             {TimestampTzGetDatum(event.occurred_at), false},
             {TimestampTzGetDatum(GetCurrentTransactionStartTimestamp()), false},
             {Int64GetDatum(event.payload.tokens), false},
             {integer_datum(event.payload.reports), false},
             {integer_datum(event.payload.chats), false},
             {event.idempotency_key, false},
             {0, true},
             {0, true},
             {breakdown_datum(breakdown), breakdown == nullptr}}};
}

/* Returns the columns of COUNTED_EVENT. */
int64 find_event(const RowCall &call)
{
    static const AttrNumber columns[] = {event_tokens,       event_reports,   event_chats,
                                         event_period_start, event_voided_at, event_breakdown};
    const Key key[] = {{UUIDOID, call.arguments[0]}, {TEXTOID, call.arguments[1]}};
    return return_row(find_row(call, {key, lengthof(key)}), {columns, lengthof(columns)});
}

/* The rows come in the order of the events, without those whose key was taken. */
void read_tids(uint64 row_count, const Event *events, ItemPointerData *tids, size_t count)
{
    uint64 row = 0;
    for (size_t i = 0; i < count; i++) {
        ItemPointerSetInvalid(&tids[i]);
        if (row < row_count &&
            has_name(events[i], required_column(1, row), required_column(2, row))) {
            tids[i] = tid_column(3, row++);
        }
    }
    if (row != row_count) {
        elog(ERROR, "recorded events came back out of order");
    }
}

#define RETURNING_NAMES(tid)                                                                       \
    " ON CONFLICT (account_id, idempotency_key) DO NOTHING"                                        \
    " RETURNING account_id, idempotency_key, " tid

Statement *record_statement(bool has_breakdown)
{
    static Statement plain = {
        "usage_events",
        "INSERT INTO %s (account_id, idempotency_key, period_start, occurred_at,"
        " tokens, reports, chats)"
        " SELECT ($1)[k.i], k.key, ($3)[k.i], ($4)[k.i], ($5)[k.i], ($6)[k.i], ($7)[k.i]"
        " FROM pg_catalog.unnest($2) WITH ORDINALITY AS k (key, i)" RETURNING_NAMES("ctid"),
        {UUIDARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID,
         INT4ARRAYOID, INT4ARRAYOID},
        {},
        "INSERT INTO %s (account_id, idempotency_key, period_start, occurred_at,"
        " tokens, reports, chats)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7)" RETURNING_NAMES(NO_TID),
        {},
        {ACL_INSERT | ACL_SELECT, event_column_count, nullptr}};
    static Statement broken_down = {
        "usage_events",
        "INSERT INTO %s (account_id, idempotency_key, period_start, occurred_at,"
        " tokens, reports, chats, breakdown)"
        " SELECT ($1)[k.i], k.key, ($3)[k.i], ($4)[k.i], ($5)[k.i], ($6)[k.i], ($7)[k.i],"
        " k.breakdown"
        " FROM unnest($2, $8) WITH ORDINALITY AS k (key, breakdown, i)" RETURNING_NAMES("ctid"),
        {UUIDARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID,
         INT4ARRAYOID, INT4ARRAYOID, TEXTARRAYOID},
        {},
        "INSERT INTO %s (account_id, idempotency_key, period_start, occurred_at,"
        " tokens, reports, chats, breakdown)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)" RETURNING_NAMES(NO_TID),
        {},
        {ACL_INSERT | ACL_SELECT, event_column_count, nullptr}};
    return has_breakdown ? &broken_down : &plain;
}

void record_with_statement(const Event *events, const TimestampTz *period_starts,
                           ItemPointerData *tids, size_t count)
{
    Datum arguments[] = {
        account_ids_of(events, count),
        keys_of(events, count),
        make_array(count, TIMESTAMPTZOID,
                   [&](size_t i) { return TimestampTzGetDatum(period_starts[i]); }),
        array_of(events, count, TIMESTAMPTZOID,
                 [](const Event &event) { return TimestampTzGetDatum(event.occurred_at); }),
        array_of(events, count, INT8OID,
                 [](const Event &event) { return Int64GetDatum(event.payload.tokens); }),
        array_of(events, count, INT4OID,
                 [](const Event &event) { return integer_datum(event.payload.reports); }),
        array_of(events, count, INT4OID,
                 [](const Event &event) { return integer_datum(event.payload.chats); }),
        0,
    };
    Assert(count > 0);
    const bool has_breakdown = events->payload.breakdown != nullptr;
    if (has_breakdown) {
        arguments[lengthof(arguments) - 1] =
            array_of(events, count, TEXTOID,
                     [](const Event &event) { return breakdown_datum(event.payload.breakdown); });
    }
    read_tids(run(record_statement(has_breakdown), arguments), events, tids, count);
}

} // namespace

void record_events(const Event *events, const TimestampTz *period_starts, ItemPointerData *tids,
                   size_t count)
{
    RowCall call;
    if (!open_rows(*record_statement(events->payload.breakdown != nullptr), nullptr, &call)) {
        record_with_statement(events, period_starts, tids, count);
        return;
    }
    Insertion insertion = begin_insertion(call);
    for (size_t i = 0; i < count; i++) {
        const NewEvent event = new_event(events[i], period_starts[i]);
        ItemPointerSetInvalid(&tids[i]);
        if (insert(&insertion, {event.columns, lengthof(event.columns)})) {
            tids[i] = insertion.row->tts_tid;
        } else if (IsolationUsesXactSnapshot()) {
            /* Raises if the transaction's snapshot does not show the event that has the key. */
            record_with_statement(&events[i], &period_starts[i], &tids[i], 1);
        }
    }
    end_insertion(insertion);
    close_rows(call);
}

bool record_event(const Event &event, TimestampTz period_start)
{
    ItemPointerData tid;
    record_events(&event, &period_start, &tid, 1);
    return ItemPointerIsValid(&tid);
}

void move_event(const Event &event, TimestampTz period_start)
{
    static Statement statement = {
        "usage_events",
        "UPDATE %s SET period_start = $3"
        " WHERE account_id OPERATOR(pg_catalog.=) $1 AND idempotency_key OPERATOR(pg_catalog.=) $2",
        {UUIDOID, TEXTOID, TIMESTAMPTZOID}};
    const Datum arguments[] = {event.account_id, event.idempotency_key,
                               TimestampTzGetDatum(period_start)};
    const uint64 moved_count = run(&statement, arguments);
    if (moved_count != 1) {
        elog(ERROR, "moved " UINT64_FORMAT " events instead of one", moved_count);
    }
}

void delete_events(const Event *events, const ItemPointerData *tids, size_t count)
{
    static Statement statement = {
        "usage_events",
        "DELETE FROM %s WHERE ctid OPERATOR(pg_catalog.=) ANY ($1)",
        {TIDARRAYOID},
        {},
        "DELETE FROM %s"
        " WHERE account_id OPERATOR(pg_catalog.=) $2 AND idempotency_key OPERATOR(pg_catalog.=) $3",
        {UUIDOID, TEXTOID}};
    const Datum arguments[] = {
        make_tid_array(tids, count),
        name_array(count, UUIDOID, [&](size_t i) { return events[i].account_id; }),
        name_array(count, TEXTOID, [&](size_t i) { return events[i].idempotency_key; }),
    };
    run(&statement, arguments);
}

bool find_counted_event(Datum account_id, Datum idempotency_key, CountedEvent *counted,
                        bool will_write)
{
    static Statement statement = {
        "usage_events",
        "SELECT " COUNTED_EVENT " FROM %s"
        " WHERE account_id OPERATOR(pg_catalog.=) $1 AND idempotency_key OPERATOR(pg_catalog.=) $2",
        {UUIDOID, TEXTOID},
        {},
        nullptr,
        {},
        {ACL_SELECT, event_column_count, find_event}};
    const Datum arguments[] = {account_id, idempotency_key};
    if (will_write) {
        lock_for_write(&statement);
    }
    if (run(&statement, arguments) == 0) {
        return false;
    }
    *counted = counted_event_of_row(0, 1, {{account_id, false}, {idempotency_key, false}});
    return true;
}

void find_counted_events(const Event *events, CountedEvent *counted, bool *is_counted, size_t count,
                         Snapshot snapshot)
{
    static Statement statement = {
        "usage_events",
        "SELECT k.ordinal, e.*"
        " FROM unnest($1, $2) WITH ORDINALITY AS k (account_id, idempotency_key, ordinal)"
        " CROSS JOIN LATERAL"
        " (SELECT " COUNTED_EVENT " FROM %s AS e"
        " WHERE e.account_id OPERATOR(pg_catalog.=) k.account_id"
        " AND e.idempotency_key OPERATOR(pg_catalog.=) k.idempotency_key OFFSET 0) AS e",
        {UUIDARRAYOID, TEXTARRAYOID},
        {},
        "SELECT $3, " COUNTED_EVENT " FROM %s"
        " WHERE account_id OPERATOR(pg_catalog.=) $1"
        " AND idempotency_key OPERATOR(pg_catalog.=) $2"};
    const Datum arguments[] = {account_ids_of(events, count), keys_of(events, count)};
    std::fill_n(is_counted, count, false);
    lock_for_write(&statement);
    const uint64 row_count = run_in_snapshot(&statement, arguments, snapshot);
    for (uint64 row = 0; row < row_count; row++) {
        const int64 i = DatumGetInt64(required_column(1, row)) - 1;
        is_counted[i] = true;
        counted[i] = counted_event_of_row(row, 2, name_of(events[i]));
    }
}

} // namespace usage_ledger
