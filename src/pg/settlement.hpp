/*
 * settlement.hpp: what happens to usage once its event is recorded: it is added to the
 * counter or queued, as usage_ledger.settlement says.
 */
#pragma once

#include "pg/postgres.hpp"

#include "core/batch.hpp"
#include "core/counter.hpp"
#include "pg/counters.hpp"
#include "pg/events.hpp"

namespace usage_ledger
{

/*
 * The outcome is applied, queued, or closed, and then the caller must raise. It is undecided if
 * the period has been ended before the event, which then belongs to another period.
 */
struct Settlement {
    core::Outcome outcome;
    CounterReading counter; /* after it, if applied */
};

/* outcome: that of an event whose period covers it and is not closed. */
Settlement settlement_of(const Event &event, const CounterReading &counter, core::Outcome outcome);

/*
 * Adds or queues the usage of an event. Raises if the counter would overflow. is_first_write:
 * the event was the transaction's first write.
 */
Settlement add_usage(const Event &event, const core::CounterId &counter, bool is_first_write);

/*
 * Holds periods open until the end of the transaction, which blocks closing them and nothing
 * else. Waits for a close in progress. A period may turn out to be closed.
 *
 * REQUIRES: counters are sorted, without duplicates.
 */
void hold_periods_open(const core::CounterId *counters, size_t count);

/*
 * Locks a period to close or end it: waits for all sessions that have added to its counter or
 * hold it open. Raises UL002 if it does not exist.
 */
CounterState lock_period(const core::CounterId &counter);

} // namespace usage_ledger
