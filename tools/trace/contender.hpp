/*
 * contender.hpp: the three ways of counting usage that the trace compares.
 */
#pragma once

#include <string>
#include <vector>

namespace usage_ledger::trace
{

/*
 * Each way is one SQL call, $1 account, $2 tokens, $3 idempotency key. What it
 * did can be audited from two subqueries: every addition that it made, as
 * (idempotency_key, tokens), and its counters, as (tokens_used).
 */
struct Contender {
    std::string name;
    std::vector<std::string> setup;
    std::string call;
    std::string additions;
    std::string counters;
    std::vector<std::string> cleanup;
};

/*
 * Where a run works: a schema of its own for what people write by hand, the
 * extension's schema, and accounts that are new. The last of them has signed up
 * only now: nobody has made a row for its billing period.
 */
struct Place {
    std::string scratch_schema;
    std::string ledger_schema;
    std::vector<std::string> accounts;
};

Contender naive_read_modify_write(const Place &place);
Contender check_then_insert(const Place &place);
Contender increment_usage(const Place &place);

} // namespace usage_ledger::trace
