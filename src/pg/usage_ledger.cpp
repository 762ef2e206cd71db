/*
 * usage_ledger.cpp: what the server calls when it loads the library.
 */
#include "pg/postgres.hpp"

#include "pg/holds.hpp"
#include "pg/period_cache.hpp"
#include "pg/settings.hpp"
#include "pg/shared_memory.hpp"
#include "pg/statements.hpp"
#include "pg/worker.hpp"

extern "C" {

PG_MODULE_MAGIC;

void _PG_init(void);

void _PG_init(void)
{
    usage_ledger::define_settings();
    usage_ledger::watch_transactions();
    usage_ledger::watch_holds();
    usage_ledger::watch_period_cache();
    if (process_shared_preload_libraries_in_progress) {
        usage_ledger::request_shared_memory();
        usage_ledger::register_launcher();
    }
}
}
