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

/*
 * Caches an open period. The xmin of its row says who wrote it: a period that this
 * transaction has written, by a function or by hand, may roll back and is not cached.
 */
void cache_period(Datum account_id, const core::Span &period, TransactionId written_by);

/* After a period turns out to be missing: it may be in the cache. */
void clear_period_cache();

/* To be called once, when the library is loaded. */
void register_period_cache_callbacks();

} // namespace usage_ledger
