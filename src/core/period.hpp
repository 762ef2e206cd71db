/*
 * period.hpp: which billing period a time falls in.
 *
 * Period n of a cycle runs from boundary(n) to boundary(n + 1). Each boundary is computed
 * from the anchor and never from another boundary, so a cycle anchored on 31 January
 * returns to the 31st after every shorter month. Boundaries depend on time zones, so the
 * caller supplies the function that computes them.
 */
#pragma once

#include <cstdint>

namespace usage_ledger::core
{

struct PeriodLength {
    int32_t months;
    int32_t days;
    int64_t time_us;
};

/* A half-open span of time, [start, end). */
struct Span {
    int64_t start;
    int64_t end;
};

/* What is known of the period that covers a time. */
enum class PeriodState { missing, open, closed, pruned, unknown_account, no_cycle };

/* In whole milliseconds, no field negative, and within the limits if months are average. */
bool period_length_is_valid(const PeriodLength &length);

/*
 * Bounds of periods have no part of a millisecond, because clients such as JavaScript's Date
 * keep none, and must find the period by the bound that they were given.
 */
bool is_whole_milliseconds(int64_t time);
int64_t truncate_to_millisecond(int64_t time);
int64_t millisecond_after(int64_t time);

/* Finite, and far enough from the ends of the range to compute boundaries from it. */
bool anchor_is_valid(int64_t anchor);

/* The number of the period that covers time, if every month had its average length. */
int64_t estimate_period(int64_t time, int64_t anchor, const PeriodLength &length);

/*
 * Finds the period that covers time, starting from an estimate of its number. Boundaries
 * never decrease, but two may coincide: a day that a time zone skipped is an empty period.
 */
template <typename Boundary> Span period_covering(int64_t time, int64_t estimate, Boundary boundary)
{
    int64_t n = estimate;
    int64_t start = boundary(n);

    while (start > time) {
        start = boundary(--n);
    }

    int64_t end = boundary(++n);
    while (end <= time) {
        start = end;
        end = boundary(++n);
    }
    return {start, end};
}

/* The part of a span that lies within a gap between existing periods. */
Span clip(const Span &span, const Span &gap);

} // namespace usage_ledger::core
