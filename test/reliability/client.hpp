/*
 * client.hpp: one client that is interrupted. It makes calls of every kind, remembers the
 * ones without an answer, and retries them later.
 */
#pragma once

#include <atomic>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "live/connection.hpp"
#include "live/sessions.hpp"
#include "tally.hpp"

namespace usage_ledger::reliability
{

/* How often a client interrupts its own calls. The server may interrupt them in any case. */
enum class Interruptions {
    none,    /* makes one call after another until the connection is lost */
    frequent /* short timeouts, disconnects, long transactions of every isolation level */
};

class Client
{
public:
    Client(std::string conninfo, const Tally &tally, int round, int number, unsigned seed,
           Interruptions interruptions);

    void connect();

    /*
     * Makes calls until is_over or, with Interruptions::none, until the connection is lost.
     * Counts the errors.
     */
    void work(const std::atomic<bool> &is_over, live::OutcomeCounts *errors);

    /* Retries every request that was not acknowledged, over a new connection. */
    void retry(std::vector<std::string> *faults);

    const std::vector<Entry> &entries() const
    {
        return entries_;
    }

    /* Answers that are wrong whatever has happened to the server. */
    const std::vector<std::string> &faults() const
    {
        return faults_;
    }

private:
    bool is_lost() const;
    unsigned random(unsigned below);
    void use_random_mode();
    void use_random_timeout();

    size_t new_entry();
    live::Result call(const Entry &entry);
    live::Result call_batch(const std::vector<size_t> &entries);
    live::Result call_void(const Entry &entry);

    /* The requests of one transaction, which are acknowledged together. */
    struct Requests {
        std::vector<size_t> counted, voided;
    };
    void acknowledge(const Requests &requests);

    void step();
    void step_in_transaction();

    /* These return whether the call succeeded. */
    bool count(size_t i, Requests *requests);
    bool count_one(Requests *requests);
    bool reserve(const Entry &entry, const std::string &key);
    bool count_reserved(Requests *requests);
    bool count_batch(Requests *requests);
    bool retry_one();
    bool void_one(Requests *requests);
    bool check_result(const live::Result &result);
    void expect(const Entry &entry, const std::string &outcome, bool is_right);

    const std::string conninfo_;
    const Tally &tally_;
    const std::string key_prefix_;
    std::mt19937 random_;
    const Interruptions interruptions_;
    std::unique_ptr<live::Connection> connection_;
    std::vector<Entry> entries_;
    std::vector<std::string> faults_;
    live::OutcomeCounts *errors_ = nullptr;
};

} // namespace usage_ledger::reliability
