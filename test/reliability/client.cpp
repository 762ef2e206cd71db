#include "client.hpp"

#include <chrono>
#include <stdexcept>
#include <thread>
#include <utility>

namespace usage_ledger::reliability
{

Client::Client(std::string conninfo, const Tally &tally, int round, int number, unsigned seed,
               Interruptions interruptions)
    : conninfo_(std::move(conninfo)), tally_(tally),
      key_prefix_(tally.key_prefix(round) + std::to_string(number) + ":"), random_(seed),
      interruptions_(interruptions)
{
}

void Client::connect()
{
    connection_ = std::make_unique<live::Connection>(conninfo_);
}

bool Client::is_lost() const
{
    return PQstatus(connection_->get()) != CONNECTION_OK;
}

unsigned Client::random(unsigned below)
{
    return static_cast<unsigned>(random_()) % below;
}

void Client::use_random_mode()
{
    static const char *const modes[] = {"immediate", "adaptive", "deferred"};
    (void)check_result(
        connection_->run(std::string("SET usage_ledger.settlement = ") + modes[random(3)]));
}

void Client::use_random_timeout()
{
    static const char *const settings[] = {
        "statement_timeout = 0",     "statement_timeout = '1ms'",
        "statement_timeout = '3ms'", "lock_timeout = 0",
        "lock_timeout = '1ms'",      "idle_in_transaction_session_timeout = '20ms'"};
    (void)check_result(
        connection_->run(std::string("SET ") + settings[random(std::size(settings))]));
}

/* Counts an error by its SQLSTATE. */
bool Client::check_result(const live::Result &result)
{
    if (!result.is_ok()) {
        const std::string sqlstate = result.sqlstate();
        errors_->add(sqlstate.empty() ? "connection lost" : sqlstate);
    }
    return result.is_ok();
}

void Client::expect(const Entry &entry, const std::string &outcome, bool is_right)
{
    if (!is_right) {
        faults_.push_back(entry.key + " was answered " + outcome);
    }
}

size_t Client::new_entry()
{
    /* At least half of the events belong to one account. */
    const size_t account =
        random(2) == 0 ? 0 : random(static_cast<unsigned>(tally_.accounts().size()));
    entries_.push_back({account, key_prefix_ + std::to_string(entries_.size()),
                        static_cast<int64_t>(random(100000)), random(2) == 0, random(3) == 0,
                        Request::sent, Request::none});
    return entries_.size() - 1;
}

namespace
{

std::string model_of(const Entry &entry)
{
    return "model " + std::to_string(entry.tokens % 5);
}

std::string scope_of(const Entry &entry)
{
    return "team " + std::to_string(entry.tokens % 3) + "/user";
}

} // namespace

live::Result Client::call(const Entry &entry)
{
    if (entry.is_broken_down) {
        return connection_->run(
            "SELECT outcome FROM record_usage($1, $2, $3, $4, $5, p_cost_nanos => -$5::bigint,"
            " p_is_report => $6)",
            {tally_.accounts()[entry.account], entry.key, model_of(entry), scope_of(entry),
             std::to_string(entry.tokens), entry.is_report ? "t" : "f"});
    }
    return connection_->run("SELECT outcome FROM increment_usage($1, $2, $3, $4)",
                            {tally_.accounts()[entry.account], std::to_string(entry.tokens),
                             entry.key, entry.is_report ? "t" : "f"});
}

live::Result Client::call_batch(const std::vector<size_t> &entries)
{
    std::string ids, tokens, keys, reports, models, scopes;
    for (const size_t i : entries) {
        const Entry &entry = entries_[i];
        const char *const comma = ids.empty() ? "" : ",";
        ids += comma + tally_.accounts()[entry.account];
        tokens += comma + std::to_string(entry.tokens);
        keys += comma + entry.key;
        reports += std::string(comma) + (entry.is_report ? "t" : "f");
        models += comma + model_of(entry);
        scopes += comma + scope_of(entry);
    }
    if (entries_[entries[0]].is_broken_down) {
        return connection_->run(
            "SELECT outcome FROM record_usage_batch($1, $2, $3, $4, $5, p_cost_nanos =>"
            " (SELECT array_agg(-tokens) FROM unnest($5::bigint[]) AS tokens), p_is_report => $6)"
            " ORDER BY item",
            {"{" + ids + "}", "{" + keys + "}", "{" + models + "}", "{" + scopes + "}",
             "{" + tokens + "}", "{" + reports + "}"});
    }
    return connection_->run(
        "SELECT outcome FROM increment_usage_batch($1, $2, $3, $4) ORDER BY item",
        {"{" + ids + "}", "{" + tokens + "}", "{" + keys + "}", "{" + reports + "}"});
}

live::Result Client::call_void(const Entry &entry)
{
    return connection_->run("SELECT outcome FROM void_usage($1, $2, 'tested')",
                            {tally_.accounts()[entry.account], entry.key});
}

void Client::acknowledge(const Requests &requests)
{
    for (const size_t i : requests.counted) {
        entries_[i].count = Request::acknowledged;
    }
    for (const size_t i : requests.voided) {
        entries_[i].void_ = Request::acknowledged;
    }
}

/* Reserves tokens under a key of the entry, at the level of its scope. */
bool Client::reserve(const Entry &entry, const std::string &key)
{
    const live::Result result = connection_->run(
        "SELECT outcome FROM reserve_usage($1, $2, $3, p_scope => $4)",
        {tally_.accounts()[entry.account], std::to_string(entry.tokens), key, scope_of(entry)});
    if (!check_result(result)) {
        return false;
    }
    expect(entry, result.text(0, 0), result.text(0, 0) == "reserved");
    return true;
}

/* Reserves more than is used, counts, and releases the rest, which has a key of its own. */
bool Client::count_reserved(Requests *requests)
{
    const size_t i = new_entry();
    const std::string key_of_rest = entries_[i].key + ":rest";
    if (!reserve(entries_[i], entries_[i].key) || !reserve(entries_[i], key_of_rest) ||
        !count(i, requests)) {
        return false;
    }
    const live::Result result =
        connection_->run("SELECT outcome FROM release_usage($1, $2)",
                         {tally_.accounts()[entries_[i].account], key_of_rest});
    if (!check_result(result)) {
        acknowledge(*requests); /* the event is, whatever becomes of the hold */
        return false;
    }
    expect(entries_[i], result.text(0, 0), result.text(0, 0) == "released");
    return true;
}

bool Client::count_one(Requests *requests)
{
    return count(new_entry(), requests);
}

bool Client::count(size_t i, Requests *requests)
{
    const live::Result result = call(entries_[i]);
    if (!check_result(result)) {
        return false;
    }
    const std::string outcome = result.text(0, 0);
    expect(entries_[i], outcome, outcome == "applied" || outcome == "queued");
    requests->counted.push_back(i);
    return true;
}

bool Client::count_batch(Requests *requests)
{
    std::vector<size_t> items;
    for (unsigned size = 2 + random(40); items.size() < size;) {
        items.push_back(new_entry());
        entries_[items.back()].is_broken_down = entries_[items[0]].is_broken_down;
    }
    const live::Result result = call_batch(items);
    if (!check_result(result)) {
        return false;
    }
    for (size_t i = 0; i < items.size(); i++) {
        const std::string outcome = result.text(static_cast<int>(i), 0);
        expect(entries_[items[i]], outcome, outcome == "applied" || outcome == "queued");
        requests->counted.push_back(items[i]);
    }
    return true;
}

/* Retries an acknowledged call, which must change nothing. */
bool Client::retry_one()
{
    const Entry &entry = entries_[random(static_cast<unsigned>(entries_.size()))];
    if (entry.count != Request::acknowledged) {
        return true;
    }
    const live::Result result = call(entry);
    if (!check_result(result)) {
        return false;
    }
    expect(entry, result.text(0, 0), result.text(0, 0) == "replayed");
    return true;
}

bool Client::void_one(Requests *requests)
{
    const size_t i = random(static_cast<unsigned>(entries_.size()));
    Entry *entry = &entries_[i];
    if (entry->count != Request::acknowledged || entry->void_ != Request::none) {
        return true;
    }
    entry->void_ = Request::sent;
    const live::Result result = call_void(*entry);
    if (!check_result(result)) {
        return false;
    }
    expect(*entry, result.text(0, 0), result.text(0, 0) == "voided");
    requests->voided.push_back(i);
    return true;
}

/* Makes several calls that are acknowledged together or not at all. */
void Client::step_in_transaction()
{
    static const char *const levels[] = {"READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"};
    Requests requests;
    bool is_ok =
        check_result(connection_->run(std::string("BEGIN ISOLATION LEVEL ") + levels[random(3)]));
    for (unsigned left = 1 + random(4); is_ok && left > 0; left--) {
        is_ok = random(5) == 0 && !entries_.empty() ? void_one(&requests) : count_one(&requests);
        if (is_ok && random(40) == 0) {
            std::this_thread::sleep_for(std::chrono::milliseconds(40)); /* idle in transaction */
        }
    }
    if (is_ok) {
        const live::Result commit = connection_->run("COMMIT");
        if (check_result(commit) && commit.command() == "COMMIT") {
            acknowledge(requests);
        }
    }
    /* Repeated because the ROLLBACK can be cancelled too. */
    while (!is_lost() && PQtransactionStatus(connection_->get()) != PQTRANS_IDLE) {
        (void)check_result(connection_->run("ROLLBACK"));
    }
}

void Client::step()
{
    use_random_mode();
    if (interruptions_ == Interruptions::frequent) {
        use_random_timeout();
        if (random(3) == 0) {
            step_in_transaction();
            return;
        }
        if (random(100) == 0) {
            connection_.reset();
            return;
        }
    }
    Requests requests;
    const unsigned choice = random(10);
    bool is_ok;
    if (choice < 1) {
        is_ok = count_reserved(&requests);
    } else if (choice < 6 || entries_.empty()) {
        is_ok = count_one(&requests);
    } else if (choice < 8) {
        is_ok = count_batch(&requests);
    } else if (choice < 9) {
        is_ok = retry_one();
    } else {
        is_ok = void_one(&requests);
    }
    if (is_ok) {
        acknowledge(requests);
    }
}

void Client::work(const std::atomic<bool> &is_over, live::OutcomeCounts *errors)
{
    errors_ = errors;
    while (!is_over) {
        try {
            if (connection_ == nullptr) {
                connect();
            }
            step();
            if (connection_ != nullptr && is_lost()) {
                connection_.reset();
            }
        } catch (const live::NoConnection &error) {
            connection_.reset();
            const bool is_full =
                std::string(error.what()).find("too many connections") != std::string::npos;
            errors_->add(is_full ? "53300" : "no connection");
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
        }
        if (connection_ == nullptr && interruptions_ == Interruptions::none) {
            return;
        }
    }
    connection_.reset();
}

void Client::retry(std::vector<std::string> *faults)
{
    connect();
    const auto record = [&](const Entry &entry, const live::Result &result, Request *request) {
        if (result.is_ok()) {
            *request = Request::acknowledged;
        } else {
            faults->push_back(entry.key + ": " + result.error_field(PG_DIAG_MESSAGE_PRIMARY));
        }
    };
    for (Entry &entry : entries_) {
        if (entry.count == Request::sent) {
            record(entry, call(entry), &entry.count);
        }
        if (entry.void_ == Request::sent) {
            record(entry, call_void(entry), &entry.void_);
        }
    }
    connection_.reset();
}

} // namespace usage_ledger::reliability
