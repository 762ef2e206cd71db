/*
 * set_cycle.cpp: set_usage_cycle. Existing periods stay as they are; the next one to be
 * opened follows the new cycle.
 */
#include "pg/postgres.hpp"

#include "pg/accounts.hpp"
#include "pg/arguments.hpp"
#include "pg/errors.hpp"
#include "pg/spi.hpp"

namespace usage_ledger
{

namespace
{

/* Reads and checks the arguments. */
Cycle cycle_of_arguments(FunctionCallInfo fcinfo)
{
    static const char *const names[] = {"account", "period length", nullptr, "time zone"};
    check_no_null(fcinfo, names, lengthof(names));

    const Datum account_id = PG_GETARG_DATUM(0);
    Cycle cycle = {};
    cycle.period_length = period_length_of(PG_GETARG_DATUM(1));
    cycle.time_zone = PointerGetDatum(PG_GETARG_TEXT_PP(3));

    if (!core::period_length_is_valid(cycle.period_length)) {
        raise_invalid_argument(
            account_id, "period length is outside its limits",
            DatumGetCString(DirectFunctionCall1(interval_out, PG_GETARG_DATUM(1))),
            "Pass 1 second to 100 years in whole milliseconds, with no field negative.");
    }
    if (!time_zone_is_known(cycle.time_zone)) {
        raise_invalid_argument(account_id, "time zone is unknown",
                               psprintf("time zone %s", quoted_text(cycle.time_zone)),
                               "Pass a name from pg_timezone_names.");
    }
    cycle.period_anchor =
        PG_ARGISNULL(2) ? calendar_anchor(cycle.time_zone) : PG_GETARG_TIMESTAMPTZ(2);
    if (core::anchor_is_valid(cycle.period_anchor)) {
        cycle.period_anchor = core::truncate_to_millisecond(cycle.period_anchor);
    } else {
        raise_invalid_argument(account_id, "period anchor is outside its limits",
                               time_text(cycle.period_anchor),
                               "Pass a time of the years 1 to 9999 when some period starts, or "
                               "NULL for the calendar's.");
    }
    return cycle;
}

Datum set_cycle(Datum account_id, Datum period_length, const Cycle &cycle)
{
    static Statement statement = {
        "usage_accounts",
        "INSERT INTO %s (account_id, period_length, period_anchor, time_zone)"
        " VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (account_id) DO UPDATE SET period_length = excluded.period_length,"
        " period_anchor = excluded.period_anchor, time_zone = excluded.time_zone"
        " RETURNING *",
        {UUIDOID, INTERVALOID, TIMESTAMPTZOID, TEXTOID}};
    const Datum arguments[] = {account_id, period_length, TimestampTzGetDatum(cycle.period_anchor),
                               cycle.time_zone};
    run(&statement, arguments);
    return returned_row("usage_accounts");
}

} // namespace

} // namespace usage_ledger

extern "C" {

PG_FUNCTION_INFO_V1(usage_ledger_set_usage_cycle);

Datum usage_ledger_set_usage_cycle(PG_FUNCTION_ARGS)
{
    using namespace usage_ledger;

    const Cycle cycle = cycle_of_arguments(fcinfo);

    SPI_connect();
    const Datum account = set_cycle(PG_GETARG_DATUM(0), PG_GETARG_DATUM(1), cycle);
    SPI_finish();

    PG_RETURN_DATUM(account);
}
}
