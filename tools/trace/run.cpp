#include "run.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <random>
#include <stdexcept>
#include <thread>

#include "database.hpp"

namespace usage_ledger::trace
{

namespace
{

/* The number of simultaneous deliveries of one job in a storm of retries. */
constexpr int storm_size = 3;

/* Stands for the work of the model, between the admission of a request and its count. */
constexpr std::chrono::milliseconds work_time(2);

/* After this, a job runner gives up. */
constexpr int attempt_count_max = 10;

/* A request as the job runner delivers it. Every contender gets the same deliveries. */
struct Delivery {
    std::string account;
    std::string tokens;
    std::string key;
    std::string model;
    std::array<std::string, kind_count> kinds;
    bool is_reply_dropped; /* on the first attempt */
    bool is_storm;
};

std::vector<Delivery> plan_deliveries(const std::vector<Request> &requests, const Place &place,
                                      const Options &options)
{
    std::mt19937_64 random(options.seed);
    const auto happens = [&random](int percent) {
        return std::uniform_int_distribution<int>(0, 99)(random) < percent;
    };
    /* One account gets half of the traffic, the next half of the rest, and so on. */
    std::geometric_distribution<size_t> pick(0.5);

    std::vector<Delivery> deliveries;
    for (size_t i = 0; i < requests.size(); i++) {
        const size_t account = std::min(pick(random), place.accounts.size() - 1);
        std::array<std::string, kind_count> kinds;
        std::transform(requests[i].kinds.begin(), requests[i].kinds.end(), kinds.begin(),
                       [](int64_t tokens) { return std::to_string(tokens); });
        deliveries.push_back({place.accounts[account], std::to_string(requests[i].tokens()),
                              "request-" + std::to_string(i), requests[i].model, kinds,
                              happens(options.dropped_reply_percent),
                              happens(options.storm_percent)});
    }
    return deliveries;
}

/* Shared by the workers. */
struct Progress {
    std::atomic<size_t> next_delivery{0};
    std::atomic<size_t> done_count{0};
    std::atomic<int64_t> error_count{0};
    std::atomic<int64_t> refused_count{0};
    std::atomic<int64_t> refused_tokens{0};
    std::mutex mutex;
    std::string first_error;
    std::exception_ptr failure;

    void add_error(const std::string &message)
    {
        error_count++;
        const std::lock_guard<std::mutex> guard(mutex);
        if (first_error.empty()) {
            first_error = message;
        }
    }
};

class Worker
{
public:
    Worker(const Contender &contender, const Options &options, Progress &progress)
        : contender_(contender), options_(options), progress_(progress)
    {
        for (ConnectionHandle &connection : connections_) {
            connection = connect(options_.connection_string);
        }
    }

    /* Retries until an attempt succeeds and its reply arrives, or the attempts are used up. */
    void deliver(const Delivery &delivery)
    {
        if (!contender_.admission.empty()) {
            if (!is_admitted(delivery)) {
                progress_.refused_count++;
                progress_.refused_tokens += std::stoll(delivery.tokens);
                return;
            }
            std::this_thread::sleep_for(work_time);
        }
        for (int attempt = 0; attempt < attempt_count_max; attempt++) {
            const bool is_first = attempt == 0;
            const bool is_ok =
                send_and_wait(delivery, is_first && delivery.is_storm ? storm_size : 1);
            if (is_first && delivery.is_reply_dropped) {
                /* The call has committed, but the worker does not learn that. */
                connections_[0] = connect(options_.connection_string);
                continue;
            }
            if (is_ok) {
                return;
            }
        }
    }

private:
    using Parameters = std::vector<const char *>;

    static Parameters parameters_of(const Delivery &delivery, bool has_breakdown)
    {
        Parameters parameters = {delivery.account.c_str(), delivery.tokens.c_str(),
                                 delivery.key.c_str()};
        if (has_breakdown) {
            parameters.push_back(delivery.model.c_str());
            for (const std::string &tokens : delivery.kinds) {
                parameters.push_back(tokens.c_str());
            }
        }
        return parameters;
    }

    bool is_admitted(const Delivery &delivery)
    {
        const Parameters parameters = parameters_of(delivery, false);
        const ResultHandle result(PQexecParams(connections_[0].get(), contender_.admission.c_str(),
                                               static_cast<int>(parameters.size()), nullptr,
                                               parameters.data(), nullptr, nullptr, 0),
                                  PQclear);
        if (PQresultStatus(result.get()) != PGRES_TUPLES_OK) {
            throw std::runtime_error(PQresultErrorMessage(result.get()));
        }
        return *PQgetvalue(result.get(), 0, 0) == 't';
    }

    /* Sends the same call on several connections, then waits for all the answers. */
    bool send_and_wait(const Delivery &delivery, int call_count)
    {
        const Parameters parameters = parameters_of(delivery, !contender_.breakdown.empty());
        for (int i = 0; i < call_count; i++) {
            if (PQsendQueryParams(connections_[i].get(), contender_.call.c_str(),
                                  static_cast<int>(parameters.size()), nullptr, parameters.data(),
                                  nullptr, nullptr, 0) != 1) {
                throw std::runtime_error(PQerrorMessage(connections_[i].get()));
            }
        }
        bool is_ok = true;
        for (int i = 0; i < call_count; i++) {
            PGconn *connection = connections_[i].get();
            for (ResultHandle result(PQgetResult(connection), PQclear); result != nullptr;
                 result.reset(PQgetResult(connection))) {
                if (PQresultStatus(result.get()) != PGRES_TUPLES_OK) {
                    progress_.add_error(PQresultErrorMessage(result.get()));
                    is_ok = false;
                }
            }
            if (PQstatus(connection) != CONNECTION_OK) {
                throw std::runtime_error(PQerrorMessage(connection));
            }
        }
        return is_ok;
    }

    const Contender &contender_;
    const Options &options_;
    Progress &progress_;
    std::array<ConnectionHandle, storm_size> connections_{ConnectionHandle(nullptr, PQfinish),
                                                          ConnectionHandle(nullptr, PQfinish),
                                                          ConnectionHandle(nullptr, PQfinish)};
};

void work(const Contender &contender, const std::vector<Delivery> &deliveries,
          const Options &options, Progress &progress)
{
    try {
        Worker worker(contender, options, progress);
        for (size_t i = progress.next_delivery++; i < deliveries.size();
             i = progress.next_delivery++) {
            worker.deliver(deliveries[i]);
            progress.done_count++;
        }
    } catch (...) {
        const std::lock_guard<std::mutex> guard(progress.mutex);
        progress.failure = std::current_exception();
        progress.next_delivery = deliveries.size();
    }
}

void show_progress(const std::string &name, const Progress &progress, size_t total_count)
{
    const bool is_terminal = isatty(fileno(stderr)) != 0;
    std::fprintf(stderr, "%s%-24s %zu of %zu requests, %lld errors%s", is_terminal ? "\r" : "",
                 name.c_str(), progress.done_count.load(), total_count,
                 static_cast<long long>(progress.error_count.load()), is_terminal ? "" : "\n");
}

void send_all(const Contender &contender, const std::vector<Delivery> &deliveries,
              const Options &options, Progress &progress)
{
    std::atomic<bool> is_done{false};
    std::thread reporter([&] {
        for (int tick = 1; !is_done; tick++) {
            std::this_thread::sleep_for(std::chrono::milliseconds(100));
            if (tick % 10 == 0) {
                show_progress(contender.name, progress, deliveries.size());
            }
        }
    });
    std::vector<std::thread> workers;
    for (int i = 0; i < options.worker_count; i++) {
        workers.emplace_back(work, std::cref(contender), std::cref(deliveries), std::cref(options),
                             std::ref(progress));
    }
    for (std::thread &worker : workers) {
        worker.join();
    }
    is_done = true;
    reporter.join();
    show_progress(contender.name, progress, deliveries.size());
    if (isatty(fileno(stderr)) != 0) {
        std::fputc('\n', stderr);
    }
    if (progress.failure != nullptr) {
        std::rethrow_exception(progress.failure);
    }
}

/*
 * A request is lost if it was never added, or if its addition is missing from the
 * counters. It is counted twice if it was added again, or if the counters hold more than
 * all additions.
 */
std::string audit_query(const Contender &contender, const Place &place, int64_t admitted)
{
    return "SELECT counted, " + std::to_string(admitted) +
           " - added_once + greatest(added - counted, 0),"
           " added - added_once + greatest(counted - added, 0), above_limit"
           " FROM (SELECT COALESCE(sum(tokens), 0) AS added FROM (" +
           contender.additions +
           ") AS a) AS a,"
           " (SELECT COALESCE(sum(tokens), 0) AS added_once FROM (SELECT DISTINCT * FROM (" +
           contender.additions +
           ") AS a) AS d) AS d,"
           " (SELECT COALESCE(sum(tokens_used), 0) AS counted,"
           " COALESCE(sum(greatest(tokens_used - " +
           place.token_limit + ", 0)), 0) AS above_limit FROM (" + contender.counters +
           ") AS c) AS c";
}

std::vector<ModelTally> read_models(PGconn *connection, const Contender &contender)
{
    std::vector<ModelTally> models;
    if (!contender.breakdown.empty()) {
        const ResultHandle result = query(connection, contender.breakdown);
        for (int row = 0; row < PQntuples(result.get()); row++) {
            models.push_back({PQgetvalue(result.get(), row, 0), {}});
            for (size_t i = 0; i < models.back().figures.size(); i++) {
                models.back().figures[i] = PQgetvalue(result.get(), row, static_cast<int>(i) + 1);
            }
        }
    }
    return models;
}

} // namespace

std::vector<ModelTally> tally_models(const std::vector<Request> &requests)
{
    std::map<std::string, std::array<int64_t, kind_count + 1>> sums;
    for (const Request &request : requests) {
        auto &sum = sums[request.model];
        std::transform(request.kinds.begin(), request.kinds.end(), sum.begin(), sum.begin(),
                       std::plus<>());
        sum.back()++;
    }
    using Sum = std::pair<std::string, std::array<int64_t, kind_count + 1>>;
    std::vector<Sum> ordered(sums.begin(), sums.end());
    std::stable_sort(ordered.begin(), ordered.end(),
                     [](const Sum &a, const Sum &b) { return a.second.back() > b.second.back(); });
    std::vector<ModelTally> models;
    for (const auto &[model, sum] : ordered) {
        models.push_back({model, {}});
        std::transform(sum.begin(), sum.end(), models.back().figures.begin(),
                       [](int64_t figure) { return std::to_string(figure); });
    }
    return models;
}

Tally run(const Contender &contender, const Place &place, const std::vector<Request> &requests,
          const Options &options)
{
    const ConnectionHandle connection = connect(options.connection_string);
    for (const std::string &sql : contender.setup) {
        query(connection.get(), sql);
    }

    Progress progress;
    send_all(contender, plan_deliveries(requests, place, options), options, progress);

    int64_t sent = 0;
    for (const Request &request : requests) {
        sent += request.tokens();
    }
    const ResultHandle audit =
        query(connection.get(), audit_query(contender, place, sent - progress.refused_tokens));
    const std::vector<ModelTally> models = read_models(connection.get(), contender);
    for (const std::string &sql : contender.cleanup) {
        query(connection.get(), sql);
    }

    const auto figure = [&audit](int column) { return PQgetvalue(audit.get(), 0, column); };
    return {std::to_string(sent),
            figure(0),
            figure(1),
            figure(2),
            figure(3),
            progress.refused_count,
            progress.error_count,
            progress.first_error,
            models};
}

} // namespace usage_ledger::trace
