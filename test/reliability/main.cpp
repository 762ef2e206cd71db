/*
 * Clients that keep a tally of their calls, for tests that interrupt the server meanwhile.
 *
 *   usage_clients [--rounds N] [--seed N] [--clients N] [--accounts N] [--user NAME]
 *                 [--work-ms N] [--interrupted]
 *
 * A round has these steps, which it takes together with the test that started it:
 *
 *   prints "working"        the clients make calls of every kind in all settlement modes,
 *                           for --work-ms or until their connections are lost
 *   prints "stopped: ..."   with the number of errors by SQLSTATE
 *   reads a line            the server is available again
 *   compares the ledger with the tally, retries every request that was not acknowledged,
 *   and compares again
 *   prints "sound: ..."     or prints each fault and ends with status 1
 *   reads a line            before the next round
 *
 * The PG* environment variables name the server. --user is the role of the clients; the
 * checks do not use it.
 */
#include <getopt.h>

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <mutex>
#include <thread>

#include "client.hpp"

namespace usage_ledger::reliability
{
namespace
{

struct Options {
    int rounds = 1, clients = 16, accounts = 8, work_ms = 0;
    unsigned seed = 1;
    std::string user;
    Interruptions interruptions = Interruptions::none;
};

constexpr int work_ms_max = 60000;

Options options_of(int argc, char **argv)
{
    static const option known[] = {
        {"rounds", required_argument, nullptr, 'r'},  {"seed", required_argument, nullptr, 's'},
        {"clients", required_argument, nullptr, 'c'}, {"accounts", required_argument, nullptr, 'a'},
        {"user", required_argument, nullptr, 'u'},    {"work-ms", required_argument, nullptr, 'w'},
        {"interrupted", no_argument, nullptr, 'i'},   {nullptr, 0, nullptr, 0}};
    Options options;
    for (int name; (name = getopt_long(argc, argv, "", known, nullptr)) != -1;) {
        switch (name) {
        case 'r':
            options.rounds = std::stoi(optarg);
            break;
        case 's':
            options.seed = static_cast<unsigned>(std::stoul(optarg));
            break;
        case 'c':
            options.clients = std::stoi(optarg);
            break;
        case 'a':
            options.accounts = std::stoi(optarg);
            break;
        case 'u':
            options.user = optarg;
            break;
        case 'w':
            options.work_ms = std::stoi(optarg);
            break;
        case 'i':
            options.interruptions = Interruptions::frequent;
            break;
        default:
            std::exit(2);
        }
    }
    return options;
}

/* Runs a body for each client, each in a thread. */
template <typename Body> void in_threads(std::vector<Client> &clients, Body body)
{
    std::vector<std::thread> threads;
    for (Client &client : clients) {
        threads.emplace_back([&client, body] { body(client); });
    }
    for (std::thread &thread : threads) {
        thread.join();
    }
}

void await_line()
{
    std::string line;
    if (!std::getline(std::cin, line)) {
        throw std::runtime_error("standard input ended before the last round");
    }
}

void work(const Options &options, std::vector<Client> &clients)
{
    std::atomic<bool> is_over{false};
    std::atomic<size_t> done_count{0};
    live::OutcomeCounts errors;
    if (options.interruptions == Interruptions::none) {
        for (Client &client : clients) {
            client.connect();
        }
    }
    std::cout << "working" << std::endl;
    const auto started = std::chrono::steady_clock::now();
    std::thread watch([&] {
        const std::chrono::milliseconds limit(options.work_ms > 0 ? options.work_ms : work_ms_max);
        while (done_count < clients.size() && std::chrono::steady_clock::now() - started < limit) {
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
        }
        is_over = true;
    });
    in_threads(clients, [&](Client &client) {
        client.work(is_over, &errors);
        done_count++;
    });
    watch.join();

    std::cout << "stopped:";
    for (const auto &[error, count] : errors.counts()) {
        std::cout << " " << error << "=" << count;
    }
    std::cout << std::endl;
}

/* Returns whether the ledger is sound. */
bool check(Tally *tally, int round, std::vector<Client> &clients)
{
    std::vector<std::string> faults;
    const auto all_entries = [&clients] {
        std::vector<Entry> entries;
        for (const Client &client : clients) {
            entries.insert(entries.end(), client.entries().begin(), client.entries().end());
        }
        return entries;
    };
    live::Connection connection("");
    const std::vector<Entry> entries = all_entries();
    const int found_count = tally->check_before_retries(connection, round, entries, &faults);

    std::mutex mutex;
    in_threads(clients, [&](Client &client) {
        std::vector<std::string> faults_of_client = client.faults();
        client.retry(&faults_of_client);
        const std::lock_guard<std::mutex> guard(mutex);
        faults.insert(faults.end(), faults_of_client.begin(), faults_of_client.end());
    });
    tally->check_after_retries(connection, round, all_entries(), &faults);

    for (const std::string &fault : faults) {
        std::cout << "FAULT: " << fault << std::endl;
    }
    size_t sent_count = 0;
    for (const Entry &entry : entries) {
        sent_count += entry.count == Request::sent ? 1 : 0;
    }
    std::cout << (faults.empty() ? "sound" : "unsound") << ": round=" << round
              << " events=" << entries.size() << " unacknowledged=" << sent_count
              << " of_these_counted=" << found_count << std::endl;
    return faults.empty();
}

int run(const Options &options)
{
    const std::string conninfo = options.user.empty() ? "" : "user=" + options.user;
    Tally tally = [&] {
        live::Connection connection("");
        return Tally(connection, static_cast<size_t>(options.accounts));
    }();
    std::mt19937 seeds(options.seed);
    for (int round = 0; round < options.rounds; round++) {
        std::vector<Client> clients;
        clients.reserve(static_cast<size_t>(options.clients));
        for (int i = 0; i < options.clients; i++) {
            clients.emplace_back(conninfo, tally, round, i, static_cast<unsigned>(seeds()),
                                 options.interruptions);
        }
        work(options, clients);
        await_line();
        if (!check(&tally, round, clients)) {
            return 1;
        }
        await_line();
    }
    return 0;
}

} // namespace
} // namespace usage_ledger::reliability

int main(int argc, char **argv)
{
    using namespace usage_ledger::reliability;
    try {
        return run(options_of(argc, argv));
    } catch (const std::exception &error) {
        std::cout << "FAULT: " << error.what() << std::endl;
        return 1;
    }
}
