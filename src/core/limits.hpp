/*
 * limits.hpp: every limit on what a caller may pass.
 */
#pragma once

#include <cstdint>

namespace usage_ledger::core
{

constexpr int64_t microseconds_per_millisecond = 1000;
constexpr int64_t microseconds_per_second = 1000000;
constexpr int64_t microseconds_per_day = 86400 * microseconds_per_second;

/* An idempotency key, in bytes. */
constexpr int64_t key_length_max = 255;

/* A model or a scope, in bytes. */
constexpr int64_t name_length_max = 255;

/*
 * One of that length after a dump and restore: a character that takes one byte in the
 * encoding of one database takes up to three in UTF8.
 */
constexpr int64_t restored_length_max = 3 * key_length_max;
static_assert(name_length_max == key_length_max, "the same holds for names");

/* Tokens in one event: more than any real request; 9 million such events fit a counter. */
constexpr int64_t event_tokens_max = 1000000000000;

/* What one event cost, or gave back, in 10^-9 of a currency unit: a billion units. */
constexpr int64_t event_cost_max = 1000000000000000000;

/* Pairs of scope and model in one period: they are counted when a pair is new to it. */
constexpr int32_t breakdowns_max = 1000000;

/* How long a hold lives, unless its key is counted first. */
constexpr int64_t hold_length_max_us = microseconds_per_day;

/* Dead holds that are deleted by one statement. */
constexpr int32_t dead_holds_max = 1000;

/* Items in one batch. */
constexpr int64_t batch_items_max = 1000000;
static_assert(event_tokens_max <= INT64_MAX / batch_items_max && batch_items_max <= INT32_MAX,
              "the usage of a batch fits a counter and a row of usage_pending");

/* Rows that one call of settle_usage or prune_usage_events processes. */
constexpr int32_t call_rows_max = 10000000;

/* Databases that the background worker serves: each has its place in shared memory. */
constexpr int32_t settle_databases_max = 256;

/* The reason of a void or a credit, in bytes. */
constexpr int64_t void_reason_length_max = 1000;

/* How far a caller's clock may be ahead of the server's. */
constexpr int64_t clock_skew_max_us = 300 * microseconds_per_second;

/* Opening totals: reports and chats are integers in usage_events. */
constexpr int64_t opening_count_max = INT32_MAX;

/* Where a cycle may be anchored, from 1 January of year 1 until the end of year 9999. */
constexpr int64_t anchor_min_us = -730119 * microseconds_per_day; /* since 1 January 2000 */
constexpr int64_t anchor_max_us = 2921940 * microseconds_per_day - 1;

/* One period of a cycle, a month taken as its average length. */
constexpr int64_t period_length_min_us = microseconds_per_second;
constexpr int64_t period_length_max_us = 36525 * microseconds_per_day;

} // namespace usage_ledger::core
