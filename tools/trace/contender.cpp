#include "contender.hpp"

#include <regex>

namespace usage_ledger::trace
{

namespace
{

/* Replaces the placeholders for the schemas and accounts of a run. */
std::string in_place(std::string sql, const Place &place)
{
    std::string all, old;
    for (const std::string &account : place.accounts) {
        all += (all.empty() ? "'" : ",'") + account + "'";
        if (&account != &place.accounts.back()) {
            old += (old.empty() ? "('" : ",('") + account + "')";
        }
    }
    sql = std::regex_replace(sql, std::regex("SCRATCH"), place.scratch_schema);
    sql = std::regex_replace(sql, std::regex("LEDGER"), place.ledger_schema);
    sql = std::regex_replace(sql, std::regex("ALL_ACCOUNTS"), all);
    sql = std::regex_replace(sql, std::regex("TOKEN_LIMIT"), place.token_limit);
    return std::regex_replace(sql, std::regex("OLD_ACCOUNTS"), old);
}

Contender in_place(const Contender &contender, const Place &place)
{
    Contender placed = contender;
    for (std::string &sql : placed.setup) {
        sql = in_place(sql, place);
    }
    for (std::string &sql : placed.cleanup) {
        sql = in_place(sql, place);
    }
    placed.admission = in_place(placed.admission, place);
    placed.call = in_place(placed.call, place);
    placed.additions = in_place(placed.additions, place);
    placed.counters = in_place(placed.counters, place);
    placed.breakdown = in_place(placed.breakdown, place);
    return placed;
}

} // namespace

/*
 * Reads the total, adds, writes the total. The log of additions is not part of the
 * method. The audit needs it to distinguish lost tokens from tokens counted twice.
 */
Contender naive_read_modify_write(const Place &place)
{
    return in_place({"naive read-modify-write",
                     {"CREATE TABLE SCRATCH.naive_usage ("
                      " account_id uuid PRIMARY KEY, tokens_used bigint NOT NULL DEFAULT 0)",
                      "INSERT INTO SCRATCH.naive_usage VALUES OLD_ACCOUNTS",
                      "CREATE TABLE SCRATCH.naive_additions (idempotency_key text, tokens bigint)",
                      R"(CREATE FUNCTION SCRATCH.naive_increment(
                             p_account_id uuid, p_tokens bigint, p_key text)
                         RETURNS void LANGUAGE plpgsql AS $$
                         DECLARE
                             total bigint;
                         BEGIN
                             SELECT tokens_used INTO total
                               FROM SCRATCH.naive_usage WHERE account_id = p_account_id;
                             UPDATE SCRATCH.naive_usage SET tokens_used = total + p_tokens
                              WHERE account_id = p_account_id;
                             INSERT INTO SCRATCH.naive_additions VALUES (p_key, p_tokens);
                         END $$)"},
                     "",
                     "SELECT SCRATCH.naive_increment($1, $2, $3)",
                     "SELECT idempotency_key, tokens FROM SCRATCH.naive_additions",
                     "SELECT tokens_used FROM SCRATCH.naive_usage",
                     "",
                     {}},
                    place);
}

/* The usual fix: if the key is new, lock the row, add, and insert the key. */
Contender check_then_insert(const Place &place)
{
    return in_place({"check, then insert",
                     {"CREATE TABLE SCRATCH.checked_usage ("
                      " account_id uuid PRIMARY KEY, tokens_used bigint NOT NULL DEFAULT 0)",
                      "INSERT INTO SCRATCH.checked_usage VALUES OLD_ACCOUNTS",
                      "CREATE TABLE SCRATCH.checked_events ("
                      " idempotency_key text PRIMARY KEY, account_id uuid, tokens bigint)",
                      R"(CREATE FUNCTION SCRATCH.checked_increment(
                             p_account_id uuid, p_tokens bigint, p_key text)
                         RETURNS void LANGUAGE plpgsql AS $$
                         BEGIN
                             PERFORM 1 FROM SCRATCH.checked_events WHERE idempotency_key = p_key;
                             IF FOUND THEN
                                 RETURN;
                             END IF;
                             PERFORM 1 FROM SCRATCH.checked_usage
                               WHERE account_id = p_account_id FOR UPDATE;
                             UPDATE SCRATCH.checked_usage SET tokens_used = tokens_used + p_tokens
                              WHERE account_id = p_account_id;
                             INSERT INTO SCRATCH.checked_events
                             VALUES (p_key, p_account_id, p_tokens);
                         END $$)"},
                     "",
                     "SELECT SCRATCH.checked_increment($1, $2, $3)",
                     "SELECT idempotency_key, tokens FROM SCRATCH.checked_events",
                     "SELECT tokens_used FROM SCRATCH.checked_usage",
                     "",
                     {}},
                    place);
}

namespace
{

/* Counts with increment_usage the work that is admitted. */
Contender ledger(const std::string &name, const std::vector<std::string> &setup,
                 const std::string &admission, const Place &place)
{
    return in_place({name,
                     setup,
                     admission,
                     "SELECT LEDGER.increment_usage($1, $2, $3)",
                     "SELECT idempotency_key, tokens FROM LEDGER.usage_events"
                     " WHERE account_id IN (ALL_ACCOUNTS)",
                     "SELECT sum(tokens_used) AS tokens_used FROM LEDGER.usage_totals"
                     " WHERE account_id IN (ALL_ACCOUNTS) GROUP BY account_id",
                     "",
                     {"SELECT LEDGER.erase_usage(account_id)"
                      " FROM unnest(ARRAY[ALL_ACCOUNTS]::uuid[]) AS account_id"}},
                    place);
}

} // namespace

Contender increment_usage(const Place &place)
{
    return ledger("increment_usage", {}, "", place);
}

Contender record_usage(const Place &place)
{
    Contender contender = ledger("record_usage", {}, "", place);
    contender.call = in_place("SELECT LEDGER.record_usage($1, $3, $4, '', $5, $6, $7, $8, $9)"
                              " WHERE $2::bigint IS NOT NULL",
                              place);
    contender.breakdown =
        in_place("SELECT model, sum(input_tokens), sum(cache_read_tokens), sum(cache_write_tokens),"
                 " sum(output_tokens), sum(reasoning_tokens), sum(events)"
                 " FROM LEDGER.usage_breakdown_totals WHERE account_id IN (ALL_ACCOUNTS)"
                 " GROUP BY model ORDER BY sum(events) DESC, model COLLATE \"C\"",
                 place);
    return contender;
}

/* The usual check: work if what is used leaves room for it. */
Contender check_then_spend(const Place &place)
{
    return ledger("check, then spend", {},
                  "SELECT COALESCE(sum(tokens_used), 0) + $2::bigint <= TOKEN_LIMIT"
                  " FROM LEDGER.usage_totals WHERE account_id = $1::uuid AND $3::text IS NOT NULL",
                  place);
}

Contender reserve_then_count(const Place &place)
{
    return ledger("reserve_usage",
                  {"SELECT LEDGER.set_usage_limit(account_id, TOKEN_LIMIT)"
                   " FROM unnest(ARRAY[ALL_ACCOUNTS]::uuid[]) AS account_id"},
                  "SELECT outcome = 'reserved' FROM LEDGER.reserve_usage($1, $2, $3)", place);
}

} // namespace usage_ledger::trace
