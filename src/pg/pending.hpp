/*
 * pending.hpp: usage that is recorded but not yet in its counter, a queue in
 * usage_pending.
 */
#pragma once

#include "pg/postgres.hpp"

#include "core/addition.hpp"
#include "core/event.hpp"

namespace usage_ledger
{

/* Puts one event's usage into the queue. */
void enqueue(Datum account_id, TimestampTz period_start, const core::Payload &payload);

/* Puts sums into the queue, a row each. */
void enqueue_all(const core::Addition *additions, size_t count);

/* Sums taken out of the queue, in counters' order. */
struct TakenUsage {
    core::Addition *additions;
    size_t count;
};

/* Takes row_count_max rows at most out of the queue, none that another session is taking. */
TakenUsage take_pending(uint64 row_count_max);

} // namespace usage_ledger
