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

/* Whether the counter is to be left to a settler; if not, its lock may be taken already. */
bool is_left_to_settler(Datum account_id, TimestampTz period_start)
{
    return settlement == settlement_deferred ||
           (settlement == settlement_adaptive && !try_lock_counter(account_id, period_start));
}

Applied queue(Datum account_id, TimestampTz period_start, const core::Payload &payload)
{
    if (!hold_open(account_id, period_start)) {
        return {ApplyResult::closed, 0};
    }
    enqueue(account_id, period_start, payload);
    note_queued_rows(1);
    return {ApplyResult::queued, 0};
}

} // namespace

Applied apply(const EventName &event, TimestampTz period_start, const core::Payload &payload)
{
    const Datum account_id = event.account_id.value;
    if (is_left_to_settler(account_id, period_start)) {
        return queue(account_id, period_start, payload);
    }
    int64 tokens_used;
    if (!add_to_counter(event, period_start, payload, &tokens_used)) {
        return {ApplyResult::closed, 0};
    }
    return {ApplyResult::applied, tokens_used};
}

Applied take_back(const EventName &event, TimestampTz period_start, const core::Payload &payload)
{
    const Datum account_id = event.account_id.value;
    if (is_left_to_settler(account_id, period_start)) {
        return queue(account_id, period_start, -payload);
    }
    int64 tokens_used;
    if (take_from_counter(account_id, period_start, payload, &tokens_used)) {
        return {ApplyResult::applied, tokens_used};
    }
    if (read_counter(account_id, period_start).is_closed) {
        return {ApplyResult::closed, 0};
    }
    /* It is not in the counter yet, so the two are settled together. */
    return queue(account_id, period_start, -payload);
}

} // namespace usage_ledger
