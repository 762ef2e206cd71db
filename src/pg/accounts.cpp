#include "pg/postgres.hpp"

#include "pg/accounts.hpp"

#include "pg/spi.hpp"

namespace usage_ledger
{

namespace
{

/*
 * Takes full names only, those of pg_timezone_names. AT TIME ZONE would read CET as an
 * abbreviation, which has no daylight saving. Null: the name is unknown.
 */
pg_tz *find_time_zone(Datum name)
{
    const char *zone = TextDatumGetCString(name);
    return strlen(zone) <= TZ_STRLEN_MAX ? pg_tzset(zone) : nullptr;
}

[[noreturn]] void raise_out_of_range()
{
    ereport(ERROR,
            (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE), errmsg("timestamp out of range")));
}

/* The local time in a time zone. */
Timestamp local_time(TimestampTz time, pg_tz *zone)
{
    int offset_s;
    pg_tm tm;
    fsec_t fsec;
    Timestamp local;
    if (timestamp2tm(time, &offset_s, &tm, &fsec, nullptr, zone) != 0 ||
        tm2timestamp(&tm, fsec, nullptr, &local) != 0) {
        raise_out_of_range();
    }
    return local;
}

/* The time of a local time, also of one that daylight saving skips. */
TimestampTz time_of_local(Timestamp local, pg_tz *zone)
{
    pg_tm tm;
    fsec_t fsec;
    if (timestamp2tm(local, nullptr, &tm, &fsec, nullptr, nullptr) != 0) {
        raise_out_of_range();
    }
    int offset_s = DetermineTimeZoneOffset(&tm, zone);
    TimestampTz time;
    if (tm2timestamp(&tm, fsec, &offset_s, &time) != 0) {
        raise_out_of_range();
    }
    return time;
}

/* The length, anchor and time zone in a returned row, from a column on. */
Cycle cycle_of_row(uint64 row, int first_column)
{
    return {true, period_length_of(required_column(first_column, row)),
            DatumGetTimestampTz(required_column(first_column + 1, row)),
            required_column(first_column + 2, row)};
}

/* 1 January 2001, 366 days after the server's epoch. */
constexpr Timestamp local_calendar_anchor = 366 * USECS_PER_DAY;

} // namespace

#define SELECT_ACCOUNTS(locking)                                                                   \
    "SELECT k.ordinal, a.ctid, a.period_length, a.period_anchor, a.time_zone"                      \
    " FROM pg_catalog.unnest($1) WITH ORDINALITY AS k (account_id, ordinal)"                       \
    " CROSS JOIN LATERAL"                                                                          \
    " (SELECT a.ctid, a.period_length, a.period_anchor, a.time_zone FROM %s AS a"                  \
    " WHERE a.account_id OPERATOR(pg_catalog.=) k.account_id" locking ") AS a"
#define SELECT_ACCOUNT(locking)                                                                    \
    "SELECT $2, " NO_TID ", period_length, period_anchor, time_zone FROM %s"                       \
    " WHERE account_id OPERATOR(pg_catalog.=) $1" locking

void lock_accounts(const Datum *account_ids, Cycle *cycles, size_t count,
                   LockWaitPolicy wait_policy)
{
    static Statement wait = {"usage_accounts",
                             SELECT_ACCOUNTS(" FOR UPDATE"),
                             {UUIDARRAYOID},
                             {},
                             SELECT_ACCOUNT(" FOR UPDATE")};
    static Statement skip = {"usage_accounts",
                             SELECT_ACCOUNTS(" FOR UPDATE SKIP LOCKED"),
                             {UUIDARRAYOID},
                             {},
                             SELECT_ACCOUNT(" FOR UPDATE SKIP LOCKED")};
    Statement *lock = wait_policy == LockWaitBlock ? &wait : &skip;
    /*
     * Under REPEATABLE READ, a session that waited for the lock does not see the periods
     * that were opened in the meantime. An update tells it that its snapshot is too old.
     */
    static Statement update = {
        "usage_accounts",
        "UPDATE %s SET time_zone = time_zone WHERE ctid OPERATOR(pg_catalog.=) ANY ($1)",
        {TIDARRAYOID},
        {},
        "UPDATE %s SET time_zone = time_zone WHERE account_id OPERATOR(pg_catalog.=) $2",
        {UUIDOID}};

    Assert(count > 0);
    const Datum ids = make_array(count, UUIDOID, [&](size_t i) { return account_ids[i]; });
    lock_for_write(lock);
    const uint64 locked_count = run(lock, &ids);
    for (size_t i = 0; i < count; i++) {
        cycles[i].is_known = false;
    }
    for (uint64 row = 0; row < locked_count; row++) {
        cycles[DatumGetInt64(required_column(1, row)) - 1] = cycle_of_row(row, 3);
    }
    if (locked_count == 0) {
        return;
    }
    const Datum arguments[] = {
        make_array(locked_count, TIDOID, [](size_t row) { return required_column(2, row); }),
        name_array(
            locked_count, UUIDOID,
            [&](size_t row) { return account_ids[DatumGetInt64(required_column(1, row)) - 1]; }),
    };
    run(&update, arguments);
}

/*
 * An upsert, because a session that has waited for an erase of the account finds its row gone, and
 * must insert it again. Its update is for REPEATABLE READ, as above.
 */
void register_and_lock_accounts(const Datum *account_ids, Cycle *cycles, size_t count)
{
    static Statement statement = {
        "usage_accounts",
        "INSERT INTO %s AS a (account_id, period_anchor)"
        " SELECT k.account_id, $2 FROM pg_catalog.unnest($1) AS k (account_id)"
        " ON CONFLICT (account_id) DO UPDATE SET time_zone = a.time_zone"
        " RETURNING period_length, period_anchor, time_zone",
        {UUIDARRAYOID, TIMESTAMPTZOID},
        {},
        "INSERT INTO %s AS a (account_id, period_anchor) VALUES ($1, $2)"
        " ON CONFLICT (account_id) DO UPDATE SET time_zone = a.time_zone"
        " RETURNING period_length, period_anchor, time_zone"};
    const Datum arguments[] = {
        make_array(count, UUIDOID, [&](size_t i) { return account_ids[i]; }),
        TimestampTzGetDatum(local_calendar_anchor), /* local is UTC here */
    };
    const uint64 row_count = run(&statement, arguments);
    if (row_count != count) {
        elog(ERROR, "locked " UINT64_FORMAT " accounts instead of %zu", row_count, count);
    }
    for (size_t i = 0; i < count; i++) {
        cycles[i] = cycle_of_row(i, 1);
    }
}

void read_cycle(Datum account_id, Cycle *cycle)
{
    static Statement statement = {"usage_accounts",
                                  "SELECT period_length, period_anchor, time_zone FROM %s"
                                  " WHERE account_id OPERATOR(pg_catalog.=) $1",
                                  {UUIDOID}};
    cycle->is_known = false;
    if (run(&statement, &account_id) == 1) {
        *cycle = cycle_of_row(0, 1);
    }
}

bool cycle_is_valid(const Cycle &cycle)
{
    return core::period_length_is_valid(cycle.period_length) &&
           core::anchor_is_valid(cycle.period_anchor) && time_zone_is_known(cycle.time_zone);
}

/*
 * Computes as timestamptz + interval does in a session of the cycle's time zone: months and
 * days on the local clock, so that daylight saving does not shift the hour, and the rest in
 * elapsed time.
 */
TimestampTz cycle_boundary(const Cycle &cycle, int64 n)
{
    Interval calendar_part = {};
    calendar_part.month = static_cast<int32>(cycle.period_length.months * n);
    calendar_part.day = static_cast<int32>(cycle.period_length.days * n);

    pg_tz *zone = find_time_zone(cycle.time_zone);
    const Timestamp local = DatumGetTimestamp(DirectFunctionCall2(
        timestamp_pl_interval, TimestampGetDatum(local_time(cycle.period_anchor, zone)),
        IntervalPGetDatum(&calendar_part)));
    return time_of_local(local, zone) + cycle.period_length.time_us * n;
}

core::PeriodLength period_length_of(Datum interval)
{
    const Interval *length = DatumGetIntervalP(interval);
    return {length->month, length->day, length->time};
}

bool time_zone_is_known(Datum name)
{
    return find_time_zone(name) != nullptr;
}

TimestampTz calendar_anchor(Datum time_zone)
{
    return time_of_local(local_calendar_anchor, find_time_zone(time_zone));
}

} // namespace usage_ledger
