#include "core/period.hpp"

#include <algorithm>
#include <cassert>

#include "core/limits.hpp"

namespace usage_ledger::core
{

namespace
{

/* The Gregorian calendar's average month: 146,097 days in 4,800 months. */
constexpr int64_t month_average_us = microseconds_per_day * 146097 / 4800;

int64_t average_length_us(const PeriodLength &length)
{
    return length.months * month_average_us + length.days * microseconds_per_day + length.time_us;
}

} // namespace

bool period_length_is_valid(const PeriodLength &length)
{
    /* Each field is within the limit, so their sum cannot overflow. */
    if (length.months < 0 || length.months > period_length_max_us / month_average_us ||
        length.days < 0 || length.days > period_length_max_us / microseconds_per_day ||
        length.time_us < 0 || length.time_us > period_length_max_us ||
        !is_whole_milliseconds(length.time_us)) {
        return false;
    }
    int64_t average_us = average_length_us(length);
    return average_us >= period_length_min_us && average_us <= period_length_max_us;
}

bool is_whole_milliseconds(int64_t time)
{
    return time % microseconds_per_millisecond == 0;
}

int64_t truncate_to_millisecond(int64_t time)
{
    const int64_t part = time % microseconds_per_millisecond;
    return time - part - (part < 0 ? microseconds_per_millisecond : 0);
}

int64_t millisecond_after(int64_t time)
{
    return truncate_to_millisecond(time) + microseconds_per_millisecond;
}

bool anchor_is_valid(int64_t anchor)
{
    return anchor >= anchor_min_us && anchor <= anchor_max_us;
}

int64_t estimate_period(int64_t time, int64_t anchor, const PeriodLength &length)
{
    assert(period_length_is_valid(length));
    return (time - anchor) / average_length_us(length);
}

Span clip(const Span &span, const Span &gap)
{
    return {std::max(span.start, gap.start), std::min(span.end, gap.end)};
}

} // namespace usage_ledger::core
