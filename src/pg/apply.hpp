/*
 * apply.hpp: what becomes of a call's usage: it is added to the counter, or queued,
 * as usage_ledger.settlement has it.
 */
#pragma once

#include "pg/postgres.hpp"

#include "core/event.hpp"

namespace usage_ledger
{

enum class ApplyResult { applied, queued, closed, overflow };
struct Applied {
    ApplyResult result;
    int64 tokens_used; /* if it was applied: the counter after the addition */
};

/* Adds what an event recorded, or what takes it back, waiting for the counter's lock or not. */
Applied apply(Datum account_id, TimestampTz period_start, const core::Payload &payload);

} // namespace usage_ledger
