/*
 * columns.hpp: the names under which known sources keep a request's tokens.
 */
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace usage_ledger::trace
{

/*
 * A request's tokens are the sum of these columns. A CSV file has them in its header. In
 * JSON they are the names of an object's values; "a.b" is the value "b" of an object "a".
 */
struct TokenColumns {
    const char *source;
    std::vector<const char *> required;
    std::vector<const char *> optional; /* additional to the required ones; 0 if missing or empty */
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
     * Adds up the tokens. Returns nothing for an empty record. Throws std::runtime_error
     * if a value is missing, no count, or more than an event can have.
     */
    std::optional<int64_t> tokens_of(const std::vector<std::string> &values) const;

private:
    struct Column {
        const char *name;
        size_t index;
        bool is_required;
    };

    std::vector<Column> columns_;
    bool has_empty_records_;
};

} // namespace usage_ledger::trace
