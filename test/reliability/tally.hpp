/*
 * tally.hpp: compares the ledger with the requests that the clients sent and the answers
 * that they received.
 */
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "live/connection.hpp"

namespace usage_ledger::reliability
{

/* A request that was sent but not acknowledged may have been carried out or not. */
enum class Request { none, sent, acknowledged };

/* An event of one client. No other client uses its key. */
struct Entry {
    size_t account; /* index into Tally::accounts */
    std::string key;
    int64_t tokens;
    bool is_report;
    bool is_broken_down; /* counted by record_usage; its tokens decide on model and scope */
    Request count;
    Request void_;
};

struct AccountTotals {
    int64_t tokens, reports;
    bool operator==(const AccountTotals &other) const
    {
        return tokens == other.tokens && reports == other.reports;
    }
};

class Tally
{
public:
    /* Starts a run with new accounts, which have limits that nothing reaches. */
    Tally(live::Connection &connection, size_t account_count);

    const std::vector<std::string> &accounts() const
    {
        return accounts_;
    }

    /* All keys of a round begin with this. */
    std::string key_prefix(int round) const
    {
        return run_ + ":" + std::to_string(round) + ":";
    }

    /*
     * Before the retries, every acknowledged event is recorded once, with its payload. An
     * unacknowledged event is recorded once or not at all. The totals equal the sums of the
     * recorded events. Adds each violation to faults. Returns how many unacknowledged
     * events are recorded.
     */
    int check_before_retries(live::Connection &connection, int round,
                             const std::vector<Entry> &entries, std::vector<std::string> *faults);

    /* After the retries, every event is recorded once. Adds the round to the totals. */
    void check_after_retries(live::Connection &connection, int round,
                             const std::vector<Entry> &entries, std::vector<std::string> *faults);

private:
    /* Returns the round's events in the ledger: the key, and whether the event is voided. */
    std::map<std::string, bool> read_events(live::Connection &connection, int round,
                                            const std::vector<Entry> &entries,
                                            std::vector<std::string> *faults) const;
    void check_totals(live::Connection &connection, const std::vector<AccountTotals> &expected,
                      std::vector<std::string> *faults) const;
    void check_holds(live::Connection &connection, std::vector<std::string> *faults) const;

    std::vector<std::string> accounts_;
    std::string run_;
    std::vector<AccountTotals> totals_; /* of the previous rounds */
};

} // namespace usage_ledger::reliability
