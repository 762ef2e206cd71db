/*
 * accounts.hpp: accounts and their billing cycles.
 */
#pragma once

#include "pg/postgres.hpp"

#include "core/period.hpp"

namespace usage_ledger
{

struct Cycle {
    bool is_known; /* or the account is not registered, and nothing else is set */
    core::PeriodLength period_length;
    TimestampTz period_anchor;
    Datum time_zone; /* text */
};

/*
 * Locks accounts until the end of the transaction (locks.hpp, level 1), and reads their
 * cycles. Without waiting, those that another session has locked seem unknown.
 *
 * REQUIRES: account_ids are sorted, without duplicates.
 */
void lock_accounts(const Datum *account_ids, Cycle *cycles, size_t count,
                   LockWaitPolicy wait_policy = LockWaitBlock);

/* Locks accounts in the same way, and registers the unknown ones, with calendar months in UTC. */
void register_and_lock_accounts(const Datum *account_ids, Cycle *cycles, size_t count);

/* Reads the cycle of an account, without a lock. */
void read_cycle(Datum account_id, Cycle *cycle);

/* Whether periods can be computed: the length and anchor are valid, the time zone is known. */
bool cycle_is_valid(const Cycle &cycle);

/* Where period number n of a valid cycle starts. */
TimestampTz cycle_boundary(const Cycle &cycle, int64 n);

core::PeriodLength period_length_of(Datum interval);

bool time_zone_is_known(Datum name);

/*
 * Midnight of Monday, 1 January 2001 in a known time zone. A cycle of months, years, ISO
 * weeks or days that is anchored there follows the calendar.
 */
TimestampTz calendar_anchor(Datum time_zone);

} // namespace usage_ledger
