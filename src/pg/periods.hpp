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

/*
 * Finds the period that covers a time, taking no lock. One that this session has seen
 * before is taken to be open, as it was then; who adds to its counter, or queues usage
 * for it, finds out.
 */
bool find_period(Datum account_id, TimestampTz time, Period *period);

/* A time whose period is wanted, and what became of that. */
enum class PeriodState { missing, found, unknown_account, no_cycle };
struct WantedPeriod {
    Datum account_id;
    TimestampTz time;
    PeriodState state;
    Period period;            /* if it was found */
    TimestampTz previous_end; /* if it is missing: where the gap around the time begins */
    bool is_opened;           /* if it is missing: by open_periods, which leaves others so */
};

/* Likewise, for the periods that cover times; those that do not exist are missing. */
void find_periods(WantedPeriod *wanted, size_t count);

/*
 * Opens missing periods of a list that is sorted by account and time, each as the
 * account's cycle has it, clipped to the gap that it falls in. Registers unknown
 * accounts if that is the setting. Waits for other sessions that open periods of
 * the same accounts, and uses theirs; until the end of the transaction no other can
 * open any, so that those which stay missing are opened later without a wait.
 */
void open_periods(WantedPeriod *wanted, size_t count);

/* Opens the period of an event, or raises. */
Period open_period_covering(const EventName &event, TimestampTz time);

} // namespace usage_ledger
