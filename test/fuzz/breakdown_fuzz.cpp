/*
 * A breakdown is accepted exactly when every part is within its limits. As text it is read back
 * as it was written, and no other text does harm. Sums fit or leave the totals as they were.
 */
#include "core/breakdown.hpp"

#include <cstdint>
#include <string>

#include <fuzzer/FuzzedDataProvider.h>

#include "core/event.hpp"
#include "core/limits.hpp"
#include "expect.hpp"

using namespace usage_ledger::core;

namespace
{

Amounts any_amounts(FuzzedDataProvider &input)
{
    Amounts amounts;
    for (int64_t &amount : amounts.values) {
        amount = input.ConsumeBool() ? input.ConsumeIntegral<int64_t>()
                                     : input.ConsumeIntegralInRange<int64_t>(-1, 300000000000);
    }
    return amounts;
}

bool is_name(const std::string &name)
{
    for (const char c : name) {
        if ((c >= 0 && c < 0x20) || c == 0x7f) {
            return false;
        }
    }
    return name.size() <= 255;
}

bool is_path(const std::string &path)
{
    std::string part;
    for (const char c : path + "/") {
        if (c == '/' && part.empty()) {
            return path.empty();
        }
        part = c == '/' ? "" : part + c;
    }
    return true;
}

void check_by_the_limits(const Breakdown &breakdown, const std::string &scope,
                         const std::string &model)
{
    int128 tokens = 0;
    bool is_good = true;
    for (size_t i = 0; i < kind_count; i++) {
        is_good = is_good && breakdown.amounts.values[i] >= 0;
        tokens += breakdown.amounts.values[i];
    }
    const int128 cost = breakdown.amounts.values[cost_index];
    is_good = is_good && tokens <= 1000000000000 && cost >= -event_cost_max &&
              cost <= event_cost_max && is_name(scope) && is_path(scope) && is_name(model) &&
              model != "_other";
    EXPECT((check_breakdown(breakdown) == InputError::none) == is_good);
    EXPECT(!is_good || tokens_of(breakdown.amounts) == tokens);
    EXPECT(check_breakdown(breakdown) != InputError::none ||
           is_path(std::string(other_of(breakdown.pair).scope)));
}

void check_text(const Breakdown &breakdown)
{
    char buffer[breakdown_text_max], again[breakdown_text_max];
    Breakdown read;
    const std::string_view text(buffer, write_breakdown(breakdown, buffer));
    EXPECT(read_breakdown(text, &read) && read == breakdown);
    EXPECT(std::string_view(again, write_breakdown(read, again)) == text);
}

void check_sums(const Amounts &a, const Amounts &b)
{
    Amounts totals = a;
    WideAmounts sum = sum_of(b);
    if (!add(&totals, sum)) {
        EXPECT(totals == a);
        return;
    }
    for (size_t i = 0; i < amount_count; i++) {
        EXPECT(int128(a.values[i]) + b.values[i] == totals.values[i]);
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FuzzedDataProvider input(data, size);
    const Amounts amounts = any_amounts(input), more = any_amounts(input);
    const std::string scope = input.ConsumeRandomLengthString(300),
                      model = input.ConsumeBool() ? "_other" : input.ConsumeRandomLengthString(300);
    const Breakdown breakdown = {{scope, model}, amounts};
    check_by_the_limits(breakdown, scope, model);
    if (is_name(scope) && is_name(model)) {
        check_text(breakdown);
    }
    check_sums(amounts, more);

    const std::string text = input.ConsumeRemainingBytesAsString();
    Breakdown read;
    if (read_breakdown(text, &read)) {
        check_text(read);
    }
    return 0;
}
