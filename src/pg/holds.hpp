/*
 * holds.hpp: what keeps a period from being closed before usage that is queued for
 * it is committed.
 *
 * Who adds to a counter holds its row's lock, and closing waits for that. Who only
 * queues usage holds the period open instead, until the end of the transaction:
 * that keeps closing out, and nobody else.
 */
#pragma once

#include "pg/postgres.hpp"

#include "core/addition.hpp"

namespace usage_ledger
{

/* Holds a period open, waiting for who is closing it. False: it is closed. */
bool hold_open(Datum account_id, TimestampTz period_start);

/*
 * Likewise, in the order given, the periods of all counters that there is something
 * to add to; it is for the caller to see then which of them are closed.
 */
void hold_all_open(const core::Addition *additions, size_t count);

/*
 * For who closes a period: waits for all who hold it open, and keeps others from it,
 * until the counter's row is locked FOR UPDATE and does that.
 */
void shut_out_holders(Datum account_id, TimestampTz period_start);
void let_holders_in(Datum account_id, TimestampTz period_start);

/* To be called once, when the library is loaded. */
void watch_holds();

} // namespace usage_ledger
