/*
 * period_cache.cpp: an array of periods, each at the place that its account's hash
 * gives it, where it takes the place of the one before.
 *
 * It is cleared when anything happens to the table: the extension is dropped, the
 * table is truncated. It is not when rows are deleted by hand, which nothing of ours
 * does; a call that then finds its period's row missing clears it, and fails once.
 */
#include "pg/postgres.hpp"

#include "pg/period_cache.hpp"

#include "pg/statements.hpp"

namespace usage_ledger
{

namespace
{

struct CachedPeriod {
    pg_uuid_t account_id;
    TimestampTz start;
    TimestampTz end; /* 0: there is none, for none ends at the start of its time */
};

/* A power of two; 640 kB, in sessions that have called increment_usage. */
constexpr uint32 cached_periods_max = 16384;

CachedPeriod *cached_periods;
Oid cached_table; /* InvalidOid: nothing is cached */
bool is_suspended;

CachedPeriod *place_of(Datum account_id)
{
    const uint32 hash = hash_bytes(DatumGetUUIDP(account_id)->data, UUID_LEN);
    return &cached_periods[hash & (cached_periods_max - 1)];
}

bool is_at(const CachedPeriod &cached, Datum account_id)
{
    return memcmp(&cached.account_id, DatumGetUUIDP(account_id), UUID_LEN) == 0;
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
    const CachedPeriod *cached = place_of(account_id);
    if (time < cached->start || time >= cached->end || !is_at(*cached, account_id)) {
        return false;
    }
    *period = {cached->start, cached->end, false};
    return true;
}

void cache_period(Datum account_id, const Period &period)
{
    if (is_suspended) {
        return;
    }
    if (cached_periods == nullptr) {
        cached_periods = static_cast<CachedPeriod *>(
            MemoryContextAlloc(TopMemoryContext, cached_periods_max * sizeof(CachedPeriod)));
    }
    if (cached_table == InvalidOid) {
        memset(cached_periods, 0, cached_periods_max * sizeof(CachedPeriod));
        cached_table = extension_table("usage_periods");
    }
    *place_of(account_id) = {*DatumGetUUIDP(account_id), period.start, period.end};
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
