/*
 * period_cache.hpp: the periods that this session has found last, so that a call need not
 * look up what the previous one has found.
 *
 * After commit, a period can only be closed, or end earlier. Both are checked on use, where the
 * session has the period's counter.
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

/* After a period turns out to be missing or ended: it may be in the cache. */
void clear_period_cache();

/* Clears the caches of all sessions, of others when the transaction commits. */
void clear_all_period_caches();

/* To be called once, when the library is loaded. */
void register_period_cache_callbacks();

} // namespace usage_ledger
