#include "pg/postgres.hpp"

#include "pg/breakdowns.hpp"

#include <algorithm>

#include "pg/settings.hpp"

namespace usage_ledger
{

namespace
{

/* Adds to the row of a pair, which most often exists. False: it does not. */
bool update_row(const core::CounterId &counter, const core::Breakdown &breakdown)
{
    static Statement statement = {
        "usage_breakdown",
        "UPDATE %s SET input_tokens = input_tokens OPERATOR(pg_catalog.+) $5,"
        " cache_read_tokens = cache_read_tokens OPERATOR(pg_catalog.+) $6,"
        " cache_write_tokens = cache_write_tokens OPERATOR(pg_catalog.+) $7,"
        " output_tokens = output_tokens OPERATOR(pg_catalog.+) $8,"
        " reasoning_tokens = reasoning_tokens OPERATOR(pg_catalog.+) $9,"
        " cost_nanos = cost_nanos OPERATOR(pg_catalog.+) $10,"
        " events = events OPERATOR(pg_catalog.+) $11" WHERE_COUNTER
        " AND scope OPERATOR(pg_catalog.=) $3 AND model OPERATOR(pg_catalog.=) $4",
        {UUIDOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID,
         INT8OID, INT8OID}};
    Datum arguments[4 + core::amount_count] = {
        account_of(counter), TimestampTzGetDatum(counter.period_start),
        text_datum(breakdown.pair.scope), text_datum(breakdown.pair.model)};
    for (size_t i = 0; i < core::amount_count; i++) {
        arguments[4 + i] = Int64GetDatum(breakdown.amounts.values[i]);
    }
    return run(&statement, arguments) == 1;
}

Datum accounts_of(BreakdownRow *const *rows, size_t count)
{
    return make_array(count, UUIDOID, [&](size_t i) { return account_of(rows[i]->counter); });
}

void set_amounts(Datum *arguments, BreakdownRow *const *rows, size_t count)
{
    for (size_t amount = 0; amount < core::amount_count; amount++) {
        arguments[amount] = make_array(count, INT8OID, [&](size_t i) {
            return Int64GetDatum(rows[i]->totals.amounts.values[amount]);
        });
    }
}

#define AMOUNT_ARRAY_TYPES                                                                         \
    INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID

Datum starts_of(BreakdownRow *const *rows, size_t count)
{
    return make_array(count, TIMESTAMPTZOID,
                      [&](size_t i) { return TimestampTzGetDatum(rows[i]->counter.period_start); });
}

/* The primary keys of some rows. */
void set_names(Datum *arguments, BreakdownRow *const *rows, size_t count)
{
    arguments[0] = accounts_of(rows, count);
    arguments[1] = starts_of(rows, count);
    arguments[2] = make_array(count, TEXTOID,
                              [&](size_t i) { return text_datum(rows[i]->totals.pair.scope); });
    arguments[3] = make_array(count, TEXTOID,
                              [&](size_t i) { return text_datum(rows[i]->totals.pair.model); });
}

/* Reads those of some rows that exist. */
void read_rows(BreakdownRow *const *rows, size_t count)
{
    static Statement statement = {"usage_breakdown",
                                  "SELECT k.ordinal, b.*"
                                  " FROM unnest($3, $4) WITH ORDINALITY"
                                  " AS k (scope, model, ordinal)"
                                  " CROSS JOIN LATERAL"
                                  " (SELECT ctid, " AMOUNTS " FROM %s AS b"
                                  " WHERE b.account_id OPERATOR(pg_catalog.=) ($1)[k.ordinal]"
                                  " AND b.period_start OPERATOR(pg_catalog.=) ($2)[k.ordinal]"
                                  " AND b.scope OPERATOR(pg_catalog.=) k.scope"
                                  " AND b.model OPERATOR(pg_catalog.=) k.model OFFSET 0) AS b",
                                  {UUIDARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID, TEXTARRAYOID},
                                  {},
                                  "SELECT $5, " NO_TID ", " AMOUNTS " FROM %s" WHERE_COUNTER
                                  " AND scope OPERATOR(pg_catalog.=) $3"
                                  " AND model OPERATOR(pg_catalog.=) $4"};
    Datum arguments[4];
    set_names(arguments, rows, count);
    const uint64 row_count = run(&statement, arguments);
    for (uint64 row = 0; row < row_count; row++) {
        BreakdownRow *found = rows[DatumGetInt64(required_column(1, row)) - 1];
        found->tid = tid_column(2, row);
        found->totals.amounts = amounts_of_row(row, 3);
    }
    free_rows();
}

#define ROOM                                                                                       \
    "CASE WHEN pg_catalog.bool_or(model OPERATOR(pg_catalog.=) '_other') THEN 0"                   \
    " ELSE $3 OPERATOR(pg_catalog.-) pg_catalog.count(*) END"

/* Reads the room of the periods of some places. Once a period has a row of _other, it is 0. */
void read_room(Place *const *places, size_t count)
{
    static Statement statement = {
        "usage_breakdown",
        "SELECT k.ordinal, b.room"
        " FROM unnest($1, $2) WITH ORDINALITY AS k (account_id, period_start, ordinal)"
        " CROSS JOIN LATERAL"
        " (SELECT " ROOM " AS room FROM %s AS b"
        " WHERE b.account_id OPERATOR(pg_catalog.=) k.account_id"
        " AND b.period_start OPERATOR(pg_catalog.=) k.period_start) AS b",
        {UUIDARRAYOID, TIMESTAMPTZARRAYOID, INT8OID},
        {},
        "SELECT $4, " ROOM " FROM %s" WHERE_COUNTER};
    auto **rows = allocate<BreakdownRow *>(count);
    for (size_t i = 0; i < count; i++) {
        rows[i] = places[i]->row;
    }
    const Datum arguments[] = {accounts_of(rows, count), starts_of(rows, count),
                               Int64GetDatum(max_breakdowns)};
    const uint64 row_count = run(&statement, arguments);
    for (uint64 row = 0; row < row_count; row++) {
        *places[DatumGetInt64(required_column(1, row)) - 1]->room =
            DatumGetInt64(required_column(2, row));
    }
    free_rows();
}

bool is_new(const BreakdownRow &row)
{
    return !ItemPointerIsValid(&row.tid);
}

BreakdownRow new_row(const core::CounterId &counter, const core::Pair &pair)
{
    BreakdownRow row = {counter, {pair, {}}, {}, false};
    ItemPointerSetInvalid(&row.tid);
    return row;
}

BreakdownRow other_row(const BreakdownRow &row)
{
    return new_row(row.counter, core::other_of(row.totals.pair));
}

bool comes_before(const BreakdownRow &a, const BreakdownRow &b)
{
    const int order = core::compare_counters(a.counter, b.counter);
    return order != 0 ? order < 0 : a.totals.pair < b.totals.pair;
}

/* Finds the row of _other for each place, which may be new too. */
void find_others(Place *const *places, size_t count)
{
    auto *others = allocate<BreakdownRow>(count);
    for (size_t i = 0; i < count; i++) {
        others[i] = other_row(*places[i]->row);
    }
    std::sort(others, others + count, comes_before);
    BreakdownRow *const end =
        std::unique(others, others + count, [](const BreakdownRow &a, const BreakdownRow &b) {
            return !comes_before(a, b);
        });
    auto **rows = allocate<BreakdownRow *>(count);
    for (BreakdownRow *other = others; other < end; other++) {
        rows[other - others] = other;
    }
    read_rows(rows, end - others);
    for (size_t i = 0; i < count; i++) {
        places[i]->other = std::lower_bound(others, end, other_row(*places[i]->row), comes_before);
    }
}

/*
 * Finds what decides on places whose row is new. A period is full, and its rows need not be
 * counted, if all the rows of _other exist that these places may need.
 */
void find_room(Place *const *places, size_t count)
{
    find_others(places, count);
    auto **asked = allocate<Place *>(count); /* a place of each period to be counted */
    size_t asked_count = 0;
    for (size_t i = 0; i < count; i++) {
        const bool is_next_period =
            i == 0 || !(places[i - 1]->row->counter == places[i]->row->counter);
        places[i]->room = is_next_period ? allocate<int64>(1) : places[i - 1]->room;
        if (is_next_period) {
            *places[i]->room = 0;
        }
        if (is_new(*places[i]->other) &&
            (asked_count == 0 || asked[asked_count - 1]->room != places[i]->room)) {
            asked[asked_count++] = places[i];
        }
    }
    if (asked_count > 0) {
        read_room(asked, asked_count);
    }
}

void update_rows(BreakdownRow *const *rows, size_t count)
{
    static Statement statement = {
        "usage_breakdown",
        "UPDATE %s AS b SET input_tokens = ($2)[k.i], cache_read_tokens = ($3)[k.i],"
        " cache_write_tokens = ($4)[k.i], output_tokens = ($5)[k.i],"
        " reasoning_tokens = ($6)[k.i], cost_nanos = ($7)[k.i], events = ($8)[k.i]"
        " FROM pg_catalog.unnest($1) WITH ORDINALITY AS k (row, i)"
        " WHERE b.ctid OPERATOR(pg_catalog.=) k.row",
        {TIDARRAYOID, AMOUNT_ARRAY_TYPES},
        {},
        "UPDATE %s SET input_tokens = $2, cache_read_tokens = $3, cache_write_tokens = $4,"
        " output_tokens = $5, reasoning_tokens = $6, cost_nanos = $7, events = $8"
        " WHERE account_id OPERATOR(pg_catalog.=) $9 AND period_start OPERATOR(pg_catalog.=) $10"
        " AND scope OPERATOR(pg_catalog.=) $11 AND model OPERATOR(pg_catalog.=) $12",
        {UUIDOID, TIMESTAMPTZOID, TEXTOID, TEXTOID}};
    Datum arguments[1 + core::amount_count + 4] = {
        make_array(count, TIDOID, [&](size_t i) { return PointerGetDatum(&rows[i]->tid); })};
    set_amounts(&arguments[1], rows, count);
    if (is_distributed()) {
        set_names(&arguments[1 + core::amount_count], rows, count);
    }
    const uint64 updated_count = run(&statement, arguments);
    if (updated_count != count) {
        elog(ERROR, "updated " UINT64_FORMAT " rows of a breakdown instead of %zu", updated_count,
             count);
    }
}

void insert_rows(BreakdownRow *const *rows, size_t count)
{
    static Statement statement = {
        "usage_breakdown",
        "INSERT INTO %s (account_id, period_start, " BREAKDOWN ")"
        " SELECT ($1)[k.i], ($2)[k.i], k.scope, k.model, ($5)[k.i], ($6)[k.i], ($7)[k.i],"
        " ($8)[k.i], ($9)[k.i], ($10)[k.i], ($11)[k.i]"
        " FROM unnest($3, $4) WITH ORDINALITY AS k (scope, model, i)",
        {UUIDARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID, TEXTARRAYOID, AMOUNT_ARRAY_TYPES},
        {},
        "INSERT INTO %s (account_id, period_start, " BREAKDOWN ")"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"};
    Datum arguments[4 + core::amount_count];
    set_names(arguments, rows, count);
    set_amounts(&arguments[4], rows, count);
    run(&statement, arguments);
}

} // namespace

Datum breakdown_datum(const core::Breakdown *breakdown)
{
    if (breakdown == nullptr) {
        return 0;
    }
    char buffer[core::breakdown_text_max];
    return text_datum({buffer, core::write_breakdown(*breakdown, buffer)});
}

const char *malformed_text(const char *owner, Datum column)
{
    return psprintf("%s:\nbreakdown %s", owner, quoted_text(column));
}

void raise_malformed_breakdown(const char *detail)
{
    ereport(ERROR,
            (errcode(ERRCODE_DATA_CORRUPTED), errmsg("%s", message_breakdown_malformed),
             errdetail("%s.", detail),
             errhint("Run verify_usage, and check what else writes to the ledger's tables.")));
}

core::Amounts amounts_of_row(uint64 row, int first_column)
{
    core::Amounts amounts;
    for (size_t i = 0; i < core::amount_count; i++) {
        amounts.values[i] = DatumGetInt64(required_column(first_column + static_cast<int>(i), row));
    }
    return amounts;
}

void add_to_breakdown(const EventName &event, const core::CounterId &counter,
                      const core::Breakdown &breakdown)
{
    describe_overflow({message_breakdown_overflow, event, counter}, [&] {
        /* If there is a row of _other, the period is full. */
        if (!update_row(counter, breakdown) &&
            !update_row(counter, {core::other_of(breakdown.pair), breakdown.amounts})) {
            const PairSum sum = {counter, breakdown.pair, core::sum_of(breakdown.amounts)};
            add_to_breakdowns(&sum, 1);
        }
    });
}

Place *find_places(const PairSum *sums, size_t count)
{
    auto *rows = allocate<BreakdownRow>(count);
    auto **all = allocate<BreakdownRow *>(count);
    auto *places = allocate<Place>(count);
    for (size_t i = 0; i < count; i++) {
        Assert(i == 0 || sums[i - 1] < sums[i]);
        rows[i] = new_row(sums[i].counter, sums[i].pair);
        all[i] = &rows[i];
        places[i] = {&rows[i], nullptr, nullptr};
    }
    read_rows(all, count);

    auto **undecided = allocate<Place *>(count);
    size_t undecided_count = 0;
    for (size_t i = 0; i < count; i++) {
        if (is_new(rows[i])) {
            undecided[undecided_count++] = &places[i];
        }
    }
    if (undecided_count > 0) {
        find_room(undecided, undecided_count);
    }
    return places;
}

bool add_to_place(Place *place, const core::WideAmounts &sum)
{
    const bool is_undecided = place->other != nullptr;
    BreakdownRow *row = is_undecided && *place->room <= 0 ? place->other : place->row;
    if (!core::add(&row->totals.amounts, sum)) {
        return false;
    }
    row->is_changed = true;
    if (is_undecided) {
        *place->room -= row == place->row ? 1 : 0;
        *place = {row, nullptr, place->room};
    }
    return true;
}

bool add_to_places(Place *places, const PairSum *sums, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!add_to_place(&places[i], sums[i].sum)) {
            for (size_t k = 0; k < i; k++) {
                places[k].row->is_changed = false;
            }
            return false;
        }
    }
    return true;
}

void write_places(const Place *places, size_t count)
{
    auto **updated = allocate<BreakdownRow *>(count);
    auto **inserted = allocate<BreakdownRow *>(count);
    size_t updated_count = 0, inserted_count = 0;
    for (size_t i = 0; i < count; i++) {
        BreakdownRow *row = places[i].row;
        if (row->is_changed) {
            (is_new(*row) ? inserted[inserted_count++] : updated[updated_count++]) = row;
            row->is_changed = false; /* other places may share it */
        }
    }
    if (updated_count > 0) {
        update_rows(updated, updated_count);
    }
    if (inserted_count > 0) {
        insert_rows(inserted, inserted_count);
    }
}

void add_to_breakdowns(const PairSum *sums, size_t count)
{
    if (count == 0) {
        return;
    }
    Place *places = find_places(sums, count);
    if (!add_to_places(places, sums, count)) {
        ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
                        errmsg("%s", message_breakdown_overflow),
                        errdetail("%s:\nwhat is pending does not fit.", period_text(sums->counter)),
                        errhint("Void some events of the period, then close it.")));
    }
    write_places(places, count);
}

} // namespace usage_ledger
