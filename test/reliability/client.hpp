/*
 * client.hpp: one session of a worker that meets trouble: it calls in every way there
 * is, remembers what it was not answered, and asks again later.
 */
#pragma once

#include <atomic>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "books.hpp"
#include "live/connection.hpp"
#include "live/sessions.hpp"

namespace usage_ledger::reliability
{

/* What makes a session's calls fail, apart from what others do to it. */
enum class Habits {
    plain,  /* nothing: one call after the other, until the connection is lost */
    hurried /* short timeouts, long transactions in any order and isolation, lost connections */
};

class Client
{
public:
    Client(std::string conninfo, const Books &books, int round, int number, unsigned seed,
           Habits habits);

    void connect();

    /* Calls until told to stop or, with plain habits, until the connection is lost. */
    void work(const std::atomic<bool> &is_over, live::Tally *tally);

    /* Asks again, over a fresh connection, for everything that was not acknowledged. */
    void retry(std::vector<std::string> *faults);

    const std::vector<Entry> &entries() const
    {
        return entries_;
    }

    /* Answers that are wrong whatever happened. */
    const std::vector<std::string> &faults() const
    {
        return faults_;
    }

private:
    bool is_lost() const;
    unsigned random(unsigned below);
    void use_random_mode();
    void hurry();

    size_t new_entry();
    live::Result call(const Entry &entry);
    live::Result call_batch(const std::vector<size_t> &entries);
    live::Result call_void(const Entry &entry);

    /* What a unit of work asked for, and is acknowledged with it. */
    struct Requests {
        std::vector<size_t> counted, voided;
    };
    void acknowledge(const Requests &requests);

    void step();
    void step_in_transaction();

    /* False: it failed. */
    bool count_one(Requests *requests);
    bool count_batch(Requests *requests);
    bool repeat_one();
    bool void_one(Requests *requests);
    bool note(const live::Result &result);
    void expect(const Entry &entry, const std::string &outcome, bool is_right);

    const std::string conninfo_;
    const Books &books_;
    const std::string key_prefix_;
    std::mt19937 random_;
    const Habits habits_;
    std::unique_ptr<live::Connection> connection_;
    std::vector<Entry> entries_;
    std::vector<std::string> faults_;
    live::Tally *tally_ = nullptr;
};

} // namespace usage_ledger::reliability
