#include "json_file.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <istream>
#include <optional>
#include <stdexcept>
#include <streambuf>
#include <string>
#include <utility>
#include <vector>

#include "columns.hpp"
#include "text.hpp"

namespace usage_ledger::trace
{

namespace
{

using nlohmann::json;

/* A text as a stream that tells how much of it has been read. */
class TextBuffer : public std::streambuf
{
public:
    void set(std::string_view text)
    {
        char *start = const_cast<char *>(text.data());
        setg(start, start, start + text.size());
    }

    std::string_view read() const
    {
        return {eback(), static_cast<size_t>(gptr() - eback())};
    }

    std::string_view unread() const
    {
        return {gptr(), static_cast<size_t>(egptr() - gptr())};
    }

    void skip_blanks()
    {
        setg(eback(), egptr() - trim_front(unread()).size(), egptr());
    }

private:
    static std::string_view trim_front(std::string_view text)
    {
        text.remove_prefix(std::min(text.find_first_not_of(" \t\r\n"), text.size()));
        return text;
    }
};

/* Takes the events of a parser, and finds the records and the line of each. */
class RecordFinder : public nlohmann::json_sax<json>
{
public:
    explicit RecordFinder(RequestList &requests) : requests_(requests)
    {
    }

    /* Reads any number of values. A syntax error hides what comes after it. */
    void read(std::string_view text, size_t first_line)
    {
        buffer_.set(text);
        std::istream stream(&buffer_);
        line_ = first_line;
        counted_size_ = 0;
        places_.clear();
        records_.clear();
        path_.clear();
        paths_outside_.clear();
        for (buffer_.skip_blanks(); !buffer_.unread().empty(); buffer_.skip_blanks()) {
            if (!json::sax_parse(stream, this, json::input_format_t::json, false)) {
                return;
            }
        }
    }

    bool null() override
    {
        return add_value("");
    }

    bool boolean(bool value) override
    {
        return add_value(value ? "true" : "false");
    }

    bool number_integer(number_integer_t value) override
    {
        return add_value(std::to_string(value));
    }

    bool number_unsigned(number_unsigned_t value) override
    {
        return add_value(std::to_string(value));
    }

    bool number_float(number_float_t, const string_t &text) override
    {
        return add_value(text);
    }

    bool string(string_t &value) override
    {
        return add_value(value);
    }

    bool binary(binary_t &) override
    {
        return add_value("");
    }

    bool key(string_t &name) override
    {
        name_ = name;
        return true;
    }

    bool start_object(size_t) override
    {
        switch (place()) {
        case Place::list:
            records_.push_back({current_line(), false, {}, {}});
            places_.push_back(Place::record);
            break;
        case Place::record:
        case Place::inner_object:
            path_.push_back(path_of(name_));
            places_.push_back(Place::inner_object);
            break;
        case Place::ignored:
            places_.push_back(Place::ignored);
        }
        return true;
    }

    bool end_object() override
    {
        const Place ended = places_.back();
        places_.pop_back();
        if (ended == Place::inner_object) {
            path_.pop_back();
        } else if (ended == Place::record) {
            end_record();
        }
        return !requests_.is_full();
    }

    bool start_array(size_t) override
    {
        if (place() == Place::list) {
            places_.push_back(Place::list);
        } else if (place() != Place::ignored && is_list_of_records(name_)) {
            records_.back().has_records = true;
            paths_outside_.push_back(std::move(path_));
            path_.clear();
            places_.push_back(Place::list);
        } else {
            places_.push_back(Place::ignored);
        }
        return true;
    }

    bool end_array() override
    {
        const Place ended = places_.back();
        places_.pop_back();
        if (ended == Place::list && place() != Place::list) {
            path_ = std::move(paths_outside_.back());
            paths_outside_.pop_back();
        }
        return true;
    }

    bool parse_error(size_t, const std::string &, const nlohmann::json::exception &error) override
    {
        /* "[json.exception.parse_error.101] parse error at line 1, column 5: syntax error" */
        std::string_view message = error.what();
        for (const std::string_view separator : {"] ", ": "}) {
            const size_t position = message.find(separator);
            if (position != std::string_view::npos) {
                message.remove_prefix(position + separator.size());
            }
        }
        /* The last character that was read is the one at fault, and may be a line end. */
        requests_.add_fault(current_line(1), "not JSON that can be read: " + quote(message));
        return false;
    }

private:
    enum class Place {
        list,         /* its objects are records */
        record,       /* a record's own values */
        inner_object, /* values of an object in a record */
        ignored,      /* an array in a record */
    };

    struct Record {
        size_t line;
        bool has_records; /* a page or a bucket, and no request itself */
        std::vector<std::string> names;
        std::vector<std::string> values;
    };

    Place place() const
    {
        return places_.empty() ? Place::list : places_.back();
    }

    std::string path_of(const std::string &name) const
    {
        return path_.empty() ? name : path_.back() + "." + name;
    }

    /* The line of the last character that was read, or of one before it. */
    size_t current_line(size_t characters_back = 0)
    {
        const size_t size = buffer_.read().size();
        const size_t end = size - std::min(size, characters_back);
        if (end > counted_size_) {
            const std::string_view more = buffer_.read().substr(counted_size_, end - counted_size_);
            line_ += static_cast<size_t>(std::count(more.begin(), more.end(), '\n'));
            counted_size_ = end;
        }
        return line_;
    }

    bool add_value(const std::string &value)
    {
        switch (place()) {
        case Place::list:
            requests_.add_fault(current_line(1), quote(value) + " is not a record");
            break;
        case Place::record:
        case Place::inner_object:
            records_.back().names.push_back(path_of(name_));
            records_.back().values.push_back(value);
            break;
        case Place::ignored:
            break;
        }
        return true;
    }

    void end_record()
    {
        const Record record = std::move(records_.back());
        records_.pop_back();
        if (record.has_records) {
            return;
        }
        try {
            /* The records of a file mostly have the same names. */
            if (!columns_.has_value() || record.names != names_) {
                columns_.emplace(record.names);
                names_ = record.names;
            }
        } catch (const std::runtime_error &error) {
            requests_.add_fault(record.line, error.what());
            return;
        }
        requests_.add_record(record.line, *columns_, record.values);
    }

    RequestList &requests_;
    TextBuffer buffer_;
    size_t line_ = 0;
    size_t counted_size_ = 0; /* up to where lines are counted */
    std::vector<Place> places_;
    std::vector<Record> records_;                         /* under way */
    std::vector<std::string> path_;                       /* of each inner object in its record */
    std::vector<std::vector<std::string>> paths_outside_; /* of records outside the last one */
    std::string name_;                                    /* of the next value */
    std::optional<ColumnChoice> columns_;                 /* of the last record */
    std::vector<std::string> names_;
};

std::string_view first_line_with_text(std::string_view text)
{
    std::string_view line;
    while (!text.empty() && trim(line).empty()) {
        line = take_line(text);
    }
    return line;
}

} // namespace

void read_json(std::string_view text, RequestList &requests)
{
    /* In JSON lines, a line that cannot be read says nothing about the next one. */
    RecordFinder finder(requests);
    if (!json::accept(first_line_with_text(text))) {
        finder.read(text, 1);
        return;
    }
    for (size_t line_number = 1; !text.empty() && !requests.is_full(); line_number++) {
        finder.read(take_line(text), line_number);
    }
}

} // namespace usage_ledger::trace
