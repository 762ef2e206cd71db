/*
 * settings.hpp: the usage_ledger.* settings.
 */
#pragma once

#include <cstdint>

#include "core/schedule.hpp"

namespace usage_ledger
{

enum UnknownAccount : int { unknown_account_register, unknown_account_reject };

enum SettlementMode : int { settlement_immediate, settlement_adaptive, settlement_deferred };

extern int unknown_account;
extern int settlement_mode;
extern int max_breakdowns;

/* What an account may use in a period if nothing else is set. Negative: as much as it likes. */
extern int64_t default_token_limit;

/* The background worker's. */
extern char *settle_databases;
extern int settle_row_count;
core::Pace settle_pace();

/* usage_ledger.max_event_age, in microseconds. */
int64_t event_age_max_us();

void define_settings();

} // namespace usage_ledger
