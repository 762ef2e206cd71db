/*
 * accounts.hpp: accounts and their billing cycles.
 */
#pragma once

#include "pg/postgres.hpp"

namespace usage_ledger
{

struct Cycle {
    Interval *period_length;
    TimestampTz period_anchor;
    Datum time_zone; /* text */
};

/* Registers an account with calendar months in UTC, unless it is known. */
void register_account(Datum account_id);

/*
 * Takes the lock that all who open a period of an account hold, until the end of
 * the transaction, and reads the cycle. False: the account is unknown.
 */
bool lock_account(Datum account_id, Cycle *cycle);

/* Whether periods can be reckoned with it: its length valid, its time zone known. */
bool cycle_is_valid(const Cycle &cycle);

/* Where period number n of a valid cycle starts. */
TimestampTz cycle_boundary(const Cycle &cycle, int64 n);

} // namespace usage_ledger
