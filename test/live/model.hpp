/*
 * model.hpp: the ledger's promises (README.md) as a small program in memory, for one
 * session. It keeps only the state that the promises need, and adds in integers wider than
 * the ledger's. From the server it takes only the time and the boundaries of cycles.
 */
#pragma once

#include <array>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "connection.hpp"
#include "times.hpp"

namespace usage_ledger::live
{

__extension__ using Wide = __int128;

struct Usage {
    Wide tokens = 0, reports = 0, chats = 0;
};
bool operator==(const Usage &a, const Usage &b);

/* Scope and model, and what the ledger keeps of each pair: five kinds, cost and events. */
using Pair = std::pair<std::string, std::string>;
using Amounts = std::array<Wide, 7>;
struct Breakdown {
    Pair pair;
    Amounts amounts;
};
struct Payload : Usage {
    std::optional<Breakdown> breakdown;
};
bool operator==(const Payload &a, const Payload &b);

enum class Settlement { immediate, adaptive, deferred };

/* What decides a call apart from its arguments and the ledger. */
struct Transaction {
    Time now;
    Settlement settlement;
    bool rejects_unknown_accounts;
};

struct Span {
    Time start, end;
};

/* A billing cycle, with its boundaries in those ranges of time that a test uses. */
struct Cycle {
    std::string length, anchor, time_zone;     /* as the server prints them */
    std::vector<std::vector<Time>> boundaries; /* in each range, in order */

    /* None if the time is outside all ranges: the model does not know its period. */
    std::optional<Span> period_covering(Time time) const;
};

/* The arguments of one call of increment_usage, or of record_usage. */
struct Report {
    Value account;
    std::optional<int64_t> tokens;
    Value key;
    bool is_report, is_chat;
    std::optional<Time> occurred_at;
    std::optional<Breakdown> breakdown;
};

/* The answer to a call: an error, or rows as the server prints them. */
using Row = std::vector<Value>;
struct Answer {
    std::string sqlstate;
    std::vector<Row> rows;
};
bool operator==(const Answer &a, const Answer &b);
std::string text_of(const Answer &answer);

/* The key of the event that records a period's opening totals. */
std::string opening_key(Time period_start);

/* A row of usage_pending. */
struct PendingRow {
    std::string account;
    Time period_start;
    Payload usage;
};

class Model
{
public:
    /* usage_ledger.max_breakdowns. */
    static constexpr size_t breakdowns_max = 4;

    /* The age of the oldest event that is accepted: usage_ledger.max_event_age. */
    static constexpr Time event_age_max = 24000 * day;

    /* A hold that is not longer has expired before the next call. */
    static constexpr Time momentary_length = 1;

    /* Takes the cycle of accounts that are registered on first use. */
    explicit Model(Cycle default_cycle) : default_cycle_(std::move(default_cycle))
    {
    }

    Answer increment_usage(const Transaction &transaction, const Report &report);
    Answer increment_usage_batch(const Transaction &transaction,
                                 const std::vector<Report> &reports);
    Answer credit_usage(const Transaction &transaction, const Report &report);
    Answer void_usage(const std::string &account, const std::string &key);
    Answer erase_usage(const std::string &account);
    Answer set_usage_cycle(const std::string &account, const Cycle &cycle);
    Answer open_usage_period(const std::string &account, const Span &span, const Usage &opening);

    Answer end_usage_period(const Transaction &transaction, const std::string &account, Time at);

    /* Takes the server's answer too, because the server chooses the time of closing. */
    Answer close_usage_period(const Transaction &transaction, const std::string &account,
                              Time period_start, const Answer &given);

    /*
     * The ledger may choose which rows it folds, and which events of a period it deletes
     * first. The model takes the rows or events that are left. If the choice is legal, the
     * model makes the same one. Otherwise the answer is an error that is no SQLSTATE.
     */
    Answer settle_usage(size_t row_count_max, const std::vector<PendingRow> &left);
    Answer prune_usage_events(const Transaction &transaction, std::optional<Time> closed_before,
                              size_t row_count_max,
                              const std::set<std::pair<std::string, std::string>> &left);

    /*
     * The server chooses the clock of a hold, and may delete dead holds. So these take its answer
     * too, and the account's rows of usage_holds that are left.
     */
    Answer reserve_usage(const Transaction &transaction, const Report &report, Time length,
                         const Answer &given, const Answer &left);
    Answer spend_usage(const Transaction &transaction, const Report &report, const Answer &given,
                       const Answer &left);
    Answer release_usage(const Transaction &transaction, const std::string &account,
                         const std::string &key, const Answer &given, const Answer &left);
    Answer set_usage_limit(const std::string &account, std::optional<int64_t> token_limit,
                           const std::string &scope);

    Answer current_usage(const Transaction &transaction, const std::string &account) const;

    /* The account's rows of usage_balances. */
    Answer balance(const Transaction &transaction, const std::string &account) const;

    /* The account's rows of usage_totals, and of usage_events. */
    Answer totals(const std::string &account) const;
    Answer events(const std::string &account) const;
    Answer breakdown(const std::string &account) const; /* of usage_breakdown_totals */

    const Cycle &cycle_of(const std::string &account) const;
    std::vector<Span> periods_of(const std::string &account) const;
    std::vector<Time> times_of_closing() const;
    bool is_covered(const std::string &account, Time time) const;

private:
    struct Period {
        Time start, end;
        Usage counter;
        std::vector<Payload> pending;
        std::optional<Time> closed_at;
        Value pruned_at;
        std::map<Pair, Amounts> breakdown; /* the rows of usage_breakdown */
    };
    struct Event {
        Time period_start, occurred_at;
        Payload payload;
        bool is_voided;
    };
    struct Account {
        Cycle cycle;
        std::map<Time, Period> periods;      /* by start */
        std::map<std::string, Event> events; /* by key */
    };
    struct Hold {
        Wide tokens;
        Time expires_at;
        bool has_expired; /* before the next call, or not during the test */
        std::string scope;
    };
    using Holds = std::map<std::string, Hold>; /* by key */
    struct Limit {
        std::map<std::string, std::optional<int64_t>> tokens; /* by level; '' is the account */
        Holds holds;
    };
    /* What decides a call at one level, and the tokens that other keys hold there. */
    struct Standing {
        std::string level;
        Wide token_limit, tokens_used, live_tokens, stored_tokens, own_tokens, own_stored_tokens;

        Wide room() const
        {
            return token_limit - tokens_used - live_tokens;
        }
        Wide least_room() const /* if no dead hold has been deleted */
        {
            return token_limit - tokens_used - stored_tokens;
        }
    };
    using Standings = std::vector<Standing>; /* from the account down */
    struct Outcome {
        std::string sqlstate, outcome;
        std::optional<Wide> tokens_used;
        Span period;
    };
    /* The pending rows that a call adds, one for each counter, or for each of its pairs. */
    using Queue = std::map<std::tuple<std::string, Time, std::optional<Pair>>, Payload>;

    /* None: the key is new. */
    std::optional<Outcome> replay(const Report &report, const Payload &payload) const;
    bool is_counted(const std::string &account, const std::string &key) const;
    bool is_live(const std::string &account, const Holds::value_type &hold) const;
    std::optional<Answer> refuse(const Transaction &transaction, const Report &report,
                                 Time time) const;
    Wide used_within(const Account &account, const Period &period, const std::string &level) const;
    Standings standings(const std::string &account, const std::string &key,
                        const std::string &scope, Time earliest, Time latest) const;
    static const Standing *refusing(const Standings &standings, Wide tokens);
    std::optional<Answer> adopt_holds(const std::string &account, const Answer &left);
    Outcome count(const Transaction &transaction, const Report &report, Queue *queue);
    static Answer answer_of(const Outcome &outcome);
    static void add_to_queue(const std::pair<std::string, Time> &counter, const Payload &payload,
                             Queue *queue);
    void add_pending(const Queue &queue);
    static Pair place_of(const Period &period, const Pair &pair);
    static void add_to_breakdown(Period *period, const std::vector<Payload> &usages);
    Account *find(const std::string &account);
    const Account *find(const std::string &account) const;
    static Row row_of(const std::string &account, const Period &period, const Usage &usage);
    static const Period *period_covering(const Account &account, Time time);
    static Period new_period(const Account &account, Time time);

    Cycle default_cycle_;
    std::map<std::string, Account> accounts_;
    std::map<std::string, Limit> limits_;
};

} // namespace usage_ledger::live
