#include "requests.hpp"

#include <cerrno>
#include <cstring>
#include <random>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "csv_file.hpp"
#include "json_file.hpp"
#include "text.hpp"

namespace usage_ledger::trace
{

namespace
{

std::string read_file(const std::string &path)
{
    std::ifstream file(path, std::ios::binary);
    std::ostringstream contents;
    if (file && file.peek() != std::ifstream::traits_type::eof()) {
        contents << file.rdbuf();
    }
    if (!file.is_open() || file.bad() || contents.fail()) {
        throw std::runtime_error(path + ": " + std::strerror(errno));
    }
    return contents.str();
}

} // namespace

std::vector<Request> read_requests(const std::string &path, size_t count_max)
{
    return parse_requests(path, read_file(path), count_max);
}

std::vector<Request> parse_requests(const std::string &name, std::string contents, size_t count_max)
{
    try {
        contents = remove_byte_order_mark(std::move(contents));
    } catch (const std::runtime_error &error) {
        throw std::runtime_error(name + ":1: " + error.what());
    }
    const std::string_view start = trim(contents);
    if (start.empty()) {
        throw std::runtime_error(name + ":1: the file is empty");
    }
    RequestList requests(name, count_max);
    if (start.front() == '{' || start.front() == '[') {
        read_json(contents, requests);
    } else {
        read_csv(contents, requests);
    }
    return requests.finish();
}

std::vector<Request> make_requests(int count, uint64_t seed)
{
    std::mt19937_64 random(seed);
    std::lognormal_distribution<double> context(7.2, 1.2), generated(2.8, 1.0);
    std::uniform_int_distribution<int> percent(0, 99);
    std::vector<Request> requests;
    for (int i = 0; i < count; i++) {
        Request request = {percent(random) < 70 ? "small" : "large", {}};
        request.kinds[input] = static_cast<int64_t>(context(random)) + 1;
        request.kinds[output] = static_cast<int64_t>(generated(random));
        /* Half of the prompts have been seen before, and the large model reasons. */
        request.kinds[cache_read] = percent(random) < 50 ? request.kinds[input] / 4 * 3 : 0;
        request.kinds[input] -= request.kinds[cache_read];
        request.kinds[reasoning] = request.model == "large" ? request.kinds[output] / 2 : 0;
        request.kinds[output] -= request.kinds[reasoning];
        requests.push_back(request);
    }
    return requests;
}

} // namespace usage_ledger::trace
