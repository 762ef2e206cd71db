/*
 * books.hpp: what the clients asked for and were told, and what must therefore be in
 * the ledger.
 */
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "live/connection.hpp"

namespace usage_ledger::reliability
{

/* Asked for: sent, and not answered. It may have been done or not. */
enum class Request { none, sent, acknowledged };

/* An event of one client, who alone calls with its key. */
struct Entry {
    size_t account; /* in Books::accounts */
    std::string key;
    int64_t tokens;
    bool is_report;
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

class Books
{
public:
    /* Of a run that begins now, with accounts of its own. */
    Books(live::Connection &connection, size_t account_count);

    const std::vector<std::string> &accounts() const
    {
        return accounts_;
    }

    /* What all keys of a round begin with. */
    std::string key_prefix(int round) const
    {
        return run_ + ":" + std::to_string(round) + ":";
    }

    /*
     * Before the retries: what was acknowledged is there, once, with its payload; what
     * was not is there or not; and the totals are those of what is there. Adds what is
     * wrong to faults; returns how many of the unacknowledged events are there.
     */
    int check_before_retries(live::Connection &connection, int round,
                             const std::vector<Entry> &entries, std::vector<std::string> *faults);

    /* After them: everything is there, once. Takes the round into the books. */
    void check_after_retries(live::Connection &connection, int round,
                             const std::vector<Entry> &entries, std::vector<std::string> *faults);

private:
    /* In the ledger: by key, whether it is voided. */
    std::map<std::string, bool> read_events(live::Connection &connection, int round,
                                            const std::vector<Entry> &entries,
                                            std::vector<std::string> *faults) const;
    void check_totals(live::Connection &connection, const std::vector<AccountTotals> &expected,
                      std::vector<std::string> *faults) const;

    std::vector<std::string> accounts_;
    std::string run_;
    std::vector<AccountTotals> totals_; /* of the rounds before */
};

} // namespace usage_ledger::reliability
