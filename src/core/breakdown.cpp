#include "core/breakdown.hpp"

#include <algorithm>
#include <cassert>
#include <charconv>
#include <system_error>

namespace usage_ledger::core
{

const char *const amount_names[amount_count] = {"input",     "cache_read", "cache_write", "output",
                                                "reasoning", "cost_nanos", "events"};

bool operator==(const Amounts &a, const Amounts &b)
{
    return std::equal(a.values, a.values + amount_count, b.values);
}

Amounts operator-(const Amounts &amounts)
{
    Amounts negated;
    for (size_t i = 0; i < amount_count; i++) {
        negated.values[i] = -amounts.values[i];
    }
    return negated;
}

WideAmounts sum_of(const Amounts &amounts)
{
    WideAmounts sum = {};
    add(&sum, amounts);
    return sum;
}

void add(WideAmounts *sum, const Amounts &amounts)
{
    for (size_t i = 0; i < amount_count; i++) {
        sum->values[i] += amounts.values[i];
    }
}

bool add(Amounts *totals, const WideAmounts &sum)
{
    Amounts result;
    for (size_t i = 0; i < amount_count; i++) {
        if (__builtin_add_overflow(totals->values[i], sum.values[i], &result.values[i])) {
            return false;
        }
    }
    *totals = result;
    return true;
}

Pair other_of(const Pair &pair)
{
    return {pair.scope.substr(0, pair.scope.find('/')), other_model};
}

size_t write_breakdown(const Breakdown &breakdown, char *buffer)
{
    char *const end = buffer + breakdown_text_max;
    char *next = buffer;
    for (const std::string_view name : {breakdown.pair.scope, breakdown.pair.model}) {
        assert(name.size() <= static_cast<size_t>(restored_length_max));
        next = std::copy(name.begin(), name.end(), next);
        *next++ = '\t';
    }
    for (const int64_t amount : breakdown.amounts.values) {
        next = std::to_chars(next, end, amount).ptr;
        *next++ = '\t';
    }
    return static_cast<size_t>(next - buffer) - 1;
}

bool read_breakdown(std::string_view text, Breakdown *breakdown)
{
    for (std::string_view *name : {&breakdown->pair.scope, &breakdown->pair.model}) {
        const size_t length = text.find('\t');
        if (length == std::string_view::npos || length > size_t{restored_length_max}) {
            return false;
        }
        *name = text.substr(0, length);
        text.remove_prefix(length + 1);
    }
    const char *next = text.data(), *const end = next + text.size();
    for (size_t i = 0; i < amount_count; i++) {
        const auto [ptr, error] = std::from_chars(next, end, breakdown->amounts.values[i]);
        const bool is_last = i + 1 == amount_count;
        if (error != std::errc() || (is_last ? ptr != end : ptr == end || *ptr != '\t')) {
            return false;
        }
        next = ptr + (is_last ? 0 : 1);
    }
    return true;
}

int64_t tokens_of(const Amounts &amounts)
{
    int64_t tokens = 0;
    for (size_t i = 0; i < kind_count; i++) {
        assert(amounts.values[i] >= 0);
        tokens += amounts.values[i];
    }
    return tokens;
}

} // namespace usage_ledger::core
