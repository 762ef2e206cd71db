#include "tally.hpp"

namespace usage_ledger::reliability
{

namespace
{

void add(std::vector<AccountTotals> *totals, const Entry &entry)
{
    (*totals)[entry.account].tokens += entry.tokens;
    (*totals)[entry.account].reports += entry.is_report ? 1 : 0;
}

} // namespace

Tally::Tally(live::Connection &connection, size_t account_count)
    : run_(connection.value("SELECT gen_random_uuid()")), totals_(account_count, {0, 0})
{
    for (size_t i = 0; i < account_count; i++) {
        accounts_.push_back(connection.value("SELECT gen_random_uuid()"));
        for (const char *scope : {"", "team 0", "team 1", "team 2/user"}) {
            (void)connection.run("SELECT set_usage_limit($1, 1000000000000000, $2)",
                                 {accounts_[i], scope});
        }
    }
}

std::map<std::string, bool> Tally::read_events(live::Connection &connection, int round,
                                               const std::vector<Entry> &entries,
                                               std::vector<std::string> *faults) const
{
    std::map<std::string, const Entry *> sent;
    for (const Entry &entry : entries) {
        sent[entry.key] = &entry;
    }
    const live::Result result =
        connection.run("SELECT idempotency_key, account_id, tokens, reports, voided_at IS NOT NULL"
                       " FROM usage_events WHERE starts_with(idempotency_key, $1)",
                       {key_prefix(round)});
    if (!result.is_ok()) {
        faults->push_back("cannot read events: " + result.error_field(PG_DIAG_MESSAGE_PRIMARY));
    }
    std::map<std::string, bool> found;
    for (int row = 0; row < result.row_count(); row++) {
        const std::string key = result.text(row, 0);
        const auto entry = sent.find(key);
        if (entry == sent.end()) {
            faults->push_back(key + " was never sent");
        } else if (accounts_[entry->second->account] != result.text(row, 1) ||
                   std::to_string(entry->second->tokens) != result.text(row, 2) ||
                   (entry->second->is_report ? "1" : "0") != result.text(row, 3)) {
            faults->push_back(key + " is recorded as another event");
        }
        if (!found.insert({key, result.text(row, 4) == "t"}).second) {
            faults->push_back(key + " is recorded twice");
        }
    }
    return found;
}

void Tally::check_totals(live::Connection &connection, const std::vector<AccountTotals> &expected,
                         std::vector<std::string> *faults) const
{
    for (size_t i = 0; i < accounts_.size(); i++) {
        const live::Result result =
            connection.run("SELECT coalesce(sum(tokens_used), 0), coalesce(sum(reports_used), 0)"
                           " FROM usage_totals WHERE account_id = $1",
                           {accounts_[i]});
        if (result.text(0, 0) != std::to_string(expected[i].tokens) ||
            result.text(0, 1) != std::to_string(expected[i].reports)) {
            faults->push_back("account " + accounts_[i] + " has " + result.text(0, 0) +
                              " tokens and " + result.text(0, 1) + " reports instead of " +
                              std::to_string(expected[i].tokens) + " and " +
                              std::to_string(expected[i].reports));
        }
    }
    const std::string violations = connection.value("SELECT count(*) FROM verify_usage()");
    if (violations != "0") {
        faults->push_back("verify_usage() lists " + violations + " violations");
    }
}

/* Each event is recorded, so that only the holds with other keys count. */
void Tally::check_holds(live::Connection &connection, std::vector<std::string> *faults) const
{
    for (const std::string &account : accounts_) {
        const live::Result result =
            connection.run("SELECT (SELECT sum(tokens_held) FROM usage_balances"
                           "         WHERE account_id = $1 AND scope = ''),"
                           "       (SELECT coalesce(sum(tokens), 0) FROM usage_holds"
                           "         WHERE account_id = $1 AND idempotency_key LIKE '%:rest'"
                           "           AND expires_at > now())",
                           {account});
        if (!result.is_ok() || result.text(0, 0) != result.text(0, 1)) {
            faults->push_back("account " + account + " does not hold what its holds have");
        }
    }
}

int Tally::check_before_retries(live::Connection &connection, int round,
                                const std::vector<Entry> &entries, std::vector<std::string> *faults)
{
    const std::map<std::string, bool> found = read_events(connection, round, entries, faults);
    std::vector<AccountTotals> totals = totals_;
    int unacknowledged_count = 0;
    for (const Entry &entry : entries) {
        const auto event = found.find(entry.key);
        const bool is_recorded = event != found.end();
        const bool is_voided = is_recorded && event->second;
        if (!is_recorded && entry.count == Request::acknowledged) {
            faults->push_back(entry.key + " was acknowledged but is lost");
        }
        if (is_recorded && ((is_voided && entry.void_ == Request::none) ||
                            (!is_voided && entry.void_ == Request::acknowledged))) {
            faults->push_back(entry.key + (is_voided ? " is voided" : " is not voided"));
        }
        unacknowledged_count += is_recorded && entry.count == Request::sent ? 1 : 0;
        if (is_recorded && !is_voided) {
            add(&totals, entry);
        }
    }
    check_totals(connection, totals, faults);
    return unacknowledged_count;
}

void Tally::check_after_retries(live::Connection &connection, int round,
                                const std::vector<Entry> &entries, std::vector<std::string> *faults)
{
    const std::map<std::string, bool> found = read_events(connection, round, entries, faults);
    for (const Entry &entry : entries) {
        const auto event = found.find(entry.key);
        if (event == found.end()) {
            faults->push_back(entry.key + " was retried but is not recorded");
        } else if (event->second != (entry.void_ != Request::none)) {
            faults->push_back(entry.key + (event->second ? " is voided" : " is not voided"));
        }
        if (entry.void_ == Request::none) {
            add(&totals_, entry);
        }
    }
    check_totals(connection, totals_, faults);
    check_holds(connection, faults);
}

} // namespace usage_ledger::reliability
