/*
 * Takes arbitrary cycles, valid or not, on a toy calendar whose months differ in length
 * and whose clock jumps. For the valid ones, period_covering returns a period that covers
 * the time, whatever the estimate. Clipping that period to the gap around the time leaves
 * a span that lies within both and still covers the time.
 */
#include "core/period.hpp"

#include <cstdint>

#include <fuzzer/FuzzedDataProvider.h>

#include "core/limits.hpp"
#include "expect.hpp"

using namespace usage_ledger::core;

namespace
{

__extension__ typedef __int128 Wide; /* wide enough for the sums here */

/* The server's timestamps, in microseconds from 2000: 4714 BC to AD 294276. */
constexpr int64_t timestamp_min = -211813488000000000;
constexpr int64_t timestamp_max = 9223371331199999999;

/* Times that an event may have, with max_event_age and a clock between 1970 and 3000. */
constexpr int64_t event_time_min = -98 * 366 * microseconds_per_day;
constexpr int64_t event_time_max = 1000 * 366 * microseconds_per_day;

PeriodLength any_length(FuzzedDataProvider &input)
{
    if (input.ConsumeBool()) {
        return {input.ConsumeIntegral<int32_t>(), input.ConsumeIntegral<int32_t>(),
                input.ConsumeIntegral<int64_t>()};
    }
    return {input.ConsumeIntegralInRange<int32_t>(0, 30),
            input.ConsumeIntegralInRange<int32_t>(0, 400),
            input.ConsumeIntegralInRange<int64_t>(0, 2 * microseconds_per_day)};
}

/* Months of 28 to 31 days, in a fixed pattern of 365 days in 12 months. */
int64_t toy_months_us(int64_t months)
{
    static constexpr int64_t days_before[] = {0,   31,  59,  90,  120, 151,
                                              181, 212, 243, 273, 304, 334};
    const int64_t year = months >= 0 ? months / 12 : (months - 11) / 12;
    return (year * 365 + days_before[months - year * 12]) * microseconds_per_day;
}

struct ToyCycle {
    PeriodLength length;
    int64_t local_anchor;
    int64_t jump_at; /* when the clock is put forward by a day or an hour */
    int64_t jump_us;

    /* Like cycle_boundary: months and days follow the local clock, the rest is elapsed time. */
    int64_t boundary(int64_t n) const
    {
        const int64_t local = local_anchor + toy_months_us(length.months * n) +
                              length.days * n * microseconds_per_day;
        const int64_t calendar_part = local < jump_at             ? local
                                      : local < jump_at + jump_us ? jump_at
                                                                  : local - jump_us;
        return calendar_part + length.time_us * n;
    }

    int64_t anchor() const
    {
        return boundary(0);
    }
};

void check_estimate(const PeriodLength &length, int64_t anchor, int64_t time)
{
    const Wide average_us = Wide(length.months) * microseconds_per_day * 146097 / 4800 +
                            Wide(length.days) * microseconds_per_day + length.time_us;
    const Wide distance_us =
        Wide(time) - anchor - estimate_period(time, anchor, length) * average_us;
    EXPECT(distance_us > -2 * average_us && distance_us < 2 * average_us);
}

void check_covering(const ToyCycle &cycle, int64_t time, int64_t estimate)
{
    int64_t call_count = 0;
    const Span span = period_covering(time, estimate, [&](int64_t n) {
        EXPECT(call_count++ < 10000);
        return cycle.boundary(n);
    });
    EXPECT(span.start <= time && time < span.end);

    const Span same =
        period_covering(time, estimate + 3, [&](int64_t n) { return cycle.boundary(n); });
    EXPECT(same.start == span.start && same.end == span.end);

    /* The next period begins where this one ends. */
    const Span next =
        period_covering(span.end, estimate, [&](int64_t n) { return cycle.boundary(n); });
    EXPECT(next.start == span.end && next.end > next.start);
}

void check_clipping(FuzzedDataProvider &input, const Span &span, int64_t time)
{
    /* A gap contains the time that the period is for, and may be unbounded on either side. */
    const Span gap = {
        input.ConsumeBool() ? INT64_MIN : input.ConsumeIntegralInRange(timestamp_min, time),
        input.ConsumeBool() ? INT64_MAX : input.ConsumeIntegralInRange(time + 1, timestamp_max)};
    const Span clipped = clip(span, gap);
    EXPECT(clipped.start >= span.start && clipped.end <= span.end);
    EXPECT(clipped.start >= gap.start && clipped.end <= gap.end);
    EXPECT(clipped.start <= time && time < clipped.end);
    EXPECT(clipped.start == span.start || clipped.start == gap.start);
    EXPECT(clipped.end == span.end || clipped.end == gap.end);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FuzzedDataProvider input(data, size);
    const PeriodLength length = any_length(input);
    if (!period_length_is_valid(length)) {
        return 0;
    }
    EXPECT(length.months >= 0 && length.days >= 0 && length.time_us >= 0);
    EXPECT(length.months > 0 || length.days > 0 || length.time_us >= period_length_min_us);
    const auto anchor = input.ConsumeIntegral<int64_t>();
    EXPECT(anchor_is_valid(anchor) == (anchor >= anchor_min_us && anchor <= anchor_max_us));

    const int64_t time = input.ConsumeIntegralInRange(event_time_min, event_time_max);
    check_estimate(length, input.ConsumeIntegralInRange(anchor_min_us, anchor_max_us), time);

    /*
     * The toy calendar has no leap years, so it drifts away from the estimate. An anchor
     * near the time keeps the drift small.
     */
    const int64_t near = 50 * 365 * microseconds_per_day;
    ToyCycle cycle = {length, input.ConsumeIntegralInRange(time - near, time + near), 0, 0};
    if (input.ConsumeBool()) {
        cycle.jump_at = input.ConsumeIntegralInRange(time - near, time + near);
        cycle.jump_us = input.ConsumeBool() ? microseconds_per_day : microseconds_per_day / 24;
    } else {
        cycle.jump_at = timestamp_max;
    }
    const int64_t estimate = estimate_period(time, cycle.anchor(), length);
    check_covering(cycle, time, estimate);
    check_clipping(
        input, period_covering(time, estimate, [&](int64_t n) { return cycle.boundary(n); }), time);
    return 0;
}
