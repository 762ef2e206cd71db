/*
 * arguments.hpp: checks of arguments that several functions share.
 */
#pragma once

#include "pg/postgres.hpp"

#include "core/event.hpp"
#include "pg/errors.hpp"

namespace usage_ledger
{

/*
 * Raises 22004 for the first NULL among the leading arguments, of which the first is the
 * account. A null pointer among the names stands for an argument that may be NULL.
 */
void check_no_null(FunctionCallInfo fcinfo, const char *const *names, size_t count);

/*
 * The leading arguments account and key. Raises 22004 and 22023, but not for a key that may have
 * been restored: look it up, and check it afterwards.
 */
EventName key_arguments(FunctionCallInfo fcinfo);

/*
 * Checks the time of an event. The oldest one counts back from the start of the transaction,
 * the latest one counts from the clock: a transaction may report what has happened in it.
 */
core::InputError check_event_time(TimestampTz occurred_at);

/*
 * Checks the reason of a void or a credit. A retry is answered before: after a dump and restore
 * into another encoding, the reason may take more bytes.
 */
void check_reason(const EventName &name, const NullableDatum &reason);

/*
 * The argument p_scope; empty: the whole account. Raises 22023. A scope that may be that of an
 * event from a restored dump sets an error instead, which is to be raised if there is no event.
 */
std::string_view scope_argument(FunctionCallInfo fcinfo, int number, const EventName &call,
                                core::InputError *error_if_new = nullptr);

/* The argument p_max_rows. Raises 22004 and 22023. */
int32 row_count_argument(FunctionCallInfo fcinfo, int number);

/* The row type that a function with OUT arguments returns. */
TupleDesc result_type(FunctionCallInfo fcinfo);

} // namespace usage_ledger
