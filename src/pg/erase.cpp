/*
 * erase.cpp: erase_usage, which deletes all rows of an account.
 *
 * It locks the limit, so that no session reserves, and the account, so that no session opens a
 * period of it. Then it locks each period as a close does, so that no session has recorded usage
 * of it and not ended yet. Calls that have found a period before, and come to its counter only
 * afterwards, find no counter and fail with 40001.
 */
#include "pg/postgres.hpp"

#include "pg/accounts.hpp"
#include "pg/arguments.hpp"
#include "pg/counters.hpp"
#include "pg/limits.hpp"
#include "pg/locks.hpp"
#include "pg/pending.hpp"
#include "pg/period_cache.hpp"
#include "pg/spi.hpp"

namespace usage_ledger
{

namespace
{

#define WHERE_ACCOUNT " WHERE account_id OPERATOR(pg_catalog.=) $1"

struct Counters {
    core::CounterId *ids;
    size_t count;
};

Counters counters_of_account(Datum account_id)
{
    static Statement statement = {"usage_periods",
                                  "SELECT period_start FROM %s" WHERE_ACCOUNT
                                  " ORDER BY period_start",
                                  {UUIDOID}};
    lock_for_write(&statement);
    const uint64 count = run(&statement, &account_id);
    const Counters counters = {
        static_cast<core::CounterId *>(palloc(count * sizeof(core::CounterId))), count};
    for (uint64 row = 0; row < count; row++) {
        counters.ids[row] = counter_id(account_id, DatumGetTimestampTz(required_column(1, row)));
    }
    return counters;
}

void lock_to_delete(const Counters &counters)
{
    for (size_t i = 0; i < counters.count; i++) {
        wait_for_holders(counters.ids[i]);
    }
    for (size_t i = 0; i < counters.count; i++) {
        CounterState state;
        (void)lock_counter_to_close(counters.ids[i], &state);
    }
}

/* Deletes the rows of a locked account, and returns the number of its events. */
int64 delete_rows(Datum account_id)
{
    static Statement holds = {"usage_holds", "DELETE FROM %s" WHERE_ACCOUNT, {UUIDOID}};
    static Statement limits = {"usage_limits", "DELETE FROM %s" WHERE_ACCOUNT, {UUIDOID}};
    static Statement pending = {"usage_pending", "DELETE FROM %s" WHERE_ACCOUNT, {UUIDOID}};
    static Statement events = {"usage_events", "DELETE FROM %s" WHERE_ACCOUNT, {UUIDOID}};
    static Statement breakdown = {"usage_breakdown", "DELETE FROM %s" WHERE_ACCOUNT, {UUIDOID}};
    static Statement periods = {"usage_periods", "DELETE FROM %s" WHERE_ACCOUNT, {UUIDOID}};
    static Statement account = {"usage_accounts", "DELETE FROM %s" WHERE_ACCOUNT, {UUIDOID}};
    run(&holds, &account_id);
    run(&limits, &account_id);
    run(&pending, &account_id);
    const uint64 event_count = run(&events, &account_id);
    run(&breakdown, &account_id);
    run(&periods, &account_id);
    run(&account, &account_id);
    return static_cast<int64>(event_count);
}

int64 erase(Datum account_id)
{
    /* An unknown account too has rows to lock, so that it has none when this commits. */
    do {
        CHECK_FOR_INTERRUPTS();
        create_limit(account_id, 0);
    } while (!lock_limit(account_id)); /* another erase has deleted it in between */
    Cycle cycle;
    register_and_lock_accounts(&account_id, &cycle, 1);
    const Counters counters = counters_of_account(account_id);
    lock_to_delete(counters);
    const int64 event_count = delete_rows(account_id);
    for (size_t i = 0; i < counters.count; i++) {
        check_none_is_newer(counters.ids[i]);
    }
    clear_all_period_caches();
    return event_count;
}

} // namespace

} // namespace usage_ledger

extern "C" {

PG_FUNCTION_INFO_V1(usage_ledger_erase_usage);

Datum usage_ledger_erase_usage(PG_FUNCTION_ARGS)
{
    using namespace usage_ledger;

    static const char *const names[] = {"account"};
    check_no_null(fcinfo, names, lengthof(names));

    SPI_connect();
    const int64 event_count = erase(PG_GETARG_DATUM(0));
    SPI_finish();

    PG_RETURN_INT64(event_count);
}
}
