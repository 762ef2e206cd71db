/*
 * period_cache.hpp: the periods that this session has found last, so that a call need not
 * look up what the previous one has found.
 *
 * A period's bounds never change after commit, so they are cached. Its closed state can
 * change, so it is checked on use.
 */
#pragma once

#include "pg/postgres.hpp"

#include "core/period.hpp"

namespace usage_ledger
{

/* Finds a cached period that covers a time. It was open when it was cached. */
bool find_cached_period(Datum account_id, TimestampTz time, core::Span *period);

/* Caches an open period, unless the cache is suspended. */
void cache_period(Datum account_id, const core::Span &period);

/* Before a session opens periods: nothing is cached for the rest of the transaction. */
void suspend_period_cache();

/* After a period turns out to be missing: it may be in the cache. */
void clear_period_cache();

/* To be called once, when the library is loaded. */
void register_period_cache_callbacks();

} // namespace usage_ledger
