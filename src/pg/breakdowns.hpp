/*
 * breakdowns.hpp: the rows of usage_breakdown, each the totals of a pair of scope and model in a
 * period. They are read, made and changed only under their counter's lock.
 *
 * A pair that is new to a period gets a row of its own as long as the period has less than
 * usage_ledger.max_breakdowns of them. The first pair that gets none is counted under model
 * _other, in a row per first level of the scope, and from then on no pair gets one, whatever
 * becomes of the setting. No row is deleted while the account exists. So a pair has a row of its
 * own or never has one in that period, and the rows alone tell where it is counted:
 *
 * - in its own row, if there is one;
 * - else under _other, if the period has a row of that model;
 * - else nowhere yet. The session that brings it decides.
 */
#pragma once

#include "pg/postgres.hpp"

#include "core/breakdown.hpp"
#include "core/counter.hpp"
#include "pg/errors.hpp"
#include "pg/spi.hpp"

namespace usage_ledger
{

/* The columns of usage_breakdown after its period. */
#define AMOUNTS                                                                                    \
    "input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens,"        \
    " cost_nanos, events"
#define BREAKDOWN "scope, model, " AMOUNTS

inline Datum text_datum(std::string_view value)
{
    return PointerGetDatum(cstring_to_text_with_len(value.data(), static_cast<int>(value.size())));
}

/* The text of a returned row stays until SPI_finish or free_rows. */
inline std::string_view text_view(Datum value)
{
    const text *pointer = DatumGetTextPP(value);
    return {VARDATA_ANY(pointer), static_cast<size_t>(VARSIZE_ANY_EXHDR(pointer))};
}

/* The column breakdown of usage_events and usage_pending; 0 for plain usage, where it is NULL. */
Datum breakdown_datum(const core::Breakdown *breakdown);

/* What has such a column, and the column: the DETAIL where nothing here can have written it. */
const char *malformed_text(const char *owner, Datum column);
[[noreturn]] void raise_malformed_breakdown(const char *detail);

/* Reads the columns of AMOUNTS in a returned row. */
core::Amounts amounts_of_row(uint64 row, int first_column);

/*
 * Adds the breakdown of an event to the row of its pair. Raises 22003 if that would overflow.
 *
 * REQUIRES: the counter is locked.
 */
void add_to_breakdown(const EventName &event, const core::CounterId &counter,
                      const core::Breakdown &breakdown);

/* Usage of a pair in a period, to be added to a row. */
struct PairSum {
    core::CounterId counter;
    core::Pair pair;
    core::WideAmounts sum;
};

inline bool operator<(const PairSum &a, const PairSum &b)
{
    const int order = core::compare_counters(a.counter, b.counter);
    return order != 0 ? order < 0 : a.pair < b.pair;
}

inline bool operator==(const PairSum &a, const PairSum &b)
{
    return a.counter == b.counter && a.pair == b.pair;
}

struct BreakdownRow {
    core::CounterId counter;
    core::Breakdown totals;
    ItemPointerData tid; /* invalid: it is still to be inserted */
    bool is_changed;
};

/*
 * Where the usage of a pair is added. A pair without a row gets one, or goes to that of _other,
 * with the first usage that is added.
 */
struct Place {
    BreakdownRow *row;
    BreakdownRow *other; /* null: the row is decided */
    int64 *room;         /* pairs that may still get a row, shared by the places of a period */
};

/*
 * Finds the place of each sum; several may share a row. Nothing is written before write_places.
 *
 * REQUIRES: the counters are locked; the sums are sorted, without duplicates.
 */
Place *find_places(const PairSum *sums, size_t count);

/* Adds to a place. False: it does not fit, and nothing is changed or decided. */
bool add_to_place(Place *place, const core::WideAmounts &sum);

/*
 * Adds sums of one counter to their places. False: one does not fit, and none is to be written.
 *
 * REQUIRES: find_places was called for all sums of the counter; nothing else is added there.
 */
bool add_to_places(Place *places, const PairSum *sums, size_t count);

/* Writes those rows that have changed. */
void write_places(const Place *places, size_t count);

/* Adds sums to their rows. Raises 22003 where one does not fit. Requires what find_places does. */
void add_to_breakdowns(const PairSum *sums, size_t count);

} // namespace usage_ledger
