#include "pg/postgres.hpp"

#include "pg/shared_memory.hpp"

#include "pg/stats.hpp"

namespace usage_ledger
{

Shared *shared;

namespace
{

shmem_request_hook_type previous_shmem_request_hook;
shmem_startup_hook_type previous_shmem_startup_hook;

void request()
{
    if (previous_shmem_request_hook != nullptr) {
        previous_shmem_request_hook();
    }
    RequestAddinShmemSpace(sizeof(Shared));
}

void attach()
{
    if (previous_shmem_startup_hook != nullptr) {
        previous_shmem_startup_hook();
    }
    bool is_found;
    LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
    shared = static_cast<Shared *>(ShmemInitStruct("usage_ledger", sizeof(Shared), &is_found));
    if (!is_found) {
        memset(shared, 0, sizeof(Shared));
        pg_atomic_init_u64(&shared->queued_row_count, 0);
        init_stats();
    }
    LWLockRelease(AddinShmemInitLock);
}

} // namespace

void request_shared_memory()
{
    previous_shmem_request_hook = shmem_request_hook;
    shmem_request_hook = request;
    previous_shmem_startup_hook = shmem_startup_hook;
    shmem_startup_hook = attach;
}

} // namespace usage_ledger
