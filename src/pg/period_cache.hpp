/*
 * period_cache.hpp: the periods that this session has found last, so that a call
 * need not look up what the one before it has seen.
 *
 * A period's bounds never change once it is committed. Whether it is closed does,
 * so that is not kept: who adds to its counter or queues usage for it finds out.
 */
#pragma once

#include "pg/postgres.hpp"

#include "pg/periods.hpp"

namespace usage_ledger
{

/* A period that covers a time, taken to be open. */
bool find_cached_period(Datum account_id, TimestampTz time, Period *period);

/* Keeps a period that was found open, unless this transaction may have opened it itself. */
void cache_period(Datum account_id, const Period &period);

/* For who opens periods: nothing is kept for the rest of the transaction. */
void suspend_period_cache();

/* For who has found a period missing that may have been taken from here. */
void clear_period_cache();

/* To be called once, when the library is loaded. */
void watch_period_cache();

} // namespace usage_ledger
