/*
 * close.cpp: close_usage_period, which makes of a counter the number on an invoice.
 *
 * It waits for everybody who has added to the counter or queued usage for it, by
 * the counter's row and by who holds the period open (holds.hpp), and whoever comes
 * later waits for it and finds the period closed. So what was recorded is in the
 * invoice as a whole, or not at all. Other accounts' writers notice nothing.
 */
#include "pg/postgres.hpp"

#include "pg/errors.hpp"
#include "pg/events.hpp"
#include "pg/holds.hpp"
#include "pg/pending.hpp"
#include "pg/statements.hpp"

namespace usage_ledger
{

namespace
{

/* A period's row as close_usage_period returns it, once it is closed; 0 before. */
Datum closed_period(Datum account_id, TimestampTz period_start)
{
    const Datum arguments[] = {account_id, TimestampTzGetDatum(period_start)};
    return run(Statement::closed_period, arguments) == 0
               ? 0
               : SPI_datumTransfer(required_column(1), false, -1);
}

/* Locks a period against everybody, and reads its counter. False: it is closed. */
bool lock_period(Datum account_id, TimestampTz period_start, core::Totals *totals)
{
    const Datum arguments[] = {account_id, TimestampTzGetDatum(period_start)};
    shut_out_holders(account_id, period_start);
    if (run(Statement::lock_period, arguments) == 0) {
        raise_unknown_period(account_id, period_start);
    }
    *totals = {DatumGetInt64(required_column(2)), DatumGetInt64(required_column(3)),
               DatumGetInt64(required_column(4))};
    const bool is_open = column_is_null(1);
    let_holders_in(account_id, period_start);
    return is_open;
}

/* The totals with all that is pending, which is pending no longer then. */
core::Totals settle_period(Datum account_id, TimestampTz period_start, const core::Totals &totals)
{
    core::WideTotals sum = {totals.tokens, totals.reports, totals.chats};
    take_pending_of_period(account_id, period_start, &sum);
    core::Totals settled;
    if (!core::narrow(sum, &settled)) {
        raise_pending_overflow(account_id, period_start);
    }
    return settled;
}

Datum close_period(Datum account_id, TimestampTz period_start)
{
    const Datum row = closed_period(account_id, period_start);
    if (row != 0) {
        return row;
    }
    core::Totals totals;
    if (!lock_period(account_id, period_start, &totals)) {
        return closed_period(account_id, period_start); /* by somebody else, meanwhile */
    }

    totals = settle_period(account_id, period_start, totals);
    const core::Totals expected = sum_of_events(account_id, period_start);
    if (!(totals == expected)) {
        raise_counter_unexplained(account_id, period_start, totals, expected);
    }
    const Datum arguments[] = {account_id, TimestampTzGetDatum(period_start),
                               Int64GetDatum(totals.tokens), Int64GetDatum(totals.reports),
                               Int64GetDatum(totals.chats)};
    run(Statement::close_period, arguments);
    return SPI_datumTransfer(required_column(1), false, -1);
}

} // namespace

} // namespace usage_ledger

extern "C" {

PG_FUNCTION_INFO_V1(usage_ledger_close_usage_period);

Datum usage_ledger_close_usage_period(PG_FUNCTION_ARGS)
{
    using namespace usage_ledger;

    static const char *const names[] = {"account", "period start"};
    for (int i = 0; i < static_cast<int>(lengthof(names)); i++) {
        if (PG_ARGISNULL(i)) {
            raise_null_argument(names[i], fcinfo->args[0]);
        }
    }

    SPI_connect();
    const Datum row = close_period(PG_GETARG_DATUM(0), PG_GETARG_TIMESTAMPTZ(1));
    SPI_finish();

    PG_RETURN_DATUM(row);
}
}
