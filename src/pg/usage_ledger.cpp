/*
 * usage_ledger.cpp: the function that the server calls when it loads the library.
 */
#include "pg/postgres.hpp"

#include "pg/locks.hpp"
#include "pg/period_cache.hpp"
#include "pg/settings.hpp"
#include "pg/spi.hpp"
#include "pg/stats.hpp"
#include "pg/worker.hpp"

extern "C" {

PG_MODULE_MAGIC;

void _PG_init(void);

void _PG_init(void)
{
    usage_ledger::define_settings();
    usage_ledger::register_statement_callbacks();
    usage_ledger::register_lock_callbacks();
    usage_ledger::register_period_cache_callbacks();
    if (process_shared_preload_libraries_in_progress) {
        usage_ledger::request_shared_memory();
        usage_ledger::register_launcher();
    }
}
}
