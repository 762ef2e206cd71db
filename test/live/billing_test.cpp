/*
 * A ledger under random load: calls, batches, retries and voids in every settlement mode,
 * with concurrent closes, settlers, pruners and a checker. Every session records what the
 * ledger acknowledged. In the end these records must agree with every invoice.
 */
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "connection.hpp"
#include "sessions.hpp"

namespace usage_ledger::live
{
namespace
{

constexpr int account_count = 4, day_count = 12, session_count = 10, steps_per_session = 200;

/* An event that a session sends, and records once it is acknowledged. */
struct Event {
    std::string account, key, period_start;
    int tokens, day;
    bool is_counted;
};

class Billing : public testing::Test
{
protected:
    void SetUp() override
    {
        for (int i = 0; i < account_count; i++) {
            accounts.push_back(new_account());
            Connection().value("SELECT set_usage_cycle($1, '1 day')", {accounts.back()});
        }
    }

    /* Repeats a body in a session and thread of its own until is_done. */
    template <typename Body> void repeat_in_background(Body body)
    {
        const auto seed = static_cast<unsigned>(background_threads.size());
        background_threads.emplace_back([this, body, seed] {
            Connection connection;
            std::mt19937 random(seed);
            while (!is_done) {
                body(connection, random);
            }
        });
    }

    /*
     * Closes a random day of one account, or two days of all accounts. The last three days
     * are never closed.
     */
    void close(Connection &connection, std::mt19937 &random)
    {
        const bool is_one = random() % 3 != 0;
        const std::string first_day = std::to_string(3 + random() % (day_count - 3));
        const Result result = connection.run(
            "SELECT p.account_id, p.period_start, p.tokens_used"
            " FROM (SELECT account_id, period_start FROM usage_periods WHERE account_id = ANY ($1)"
            " AND date_trunc('day', now(), 'UTC') - period_start"
            " BETWEEN $2::integer * interval '1 day' AND $3::integer * interval '1 day'"
            " ORDER BY 1, 2) AS due,"
            " close_usage_period(due.account_id, due.period_start) AS p",
            {array_literal(is_one ? std::vector{accounts[random() % accounts.size()]} : accounts),
             first_day, is_one ? first_day : std::to_string(std::stoi(first_day) + 1)});
        EXPECT_EQ(result.sqlstate(), "");
        const std::lock_guard<std::mutex> guard(mutex);
        for (int row = 0; result.is_ok() && row < result.row_count(); row++) {
            const auto [invoice, is_first] =
                invoices.insert({{result.text(row, 0), result.text(row, 1)}, result.text(row, 2)});
            EXPECT_EQ(invoice->second, result.text(row, 2)) << "the invoice changed";
            closed_count += is_first ? 1 : 0;
        }
    }

    std::vector<std::string> accounts;
    std::vector<std::thread> background_threads;
    std::atomic<bool> is_done{false};

    std::mutex mutex;
    std::map<std::pair<std::string, std::string>, std::string> invoices;
    std::map<std::pair<std::string, std::string>, int64_t> expected_tokens;
    int closed_count = 0;
    OutcomeCounts outcomes;
};

/* Makes one session's calls and records the acknowledged events. */
class Reporter
{
public:
    Reporter(Connection &connection, int session, const std::vector<std::string> &accounts,
             OutcomeCounts &outcomes)
        : connection_(connection), session_(session), random_(static_cast<unsigned>(session)),
          accounts_(accounts), outcomes_(outcomes)
    {
    }

    void step()
    {
        static const char *const modes[] = {"immediate", "adaptive", "deferred"};
        connection_.value(std::string("SET usage_ledger.settlement = ") + modes[random_() % 3]);
        const unsigned choice = random_() % 10;
        if (choice < 5 || events_.empty()) {
            count(1);
        } else if (choice < 6) {
            count(2 + static_cast<int>(random_() % 60)); /* in up to 48 periods */
        } else if (choice < 8) {
            retry(events_[random_() % events_.size()]);
        } else {
            void_event(events_[random_() % events_.size()]);
        }
    }

    const std::vector<Event> &events() const
    {
        return events_;
    }

private:
    Event new_event()
    {
        return {accounts_[random_() % accounts_.size()],
                std::to_string(session_) + ":" + std::to_string(key_count_++),
                "",
                static_cast<int>(random_() % 1000),
                static_cast<int>(random_() % day_count),
                false};
    }

    static std::string occurred_at(const Event &event)
    {
        return "now() - interval '" + std::to_string(event.day) + " days'";
    }

    Result call(const Event &event)
    {
        return connection_.run("SELECT outcome, period_start FROM increment_usage($1, $2, $3,"
                               " p_occurred_at => " +
                                   occurred_at(event) + ")",
                               {event.account, std::to_string(event.tokens), event.key});
    }

    /* Counts one event with a call, several with a batch. */
    void count(int event_count)
    {
        std::vector<Event> events;
        std::string ids, tokens, keys, times;
        for (int i = 0; i < event_count; i++) {
            events.push_back(new_event());
            const std::string comma = i == 0 ? "" : ", ";
            ids += comma + "'" + events.back().account + "'";
            tokens += comma + std::to_string(events.back().tokens);
            keys += comma + "'" + events.back().key + "'";
            times += comma + occurred_at(events.back());
        }
        const Result result =
            event_count == 1
                ? call(events[0])
                : connection_.run("SELECT outcome, period_start FROM increment_usage_batch(ARRAY[" +
                                  ids + "]::uuid[], ARRAY[" + tokens + "], ARRAY[" + keys +
                                  "], p_occurred_at => ARRAY[" + times + "])");
        if (!result.is_ok()) {
            outcomes_.add(result);
            return;
        }
        for (int i = 0; i < event_count; i++) {
            const std::string outcome = result.text(i, 0);
            outcomes_.add(outcome);
            if (outcome != "closed") {
                Event event = events[static_cast<size_t>(i)];
                event.period_start = result.text(i, 1);
                event.is_counted = true;
                events_.push_back(event);
            }
        }
    }

    void retry(const Event &event)
    {
        const Result result = call(event);
        outcomes_.add(result.is_ok() ? "retry " + result.text(0, 0) : "retry " + result.sqlstate());
    }

    void void_event(Event &event)
    {
        const Result result = connection_.run("SELECT outcome FROM void_usage($1, $2, 'random')",
                                              {event.account, event.key});
        if (!result.is_ok()) {
            outcomes_.add("void " + result.sqlstate());
            return;
        }
        outcomes_.add(result.text(0, 0) == "voided" ? "voided" : "void " + result.text(0, 0));
        EXPECT_EQ(result.text(0, 0), event.is_counted ? "voided" : "replayed");
        event.is_counted = false;
    }

    Connection &connection_;
    const int session_;
    std::mt19937 random_;
    const std::vector<std::string> &accounts_;
    OutcomeCounts &outcomes_;
    std::vector<Event> events_;
    int key_count_ = 0;
};

TEST_F(Billing, EveryInvoiceEqualsTheAcknowledgedUsage)
{
    std::atomic<int> check_count{0}, violation_count{0}, pruned_count{0};
    for (int i = 0; i < 2; i++) {
        repeat_in_background([&](Connection &connection, std::mt19937 &random) {
            close(connection, random);
            std::this_thread::sleep_for(std::chrono::milliseconds(30));
        });
        repeat_in_background([&](Connection &connection, std::mt19937 &) {
            EXPECT_EQ(connection.run("SELECT settle_usage(50)").sqlstate(), "");
        });
        repeat_in_background([&](Connection &connection, std::mt19937 &) {
            pruned_count +=
                std::stoi(connection.value("SELECT prune_usage_events('infinity', 20)"));
            std::this_thread::sleep_for(std::chrono::milliseconds(50));
        });
    }
    repeat_in_background([&](Connection &connection, std::mt19937 &) {
        violation_count += std::stoi(connection.value("SELECT count(*) FROM verify_usage()"));
        check_count++;
    });

    in_sessions(session_count, [&](Connection &connection, int session) {
        Reporter reporter(connection, session, accounts, outcomes);
        for (int step = 0; step < steps_per_session; step++) {
            reporter.step();
        }
        const std::lock_guard<std::mutex> guard(mutex);
        for (const Event &event : reporter.events()) {
            expected_tokens[{event.account, event.period_start}] +=
                event.is_counted ? event.tokens : 0;
        }
    });
    is_done = true;
    for (std::thread &thread : background_threads) {
        thread.join();
    }

    EXPECT_EQ(violation_count, 0);
    EXPECT_GT(check_count, 0);
    EXPECT_GT(closed_count, account_count);
    EXPECT_GT(pruned_count, 0);
    std::map<std::string, int> counts = outcomes.counts();
    for (const char *outcome : {"applied", "queued", "closed", "UL003", "voided", "void UL003",
                                "void replayed", "retry replayed"}) {
        EXPECT_GT(counts[outcome], 0) << outcome;
        counts.erase(outcome);
    }
    /* A retry or void of a pruned event can fail, because the event is gone. */
    counts.erase("retry UL003");
    counts.erase("void UL004");
    EXPECT_EQ(counts, (std::map<std::string, int>{}));

    Connection connection;
    const Result totals = connection.run(
        "SELECT account_id, period_start, tokens_used FROM usage_totals WHERE account_id = ANY "
        "($1)",
        {array_literal(accounts)});
    ASSERT_TRUE(totals.is_ok());
    for (int row = 0; row < totals.row_count(); row++) {
        const std::pair<std::string, std::string> period = {totals.text(row, 0),
                                                            totals.text(row, 1)};
        EXPECT_EQ(totals.text(row, 2), std::to_string(expected_tokens[period])) << period.second;
        expected_tokens.erase(period);
        const auto invoice = invoices.find(period);
        if (invoice != invoices.end()) {
            EXPECT_EQ(totals.text(row, 2), invoice->second) << period.second;
        }
    }
    EXPECT_TRUE(expected_tokens.empty());
    EXPECT_EQ(connection.value("SELECT count(*) FROM verify_usage()"), "0");
}

} // namespace
} // namespace usage_ledger::live
