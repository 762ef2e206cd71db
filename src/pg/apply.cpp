#include "pg/postgres.hpp"

#include "pg/apply.hpp"

#include "pg/counters.hpp"
#include "pg/holds.hpp"
#include "pg/pending.hpp"
#include "pg/settings.hpp"
#include "pg/worker.hpp"

namespace usage_ledger
{

namespace
{

/* Leaves it for a settler to add. */
Applied queue(Datum account_id, TimestampTz period_start, const core::Payload &payload)
{
    if (!hold_open(account_id, period_start)) {
        return {ApplyResult::closed, 0};
    }
    enqueue(account_id, period_start, payload);
    note_queued_rows(1);
    return {ApplyResult::queued, 0};
}

bool takes_back(const core::Payload &payload)
{
    return payload.tokens < 0 || payload.reports < 0 || payload.chats < 0;
}

/* Adds it now, waiting for the counter's lock. */
Applied add(Datum account_id, TimestampTz period_start, const core::Payload &payload)
{
    int64 tokens_used;
    if (add_to_counter(account_id, period_start, payload, &tokens_used)) {
        return {ApplyResult::applied, tokens_used};
    }
    if (read_counter(account_id, period_start).is_closed) {
        return {ApplyResult::closed, 0};
    }
    /* What is to be taken back is not in the counter yet, so the two are settled together. */
    return takes_back(payload) ? queue(account_id, period_start, payload)
                               : Applied{ApplyResult::overflow, 0};
}

} // namespace

Applied apply(Datum account_id, TimestampTz period_start, const core::Payload &payload)
{
    switch (settlement) {
    case settlement_deferred:
        return queue(account_id, period_start, payload);
    case settlement_adaptive:
        if (!try_lock_counter(account_id, period_start)) {
            return queue(account_id, period_start, payload);
        }
        break;
    }
    return add(account_id, period_start, payload);
}

} // namespace usage_ledger
