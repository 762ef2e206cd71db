#include "core/breakdown.hpp"

#include <cstdint>
#include <string>

#include <gtest/gtest.h>

#include "core/event.hpp"
#include "core/limits.hpp"

namespace usage_ledger::core
{
namespace
{

Breakdown named(std::string_view scope, std::string_view model)
{
    return {{scope, model}, {{1, 2, 3, 4, 5, 6, 1}}};
}

InputError check(std::string_view scope, std::string_view model)
{
    return check_breakdown(named(scope, model));
}

InputError check_amount(size_t amount, int64_t value)
{
    Breakdown breakdown = {};
    breakdown.amounts.values[amount] = value;
    return check_breakdown(breakdown);
}

TEST(CheckBreakdown, KeepsNamesAsTheyAreGiven)
{
    for (const char *name : {"", "gpt-5", "GPT-5", " ", "a b", "\xc3\xa9", "\xff", "_Other",
                             "_other_", "'", "\"", "%", "\\"}) {
        EXPECT_EQ(check("", name), InputError::none) << name;
        EXPECT_EQ(check(name, ""), InputError::none) << name;
        EXPECT_EQ(check(std::string("team/") + name + "x", ""), InputError::none) << name;
    }
    EXPECT_EQ(check("_other", "team/model"), InputError::none);
}

TEST(CheckBreakdown, RefusesControlCharacters)
{
    for (int c = 0; c < 256; c++) {
        const std::string name = {'a', static_cast<char>(c), 'b'};
        const bool is_control = c < 0x20 || c == 0x7f;
        EXPECT_EQ(check("", name) == InputError::model_malformed, is_control) << c;
        EXPECT_EQ(check(name, "") == InputError::scope_malformed, is_control) << c;
    }
}

TEST(CheckBreakdown, RefusesEmptyPartsOfAScope)
{
    for (const char *scope : {"/", "//", "/a", "a/", "a//b", "/a/b", "a/b/"}) {
        EXPECT_EQ(check(scope, ""), InputError::scope_malformed) << scope;
        EXPECT_EQ(check("", scope), InputError::none) << scope;
    }
}

TEST(CheckBreakdown, RefusesTheModelOfPairsWithoutAPlace)
{
    EXPECT_EQ(check("", other_model), InputError::model_reserved);
}

TEST(CheckBreakdown, LimitsTheLengthOfNamesAndLooksAtItLast)
{
    const std::string longest(255, 'x'), too_long(256, 'x');
    EXPECT_EQ(check(longest, longest), InputError::none);
    EXPECT_EQ(check("", too_long), InputError::name_too_long);
    EXPECT_EQ(check(too_long, ""), InputError::name_too_long);
    EXPECT_EQ(check("/", too_long), InputError::scope_malformed);

    /* It may have been shorter in another encoding. */
    const Breakdown restored = named(std::string_view(too_long), "");
    const Payload payload = {{15, 0, 0}, &restored};
    EXPECT_EQ(longest_name(payload), 256);
    EXPECT_EQ(longest_name({{15, 0, 0}}), 0);
    EXPECT_TRUE(may_be_restored(InputError::name_too_long, 765));
    EXPECT_FALSE(may_be_restored(InputError::name_too_long, 766));
    EXPECT_FALSE(may_be_restored(InputError::scope_malformed, 256));
}

TEST(CheckBreakdown, LimitsEachKindAndTheirSum)
{
    for (size_t kind = 0; kind < kind_count; kind++) {
        EXPECT_EQ(check_amount(kind, 0), InputError::none);
        EXPECT_EQ(check_amount(kind, 1000000000000), InputError::none);
        EXPECT_EQ(check_amount(kind, 1000000000001), InputError::tokens_too_many);
        EXPECT_EQ(check_amount(kind, INT64_MAX), InputError::tokens_too_many);
        EXPECT_EQ(check_amount(kind, -1), InputError::tokens_negative);
        EXPECT_EQ(check_amount(kind, INT64_MIN), InputError::tokens_negative);
    }
    EXPECT_EQ(check_breakdown({{}, {{500000000000, 500000000000, 0, 0, 0, 0, 1}}}),
              InputError::none);
    EXPECT_EQ(check_breakdown({{}, {{500000000000, 500000000000, 0, 0, 1, 0, 1}}}),
              InputError::tokens_too_many);
}

TEST(CheckBreakdown, LimitsTheCostOnBothSides)
{
    EXPECT_EQ(check_amount(cost_index, 1000000000000000000), InputError::none);
    EXPECT_EQ(check_amount(cost_index, -1000000000000000000), InputError::none);
    EXPECT_EQ(check_amount(cost_index, 1000000000000000001), InputError::cost_too_large);
    EXPECT_EQ(check_amount(cost_index, INT64_MIN), InputError::cost_too_large);
}

TEST(Payload, IsComparedInEveryPart)
{
    const Breakdown breakdown = named("team/a", "model");
    const Payload payload = {{15, 1, 0}, &breakdown};
    const Breakdown same = breakdown;
    EXPECT_TRUE(payload == (Payload{{15, 1, 0}, &same}));
    EXPECT_FALSE(payload == (Payload{{15, 1, 0}}));
    EXPECT_FALSE((Payload{{15, 1, 0}}) == payload);
    EXPECT_TRUE((Payload{{15, 1, 0}}) == (Payload{{15, 1, 0}}));
    EXPECT_FALSE(payload == (Payload{{15, 0, 0}, &same}));
    for (size_t amount = 0; amount < cost_index + 1; amount++) {
        Breakdown other = breakdown;
        other.amounts.values[amount]++;
        EXPECT_FALSE(payload == (Payload{{15, 1, 0}, &other})) << amount;
    }
    const Breakdown other_scope = named("team/b", "model"),
                    other_model_name = named("team/a", "Model");
    EXPECT_FALSE(payload == (Payload{{15, 1, 0}, &other_scope}));
    EXPECT_FALSE(payload == (Payload{{15, 1, 0}, &other_model_name}));
}

TEST(Pair, IsOrderedByBytesSoThatAScopeIsARange)
{
    const Pair ordered[] = {{"", ""},     {"", "b"},    {"a", "z"},     {"a-b", ""},
                            {"a/b", "a"}, {"a/b", "b"}, {"a0", "\x7f"}, {"a0", "\x80"}};
    for (size_t i = 0; i + 1 < sizeof(ordered) / sizeof(ordered[0]); i++) {
        EXPECT_TRUE(ordered[i] < ordered[i + 1]) << i;
        EXPECT_FALSE(ordered[i + 1] < ordered[i]) << i;
        EXPECT_FALSE(ordered[i] == ordered[i + 1]) << i;
    }
}

TEST(OtherOf, KeepsTheFirstLevelOfTheScope)
{
    EXPECT_TRUE(other_of({"team/key/x", "m"}) == (Pair{"team", "_other"}));
    EXPECT_TRUE(other_of({"team", "m"}) == (Pair{"team", "_other"}));
    EXPECT_TRUE(other_of({"", "m"}) == (Pair{"", "_other"}));
}

TEST(Amounts, AreAddedAllOrNone)
{
    const Amounts some = {{1, 2, 3, 4, 5, 6, 7}};
    for (size_t amount = 0; amount < amount_count; amount++) {
        Amounts totals = some;
        totals.values[amount] = INT64_MAX;
        const Amounts before = totals;
        EXPECT_FALSE(add(&totals, sum_of(some)));
        EXPECT_TRUE(totals == before);
        totals.values[amount] = INT64_MIN;
        EXPECT_FALSE(add(&totals, sum_of(-some)));
        EXPECT_TRUE(add(&totals, sum_of(some)));
    }
}

TEST(Amounts, OnlyTheFinalSumHasToFit)
{
    const Amounts large = {{INT64_MAX, 0, 0, 0, 0, INT64_MAX, 1}};
    WideAmounts sum = sum_of(large);
    add(&sum, large);
    Amounts totals = {};
    EXPECT_FALSE(add(&totals, sum));
    add(&sum, -large);
    EXPECT_TRUE(add(&totals, sum));
    EXPECT_TRUE(totals == large);
}

TEST(WriteBreakdown, IsReadBackAsItWas)
{
    const std::string longest(765, '\xff');
    for (const Breakdown &breakdown :
         {Breakdown{{"", ""}, {}}, named("team/a b", "gpt-5"), Breakdown{{longest, longest}, {}},
          Breakdown{
              {longest, longest},
              {{INT64_MIN, INT64_MIN, INT64_MIN, INT64_MIN, INT64_MIN, INT64_MIN, INT64_MIN}}},
          Breakdown{{"", "m"}, {{INT64_MAX, -1, 0, 1, 9, -10, 1}}}}) {
        char buffer[breakdown_text_max];
        const std::string_view text(buffer, write_breakdown(breakdown, buffer));
        Breakdown read = {};
        ASSERT_TRUE(read_breakdown(text, &read)) << text;
        EXPECT_TRUE(read == breakdown) << text;
    }
    char buffer[breakdown_text_max];
    EXPECT_EQ(std::string(buffer, write_breakdown(named("a", "b"), buffer)),
              "a\tb\t1\t2\t3\t4\t5\t6\t1");
}

TEST(ReadBreakdown, RefusesWhatWasNotWrittenSo)
{
    for (const char *text :
         {"", "a", "a\tb", "a\tb\t1", "a\tb\t1\t2\t3\t4\t5\t6", "a\tb\t1\t2\t3\t4\t5\t6\t",
          "a\tb\t1\t2\t3\t4\t5\t6\t7\t", "a\tb\t1\t2\t3\t4\t5\t6\t7\t8", "a\tb\t\t2\t3\t4\t5\t6\t7",
          "a\tb\t+1\t2\t3\t4\t5\t6\t7", "a\tb\t1 \t2\t3\t4\t5\t6\t7", "a\tb\tx\t2\t3\t4\t5\t6\t7",
          "a\tb\t1\t2\t-\t4\t5\t6\t7", "a\tb\t9223372036854775808\t2\t3\t4\t5\t6\t7"}) {
        Breakdown breakdown = {};
        EXPECT_FALSE(read_breakdown(text, &breakdown)) << text;
    }
    const std::string too_long(766, 'a');
    Breakdown breakdown = {};
    EXPECT_FALSE(read_breakdown(too_long + "\tb\t1\t2\t3\t4\t5\t6\t7", &breakdown));
    EXPECT_FALSE(read_breakdown("a\t" + too_long + "\t1\t2\t3\t4\t5\t6\t7", &breakdown));
}

TEST(TokensOf, AddsTheKindsAndNothingElse)
{
    EXPECT_EQ(tokens_of({{1, 20, 300, 4000, 50000, 600000, 7000000}}), 54321);
}

} // namespace
} // namespace usage_ledger::core
