/*
 * limit_load.hpp: random calls for a few accounts with limits, in many sessions, and a
 * watcher that compares every snapshot with the limits.
 *
 * Each client counts at most its hold, and before the hold expires. So no limit may be
 * overrun. Half of all calls are for the first account.
 */
#pragma once

#include <atomic>
#include <mutex>
#include <string>
#include <vector>

#include "connection.hpp"
#include "sessions.hpp"

namespace usage_ledger::live
{

/* Work that is reserved and counted under one key, perhaps by several sessions. */
struct Job {
    size_t account;
    std::string key;
    long tokens;
};

/* What the sessions of a load share. */
class LimitLoad
{
public:
    struct Modes {
        std::vector<std::string> settlements, isolation_levels; /* a session uses all of them */
        bool has_short_periods;
    };

    explicit LimitLoad(Modes modes);

    /* Runs clients, a settler, a session that closes periods, and the watcher. */
    void run(int duration_ms);

    /* Checks what is left after the load. */
    void check();

    const OutcomeCounts &outcomes() const
    {
        return outcomes_;
    }

private:
    friend class LimitClient;
    struct Account {
        std::string id;
        std::vector<Job> counted;  /* each key once */
        std::vector<Job> voidable; /* most of those that are not voided */
        long total = 0;            /* of those that are not voided */
        long late_tokens = 0;      /* perhaps counted after the hold has expired */
        long excess_max = 0;       /* the most that a snapshot had above the limit */
    };

    void open_short_periods(int duration_ms);
    void watch();
    void settle_and_close();
    void check_account(Account &account);

    void acknowledge(const Job &job);
    void acknowledge_void(const Job &job);
    bool pick_counted(unsigned random, size_t account, Job *job);
    void add_job(const Job &job);
    bool pick_job(unsigned random, Job *job);

    const Modes modes_;
    Connection observer_;
    OutcomeCounts outcomes_;
    std::mutex mutex_; /* protects the members below */
    std::vector<Account> accounts_;
    std::vector<Job> jobs_;
    std::atomic<bool> is_over_{false};
    std::atomic<int> call_count_{0};
    long snapshot_count_ = 0;
};

} // namespace usage_ledger::live
