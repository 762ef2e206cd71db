/*
 * accounts.hpp: accounts and their billing cycles.
 */
#pragma once

#include "pg/postgres.hpp"

#include "core/period.hpp"

namespace usage_ledger
{

struct Cycle {
    bool is_known; /* or the account is not registered, and there is no more to say */
    core::PeriodLength period_length;
    TimestampTz period_anchor;
    Datum time_zone; /* text */
};

/* Registers accounts with calendar months in UTC, but for those that are known. */
void register_accounts(const Datum *account_ids, size_t count);

/*
 * Takes the locks that all who open a period of these accounts hold, until the
 * end of the transaction, in the order given, and reads the accounts' cycles.
 */
void lock_accounts(const Datum *account_ids, Cycle *cycles, size_t count);

/* Whether periods can be reckoned with it: its length valid, its time zone known. */
bool cycle_is_valid(const Cycle &cycle);

/* Where period number n of a valid cycle starts. */
TimestampTz cycle_boundary(const Cycle &cycle, int64 n);

} // namespace usage_ledger
