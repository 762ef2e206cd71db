/*
 * contender.hpp: the ways of counting usage, and of keeping to a limit, that the trace compares.
 */
#pragma once

#include <string>
#include <vector>

namespace usage_ledger::trace
{

/*
 * Each way is one SQL call: $1 account, $2 tokens, $3 idempotency key. A way that breaks usage
 * down has $4 model and $5 to $9 the kinds of tokens instead of $2. Two subqueries
 * audit it: `additions` returns every addition as (idempotency_key, tokens), and
 * `counters` returns (tokens_used), one row per account. `breakdown`, if it is not empty,
 * returns (model, the kinds of tokens, events). A way that keeps to a limit asks first,
 * with the first three parameters: `admission` returns whether the work may begin.
 */
struct Contender {
    std::string name;
    std::vector<std::string> setup;
    std::string admission; /* empty: the work always begins */
    std::string call;
    std::string additions;
    std::string counters;
    std::string breakdown;
    std::vector<std::string> cleanup;
};

/*
 * Where a run works: a schema for the hand-written ways, the extension's schema, and
 * new accounts. The last account has only just signed up, so the hand-written ways have
 * no row for its billing period.
 */
struct Place {
    std::string scratch_schema;
    std::string ledger_schema;
    std::vector<std::string> accounts;
    std::string token_limit; /* of each account */
};

Contender naive_read_modify_write(const Place &place);
Contender check_then_insert(const Place &place);
Contender increment_usage(const Place &place);
Contender record_usage(const Place &place);

/* Ways to keep to a limit. Both count with increment_usage. */
Contender check_then_spend(const Place &place);
Contender reserve_then_count(const Place &place);

} // namespace usage_ledger::trace
