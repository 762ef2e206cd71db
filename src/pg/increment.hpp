/*
 * increment.hpp: the arguments of increment_usage, some of which other functions have too.
 */
#pragma once

#include "pg/postgres.hpp"

#include "pg/counting.hpp"

namespace usage_ledger
{

/*
 * The arguments account, tokens and key. Raises if one is outside its limits, unless only a
 * lookup of the key can tell.
 */
EventName check_leading_arguments(FunctionCallInfo fcinfo, core::InputError *key_error);

/* All arguments, checked in this way. */
Event event_of_arguments(FunctionCallInfo fcinfo, core::InputError *key_error);

} // namespace usage_ledger
