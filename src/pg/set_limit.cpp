/*
 * set_limit.cpp: set_usage_limit, which sets what an account may use in a period.
 */
#include "pg/postgres.hpp"

#include "pg/arguments.hpp"
#include "pg/errors.hpp"
#include "pg/spi.hpp"

namespace usage_ledger
{

namespace
{

Datum set_limit(Datum account_id, const NullableDatum &token_limit)
{
    static Statement statement = {"usage_limits",
                                  "INSERT INTO %s (account_id, token_limit) VALUES ($1, $2)"
                                  " ON CONFLICT (account_id, scope)"
                                  " DO UPDATE SET token_limit = excluded.token_limit"
                                  " RETURNING *",
                                  {UUIDOID, INT8OID}};
    const Datum arguments[] = {account_id, token_limit.value};
    run(&statement, arguments, token_limit.isnull ? " n" : nullptr);
    return returned_row("usage_limits");
}

} // namespace

} // namespace usage_ledger

extern "C" {

PG_FUNCTION_INFO_V1(usage_ledger_set_usage_limit);

Datum usage_ledger_set_usage_limit(PG_FUNCTION_ARGS)
{
    using namespace usage_ledger;

    static const char *const names[] = {"account"};
    check_no_null(fcinfo, names, lengthof(names));
    const Datum account_id = PG_GETARG_DATUM(0);
    if (!PG_ARGISNULL(1) && PG_GETARG_INT64(1) < 0) {
        raise_invalid_argument(account_id, "limit must not be negative",
                               psprintf(INT64_FORMAT " tokens", PG_GETARG_INT64(1)),
                               "Pass 0 or more tokens, or NULL for no limit.");
    }

    SPI_connect();
    const Datum row = set_limit(account_id, fcinfo->args[1]);
    SPI_finish();

    PG_RETURN_DATUM(row);
}
}
