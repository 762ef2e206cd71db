/*
 * subscriber.hpp: databases whose usage is fed by a subscription.
 *
 * There the publisher settles, and its rows replace those here. A counter that pending rows
 * were folded into here would lose them with the next row from the publisher, and no pending
 * row would be left to fold again.
 */
#pragma once

#include "pg/postgres.hpp"

namespace usage_ledger
{

/* A subscription that feeds a table, or null names. */
struct Feed {
    const char *subscription;
    const char *table;
};

/*
 * Finds a subscription, enabled or not, that feeds a table of usage. Accounts are not usage: a
 * ledger whose accounts come from elsewhere counts and settles by itself.
 */
Feed find_feed();

/* Raises 55000 if there is one. To be called before pending rows are folded. */
void check_not_fed();

} // namespace usage_ledger
