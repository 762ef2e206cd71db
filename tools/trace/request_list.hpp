/*
 * request_list.hpp: the requests of a file, and the lines of it that cannot be read.
 */
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "columns.hpp"

namespace usage_ledger::trace
{

struct Request {
    std::string model; /* empty if it is not known */
    Kinds kinds;

    int64_t tokens() const;
};

class RequestList
{
public:
    /* `name` is the file's, for error messages. Takes the first `count_max` requests. */
    RequestList(std::string name, size_t count_max);

    /* Whether the rest of the file need not be read. */
    bool is_full() const;

    /* A record of the file that starts at a line. */
    void add_record(size_t line, const ColumnChoice &columns,
                    const std::vector<std::string> &values);
    void add_request(size_t line, const Request &request);
    void add_fault(size_t line, const std::string &message);

    /*
     * Returns the requests. Throws std::runtime_error with all faults, each with the
     * file's name and its line, or if there are no requests.
     */
    std::vector<Request> finish();

private:
    std::string name_;
    size_t count_max_;
    std::vector<Request> requests_;
    int64_t tokens_ = 0; /* of all requests */
    bool is_overflowed_ = false;
    size_t fault_count_ = 0;
    std::string faults_;
};

} // namespace usage_ledger::trace
