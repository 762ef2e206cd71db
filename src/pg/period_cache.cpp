/*
 * period_cache.cpp: a hash table of periods, one for each of the accounts that were
 * found last.
 *
 * It is thrown away when anything happens to usage_periods: the extension is dropped,
 * the table is truncated. It is not when rows are deleted by hand, which nothing of
 * ours does; a call that then finds its period's row missing throws it away, and
 * fails once.
 */
#include "pg/postgres.hpp"

#include "pg/period_cache.hpp"

#include "pg/statements.hpp"

namespace usage_ledger
{

namespace
{

struct CachedPeriod {
    pg_uuid_t account_id; /* the key */
    TimestampTz start;
    TimestampTz end;
};

/* About 1 MB; full, the table is made anew. */
constexpr long cached_periods_max = 16384;

HTAB *cached_periods;
Oid cached_table; /* InvalidOid: what is cached is out of date */
bool is_suspended;

void make_empty_cache()
{
    cached_table = InvalidOid; /* there is no cache, should making one fail */
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

void resume(XactEvent event, void *)
{
    if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE) {
        is_suspended = false;
    }
}

} // namespace

bool find_cached_period(Datum account_id, TimestampTz time, Period *period)
{
    if (cached_table == InvalidOid) {
        return false;
    }
    const auto *cached = static_cast<CachedPeriod *>(
        hash_search(cached_periods, DatumGetUUIDP(account_id), HASH_FIND, nullptr));
    if (cached == nullptr || time < cached->start || time >= cached->end) {
        return false;
    }
    *period = {cached->start, cached->end, false};
    return true;
}

void cache_period(Datum account_id, const Period &period)
{
    if (is_suspended || period.is_closed) {
        return;
    }
    if (cached_table == InvalidOid || hash_get_num_entries(cached_periods) >= cached_periods_max) {
        make_empty_cache();
    }
    auto *cached = static_cast<CachedPeriod *>(
        hash_search(cached_periods, DatumGetUUIDP(account_id), HASH_ENTER, nullptr));
    cached->start = period.start;
    cached->end = period.end;
}

void suspend_period_cache()
{
    is_suspended = true;
}

void clear_period_cache()
{
    cached_table = InvalidOid;
}

void watch_period_cache()
{
    CacheRegisterRelcacheCallback(forget_table, Datum(0));
    RegisterXactCallback(resume, nullptr);
}

} // namespace usage_ledger
