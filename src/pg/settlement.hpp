/*
 * settlement.hpp: what happens to usage once its event is recorded: it is added to the
 * counter or queued, as usage_ledger.settlement says.
 */
#pragma once

#include "pg/postgres.hpp"

#include "core/batch.hpp"
#include "core/counter.hpp"
#include "pg/errors.hpp"

namespace usage_ledger
{

struct Settlement {
    core::Outcome outcome; /* applied, queued or closed; closed: the caller must raise */
    int64 tokens_used;     /* if applied: the counter after it */
};

/*
 * Adds or queues the usage of an event. Raises if the counter would overflow. is_first_write:
 * the event was the transaction's first write.
 */
Settlement add_usage(const EventName &event, const core::CounterId &counter,
                     const core::Usage &payload, bool is_first_write);

/*
 * Holds periods open until the end of the transaction, which blocks closing them and nothing
 * else. Waits for a close in progress. A period may turn out to be closed.
 *
 * REQUIRES: counters are sorted, without duplicates.
 */
void hold_periods_open(const core::CounterId *counters, size_t count);

} // namespace usage_ledger
