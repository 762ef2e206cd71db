/*
 * columns.hpp: the names under which known sources keep a request's tokens and its model.
 */
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace usage_ledger::trace
{

/* The kinds of tokens, in the order of record_usage's arguments. They exclude each other. */
enum Kind : size_t { input, cache_read, cache_write, output, reasoning, kind_count };
using Kinds = std::array<int64_t, kind_count>;

struct TokenColumn {
    const char *name;
    Kind kind;
};

/*
 * A request's tokens are the sum of the required and the optional columns. A CSV file has them
 * in its header. In JSON they are the names of an object's values; "a.b" is the value "b" of an
 * object "a".
 */
struct TokenColumns {
    const char *source;
    std::vector<TokenColumn> required;
    std::vector<TokenColumn> optional; /* additional to the required ones; 0 if missing or empty */
    std::vector<TokenColumn> parts;    /* tokens of the input or the output that are of this kind */
    bool has_empty_records; /* a record of which all these columns are empty is no request */
};

/* Lists the known sources and their columns, as --help shows them. */
std::string describe_known_columns();

/* Whether JSON files have lists of records under this name. */
bool is_list_of_records(std::string_view name);

/* Which of a record's columns are a known source's token columns. */
class ColumnChoice
{
public:
    /* Throws std::runtime_error unless the names are those of exactly one known source. */
    explicit ColumnChoice(const std::vector<std::string> &names);

    /*
     * Adds up the tokens of each kind. Returns nothing for an empty record. Throws
     * std::runtime_error if a value is missing, no count, or more than an event can have.
     */
    std::optional<Kinds> kinds_of(const std::vector<std::string> &values) const;

    /* The record's model, in characters that record_usage takes. Empty if there is none. */
    std::string model_of(const std::vector<std::string> &values) const;

private:
    enum class Role { required, optional, part };

    struct Column {
        TokenColumn column;
        Role role;
        size_t index;
    };

    std::vector<Column> columns_; /* parts come last */
    std::optional<size_t> model_index_;
    bool has_empty_records_;
};

} // namespace usage_ledger::trace
