#include "requests.hpp"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <random>
#include <sstream>
#include <stdexcept>

namespace usage_ledger::trace
{

namespace
{

std::vector<std::string> split_line(std::string line)
{
    if (!line.empty() && line.back() == '\r') {
        line.pop_back();
    }
    std::vector<std::string> fields;
    std::istringstream stream(line);
    for (std::string field; std::getline(stream, field, ',');) {
        fields.push_back(field);
    }
    return fields;
}

size_t column_of(const std::vector<std::string> &header, const std::string &name,
                 const std::string &path)
{
    const auto found = std::find(header.begin(), header.end(), name);
    if (found == header.end()) {
        throw std::runtime_error(path + ": the header has no column " + name);
    }
    return static_cast<size_t>(found - header.begin());
}

int64_t tokens_of(const std::vector<std::string> &fields, size_t column)
{
    int64_t tokens = -1;
    if (column < fields.size()) {
        const std::string &field = fields[column];
        const char *end = field.data() + field.size();
        const auto [parsed_end, error] = std::from_chars(field.data(), end, tokens);
        if (error != std::errc() || parsed_end != end) {
            tokens = -1;
        }
    }
    return tokens;
}

} // namespace

std::vector<Request> read_requests(const std::string &path)
{
    std::ifstream file(path);
    std::string line;
    if (!std::getline(file, line)) {
        throw std::runtime_error(path + ": cannot be read, or is empty");
    }
    const std::vector<std::string> header = split_line(line);
    const size_t context = column_of(header, "ContextTokens", path);
    const size_t generated = column_of(header, "GeneratedTokens", path);

    std::vector<Request> requests;
    for (int number = 2; std::getline(file, line); number++) {
        const std::vector<std::string> fields = split_line(line);
        const int64_t read = tokens_of(fields, context), written = tokens_of(fields, generated);
        if (read < 0 || written < 0) {
            throw std::runtime_error(path + ", line " + std::to_string(number) +
                                     ": no token counts in \"" + line + "\"");
        }
        requests.push_back({read + written});
    }
    return requests;
}

std::vector<Request> make_requests(int count, uint64_t seed)
{
    std::mt19937_64 random(seed);
    std::lognormal_distribution<double> context(7.2, 1.2), generated(2.8, 1.0);
    std::vector<Request> requests;
    for (int i = 0; i < count; i++) {
        requests.push_back(
            {static_cast<int64_t>(context(random)) + 1 + static_cast<int64_t>(generated(random))});
    }
    return requests;
}

} // namespace usage_ledger::trace
