/*
 * period_cache.cpp: a hash table with one period for each of the accounts used last.
 *
 * It is discarded when anything happens to usage_periods: the extension is dropped, the
 * table is truncated, a period is ended, an account is erased. A session can cache an ended or
 * erased period nevertheless, if it has read the row before that and learns of it before it caches
 * the row. Rows that somebody deletes by hand are not noticed. A call that then finds its period's
 * row missing discards the cache and fails once.
 *
 * Nothing is cached of a distributed ledger, because sessions on one node hear of no change that
 * is made on another.
 */
#include "pg/postgres.hpp"

#include "pg/period_cache.hpp"

#include "pg/extension_tables.hpp"
#include "pg/spi.hpp"

namespace usage_ledger
{

namespace
{

struct CachedPeriod {
    pg_uuid_t account_id; /* the key */
    core::Span period;
};

/* About 1 MB. A full cache is emptied. */
constexpr long cached_periods_max = 16384;

HTAB *cached_periods;
Oid cached_table; /* InvalidOid: the cache is out of date */

void make_empty_cache()
{
    cached_table = InvalidOid; /* in case hash_create fails */
    if (cached_periods != nullptr) {
        hash_destroy(cached_periods);
        cached_periods = nullptr;
    }
    HASHCTL control = {};
    control.keysize = sizeof(pg_uuid_t);
    control.entrysize = sizeof(CachedPeriod);
    cached_periods =
        hash_create("usage_ledger periods", cached_periods_max, &control, HASH_ELEM | HASH_BLOBS);
    cached_table = extension_table("usage_periods");
}

void forget_table(Datum, Oid relation)
{
    if (relation == InvalidOid || relation == cached_table) {
        cached_table = InvalidOid;
    }
}

} // namespace

bool find_cached_period(Datum account_id, TimestampTz time, core::Span *period)
{
    if (cached_table == InvalidOid) {
        return false;
    }
    const auto *cached = static_cast<CachedPeriod *>(
        hash_search(cached_periods, DatumGetUUIDP(account_id), HASH_FIND, nullptr));
    if (cached == nullptr || time < cached->period.start || time >= cached->period.end) {
        return false;
    }
    *period = cached->period;
    return true;
}

void cache_period(Datum account_id, const core::Span &period, TransactionId written_by)
{
    if (TransactionIdIsCurrentTransactionId(written_by) || is_distributed()) {
        return;
    }
    if (cached_table == InvalidOid || hash_get_num_entries(cached_periods) >= cached_periods_max) {
        make_empty_cache();
    }
    auto *cached = static_cast<CachedPeriod *>(
        hash_search(cached_periods, DatumGetUUIDP(account_id), HASH_ENTER, nullptr));
    cached->period = period;
}

void clear_period_cache()
{
    cached_table = InvalidOid;
}

void clear_all_period_caches()
{
    clear_period_cache();
    CacheInvalidateRelcacheByRelid(extension_table("usage_periods"));
}

void register_period_cache_callbacks()
{
    CacheRegisterRelcacheCallback(forget_table, Datum(0));
}

} // namespace usage_ledger
