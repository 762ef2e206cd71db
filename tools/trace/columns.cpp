#include "columns.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <stdexcept>
#include <system_error>

#include "core/breakdown.hpp"
#include "core/limits.hpp"
#include "text.hpp"

namespace usage_ledger::trace
{

namespace
{

/*
 * OpenAI and OpenRouter include cached tokens in the input, and reasoning tokens in the
 * output. Anthropic counts input that was read from or written to a cache separately.
 * docs/breakdown.md has the sources.
 */
const std::vector<TokenColumns> known_columns = {
    {"Azure LLM inference traces",
     {{"ContextTokens", input}, {"GeneratedTokens", output}},
     {},
     {},
     false},
    {"vidur", {{"num_prefill_tokens", input}, {"num_decode_tokens", output}}, {}, {}, false},
    {"BurstGPT", {{"Request tokens", input}, {"Response tokens", output}}, {}, {}, false},
    {"Mooncake", {{"input_length", input}, {"output_length", output}}, {}, {}, false},
    {"OpenAI usage, OpenAI and Anthropic responses",
     {{"input_tokens", input}, {"output_tokens", output}},
     {{"cache_creation_input_tokens", cache_write}, {"cache_read_input_tokens", cache_read}},
     {{"cached_tokens", cache_read},
      {"input_cached_tokens", cache_read},
      {"cache_write_tokens", cache_write},
      {"reasoning_tokens", reasoning},
      {"thinking_tokens", reasoning}},
     true},
    {"OpenAI chat completions, OpenRouter activity API",
     {{"prompt_tokens", input}, {"completion_tokens", output}},
     {},
     {{"cached_tokens", cache_read},
      {"cache_write_tokens", cache_write},
      {"reasoning_tokens", reasoning}},
     false},
    {"OpenAI usage (older)",
     {{"n_context_tokens_total", input}, {"n_generated_tokens_total", output}},
     {},
     {},
     false},
    {"OpenRouter activity export",
     {{"tokens_prompt", input}, {"tokens_completion", output}},
     {},
     {{"tokens_cached", cache_read}, {"tokens_reasoning", reasoning}},
     false},
    {"Anthropic usage export",
     {{"usage_input_tokens_no_cache", input}, {"usage_output_tokens", output}},
     {{"usage_input_tokens_cache_write_5m", cache_write},
      {"usage_input_tokens_cache_write_1h", cache_write},
      {"usage_input_tokens_cache_read", cache_read}},
     {},
     false},
    {"Anthropic usage report API",
     {{"uncached_input_tokens", input}, {"output_tokens", output}},
     {{"cache_creation.ephemeral_5m_input_tokens", cache_write},
      {"cache_creation.ephemeral_1h_input_tokens", cache_write},
      {"cache_read_input_tokens", cache_read}},
     {},
     false},
};

/* The first of these that a record has. */
constexpr const char *model_columns[] = {"model", "model_version", "snapshot_id"};

/* The usage APIs of OpenAI, Anthropic and OpenRouter answer in pages of buckets. */
constexpr std::string_view lists_of_records[] = {"data", "results"};

/* Spreadsheets and code generators change the case and the separators of names. */
std::string fold(std::string_view name)
{
    std::string folded;
    for (const char c : name) {
        if (c != ' ' && c != '_' && c != '-') {
            folded += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
        }
    }
    return folded;
}

/* A name matches inside any object, for instance in a response's "usage". */
bool matches(std::string_view folded, std::string_view column)
{
    return folded.size() >= column.size() &&
           folded.substr(folded.size() - column.size()) == column &&
           (folded.size() == column.size() || folded[folded.size() - column.size() - 1] == '.');
}

std::optional<size_t> find_column(const std::vector<std::string> &folded_names, const char *column)
{
    std::optional<size_t> found;
    for (size_t i = 0; i < folded_names.size(); i++) {
        if (matches(folded_names[i], fold(column))) {
            if (found.has_value()) {
                throw std::runtime_error(std::string("there are two columns ") + column);
            }
            found = i;
        }
    }
    return found;
}

bool has_required_columns(const std::vector<std::string> &folded_names, const TokenColumns &source)
{
    return std::all_of(source.required.begin(), source.required.end(),
                       [&](const TokenColumn &column) {
                           return std::any_of(folded_names.begin(), folded_names.end(),
                                              [&](const std::string &folded) {
                                                  return matches(folded, fold(column.name));
                                              });
                       });
}

/* Where a record has several models, such as that of the request and of the response, the first. */
std::optional<size_t> find_model(const std::vector<std::string> &folded_names)
{
    for (const char *column : model_columns) {
        for (size_t i = 0; i < folded_names.size(); i++) {
            if (matches(folded_names[i], fold(column))) {
                return i;
            }
        }
    }
    return std::nullopt;
}

int64_t read_count(const char *column, std::string_view text)
{
    std::string_view digits = text;
    /* Exports that keep all numbers as floating-point ones write 374 as 374.0. */
    if (digits.size() > 2 && digits.substr(digits.size() - 2) == ".0") {
        digits.remove_suffix(2);
    }
    uint64_t count = 0;
    const char *end = digits.data() + digits.size();
    const auto [parsed_end, error] = std::from_chars(digits.data(), end, count);
    if (parsed_end != end || digits.empty()) {
        throw std::runtime_error(std::string(column) + " is " + quote(text) +
                                 ", which is not a number of tokens");
    }
    if (error != std::errc() || count > static_cast<uint64_t>(core::event_tokens_max)) {
        throw std::runtime_error(std::string(column) + " is " + quote(text) +
                                 ", but an event has at most " +
                                 std::to_string(core::event_tokens_max) + " tokens");
    }
    return static_cast<int64_t>(count);
}

} // namespace

std::string describe_known_columns()
{
    std::string description;
    for (const TokenColumns &source : known_columns) {
        description += std::string("  ") + source.source + "\n     ";
        for (const TokenColumn &column : source.required) {
            description += std::string(" ") + column.name;
            description += &column == &source.required.back() ? "" : ",";
        }
        description += "\n";
        for (const TokenColumn &column : source.optional) {
            description += std::string("        and, if there, ") + column.name + "\n";
        }
        for (const TokenColumn &column : source.parts) {
            description += std::string("        of which, if there, ") + column.name + "\n";
        }
    }
    return description;
}

bool is_list_of_records(std::string_view name)
{
    return std::find(std::begin(lists_of_records), std::end(lists_of_records), name) !=
           std::end(lists_of_records);
}

ColumnChoice::ColumnChoice(const std::vector<std::string> &names)
{
    std::vector<std::string> folded_names;
    folded_names.reserve(names.size());
    for (const std::string &name : names) {
        folded_names.push_back(fold(name));
    }

    const TokenColumns *chosen = nullptr;
    for (const TokenColumns &source : known_columns) {
        if (has_required_columns(folded_names, source)) {
            if (chosen != nullptr) {
                throw std::runtime_error(std::string("there are columns of two sources: ") +
                                         chosen->source + "; " + source.source);
            }
            chosen = &source;
        }
    }
    if (chosen == nullptr) {
        std::string all;
        for (const std::string &name : names) {
            all += (all.empty() ? "" : ", ") + name;
        }
        throw std::runtime_error("no known columns of token counts in " + quote(all));
    }

    has_empty_records_ = chosen->has_empty_records;
    model_index_ = find_model(folded_names);
    const auto add_columns = [&](const std::vector<TokenColumn> &columns, Role role) {
        for (const TokenColumn &column : columns) {
            const std::optional<size_t> index = find_column(folded_names, column.name);
            if (index.has_value()) {
                columns_.push_back({column, role, *index});
            }
        }
    };
    add_columns(chosen->required, Role::required);
    add_columns(chosen->optional, Role::optional);
    add_columns(chosen->parts, Role::part);
}

std::optional<Kinds> ColumnChoice::kinds_of(const std::vector<std::string> &values) const
{
    const auto value_of = [&values](const Column &column) {
        return column.index < values.size() ? trim(values[column.index]) : std::string_view();
    };
    if (has_empty_records_ && std::all_of(columns_.begin(), columns_.end(), [&](const auto &c) {
            return c.index < values.size() && value_of(c).empty();
        })) {
        return std::nullopt;
    }

    Kinds kinds = {};
    for (const Column &column : columns_) {
        const auto &[name, kind] = column.column;
        const std::string_view value = value_of(column);
        if (value.empty() && column.role == Role::required) {
            throw std::runtime_error(std::string(name) + " is missing");
        }
        int64_t tokens = value.empty() ? 0 : read_count(name, value);
        if (column.role == Role::part) {
            /* A part that is larger than its whole is cut, so that the sum stays. */
            int64_t &whole = kinds[kind == reasoning ? output : input];
            tokens = std::min(tokens, whole);
            whole -= tokens;
        }
        kinds[kind] += tokens;
    }
    return kinds;
}

std::string ColumnChoice::model_of(const std::vector<std::string> &values) const
{
    if (!model_index_.has_value() || *model_index_ >= values.size()) {
        return "";
    }
    std::string model(trim(values[*model_index_]).substr(0, core::name_length_max));
    std::replace_if(
        model.begin(), model.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
    return model == core::other_model ? "other" : model;
}

} // namespace usage_ledger::trace
