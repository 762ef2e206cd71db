/*
 * periods.hpp: an account's billing periods, which never overlap.
 */
#pragma once

#include "pg/postgres.hpp"

#include "pg/errors.hpp"

namespace usage_ledger
{

struct Period {
    TimestampTz start;
    TimestampTz end;
    bool is_closed;
};

/* Finds the period that covers a time, taking no lock. */
bool find_period(Datum account_id, TimestampTz time, Period *period);

/*
 * Opens the period of the account's cycle that covers a time, registering the
 * account if that is the setting, unless another session got there first.
 */
Period open_period_covering(const EventName &event, TimestampTz time);

} // namespace usage_ledger
