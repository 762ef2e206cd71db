/*
 * spend.cpp: spend_usage, which counts an event if the limit of its account has room for it.
 *
 * It needs no hold: from the decision to the end of the transaction it has the lock of the limit,
 * and afterwards the event is counted.
 */
#include "pg/postgres.hpp"

#include "pg/arguments.hpp"
#include "pg/breakdowns.hpp"
#include "pg/increment.hpp"
#include "pg/limits.hpp"
#include "pg/settlement.hpp"
#include "pg/spi.hpp"
#include "pg/stats.hpp"

namespace usage_ledger
{

namespace
{

struct Spending {
    bool is_refused;
    Answer counted; /* unless it is refused */
    NullableDatum tokens_remaining;
    std::string_view refused_by;
};

/* Whether the limit is why an event is refused, or else counting it says why. */
bool is_refused_by_limit(const Event &event, const Standing &standing)
{
    if (!standing.has_period) {
        check_can_open(name_of(event), event.occurred_at);
    }
    return !(standing.has_period && standing.period.is_closed);
}

Spending spend(const Event &event, core::InputError key_error)
{
    Spending spending = {false, {}, {0, true}, {}};
    if (key_error == core::InputError::none &&
        check_event_time(event.occurred_at) == core::InputError::none) {
        const core::Breakdown *breakdown = event.payload.breakdown;
        const Claim claim = {event.account_id,
                             event.idempotency_key,
                             breakdown != nullptr ? breakdown->pair.scope : std::string_view(),
                             event.payload.tokens,
                             event.occurred_at,
                             0};
        Standing standing;
        const Room room = take_room(claim, Use::count, &standing);
        if (room == Room::taken || room == Room::refused) {
            spending.tokens_remaining = {Int64GetDatum(standing.tokens_remaining), false};
            spending.is_refused = room == Room::refused && is_refused_by_limit(event, standing);
            spending.refused_by = standing.refused_by;
        }
    }
    if (!spending.is_refused) {
        spending.counted = count_event(event, key_error, add_usage);
    }
    return spending;
}

Spending spend_with_arguments(FunctionCallInfo fcinfo)
{
    core::InputError key_error;
    Event event = event_of_arguments(fcinfo, &key_error);
    core::Breakdown breakdown = {};
    breakdown.pair.scope = scope_argument(fcinfo, 6, name_of(event), &key_error);
    if (!breakdown.pair.scope.empty()) {
        breakdown.amounts.values[core::input_index] = event.payload.tokens;
        breakdown.amounts.values[core::events_index] = 1;
        event.payload.breakdown = &breakdown;
    }

    SPI_connect();
    const Spending spending = spend(event, key_error);
    SPI_finish();
    return spending;
}

} // namespace

} // namespace usage_ledger

extern "C" {

PG_FUNCTION_INFO_V1(usage_ledger_spend_usage);

Datum usage_ledger_spend_usage(PG_FUNCTION_ARGS)
{
    using namespace usage_ledger;

    Spending spending;
    run_counting_refusals([&] { spending = spend_with_arguments(fcinfo); });
    const Answer &counted = spending.counted;
    const bool is_refused = spending.is_refused;
    if (is_refused) {
        count_stat(Stat::limit_reached);
    } else {
        count_outcome(counted.outcome);
    }
    const Datum values[] = {
        CStringGetTextDatum(is_refused ? "limit_reached" : core::name_of(counted.outcome)),
        Int64GetDatum(counted.tokens_used),
        TimestampTzGetDatum(counted.period_start),
        TimestampTzGetDatum(counted.period_end),
        spending.tokens_remaining.value,
        text_datum(spending.refused_by)};
    const bool nulls[] = {false,
                          is_refused || counted.outcome == core::Outcome::queued ||
                              counted.is_counter_missing,
                          is_refused,
                          is_refused || counted.is_counter_missing,
                          spending.tokens_remaining.isnull,
                          !is_refused};
    PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(
        result_type(fcinfo), const_cast<Datum *>(values), const_cast<bool *>(nulls))));
}
}
