#include "csv_file.hpp"

#include <csv.h>

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "columns.hpp"
#include "text.hpp"

namespace usage_ledger::trace
{

namespace
{

struct Row {
    size_t line = 0; /* at which it starts */
    std::vector<std::string> fields;
    std::string fault; /* why it cannot be read */
};

/* Reads rows one by one, each with its line, which libcsv does not keep. */
class RowReader
{
public:
    RowReader(std::string_view text, char delimiter) : text_(text), delimiter_(delimiter)
    {
        start_parser();
    }

    ~RowReader()
    {
        csv_free(&parser_);
    }

    RowReader(const RowReader &) = delete;
    RowReader &operator=(const RowReader &) = delete;

    /* The next row that is not empty, or nothing at the end. */
    std::optional<Row> next()
    {
        while (!text_.empty()) {
            read_line();
            if (is_row_complete_) {
                std::optional<Row> row = take_row();
                if (row.has_value()) {
                    return row;
                }
            }
        }
        if (row_.line > 0) {
            if (csv_fini(&parser_, add_field, end_row, this) != 0) {
                row_.fault = "a quoted field is not closed";
            }
            return take_row();
        }
        return std::nullopt;
    }

private:
    void start_parser()
    {
        if (csv_init(&parser_, CSV_STRICT | CSV_STRICT_FINI) != 0) {
            throw std::runtime_error("libcsv cannot be initialized");
        }
        csv_set_delim(&parser_, static_cast<unsigned char>(delimiter_));
    }

    /* A row can have several lines, in quoted fields. A line ends at most one row. */
    void read_line()
    {
        const std::string_view line = take_line(text_);
        line_number_++;
        if (row_.line == 0 && !trim(line).empty()) {
            row_.line = line_number_;
        }
        if (csv_parse(&parser_, line.data(), line.size(), add_field, end_row, this) !=
            line.size()) {
            row_.fault = "a quote is neither at the start nor at the end of a field";
            is_row_complete_ = true;
            csv_free(&parser_);
            start_parser();
        }
    }

    /* Nothing if all its fields are empty. */
    std::optional<Row> take_row()
    {
        Row row = std::move(row_);
        row_ = {};
        is_row_complete_ = false;
        const bool is_empty =
            std::all_of(row.fields.begin(), row.fields.end(),
                        [](const std::string &field) { return trim(field).empty(); });
        return is_empty && row.fault.empty() ? std::nullopt : std::optional<Row>(std::move(row));
    }

    static void add_field(void *field, size_t size, void *reader)
    {
        static_cast<RowReader *>(reader)->row_.fields.emplace_back(static_cast<const char *>(field),
                                                                   size);
    }

    static void end_row(int, void *reader)
    {
        static_cast<RowReader *>(reader)->is_row_complete_ = true;
    }

    std::string_view text_;
    char delimiter_;
    csv_parser parser_;
    size_t line_number_ = 0;
    Row row_; /* under way, if its line is not 0 */
    bool is_row_complete_ = false;
};

/* How a file is to be read, as its header shows it. */
struct Layout {
    char delimiter;
    size_t column_count;
    std::optional<ColumnChoice> columns;
    size_t line;
    std::string fault; /* if there are no columns */
};

Layout read_header(std::string_view text, char delimiter)
{
    Layout layout = {delimiter, 0, std::nullopt, 1, ""};
    const std::optional<Row> header = RowReader(text, delimiter).next();
    if (header.has_value()) {
        layout.column_count = header->fields.size();
        layout.line = header->line;
        layout.fault = header->fault;
        if (layout.fault.empty()) {
            try {
                layout.columns.emplace(header->fields);
            } catch (const std::runtime_error &error) {
                layout.fault = error.what();
            }
        }
    }
    return layout;
}

/* If no delimiter shows known columns, the one that splits the header into most fields. */
Layout find_layout(std::string_view text)
{
    Layout best = read_header(text, ',');
    for (const char delimiter : {';', '\t', '|'}) {
        Layout layout = read_header(text, delimiter);
        if (!best.columns.has_value() &&
            (layout.columns.has_value() || layout.column_count > best.column_count)) {
            best = std::move(layout);
        }
    }
    return best;
}

/* Columns have shifted if a value stands behind the header's last one. */
bool is_too_long(const Row &row, const Layout &layout)
{
    return row.fields.size() > layout.column_count &&
           std::any_of(row.fields.begin() + static_cast<std::ptrdiff_t>(layout.column_count),
                       row.fields.end(),
                       [](const std::string &field) { return !trim(field).empty(); });
}

} // namespace

void read_csv(std::string_view text, RequestList &requests)
{
    const Layout layout = find_layout(text);
    if (!layout.columns.has_value()) {
        if (!layout.fault.empty()) {
            requests.add_fault(layout.line, layout.fault);
        }
        return;
    }

    RowReader reader(text, layout.delimiter);
    reader.next(); /* the header */
    while (!requests.is_full()) {
        const std::optional<Row> row = reader.next();
        if (!row.has_value()) {
            return;
        }
        if (!row->fault.empty()) {
            requests.add_fault(row->line, row->fault);
        } else if (is_too_long(*row, layout)) {
            requests.add_fault(row->line, std::to_string(row->fields.size()) +
                                              " fields, but the header has " +
                                              std::to_string(layout.column_count));
        } else {
            requests.add_record(row->line, *layout.columns, row->fields);
        }
    }
}

} // namespace usage_ledger::trace
