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
    Period period;            /* if it is open, closed or pruned */
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

/*
 * Opens the period of an event, or raises UL002. If it may not wait for the account's lock, it
 * raises 40001 instead.
 */
Period open_period_covering(const EventName &event, TimestampTz time,
                            LockWaitPolicy wait_policy = LockWaitBlock);

/*
 * Raises UL002 if no event could be counted now, because no period covers a time and none could
 * be opened. Takes no lock.
 */
void check_can_open(const EventName &event, TimestampTz time);

/*
 * The second lookup, for events that were recorded in a period that then turned out to have been
 * ended before them. Their sessions hold keys and counters, so they must not wait for an account.
 *
 * To be called before the periods are found again. Raises 40001 where the transaction's snapshot
 * is from before the end.
 */
void forget_ended_periods();

/* Opens periods as open_periods does, but raises 40001 if another session has an account. */
void try_open_periods(PeriodLookup *lookups, size_t count);

/* 40001: the event's period has been ended, and something that the next one needs is locked. */
[[noreturn]] void raise_ended_concurrently();

/* The row of a period, as functions return it. REQUIRES: it exists. */
Datum row_of_period(const core::CounterId &counter);

} // namespace usage_ledger
