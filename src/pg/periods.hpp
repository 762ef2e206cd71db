/*
 * periods.hpp: finding and opening an account's billing periods, which never overlap.
 */
#pragma once

#include "pg/postgres.hpp"

#include "core/period.hpp"
#include "pg/errors.hpp"

namespace usage_ledger
{

struct Period {
    TimestampTz start;
    TimestampTz end;
    bool is_closed;
};

/*
 * Finds the period that covers a time, and takes no lock. A cached period is assumed to be
 * still open: adding to its counter, or queueing usage for it, detects that it was closed.
 */
bool find_period(Datum account_id, TimestampTz time, Period *period);

/* Finds the last period that starts at a time or before it, the only one that may cover it. */
bool find_period_at_or_before(Datum account_id, TimestampTz time, Period *period);

/* A time whose period is wanted, and the result. */
struct PeriodLookup {
    Datum account_id;
    TimestampTz time;
    core::PeriodState state;
    Period period;            /* if it is open or closed */
    TimestampTz previous_end; /* if it is missing: the start of the gap around the time */
};

/* Finds the periods that cover several times, as find_period does. */
void find_periods(PeriodLookup *lookups, size_t count);

/*
 * Opens missing periods as the account's cycle says, each clipped to the gap around its
 * time. Registers unknown accounts if that is the setting. Locks the accounts, so it waits
 * for other sessions that open periods of the same accounts, and then uses theirs.
 *
 * REQUIRES: lookups are sorted by account and time.
 */
void open_periods(PeriodLookup *lookups, size_t count);

/* Opens the period of an event, or raises UL002. */
Period open_period_covering(const EventName &event, TimestampTz time);

} // namespace usage_ledger
