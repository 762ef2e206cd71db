/*
 * close.cpp: close_usage_period, which turns a counter into an invoice total.
 *
 * It waits for all transactions that have added to the counter or queued usage for it. Later
 * calls wait for the close and then fail with UL003. So each event is on the invoice
 * completely or not at all.
 */
#include "pg/postgres.hpp"

#include <algorithm>

#include "pg/arguments.hpp"
#include "pg/breakdowns.hpp"
#include "pg/counters.hpp"
#include "pg/errors.hpp"
#include "pg/pending.hpp"
#include "pg/settlement.hpp"
#include "pg/spi.hpp"

namespace usage_ledger
{

namespace
{

constexpr int64 chunk_event_count = 10000;

/* The row that close_usage_period returns, if the period is closed; otherwise 0. */
Datum closed_period(const core::CounterId &counter)
{
    static Statement statement = {"usage_periods",
                                  "SELECT * FROM %s" WHERE_COUNTER " AND closed_at IS NOT NULL",
                                  {UUIDOID, TIMESTAMPTZOID}};
    lock_for_write(&statement);
    return run_for_counter(&statement, counter) == 0 ? 0 : returned_row("usage_periods");
}

/* A row of usage_breakdown, and what the events of its pairs add up to. */
struct BreakdownCheck {
    core::Pair pair;
    core::Amounts recorded;
    core::WideAmounts expected;
};

struct BreakdownChecks {
    BreakdownCheck *rows;
    size_t count;
};

BreakdownChecks read_breakdown(const core::CounterId &counter)
{
    static Statement statement = {"usage_breakdown",
                                  "SELECT " BREAKDOWN " FROM %s" WHERE_COUNTER
                                  " ORDER BY scope, model",
                                  {UUIDOID, TIMESTAMPTZOID}};
    const size_t count = run_for_counter(&statement, counter);
    const BreakdownChecks checks = {
        static_cast<BreakdownCheck *>(palloc(count * sizeof(BreakdownCheck))), count};
    for (size_t row = 0; row < count; row++) {
        checks.rows[row] = {
            {text_view(required_column(1, row)), text_view(required_column(2, row))},
            amounts_of_row(row, 3),
            {}};
    }
    return checks;
}

/* The row that counts a pair, by the rule of breakdowns.hpp; null: none. */
BreakdownCheck *find_row(const BreakdownChecks &checks, const core::Pair &pair)
{
    for (const core::Pair &wanted : {pair, core::other_of(pair)}) {
        BreakdownCheck *const end = checks.rows + checks.count;
        BreakdownCheck *found = std::lower_bound(
            checks.rows, end, wanted,
            [](const BreakdownCheck &row, const core::Pair &key) { return row.pair < key; });
        if (found < end && found->pair == wanted) {
            return found;
        }
    }
    return nullptr;
}

[[noreturn]] void raise_breakdown_differs(const core::CounterId &counter, const core::Pair &pair)
{
    ereport(ERROR,
            (errcode(ERRCODE_DATA_CORRUPTED),
             errmsg("breakdown of the billing period differs from its events"),
             errdetail("%s:\n%s.", period_text(counter), pair_text(pair)),
             errhint("Run verify_usage, and check what else writes to the ledger's tables.")));
}

/* Adds what the events of a period were given to the rows that count them. */
void add_events(const core::CounterId &counter, const BreakdownChecks &checks)
{
    static Statement statement = {"usage_events",
                                  "SELECT breakdown FROM %s" WHERE_COUNTER
                                  " AND voided_at IS NULL AND breakdown IS NOT NULL",
                                  {UUIDOID, TIMESTAMPTZOID}};
    const Datum arguments[] = {account_of(counter), TimestampTzGetDatum(counter.period_start)};
    Portal events = open_cursor(&statement, arguments);
    while (const uint64 count = fetch(events, chunk_event_count)) {
        for (uint64 row = 0; row < count; row++) {
            const Datum text = required_column(1, row);
            core::Breakdown breakdown;
            if (!core::read_breakdown(text_view(text), &breakdown)) {
                raise_malformed_breakdown(malformed_text(period_text(counter), text));
            }
            BreakdownCheck *check = find_row(checks, breakdown.pair);
            if (check == nullptr) {
                raise_breakdown_differs(counter, breakdown.pair);
            }
            core::add(&check->expected, breakdown.amounts);
        }
        free_rows();
        CHECK_FOR_INTERRUPTS();
    }
    SPI_cursor_close(events);
}

/* Checks the breakdown of a period as verify_usage does. */
void check_breakdown(const core::CounterId &counter, bool has_events)
{
    const BreakdownChecks checks = read_breakdown(counter);
    if (has_events) {
        add_events(counter, checks);
    }
    for (size_t i = 0; i < checks.count; i++) {
        core::Amounts expected = {};
        if (!core::add(&expected, checks.rows[i].expected) ||
            !(expected == checks.rows[i].recorded)) {
            raise_breakdown_differs(counter, checks.rows[i].pair);
        }
    }
}

/* Checks a counter as verify_usage does. Returns whether any of its events has a breakdown. */
bool check_counter(const core::CounterId &counter, const core::Usage &totals)
{
    static Statement statement = {
        "usage_events",
        "SELECT COALESCE(pg_catalog.sum(tokens), 0)::bigint,"
        " COALESCE(pg_catalog.sum(reports), 0), COALESCE(pg_catalog.sum(chats), 0),"
        " pg_catalog.count(breakdown)"
        " FROM %s" WHERE_COUNTER " AND voided_at IS NULL",
        {UUIDOID, TIMESTAMPTZOID}};
    run_for_counter(&statement, counter);
    const core::Usage events = {DatumGetInt64(required_column(1)),
                                DatumGetInt64(required_column(2)),
                                DatumGetInt64(required_column(3))};
    if (!(totals == events)) {
        ereport(ERROR,
                (errcode(ERRCODE_DATA_CORRUPTED),
                 errmsg("counter of the billing period differs from its events"),
                 errdetail("%s:\ncounter %s; events %s.", period_text(counter), usage_text(totals),
                           usage_text(events)),
                 errhint("Run verify_usage, and check what else writes to the ledger's tables.")));
    }
    return DatumGetInt64(required_column(4)) > 0;
}

/* Stamps the period when all else is done, so its events were recorded before closed_at. */
Datum stamp_closed(const core::CounterId &counter, const core::Usage &totals)
{
    static Statement statement = {
        "usage_periods",
        "UPDATE %s SET tokens_used = $3, reports_used = $4, chats_used = $5,"
        " closed_at = $6" WHERE_COUNTER " RETURNING *",
        {UUIDOID, TIMESTAMPTZOID, INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID}};
    const Datum arguments[] = {
        account_of(counter),          TimestampTzGetDatum(counter.period_start),
        Int64GetDatum(totals.tokens), Int64GetDatum(totals.reports),
        Int64GetDatum(totals.chats),  TimestampTzGetDatum(GetCurrentTimestamp())};
    run(&statement, arguments);
    return returned_row("usage_periods");
}

Datum close_period(const core::CounterId &counter)
{
    const Datum row = closed_period(counter);
    if (row != 0) {
        return row;
    }
    const CounterState state = lock_period(counter);
    if (state.is_closed) {
        const Datum closed_row = closed_period(counter); /* by another session in the meantime */
        Assert(closed_row != 0);
        return closed_row;
    }
    core::WideUsage sum = core::wide(state.totals);
    take_pending(counter, &sum);
    const core::Usage totals = totals_of(counter, sum);
    check_breakdown(counter, check_counter(counter, totals));
    return stamp_closed(counter, totals);
}

} // namespace

} // namespace usage_ledger

extern "C" {

PG_FUNCTION_INFO_V1(usage_ledger_close_usage_period);

Datum usage_ledger_close_usage_period(PG_FUNCTION_ARGS)
{
    using namespace usage_ledger;

    static const char *const names[] = {"account", "period start"};
    check_no_null(fcinfo, names, lengthof(names));

    SPI_connect();
    const Datum row = close_period(counter_id(PG_GETARG_DATUM(0), PG_GETARG_TIMESTAMPTZ(1)));
    SPI_finish();

    PG_RETURN_DATUM(row);
}
}
