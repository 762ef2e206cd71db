#include "request_list.hpp"

#include <numeric>
#include <optional>
#include <stdexcept>
#include <utility>

#include "core/limits.hpp"

namespace usage_ledger::trace
{

namespace
{

/* A file of an unknown kind can have a fault in each line. */
constexpr size_t shown_faults_max = 10;

} // namespace

int64_t Request::tokens() const
{
    return std::accumulate(kinds.begin(), kinds.end(), int64_t{0});
}

RequestList::RequestList(std::string name, size_t count_max)
    : name_(std::move(name)), count_max_(count_max)
{
}

bool RequestList::is_full() const
{
    return requests_.size() >= count_max_ || is_overflowed_;
}

void RequestList::add_record(size_t line, const ColumnChoice &columns,
                             const std::vector<std::string> &values)
{
    try {
        const std::optional<Kinds> kinds = columns.kinds_of(values);
        if (kinds.has_value()) {
            add_request(line, {columns.model_of(values), *kinds});
        }
    } catch (const std::runtime_error &error) {
        add_fault(line, error.what());
    }
}

void RequestList::add_request(size_t line, const Request &request)
{
    const int64_t tokens = request.tokens();
    if (tokens > core::event_tokens_max) {
        add_fault(line, std::to_string(tokens) + " tokens, but an event has at most " +
                            std::to_string(core::event_tokens_max));
    } else if (tokens > INT64_MAX - tokens_) {
        is_overflowed_ = true;
        add_fault(line, "the tokens up to this line are more than a counter can hold, which is " +
                            std::to_string(INT64_MAX));
    } else {
        tokens_ += tokens;
        requests_.push_back(request);
    }
}

void RequestList::add_fault(size_t line, const std::string &message)
{
    if (fault_count_ < shown_faults_max) {
        faults_ +=
            (faults_.empty() ? "" : "\n") + name_ + ":" + std::to_string(line) + ": " + message;
    }
    fault_count_++;
}

std::vector<Request> RequestList::finish()
{
    if (fault_count_ > shown_faults_max) {
        faults_ += "\n" + name_ + ": and " + std::to_string(fault_count_ - shown_faults_max) +
                   " more records that cannot be read";
    }
    if (fault_count_ > 0) {
        throw std::runtime_error(faults_);
    }
    if (requests_.empty()) {
        throw std::runtime_error(name_ + ":1: there are no requests in it");
    }
    return std::move(requests_);
}

} // namespace usage_ledger::trace
