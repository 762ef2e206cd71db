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
    placed.call = in_place(placed.call, place);
    placed.additions = in_place(placed.additions, place);
    placed.counters = in_place(placed.counters, place);
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
                     "SELECT SCRATCH.naive_increment($1, $2, $3)",
                     "SELECT idempotency_key, tokens FROM SCRATCH.naive_additions",
                     "SELECT tokens_used FROM SCRATCH.naive_usage",
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
                     "SELECT SCRATCH.checked_increment($1, $2, $3)",
                     "SELECT idempotency_key, tokens FROM SCRATCH.checked_events",
                     "SELECT tokens_used FROM SCRATCH.checked_usage",
                     {}},
                    place);
}

Contender increment_usage(const Place &place)
{
    return in_place({"increment_usage",
                     {},
                     "SELECT LEDGER.increment_usage($1, $2, $3)",
                     "SELECT idempotency_key, tokens FROM LEDGER.usage_events"
                     " WHERE account_id IN (ALL_ACCOUNTS)",
                     "SELECT tokens_used FROM LEDGER.usage_totals"
                     " WHERE account_id IN (ALL_ACCOUNTS)",
                     {"DELETE FROM LEDGER.usage_events WHERE account_id IN (ALL_ACCOUNTS)",
                      "DELETE FROM LEDGER.usage_pending WHERE account_id IN (ALL_ACCOUNTS)",
                      "DELETE FROM LEDGER.usage_periods WHERE account_id IN (ALL_ACCOUNTS)",
                      "DELETE FROM LEDGER.usage_accounts WHERE account_id IN (ALL_ACCOUNTS)"}},
                    place);
}

} // namespace usage_ledger::trace
