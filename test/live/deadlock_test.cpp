/*
 * Calls of every kind, at random and in many sessions: none may end in a deadlock.
 *
 * All settlement modes are mixed, a period is a second long, and two accounts get half of
 * all calls. DEADLOCK_SECONDS says how long each test runs.
 */
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "connection.hpp"
#include "sessions.hpp"

namespace usage_ledger::live
{
namespace
{

constexpr int session_count = 16;
constexpr size_t account_count = 40, hot_account_count = 2;

/* A transaction holds that many periods by a lock each. */
constexpr size_t locked_periods_max = 32;

std::string account_id(size_t account)
{
    const std::string digits = std::to_string(account);
    return "dead0000-0000-0000-0000-" + std::string(12 - digits.size(), '0') + digits;
}

struct Event {
    size_t account;
    std::string key;
    long tokens;
};

/* Events that were counted, for every session to retry and void. */
class KnownEvents
{
public:
    void add(const Event &event)
    {
        const std::lock_guard<std::mutex> guard(mutex_);
        events_.push_back(event);
    }

    /* One of the last hundred. False: there is none. */
    bool pick(unsigned random, Event *event)
    {
        const std::lock_guard<std::mutex> guard(mutex_);
        if (events_.empty()) {
            return false;
        }
        *event = events_[events_.size() - 1 - random % std::min<size_t>(events_.size(), 100)];
        return true;
    }

private:
    std::mutex mutex_;
    std::vector<Event> events_;
};

/* A session that makes random calls. */
class Caller
{
public:
    Caller(Connection &connection, int session, KnownEvents &events, KnownEvents &reserved,
           OutcomeCounts &counts)
        : connection_(connection), session_(session), events_(events), reserved_(reserved),
          counts_(counts), random_(static_cast<unsigned>(session)), totals_(account_count)
    {
        /* A deadlock holds up the others no longer than it must. */
        connection_.value("SET deadlock_timeout = '20ms'");
        connection_.value("SET synchronous_commit = off");
    }

    /* A transaction with one call of the ledger. */
    void make_one_call()
    {
        change_settlement();
        const unsigned die = random_() % 100;
        if (die < 14) {
            count_new();
        } else if (die < 18) {
            reserve_and_count();
        } else if (die < 21) {
            spend();
        } else if (die < 22) {
            set_limit();
        } else if (die < 25) {
            retry();
        } else if (die < 30) {
            count_batch(2 + random_() % 4);
        } else if (die < 35) {
            count_batch(locked_periods_max + 1 + random_() % (account_count - locked_periods_max));
        } else if (die < 75) {
            void_event();
        } else if (die < 96) {
            close_periods(1);
        } else if (die < 97) {
            run("settle", "SELECT 'ok' FROM settle_usage(10)");
        } else if (die < 98) {
            run("prune", "SELECT 'ok' FROM prune_usage_events(now(), 100)");
        } else {
            run("cycle", "SELECT 'ok' FROM set_usage_cycle($1, '1 second')",
                {account_id(any_account())});
        }
    }

    void erase_sometimes()
    {
        if (random_() % 20 == 0) {
            run("erase", "SELECT 'ok' FROM erase_usage($1)", {account_id(any_account())});
        }
    }

    /* A transaction with several calls, which keep the lock order. */
    void make_several_calls()
    {
        change_settlement();
        const unsigned die = random_() % 8;
        if (die < 2) {
            close_periods(2 + random_() % 5);
        } else if (die < 4) {
            reserve_and_count_together();
        } else {
            make_two_calls();
        }
    }

    /* The tokens that were acknowledged, by account, without those that were voided. */
    const std::vector<long> &totals() const
    {
        return totals_;
    }

private:
    void change_settlement()
    {
        settlement_ = std::vector<std::string>{"immediate", "adaptive", "deferred"}[random_() % 3];
        connection_.value("SET usage_ledger.settlement = " + settlement_);
    }

    size_t any_account()
    {
        return random_() % (random_() % 2 == 0 ? hot_account_count : account_count);
    }

    /* What is queued is large: a void then often finds less than that in the counter. */
    Event new_event(size_t account)
    {
        const long number = ++event_count_;
        return {account, std::to_string(session_) + ":" + std::to_string(number),
                settlement_ == "deferred" ? 1000000 : 1 + number % 9};
    }

    void acknowledge(const Event &event)
    {
        totals_[event.account] += event.tokens;
        events_.add(event);
    }

    static bool is_counted(const std::string &outcome)
    {
        return outcome == "applied" || outcome == "queued";
    }

    /* Runs a call, counts what came of it, and returns its outcome, or its SQLSTATE. */
    std::string run(const std::string &kind, const std::string &sql,
                    const std::vector<Value> &parameters = {})
    {
        const Result result = connection_.run(sql, parameters);
        const std::string outcome = result.is_ok() ? result.text(0, 0) : result.sqlstate();
        counts_.add(kind + ": " + outcome);
        return outcome;
    }

    std::string count(const std::string &kind, const Event &event)
    {
        return run(kind, "SELECT outcome FROM increment_usage($1, $2, $3)",
                   {account_id(event.account), std::to_string(event.tokens), event.key});
    }

    std::string take_back(const std::string &kind, const Event &event)
    {
        return run(kind, "SELECT outcome FROM void_usage($1, $2, 'test')",
                   {account_id(event.account), event.key});
    }

    void count_new()
    {
        const Event event = new_event(any_account());
        if (is_counted(count("call", event))) {
            acknowledge(event);
        }
    }

    std::string reserve(const std::string &kind, const Event &event)
    {
        return run(kind, "SELECT outcome FROM reserve_usage($1, $2, $3, '100 ms')",
                   {account_id(event.account), std::to_string(event.tokens), event.key});
    }

    static bool may_count(const std::string &outcome)
    {
        return outcome == "reserved" || outcome == "unlimited";
    }

    /*
     * Or releases the hold, or leaves it to expire. Half of the keys are those that other
     * sessions are reserving or counting.
     */
    void reserve_and_count()
    {
        Event event = new_event(any_account());
        if (random_() % 2 == 0 || !reserved_.pick(random_() % 4, &event)) {
            reserved_.add(event);
        }
        const bool is_reserved = may_count(reserve("reserve", event));
        const unsigned die = random_() % 4;
        if (die == 0) {
            run("release", "SELECT outcome FROM release_usage($1, $2)",
                {account_id(event.account), event.key});
        } else if (die > 1 && is_reserved && is_counted(count("reserved call", event))) {
            acknowledge(event);
        }
    }

    void spend()
    {
        const Event event = new_event(any_account());
        if (is_counted(run("spend", "SELECT outcome FROM spend_usage($1, $2, $3)",
                           {account_id(event.account), std::to_string(event.tokens), event.key}))) {
            acknowledge(event);
        }
    }

    /* It is often reached, because usage in deferred mode is large. */
    void set_limit()
    {
        run("limit", "SELECT 'ok' FROM set_usage_limit($1, $2)",
            {account_id(any_account()), random_() % 4 == 0 ? Value() : Value("3000000")});
    }

    void retry()
    {
        Event event;
        if (events_.pick(random_(), &event) && is_counted(count("retry", event))) {
            acknowledge(event); /* it has been pruned, and so it is a new one */
        }
    }

    void void_event()
    {
        Event event;
        if (events_.pick(random_(), &event) && take_back("void", event) == "voided") {
            totals_[event.account] -= event.tokens;
        }
    }

    void count_batch(size_t size)
    {
        std::vector<size_t> accounts(account_count);
        std::iota(accounts.begin(), accounts.end(), 0);
        std::shuffle(accounts.begin(), accounts.end(), random_);
        std::vector<Event> events;
        std::string ids = "{", tokens = "{", keys = "{";
        for (size_t i = 0; i < size; i++) {
            const std::string separator = i + 1 < size ? "," : "}";
            events.push_back(new_event(accounts[i]));
            ids += account_id(accounts[i]) + separator;
            tokens += std::to_string(events[i].tokens) + separator;
            keys += events[i].key + separator;
        }
        const Result result =
            connection_.run("SELECT outcome FROM increment_usage_batch($1, $2, $3) ORDER BY item",
                            {ids, tokens, keys});
        counts_.add("batch: " + (result.is_ok() ? "ok" : result.sqlstate()));
        for (size_t i = 0; result.is_ok() && i < size; i++) {
            if (is_counted(result.text(static_cast<int>(i), 0))) {
                acknowledge(events[i]);
            }
        }
    }

    /* In the order of the counters. Most often it is rolled back, for the calls to go on. */
    void close_periods(size_t period_count)
    {
        const Result periods = connection_.run(
            "SELECT * FROM (SELECT account_id, period_start FROM usage_periods"
            " WHERE closed_at IS NULL AND (account_id < $2 OR random() < 0.1)"
            " ORDER BY period_start + random() * interval '2 seconds' DESC LIMIT $1) AS p"
            " ORDER BY account_id, period_start",
            {std::to_string(period_count), account_id(hot_account_count)});
        connection_.value("BEGIN");
        for (int i = 0; i < periods.row_count(); i++) {
            if (run("close", "SELECT 'ok' FROM close_usage_period($1, $2)",
                    {periods.value(i, 0), periods.value(i, 1)}) != "ok") {
                break;
            }
        }
        connection_.value(random_() % 20 == 0 ? "COMMIT" : "ROLLBACK");
    }

    /* The limit comes first in the lock order. */
    void reserve_and_count_together()
    {
        const Event event = new_event(any_account());
        connection_.value("BEGIN");
        const bool is_recorded =
            may_count(reserve("first reserve", event)) && is_counted(count("then call", event));
        if (connection_.run("COMMIT").command() == "COMMIT" && is_recorded) {
            acknowledge(event);
        }
    }

    /* Two calls for one account, each in a mode of its own. */
    void make_two_calls()
    {
        const Event first = new_event(any_account());
        connection_.value("BEGIN");
        connection_.value("SAVEPOINT before");
        const bool is_first_counted = is_counted(count("first of two", first));
        std::this_thread::sleep_for(std::chrono::microseconds(random_() % 5000));
        const bool is_first_kept = is_first_counted && random_() % 4 > 0;
        if (!is_first_kept) {
            connection_.value("ROLLBACK TO before");
        }
        change_settlement();
        const Event second = new_event(first.account);
        const bool is_void = is_first_kept && random_() % 2 == 0;
        const bool is_second_counted = is_void ? take_back("void of the first", first) == "voided"
                                               : is_counted(count("second of two", second));
        if (connection_.run("COMMIT").command() != "COMMIT" || is_void) {
            return;
        }
        if (is_first_kept) {
            acknowledge(first);
        }
        if (is_second_counted) {
            acknowledge(second);
        }
    }

    Connection &connection_;
    const int session_;
    KnownEvents &events_, &reserved_;
    OutcomeCounts &counts_;
    std::mt19937 random_;
    std::vector<long> totals_;
    std::string settlement_;
    long event_count_ = 0;
};

class Deadlock : public testing::Test
{
protected:
    /*
     * The trigger holds up a call between two of its locks, where on a small machine
     * another session's call seldom gets to run.
     */
    void SetUp() override
    {
        empty_ledger(observer);
        for (size_t i = 0; i < account_count; i++) {
            observer.value("SELECT set_usage_cycle($1, '1 second')", {account_id(i)});
            observer.value("SELECT set_usage_limit($1, 3000000)", {account_id(i)});
        }
        observer.value("CREATE FUNCTION delay() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                       " PERFORM pg_sleep(0.005) WHERE random() < 0.2; RETURN NULL; END $$");
        create_trigger(
            observer,
            "CREATE TRIGGER delay BEFORE UPDATE ON usage_periods EXECUTE FUNCTION delay()");
    }

    void TearDown() override
    {
        observer.value("DROP TRIGGER delay ON usage_periods");
        observer.value("DROP FUNCTION delay");
    }

    std::string deadlock_count()
    {
        return observer.value(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()");
    }

    /* In every session, one action after the other. */
    void run(const std::function<void(Caller &)> &act,
             std::set<std::string> expected = {"UL003", "UL004"})
    {
        expected.insert({"ok", "applied", "queued", "replayed", "voided", "reserved",
                         "limit_reached", "released", "unlimited"});
        const char *seconds = std::getenv("DEADLOCK_SECONDS");
        const auto end = std::chrono::steady_clock::now() +
                         std::chrono::seconds(seconds != nullptr ? std::stoi(seconds) : 3);
        const std::string deadlocks_before = deadlock_count();
        OutcomeCounts counts;
        KnownEvents events, reserved;
        std::mutex mutex;
        in_sessions(session_count, [&](Connection &connection, int session) {
            Caller caller(connection, session, events, reserved, counts);
            while (std::chrono::steady_clock::now() < end) {
                act(caller);
            }
            const std::lock_guard<std::mutex> guard(mutex);
            for (size_t i = 0; i < account_count; i++) {
                totals[i] += caller.totals()[i];
            }
        });

        for (const auto &[what, count] : counts.counts()) {
            EXPECT_TRUE(expected.count(what.substr(what.find(": ") + 2)) == 1)
                << what << ", " << count << " times";
        }
        EXPECT_EQ(deadlock_count(), deadlocks_before);
        EXPECT_EQ(observer.value("SELECT count(*) FROM verify_usage()"), "0");
    }

    void check_totals()
    {
        for (size_t i = 0; i < account_count; i++) {
            EXPECT_EQ(observer.value("SELECT COALESCE(sum(tokens_used), 0) FROM usage_totals"
                                     " WHERE account_id = $1",
                                     {account_id(i)}),
                      std::to_string(totals[i]));
        }
    }

    Connection observer;
    std::vector<long> totals = std::vector<long>(account_count);
};

TEST_F(Deadlock, NoneAmongSingleCalls)
{
    run([](Caller &caller) { caller.make_one_call(); });
    check_totals();
}

TEST_F(Deadlock, NoneWithTransactionsThatKeepTheOrder)
{
    run([](Caller &caller) {
        caller.make_several_calls();
        caller.make_one_call();
    });
    check_totals();
}

/* A call that has found a period before it is erased fails with 40001. */
TEST_F(Deadlock, NoneNextToErasures)
{
    run(
        [](Caller &caller) {
            caller.make_one_call();
            caller.erase_sometimes();
        },
        {"UL002", "UL003", "UL004", "40001"});
}

} // namespace
} // namespace usage_ledger::live
