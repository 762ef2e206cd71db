/*
 * set_limit.cpp: set_usage_limit, which sets what an account, or a scope of it, may use in a
 * period.
 */
#include "pg/postgres.hpp"

#include "pg/arguments.hpp"
#include "pg/breakdowns.hpp"
#include "pg/errors.hpp"
#include "pg/holds.hpp"
#include "pg/limits.hpp"
#include "pg/settings.hpp"
#include "pg/spi.hpp"

namespace usage_ledger
{

namespace
{

/* What the keys of a level hold. */
int64 sum_of_holds(Datum account_id, Datum scope)
{
    static Statement statement = {
        "usage_holds",
        "SELECT COALESCE(pg_catalog.sum(tokens), 0)::pg_catalog.int8 FROM %s"
        " WHERE account_id OPERATOR(pg_catalog.=) $1 AND pg_catalog.starts_with("
        "scope OPERATOR(pg_catalog.||) '/', $2 OPERATOR(pg_catalog.||) '/')",
        {UUIDOID, TEXTOID}};
    const Datum arguments[] = {account_id, scope};
    lock_for_write(&statement);
    run(&statement, arguments);
    return DatumGetInt64(required_column(1));
}

/*
 * Locks the row of the whole account, which a level needs too. It gets a new version, so that a
 * transaction whose snapshot does not show the level fails with 40001 when it locks the row.
 */
void lock_account_limit(Datum account_id)
{
    static Statement statement = {"usage_limits",
                                  "INSERT INTO %s AS l (account_id, token_limit) VALUES ($1, $2)"
                                  " ON CONFLICT (account_id, scope)"
                                  " DO UPDATE SET version = l.version OPERATOR(pg_catalog.+) 1",
                                  {UUIDOID, INT8OID}};
    const Datum arguments[] = {account_id, Int64GetDatum(default_token_limit)};
    run(&statement, arguments, default_token_limit < 0 ? " n" : nullptr);
}

Datum set_limit(Datum account_id, const NullableDatum &token_limit, std::string_view scope)
{
    static Statement statement = {
        "usage_limits",
        "INSERT INTO %s (account_id, token_limit, scope, tokens_held) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (account_id, scope) DO UPDATE SET token_limit = excluded.token_limit"
        " RETURNING *",
        {UUIDOID, INT8OID, TEXTOID, INT8OID}};
    const Datum scope_text = text_datum(scope);
    int64 tokens_held = 0; /* an account without a row has no holds */
    if (!scope.empty()) {
        lock_account_limit(account_id);
        tokens_held = sum_of_holds(account_id, scope_text);
    }
    const Datum arguments[] = {account_id, token_limit.value, scope_text,
                               Int64GetDatum(tokens_held)};
    run(&statement, arguments, token_limit.isnull ? " n  " : nullptr);
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
    const std::string_view scope = scope_argument(fcinfo, 2, name_without_key(account_id));

    SPI_connect();
    const Datum row = set_limit(account_id, fcinfo->args[1], scope);
    SPI_finish();

    PG_RETURN_DATUM(row);
}
}
