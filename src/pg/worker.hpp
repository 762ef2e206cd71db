/*
 * worker.hpp: the background worker that settles pending rows, when the library is in
 * shared_preload_libraries: a launcher, and the settlers that it starts.
 */
#pragma once

#include "pg/postgres.hpp"

namespace usage_ledger
{

/* Registers the launcher; for _PG_init, while preloading. */
void register_launcher();

/* Tells the launcher, once the transaction has committed, that rows are pending. */
void note_queued_rows(uint64 row_count);

/* A background worker that enters a function of this library. */
BackgroundWorker make_worker(const char *type, const char *function);

} // namespace usage_ledger
