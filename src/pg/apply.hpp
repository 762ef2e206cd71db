/*
 * apply.hpp: what becomes of usage: it is added to the counter, or queued, as
 * usage_ledger.settlement has it.
 */
#pragma once

#include "pg/postgres.hpp"

#include "core/event.hpp"
#include "pg/errors.hpp"

namespace usage_ledger
{

enum class ApplyResult { applied, queued, closed };
struct Applied {
    ApplyResult result; /* closed: the caller must raise */
    int64 tokens_used;  /* if it was applied: the counter then */
};

/*
 * Adds what an event has recorded; raises if the counter would overflow. A call that
 * recorded it as its transaction's first write waits its turn for the counter.
 */
Applied apply(const EventName &event, TimestampTz period_start, const core::Payload &payload,
              bool is_first_write);

/* Takes back what an event that is voided had recorded. */
Applied take_back(const EventName &event, TimestampTz period_start, const core::Payload &payload);

} // namespace usage_ledger
