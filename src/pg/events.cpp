#include "pg/postgres.hpp"

#include "pg/events.hpp"

#include "pg/statements.hpp"

namespace usage_ledger
{

bool record_event(const Event &event, TimestampTz period_start)
{
    const Datum arguments[] = {event.account_id,
                               event.idempotency_key,
                               TimestampTzGetDatum(period_start),
                               TimestampTzGetDatum(event.occurred_at),
                               Int64GetDatum(event.payload.tokens),
                               Int32GetDatum(event.payload.reports),
                               Int32GetDatum(event.payload.chats)};
    return run(Statement::record_event, arguments) == 1;
}

bool find_counted_event(const Event &event, CountedEvent *counted)
{
    const Datum arguments[] = {event.account_id, event.idempotency_key};
    if (run(Statement::event_of_key, arguments) == 0) {
        return false;
    }
    counted->payload.tokens = DatumGetInt64(required_column(1));
    counted->payload.reports = DatumGetInt32(required_column(2));
    counted->payload.chats = DatumGetInt32(required_column(3));
    counted->period_start = DatumGetTimestampTz(required_column(4));
    return true;
}

} // namespace usage_ledger
