#include "limit_load.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <stdexcept>
#include <thread>
#include <utility>

namespace usage_ledger::live
{

namespace
{

/* On a slow machine a load is longer than it should be, so that every kind of call is in it. */
constexpr int client_count = 8, call_count_min = 400;
constexpr size_t account_count = 4, recent_job_count = 10;
constexpr long first_limit = 1000, tokens_max = 150, limit_raise = 100;

/* Holds that a client counts. A short one is counted if that much of its time is left. */
constexpr const char *long_expiry = "1 hour", *short_expiry = "100 ms", *time_left = "30 ms",
                     *period_length = "150 ms";

void sleep_us(unsigned time_us)
{
    std::this_thread::sleep_for(std::chrono::microseconds(time_us));
}

} // namespace

/* A session that makes random calls. */
class LimitClient
{
public:
    LimitClient(Connection &connection, int session, LimitLoad &load)
        : connection_(connection), session_(session), load_(load),
          random_(static_cast<unsigned>(session))
    {
        connection_.value("SET deadlock_timeout = '20ms'");
        connection_.value("SET synchronous_commit = off");
    }

    void make_calls()
    {
        change_modes();
        const unsigned die = random_() % 100;
        if (die < 25) {
            reserve_and_count(new_job());
        } else if (die < 40) {
            share_job();
        } else if (die < 48) {
            count_before_expiry(new_job());
        } else if (die < 55) {
            raise_and_count(new_job());
        } else if (die < 65) {
            spend(new_job());
        } else if (die < 70) {
            abandon(new_job());
        } else if (die < 75) {
            release(new_job());
        } else if (die < 81) {
            /* A transaction may count in the period that it began in. */
            load_.modes_.has_short_periods ? spend(new_job()) : count_in_transaction(new_job());
        } else if (die < 99) {
            void_event();
        } else {
            run("raise",
                "SELECT 'ok' FROM usage_limits AS l, set_usage_limit(l.account_id,"
                " l.token_limit + $2) WHERE l.account_id = $1",
                {id_of(any_account()), std::to_string(limit_raise)});
        }
    }

private:
    template <typename Choice> Choice any_of(const std::vector<Choice> &choices)
    {
        return choices[random_() % choices.size()];
    }

    void change_modes()
    {
        const std::string isolation_level = any_of(load_.modes_.isolation_levels);
        is_read_committed_ = isolation_level == "read committed";
        connection_.value("SET usage_ledger.settlement = " + any_of(load_.modes_.settlements));
        connection_.value("SET default_transaction_isolation = '" + isolation_level + "'");
    }

    size_t any_account()
    {
        return random_() % 2 == 0 ? 0 : random_() % account_count;
    }

    const std::string &id_of(size_t account) const
    {
        return load_.accounts_[account].id;
    }

    Job new_job()
    {
        const std::string number = std::to_string(job_count_++);
        return {any_account(), std::to_string(session_) + ":" + number,
                static_cast<long>(1 + random_() % tokens_max)};
    }

    /*
     * Runs a statement until it does not fail for concurrency. At READ COMMITTED it never
     * does. A call fails with UL003 if its period has been closed since it began.
     */
    Result run(const std::string &kind, const std::string &sql,
               const std::vector<Value> &parameters)
    {
        while (true) {
            Result result = connection_.run(sql, parameters);
            const std::string error = result.sqlstate();
            if ((error == "40001" && !is_read_committed_) ||
                (error == "UL003" && load_.modes_.has_short_periods && kind != "void")) {
                load_.outcomes_.add(kind + ": retry after " + error);
                continue;
            }
            load_.outcomes_.add(kind + ": " + (result.is_ok() ? result.text(0, 0) : error));
            return result;
        }
    }

    static bool is(const Result &result, const std::string &outcome)
    {
        return result.is_ok() && result.text(0, 0) == outcome;
    }

    static bool is_counted(const Result &result)
    {
        return is(result, "applied") || is(result, "queued");
    }

    /* Calls a function, perhaps in a transaction that seems to have written before. */
    std::string call_of(const std::string &function, const std::string &further_arguments)
    {
        const bool has_written = random_() % 3 == 0;
        return has_written ? "SELECT r.* FROM pg_current_xact_id() AS x, LATERAL " + function +
                                 "($1, $2, $3 || left(x::text, 0)" + further_arguments + ") AS r"
                           : "SELECT * FROM " + function + "($1, $2, $3" + further_arguments + ")";
    }

    Result reserve(const Job &job, long tokens, const std::string &expires_in)
    {
        return run("reserve", call_of("reserve_usage", ", $4"),
                   {id_of(job.account), std::to_string(tokens), job.key, expires_in});
    }

    static constexpr const char *increment_sql = "SELECT * FROM increment_usage($1, $2, $3)";

    std::vector<Value> arguments_of(const Job &job) const
    {
        return {id_of(job.account), std::to_string(job.tokens), job.key};
    }

    void count(const Job &job)
    {
        const bool is_batch = random_() % 4 == 0;
        const Result result =
            is_batch ? run("batch",
                           "SELECT outcome FROM increment_usage_batch(ARRAY[$1]::uuid[],"
                           " ARRAY[$2]::bigint[], ARRAY[$3])",
                           arguments_of(job))
                     : run("count", increment_sql, arguments_of(job));
        if (is_counted(result)) {
            load_.acknowledge(job);
        }
    }

    void reserve_and_count(const Job &job)
    {
        if (is(reserve(job, job.tokens, long_expiry), "reserved")) {
            count(job);
        }
    }

    /* Does what another session may be doing now, with the same key. */
    void share_job()
    {
        Job job = new_job();
        if (random_() % 4 == 0 || !load_.pick_job(random_(), &job)) {
            load_.add_job(job);
        }
        reserve_and_count(job);
    }

    /* A longer stream. If it is refused, the smaller hold stays. */
    void raise_and_count(Job job)
    {
        const long first = (job.tokens + 1) / 2;
        if (!is(reserve(job, first, long_expiry), "reserved")) {
            return;
        }
        if (!is(reserve(job, job.tokens, long_expiry), "reserved")) {
            job.tokens = first;
        } else if (random_() % 2 == 0) {
            job.tokens = first; /* lowers it again */
            reserve(job, first, long_expiry);
        }
        count(job);
    }

    /* If the commit may have come too late, the tokens are a legal overrun. */
    void count_before_expiry(const Job &job)
    {
        const Result hold = reserve(job, job.tokens, short_expiry);
        if (!is(hold, "reserved")) {
            return;
        }
        const Value expires_at = hold.value(0, 2);
        sleep_us(random_() % 50000);
        connection_.value("BEGIN");
        const bool is_recorded = is_counted(connection_.run(increment_sql, arguments_of(job)));
        const bool commits = is_recorded && is_before(expires_at, time_left);
        if (connection_.run(commits ? "COMMIT" : "ROLLBACK").command() != "COMMIT") {
            return;
        }
        load_.acknowledge(job);
        if (!is_before(expires_at, "0")) {
            const std::lock_guard<std::mutex> guard(load_.mutex_);
            load_.accounts_[job.account].late_tokens += job.tokens;
        }
    }

    bool is_before(const Value &time, const std::string &margin)
    {
        return is(connection_.run("SELECT clock_timestamp() < $1::timestamptz - $2::interval",
                                  {time, margin}),
                  "t");
    }

    void spend(const Job &job)
    {
        if (random_() % 3 == 0) {
            reserve(job, (job.tokens + 1) / 2, long_expiry);
        }
        const Result result = run("spend", call_of("spend_usage", ""), arguments_of(job));
        if (is_counted(result)) {
            load_.acknowledge(job);
        } else if (random_() % 2 == 0) {
            reserve(job, 1, "1 ms"); /* a hold of it ends soon, in either way */
        } else {
            release_hold(job);
        }
    }

    void abandon(const Job &job)
    {
        reserve(job, job.tokens, std::to_string(1 + random_() % 20) + " ms");
    }

    void release_hold(const Job &job)
    {
        run("release", "SELECT * FROM release_usage($1, $2)", {id_of(job.account), job.key});
    }

    /* Another session may give it back, and so this one does not count it. */
    void release(const Job &job)
    {
        if (is(reserve(job, job.tokens, long_expiry), "reserved")) {
            release_hold(job);
            release_hold(job);
        }
    }

    /* Its snapshot may be much older than its reservation. It fails, or is rolled back, or both. */
    void count_in_transaction(const Job &job)
    {
        connection_.value("BEGIN");
        connection_.run("SELECT count(*) FROM usage_limits WHERE account_id = $1",
                        {id_of(job.account)});
        sleep_us(random_() % 20000);
        const Result hold = connection_.run(call_of("reserve_usage", ""), arguments_of(job));
        if (hold.is_ok()) {
            load_.outcomes_.add("in transaction: " + hold.text(0, 0));
        }
        const bool is_recorded = is(hold, "reserved") && random_() % 4 > 0 &&
                                 is_counted(connection_.run(increment_sql, arguments_of(job)));
        const bool commits = is_recorded && random_() % 4 > 0;
        const Result end = connection_.run(commits ? "COMMIT" : "ROLLBACK");
        if (end.command() == "COMMIT") {
            load_.acknowledge(job);
        }
    }

    void void_event()
    {
        Job job = {};
        if (!load_.pick_counted(random_(), any_account(), &job)) {
            return;
        }
        const Result result =
            run("void", "SELECT * FROM void_usage($1, $2, 'test')", {id_of(job.account), job.key});
        if (is(result, "voided")) {
            load_.acknowledge_void(job);
        }
    }

    Connection &connection_;
    const int session_;
    LimitLoad &load_;
    std::mt19937 random_;
    bool is_read_committed_ = true;
    long job_count_ = 0;
};

LimitLoad::LimitLoad(Modes modes) : modes_(std::move(modes)), accounts_(account_count)
{
    for (Account &account : accounts_) {
        account.id = new_account();
        observer_.value("SELECT set_usage_limit($1, $2)",
                        {account.id, std::to_string(first_limit)});
    }
}

void LimitLoad::open_short_periods(int duration_ms)
{
    for (const Account &account : accounts_) {
        observer_.value("SELECT count(open_usage_period($1, start, start + $2::interval))"
                        " FROM generate_series(date_trunc('milliseconds', now()),"
                        " now() + $3::interval, $2) AS start",
                        {account.id, period_length, std::to_string(duration_ms) + " ms"});
    }
}

void LimitLoad::run(int duration_ms)
{
    if (modes_.has_short_periods) {
        open_short_periods(duration_ms);
    }
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(duration_ms);
    std::thread watcher([&] { watch(); });
    std::thread settler([&] { settle_and_close(); });
    in_sessions(client_count, [&](Connection &connection, int session) {
        LimitClient client(connection, session, *this);
        while (std::chrono::steady_clock::now() < end || call_count_ < call_count_min) {
            client.make_calls();
            call_count_++;
        }
    });
    is_over_ = true;
    watcher.join();
    settler.join();
}

/*
 * The time is read after the snapshot was taken. A hold of the snapshot that has expired since
 * then is not counted, which can hide an overrun but not invent one. The same goes for a period
 * that has ended since then.
 */
void LimitLoad::watch()
{
    Connection connection;
    std::vector<std::string> ids;
    for (const Account &account : accounts_) {
        ids.push_back(account.id);
    }
    const std::string sql =
        "WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now)"
        " SELECT l.account_id,"
        " greatest(current.used + live.tokens, period.used_max) - l.token_limit,"
        " l.tokens_held - held.tokens"
        " FROM clock, usage_limits AS l,"
        " LATERAL (SELECT COALESCE(sum(tokens_used), 0) AS used FROM usage_totals AS t"
        " WHERE t.account_id = l.account_id AND period_start <= now AND period_end > now) AS "
        "current,"
        " LATERAL (SELECT COALESCE(max(tokens_used), 0) AS used_max FROM usage_totals AS t"
        " WHERE t.account_id = l.account_id) AS period,"
        " LATERAL (SELECT COALESCE(sum(tokens), 0) AS tokens FROM usage_holds AS h"
        " WHERE h.account_id = l.account_id AND h.expires_at > now AND NOT EXISTS (SELECT"
        " FROM usage_events AS e WHERE e.account_id = h.account_id"
        " AND e.idempotency_key = h.idempotency_key)) AS live,"
        " LATERAL (SELECT COALESCE(sum(tokens), 0) AS tokens FROM usage_holds AS h"
        " WHERE h.account_id = l.account_id) AS held"
        " WHERE l.account_id = ANY ($1::uuid[])";
    while (!is_over_) {
        const Result snapshot = connection.run(sql, {array_literal(ids)});
        if (snapshot.row_count() != static_cast<int>(account_count)) {
            throw std::runtime_error("no snapshot: " +
                                     snapshot.error_field(PG_DIAG_MESSAGE_PRIMARY));
        }
        for (int row = 0; row < snapshot.row_count(); row++) {
            if (snapshot.text(row, 2) != "0") {
                outcomes_.add("watch: tokens_held differs from the holds");
            }
            const std::lock_guard<std::mutex> guard(mutex_);
            for (Account &account : accounts_) {
                if (account.id == snapshot.text(row, 0)) {
                    account.excess_max =
                        std::max(account.excess_max, std::stol(snapshot.text(row, 1)));
                }
            }
        }
        snapshot_count_++;
    }
}

void LimitLoad::settle_and_close()
{
    Connection connection;
    while (!is_over_) {
        connection.value("SELECT settle_usage(20)");
        if (modes_.has_short_periods) {
            for (const Account &account : accounts_) {
                connection.value("SELECT close_usage_period(account_id, period_start)"
                                 " FROM usage_periods WHERE account_id = $1 AND closed_at IS NULL"
                                 " AND period_end < clock_timestamp() LIMIT 1",
                                 {account.id});
            }
        }
        sleep_us(20000);
    }
}

void LimitLoad::check()
{
    for (const auto &[what, count] : outcomes_.counts()) {
        const std::string outcome = what.substr(what.find(": ") + 2);
        const bool is_expected =
            outcome == "ok" || outcome == "reserved" || outcome == "limit_reached" ||
            outcome == "replayed" || outcome == "released" || outcome == "applied" ||
            outcome == "queued" || outcome == "voided" || outcome == "retry after 40001" ||
            (modes_.has_short_periods &&
             (outcome == "UL003" || outcome == "closed" || outcome == "retry after UL003"));
        EXPECT_TRUE(is_expected) << what << ", " << count << " times";
    }
    EXPECT_GT(snapshot_count_, 0);
    for (Account &account : accounts_) {
        check_account(account);
    }
}

void LimitLoad::check_account(Account &account)
{
    SCOPED_TRACE(&account == &accounts_[0] ? "the account of half of all calls"
                                           : "another account");
    EXPECT_LE(account.excess_max, account.late_tokens) << "a limit was overrun";

    std::vector<std::string> ids, tokens, keys;
    for (const Job &job : account.counted) {
        ids.push_back(account.id);
        tokens.push_back(std::to_string(job.tokens));
        keys.push_back(job.key);
    }
    const auto value = [&](const std::string &sql) { return observer_.value(sql, {account.id}); };
    const std::string total_sql =
        "SELECT COALESCE(sum(tokens_used), 0) FROM usage_totals WHERE account_id = $1";
    EXPECT_EQ(value(total_sql), std::to_string(account.total));
    EXPECT_EQ(value("SELECT count(*) FROM verify_usage($1)"), "0");

    /* Every key replays, to be counted and to be reserved. */
    EXPECT_EQ(observer_.value("SELECT string_agg(DISTINCT outcome, ' ')"
                              " FROM increment_usage_batch($1, $2, $3)",
                              {array_literal(ids), array_literal(tokens), array_literal(keys)}),
              "replayed");
    EXPECT_EQ(observer_.value("SELECT string_agg(DISTINCT outcome, ' ')"
                              " FROM unnest($2::text[]) AS key, reserve_usage($1, 1, key)",
                              {account.id, array_literal(keys)}),
              "replayed");
    EXPECT_EQ(value(total_sql), std::to_string(account.total));

    /* After all holds are released, all the room is there, and no more. */
    value("SELECT count(outcome) FROM usage_holds AS h, release_usage(account_id, idempotency_key)"
          " WHERE account_id = $1");
    const std::string room =
        value("SELECT tokens_remaining FROM usage_balances WHERE account_id = $1");
    EXPECT_EQ(value("SELECT tokens_held FROM usage_balances WHERE account_id = $1"), "0");
    const std::string sql = "SELECT outcome FROM reserve_usage($1, $2::bigint + $3, 'all')";
    if (!modes_.has_short_periods) { /* there a period may end between these calls */
        EXPECT_EQ(observer_.value(sql, {account.id, room, "1"}), "limit_reached");
        EXPECT_EQ(observer_.value(sql, {account.id, room, "0"}), "reserved");
        EXPECT_EQ(value("SELECT tokens_held FROM usage_limits WHERE account_id = $1"), room);
    }
}

void LimitLoad::acknowledge(const Job &job)
{
    const std::lock_guard<std::mutex> guard(mutex_);
    Account &account = accounts_[job.account];
    account.counted.push_back(job);
    account.voidable.push_back(job);
    account.total += job.tokens;
}

void LimitLoad::acknowledge_void(const Job &job)
{
    const std::lock_guard<std::mutex> guard(mutex_);
    accounts_[job.account].total -= job.tokens;
}

/* Most are given to one session only, the others to several. False: there is none. */
bool LimitLoad::pick_counted(unsigned random, size_t account, Job *job)
{
    const std::lock_guard<std::mutex> guard(mutex_);
    std::vector<Job> &voidable = accounts_[account].voidable;
    if (voidable.empty()) {
        return false;
    }
    std::swap(voidable[random / 4 % voidable.size()], voidable.back());
    *job = voidable.back();
    if (random % 4 > 0) {
        voidable.pop_back();
    }
    return true;
}

void LimitLoad::add_job(const Job &job)
{
    const std::lock_guard<std::mutex> guard(mutex_);
    jobs_.push_back(job);
}

/* One of the last. False: there is none. */
bool LimitLoad::pick_job(unsigned random, Job *job)
{
    const std::lock_guard<std::mutex> guard(mutex_);
    if (jobs_.empty()) {
        return false;
    }
    *job = jobs_[jobs_.size() - 1 - random % std::min(jobs_.size(), recent_job_count)];
    return true;
}

} // namespace usage_ledger::live
