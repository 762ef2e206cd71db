/*
 * close.cpp: close_usage_period, which turns a counter into an invoice total.
 *
 * It waits for all transactions that have added to the counter or queued usage for it. Later
 * calls wait for the close and then fail with UL003. So each event is on the invoice
 * completely or not at all.
 */
#include "pg/postgres.hpp"

#include "pg/arguments.hpp"
#include "pg/counters.hpp"
#include "pg/errors.hpp"
#include "pg/pending.hpp"
#include "pg/settlement.hpp"
#include "pg/spi.hpp"

namespace usage_ledger
{

namespace
{

/* The row that close_usage_period returns, if the period is closed; otherwise 0. */
Datum closed_period(const core::CounterId &counter)
{
    static Statement statement = {"usage_periods",
                                  "SELECT period FROM %s AS period" WHERE_COUNTER
                                  " AND closed_at IS NOT NULL",
                                  {UUIDOID, TIMESTAMPTZOID}};
    lock_for_write(&statement);
    return run_for_counter(&statement, counter) == 0 ? 0 : returned_row();
}

/* Checks a counter as verify_usage does. */
void check_counter(const core::CounterId &counter, const core::Usage &totals)
{
    static Statement statement = {
        "usage_events",
        "SELECT COALESCE(pg_catalog.sum(tokens), 0)::bigint,"
        " COALESCE(pg_catalog.sum(reports), 0), COALESCE(pg_catalog.sum(chats), 0)"
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
                 errdetail("%s: counter %s; events %s.", period_text(counter), usage_text(totals),
                           usage_text(events)),
                 errhint("Run verify_usage, and check what else writes to the ledger's tables.")));
    }
}

/* Stamps the period when all else is done, so its events were recorded before closed_at. */
Datum stamp_closed(const core::CounterId &counter, const core::Usage &totals)
{
    static Statement statement = {
        "usage_periods",
        "UPDATE %s AS period SET tokens_used = $3, reports_used = $4, chats_used = $5,"
        " closed_at = pg_catalog.clock_timestamp()" WHERE_COUNTER " RETURNING period",
        {UUIDOID, TIMESTAMPTZOID, INT8OID, INT8OID, INT8OID}};
    const Datum arguments[] = {account_of(counter), TimestampTzGetDatum(counter.period_start),
                               Int64GetDatum(totals.tokens), Int64GetDatum(totals.reports),
                               Int64GetDatum(totals.chats)};
    run(&statement, arguments);
    return returned_row();
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
    check_counter(counter, totals);
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
