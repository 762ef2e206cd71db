/*
 * referenced_events.hpp: deleting events, where foreign keys of other tables may refer to some.
 */
#pragma once

#include "pg/postgres.hpp"

#include "core/counter.hpp"

namespace usage_ledger
{

/* Events that were left, because a foreign key refers to them. */
struct ReferencedEvents {
    int64 count;
    const char *names; /* of the first few, a line each */
};

/*
 * Whether foreign keys, or triggers, may keep events from being deleted. If so, keeps others from
 * being created, and has deferred ones checked immediately, until the end of the transaction.
 */
bool foreign_keys_refer_to_events();

/*
 * Deletes events of a locked period to which no foreign key refers, and adds the others to those
 * that were left. Returns how many it has deleted, at most row_count_max.
 *
 * REQUIRES: foreign_keys_refer_to_events() has been called.
 */
int64 delete_unreferenced_events(const core::CounterId &period, int64 row_count_max,
                                 ReferencedEvents *referenced);

void warn_of_referenced_events(const ReferencedEvents &referenced);

} // namespace usage_ledger
