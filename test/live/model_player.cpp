#include "model_player.hpp"

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <set>
#include <sstream>
#include <stdexcept>

namespace usage_ledger::live
{

namespace
{

/* verify_usage is called after this many steps, and at the end. */
constexpr size_t verify_interval = 250;

/* Times lie near this many boundaries around the focus, so that many events share a period. */
constexpr size_t edge_count = 25;

Answer answer_of(const Result &result)
{
    Answer answer = {result.sqlstate(), {}};
    if (!result.is_ok()) {
        if (answer.sqlstate.empty()) {
            answer.sqlstate = "not run";
        }
        return answer;
    }
    for (int row = 0; row < result.row_count(); row++) {
        answer.rows.emplace_back();
        for (int column = 0; column < result.column_count(); column++) {
            answer.rows.back().push_back(result.value(row, column));
        }
    }
    return answer;
}

std::string quoted(const Value &value)
{
    return value ? "'" + *value + "'" : "NULL";
}

Value text_of_time(const std::optional<Time> &time)
{
    return time ? Value(text_of(*time)) : Value();
}

/* An array literal. The elements of these tests need no escapes. */
template <typename Element>
std::string array_of(const std::vector<Report> &reports, Element element)
{
    std::string literal;
    for (const Report &report : reports) {
        const Value value = element(report);
        literal += (literal.empty() ? "{" : ",") + (value ? "\"" + *value + "\"" : "NULL");
    }
    return literal.empty() ? "{}" : literal + "}";
}

/* The column breakdown of a pending row. */
std::optional<Breakdown> breakdown_of(const Value &value)
{
    if (!value) {
        return {};
    }
    std::istringstream parts(*value);
    Breakdown breakdown = {};
    std::getline(parts, breakdown.pair.first, '\t');
    std::getline(parts, breakdown.pair.second, '\t');
    for (Wide &amount : breakdown.amounts) {
        int64_t number = 0;
        parts >> number;
        amount = number;
    }
    return breakdown;
}

const char *text_of_settlement(Settlement settlement)
{
    static constexpr const char *texts[] = {"immediate", "adaptive", "deferred"};
    return texts[static_cast<int>(settlement)];
}

/* Computes the boundaries of a cycle, as docs/periods.md describes them under "Periods". */
constexpr const char *boundaries_sql =
    "SELECT range.number, cycle.anchor, boundary.time"
    " FROM (SELECT date_trunc('milliseconds', COALESCE($1::timestamptz, timestamp '2001-01-01' AT "
    "TIME ZONE $2)) AS anchor,"
    " $2::text AS zone, $3::integer AS months, $4::integer AS days, $5::interval AS rest,"
    " $3::integer * 2629746.0 + $4::integer * 86400.0 + extract(epoch FROM $5::interval) AS length)"
    " AS cycle,"
    " (VALUES (1, $6::timestamptz, $7::timestamptz),"
    " (2, now() - interval '3 days', now() + interval '3 hours'),"
    " (3, now() - interval '24000 days', now() - interval '24000 days'))"
    " AS range (number, first, last),"
    " generate_series(floor(extract(epoch FROM range.first - cycle.anchor) / length)::integer - 3,"
    " ceil(extract(epoch FROM range.last - cycle.anchor) / length)::integer + 3) AS n,"
    " LATERAL (SELECT ((cycle.anchor AT TIME ZONE zone)"
    " + make_interval(months => months * n, days => days * n)) AT TIME ZONE zone + n * rest AS "
    "time)"
    " AS boundary"
    " ORDER BY range.number, n";

} // namespace

/* One sequence of steps on its own accounts. */
class Player::Game
{
public:
    Game(Player &player, size_t scene)
        : player_(player), scene_(scenes().at(scene)), focus_(time_of(scene_.focus)),
          model_(player.cycle_of_server(scene_, {"1 mon", 1, 0, 0}, {}, "UTC"))
    {
        /* The accounts sort in the same order in all games of a seed and a scene. */
        std::mt19937_64 random(player.seed_ + scene);
        for (int account = 0; account < account_count; account++) {
            char text[64];
            (void)snprintf(text, sizeof(text), "%08x-%04x-4000-8000-%012x",
                           static_cast<unsigned>(random() & 0xffffffff),
                           static_cast<unsigned>(account), player.game_count_);
            accounts_.emplace_back(text);
            all_accounts_ += (account == 0 ? "{" : ",") + accounts_.back();
        }
        all_accounts_ += "}";
        player.game_count_++;
        now_ = time_of(player_.connection_.value("SELECT now()"));
    }

    ~Game()
    {
        if (before_transaction_) {
            player_.connection_.run("ROLLBACK");
        }
        for (const char *table :
             {"usage_pending", "usage_events", "usage_breakdown", "usage_periods", "usage_accounts",
              "usage_limits", "usage_holds"}) {
            player_.connection_.run(std::string("DELETE FROM ") + table +
                                        " WHERE account_id = ANY ($1::uuid[])",
                                    {all_accounts_});
        }
        player_.connection_.run(
            "VACUUM usage_pending, usage_events, usage_breakdown, usage_periods,"
            " usage_accounts, usage_limits, usage_holds");
    }

    Game(const Game &) = delete;
    Game &operator=(const Game &) = delete;

    std::optional<Difference> play(const std::vector<Step> &steps, std::string *transcript)
    {
        for (size_t i = 0; i < steps.size(); i++) {
            std::string difference = play(steps[i], transcript);
            if (difference.empty() && i % verify_interval == verify_interval - 1) {
                difference = verify();
            }
            if (!difference.empty()) {
                return Difference{i, difference};
            }
        }
        Step end = {};
        end.function = Function::end;
        std::string difference = play(end, transcript) + verify();
        for (const std::string &account : accounts_) {
            difference += compare("events of account " + account, model_.events(account),
                                  run_now("events", {account}));
        }
        return difference.empty() ? std::optional<Difference>()
                                  : Difference{steps.size(), difference};
    }

private:
    /* A step's call, with real accounts, keys and times. */
    struct Call {
        Query query;
        Query choice;                      /* reads what the ledger chose; most calls have none */
        std::vector<std::string> accounts; /* those whose totals the call may change */
        std::vector<Report> reports;
        std::optional<Time> start, end;
        std::optional<Cycle> cycle;
        Time hold_length;
    };

    std::string account_of(const Item &item) const
    {
        return accounts_[static_cast<size_t>(std::max(item.account, 0))];
    }

    Time edge(const Cycle &cycle, const When &when) const
    {
        const std::vector<Time> &edges = cycle.boundaries.at(0);
        const auto middle = static_cast<size_t>(
            std::upper_bound(edges.begin(), edges.end(), focus_) - edges.begin());
        const size_t wanted = middle + when.number % edge_count;
        return edges[std::min(std::max(wanted, edge_count / 2) - edge_count / 2, edges.size() - 2)];
    }

    /* None means now. */
    std::optional<Time> time_of_when(const std::string &account, const When &when) const
    {
        const Cycle &cycle = model_.cycle_of(account);
        const std::vector<Span> periods = model_.periods_of(account);
        Time time = edge(cycle, when);
        switch (when.near) {
        case When::Near::now:
            return {};
        case When::Near::from_now:
            return now_ + when.offset;
        case When::Near::edge_of_cycle:
            break;
        case When::Near::start_of_period:
            time = periods.empty() ? time : periods[when.number % periods.size()].start;
            break;
        case When::Near::end_of_period:
            time = periods.empty() ? time : periods[when.number % periods.size()].end;
            break;
        }
        time += when.offset;
        /* If the model does not know the boundaries there, use a boundary that it knows. */
        return model_.is_covered(account, time) || cycle.period_covering(time) ? time
                                                                               : edge(cycle, when);
    }

    Value key_of(const Item &item) const
    {
        switch (item.key) {
        case -1:
            return {};
        case -2:
            return opening_key(time_of_when(account_of(item), {item.when.near, item.when.number, 0})
                                   .value_or(now_));
        case -3:
            return "";
        default:
            return "key " + std::to_string(item.key);
        }
    }

    Report report_of(const Item &item) const
    {
        return {item.account < 0 ? Value() : account_of(item),
                item.has_tokens ? std::optional<int64_t>(item.tokens) : std::nullopt,
                key_of(item),
                item.is_report,
                item.is_chat,
                time_of_when(account_of(item), item.when),
                {}};
    }

    /* What is passed under limits: a scope, whose events have no model and one kind. */
    Report claim_of(const Item &item) const
    {
        Report report = report_of(item);
        const std::string scope = scopes[item.pair % std::size(scopes)];
        if (!scope.empty()) {
            report.breakdown = {{scope, ""}, {item.tokens, 0, 0, 0, 0, 0, 1}};
        }
        return report;
    }

    static Value scope_of(const Report &report)
    {
        return report.breakdown ? report.breakdown->pair.first : "";
    }

    /* What record_usage is given for an item: its tokens, in several kinds. */
    Report record_of(const Item &item) const
    {
        Report report = report_of(item);
        const Wide tokens = item.tokens, part = tokens > 0 ? tokens / 7 : 0;
        report.breakdown = {
            {scopes[item.pair % std::size(scopes)],
             models[item.pair / std::size(scopes) % std::size(models)]},
            {tokens - 4 * part, part, 2 * part, 0, part, item.key * 1001 - 25000, 1}};
        return report;
    }

    /* An amount of a breakdown; the first one is NULL if there are no tokens. */
    static Value amount_of(const Report &report, size_t amount)
    {
        return amount == 0 && !report.tokens
                   ? Value()
                   : std::to_string(static_cast<int64_t>(report.breakdown->amounts[amount]));
    }

    static Value tokens_of(const Report &report)
    {
        return report.tokens ? Value(std::to_string(*report.tokens)) : Value();
    }

    Call call_of(const Step &step)
    {
        Call call = {};
        for (const Item &item : step.items) {
            const bool is_claim =
                step.function == Function::reserve || step.function == Function::spend;
            const bool is_record =
                step.function == Function::record || step.function == Function::record_batch;
            call.reports.push_back(is_claim    ? claim_of(item)
                                   : is_record ? record_of(item)
                                               : report_of(item));
            if (std::find(call.accounts.begin(), call.accounts.end(), account_of(item)) ==
                call.accounts.end()) {
                call.accounts.push_back(account_of(item));
            }
        }
        switch (step.function) {
        case Function::increment:
        case Function::spend: {
            const bool spends = step.function == Function::spend;
            const Report &report = call.reports[0];
            call.query = {spends ? "spend_usage" : "increment_usage",
                          {report.account, tokens_of(report), report.key,
                           report.is_report ? "t" : "f", report.is_chat ? "t" : "f",
                           text_of_time(report.occurred_at)}};
            if (spends) {
                call.query.parameters.push_back(scope_of(report));
                call.choice = {"holds", {call.accounts[0]}};
            }
            break;
        }
        case Function::batch: {
            const std::vector<Report> &reports = call.reports;
            call.query = {
                "increment_usage_batch",
                {array_of(reports, [](const Report &r) { return r.account; }),
                 array_of(reports, tokens_of),
                 array_of(reports, [](const Report &r) { return r.key; }),
                 array_of(reports, [](const Report &r) { return r.is_report ? "t" : "f"; }),
                 array_of(reports, [](const Report &r) { return r.is_chat ? "t" : "f"; }),
                 array_of(reports, [](const Report &r) { return text_of_time(r.occurred_at); })}};
            break;
        }
        case Function::record: {
            const Report &report = call.reports[0];
            call.query = {"record_usage",
                          {report.account, report.key, report.breakdown->pair.second,
                           report.breakdown->pair.first}};
            for (size_t amount = 0; amount + 1 < Amounts().size(); amount++) {
                call.query.parameters.push_back(amount_of(report, amount));
            }
            for (const Value &value :
                 {Value(report.is_report ? "t" : "f"), Value(report.is_chat ? "t" : "f"),
                  text_of_time(report.occurred_at)}) {
                call.query.parameters.push_back(value);
            }
            break;
        }
        case Function::record_batch: {
            const std::vector<Report> &reports = call.reports;
            call.query = {
                "record_usage_batch",
                {array_of(reports, [](const Report &r) { return r.account; }),
                 array_of(reports, [](const Report &r) { return r.key; }),
                 array_of(reports, [](const Report &r) { return r.breakdown->pair.second; }),
                 array_of(reports, [](const Report &r) { return r.breakdown->pair.first; })}};
            for (size_t amount = 0; amount + 1 < Amounts().size(); amount++) {
                call.query.parameters.push_back(
                    array_of(reports, [&](const Report &r) { return amount_of(r, amount); }));
            }
            call.query.parameters.push_back(
                array_of(reports, [](const Report &r) { return r.is_report ? "t" : "f"; }));
            call.query.parameters.push_back(
                array_of(reports, [](const Report &r) { return r.is_chat ? "t" : "f"; }));
            call.query.parameters.push_back(
                array_of(reports, [](const Report &r) { return text_of_time(r.occurred_at); }));
            break;
        }
        case Function::credit: {
            const Report &report = call.reports[0];
            call.query = {"credit_usage", {report.account, tokens_of(report), report.key, "owed"}};
            break;
        }
        case Function::void_event:
            call.query = {"void_usage", {call.accounts[0], key_of(step.items[0]), "mistaken"}};
            break;
        case Function::reserve: {
            const Report &report = call.reports[0];
            /* In a transaction of several calls, usage_balances stays at one time. */
            call.hold_length = before_transaction_ && step.hold_length == Model::momentary_length
                                   ? 17 * minute
                                   : step.hold_length;
            call.query = {"reserve_usage",
                          {report.account, tokens_of(report), report.key,
                           std::to_string(call.hold_length) + " microseconds", scope_of(report)}};
            call.choice = {"holds", {call.accounts[0]}};
            break;
        }
        case Function::release:
            call.query = {"release_usage", {call.accounts[0], key_of(step.items[0])}};
            call.choice = {"holds", {call.accounts[0]}};
            break;
        case Function::set_limit:
            call.query = {"set_usage_limit",
                          {call.accounts[0],
                           step.token_limit < -1 ? Value() : std::to_string(step.token_limit),
                           step.limited_scope}};
            break;
        case Function::balance:
            call.query = {"balance", {call.accounts[0]}};
            break;
        case Function::end_period:
            call.end = time_of_when(call.accounts[0], step.items[0].when).value_or(now_);
            call.query = {"end_usage_period", {call.accounts[0], text_of_time(call.end)}};
            break;
        case Function::close:
            call.start = time_of_when(call.accounts[0], step.items[0].when).value_or(now_);
            call.query = {"close_usage_period", {call.accounts[0], text_of_time(call.start)}};
            break;
        case Function::open:
            call.start = time_of_when(call.accounts[0], step.items[0].when).value_or(now_);
            call.end = *call.start + step.span;
            call.query = {"open_usage_period",
                          {call.accounts[0], text_of_time(call.start), text_of_time(call.end),
                           std::to_string(static_cast<int64_t>(step.opening.tokens)),
                           std::to_string(static_cast<int64_t>(step.opening.reports)),
                           std::to_string(static_cast<int64_t>(step.opening.chats))}};
            break;
        case Function::set_cycle: {
            const Length &length = scene_.lengths[step.length % scene_.lengths.size()];
            const std::string time_zone = time_zones[step.time_zone % std::size(time_zones)];
            const char *anchor = anchors[step.anchor % std::size(anchors)];
            const Value anchor_time =
                anchor == nullptr ? Value() : std::string(anchor) + " " + time_zone;
            call.cycle = player_.cycle_of_server(scene_, length, anchor_time, time_zone);
            call.query = {"set_usage_cycle",
                          {call.accounts[0], length.text, anchor_time, time_zone}};
            break;
        }
        case Function::settle:
            call.query = {"settle_usage", {std::to_string(step.row_count)}};
            call.choice = {"pending", {all_accounts_}};
            call.accounts = accounts_;
            break;
        case Function::prune: {
            const std::vector<Time> times = model_.times_of_closing();
            const size_t number = step.items[0].when.number % (times.size() + 1);
            call.end = number < times.size() ? std::optional<Time>(times[number]) : std::nullopt;
            call.query = {
                "prune_usage_events",
                {call.end ? text_of(*call.end) : "infinity", std::to_string(step.row_count)}};
            call.choice = {"closed_keys", {all_accounts_}};
            call.accounts = accounts_;
            break;
        }
        case Function::erase:
            call.query = {"erase_usage", {call.accounts[0]}};
            break;
        case Function::current:
            call.query = {"current_usage", {call.accounts[0]}};
            break;
        case Function::begin:
        case Function::end:
            break;
        }
        return call;
    }

    Answer answer_of_model(const Step &step, const Call &call, const Transaction &transaction,
                           const Answer &given, const Answer &left)
    {
        switch (step.function) {
        case Function::increment:
        case Function::record:
            return model_.increment_usage(transaction, call.reports[0]);
        case Function::batch:
        case Function::record_batch:
            return model_.increment_usage_batch(transaction, call.reports);
        case Function::credit:
            return model_.credit_usage(transaction, call.reports[0]);
        case Function::end_period:
            return model_.end_usage_period(transaction, call.accounts[0], *call.end);
        case Function::void_event: {
            const Value &key = call.query.parameters[1];
            return key ? model_.void_usage(call.accounts[0], *key) : Answer{"22004", {}};
        }
        case Function::close:
            return model_.close_usage_period(transaction, call.accounts[0], *call.start, given);
        case Function::open:
            return model_.open_usage_period(call.accounts[0], {*call.start, *call.end},
                                            step.opening);
        case Function::set_cycle:
            return model_.set_usage_cycle(call.accounts[0], *call.cycle);
        case Function::settle: {
            std::vector<PendingRow> rows;
            for (const Row &row : left.rows) {
                rows.push_back(
                    {*row.at(0),
                     time_of(*row.at(1)),
                     {{std::stoll(*row.at(2)), std::stoll(*row.at(3)), std::stoll(*row.at(4))},
                      breakdown_of(row.at(6))}});
            }
            return model_.settle_usage(static_cast<size_t>(step.row_count), rows);
        }
        case Function::prune: {
            std::set<std::pair<std::string, std::string>> keys;
            for (const Row &row : left.rows) {
                keys.insert({*row.at(0), *row.at(1)});
            }
            return model_.prune_usage_events(transaction, call.end,
                                             static_cast<size_t>(step.row_count), keys);
        }
        case Function::erase:
            return model_.erase_usage(call.accounts[0]);
        case Function::current:
            return model_.current_usage(transaction, call.accounts[0]);
        case Function::reserve:
            return model_.reserve_usage(transaction, call.reports[0], call.hold_length, given,
                                        left);
        case Function::spend:
            return model_.spend_usage(transaction, call.reports[0], given, left);
        case Function::release: {
            const Value &key = call.query.parameters[1];
            return key ? model_.release_usage(transaction, call.accounts[0], *key, given, left)
                       : Answer{"22004", {}};
        }
        case Function::set_limit:
            return model_.set_usage_limit(
                call.accounts[0],
                step.token_limit < -1 ? std::nullopt : std::optional<int64_t>(step.token_limit),
                step.limited_scope);
        case Function::balance:
            return model_.balance(transaction, call.accounts[0]);
        case Function::begin:
        case Function::end:
            break;
        }
        throw std::logic_error("no call of the ledger");
    }

    /* Returns the difference, or an empty string. */
    std::string play(const Step &step, std::string *transcript)
    {
        switch (step.function) {
        case Function::begin:
        case Function::end:
            play_boundary(step, transcript);
            return "";
        default:
            return play_call(step, transcript);
        }
    }

    /* Begins or ends a transaction of several calls, unless that has happened already. */
    void play_boundary(const Step &step, std::string *transcript)
    {
        if ((step.function == Function::begin) == before_transaction_.has_value()) {
            return;
        }
        const std::string command = step.function == Function::begin ? "BEGIN"
                                    : step.is_undone                 ? "ROLLBACK"
                                                                     : "COMMIT";
        player_.connection_.value(command);
        if (transcript != nullptr) {
            *transcript += command + "\n";
        }
        if (step.function == Function::begin) {
            before_transaction_ = model_;
            return;
        }
        if (step.is_undone) {
            model_ = *before_transaction_;
        }
        before_transaction_.reset();
    }

    std::string play_call(const Step &step, std::string *transcript)
    {
        const Call call = call_of(step);
        std::vector<std::vector<Query>> groups = {
            {{"settings",
              {text_of_settlement(step.settlement),
               step.rejects_unknown_accounts ? "reject" : "register"}},
             call.query}};
        if (!call.choice.statement.empty()) {
            groups[0].push_back(call.choice);
        }

        /* A transaction of several calls continues after an error or an undone call. */
        const bool is_in_transaction = before_transaction_.has_value();
        const bool is_undone = is_in_transaction && step.is_undone;
        std::vector<Result> results;
        if (is_in_transaction) {
            player_.connection_.value("SAVEPOINT before_call");
            results = run_in_pipeline(player_.connection_, groups);
            if (is_undone || !results[1].is_ok()) {
                player_.connection_.value("ROLLBACK TO before_call");
            }
            groups.clear();
        }
        for (const std::string &account : call.accounts) {
            groups.push_back({Query{"totals", {account}}});
            groups.push_back({Query{"breakdown", {account}}});
        }
        for (Result &result : run_in_pipeline(player_.connection_, groups)) {
            results.push_back(std::move(result));
        }

        now_ = time_of(results[0].text(0, 0));
        const Transaction transaction = {now_, step.settlement, step.rejects_unknown_accounts};
        const Answer given = answer_of(results[1]);
        const Answer left = call.choice.statement.empty() ? Answer() : answer_of(results[2]);
        if (transcript != nullptr) {
            *transcript += sql_of(step, call, is_undone) + "\n -> " + text_of(given) + "\n";
        }
        count_outcome(call, given);

        const std::optional<Model> before = is_undone ? std::optional<Model>(model_) : std::nullopt;
        std::string difference =
            compare("answer", answer_of_model(step, call, transaction, given, left), given);
        if (before) {
            model_ = *before;
        }
        const size_t totals = results.size() - 2 * call.accounts.size();
        for (size_t i = 0; i < call.accounts.size(); i++) {
            const std::string &account = call.accounts[i];
            difference += compare("totals of account " + account, model_.totals(account),
                                  answer_of(results[totals + 2 * i]));
            difference += compare("breakdown of account " + account, model_.breakdown(account),
                                  answer_of(results[totals + 2 * i + 1]));
        }
        return difference;
    }

    /* Returns the rows that differ, or an empty string. */
    static std::string compare(const std::string &what, const Answer &expected, const Answer &given)
    {
        if (expected == given) {
            return "";
        }
        std::string text = what + ":\n";
        if (expected.sqlstate != given.sqlstate) {
            return text + "  expected " + text_of(expected) + "\n  given    " + text_of(given) +
                   "\n";
        }
        const auto is_in = [](const Row &row, const Answer &answer) {
            return std::find(answer.rows.begin(), answer.rows.end(), row) != answer.rows.end();
        };
        for (const Row &row : expected.rows) {
            text += is_in(row, given) ? "" : "  expected " + text_of(Answer{"", {row}}) + "\n";
        }
        for (const Row &row : given.rows) {
            text += is_in(row, expected) ? "" : "  given    " + text_of(Answer{"", {row}}) + "\n";
        }
        return text;
    }

    std::string verify()
    {
        return compare("verify_usage()", Answer(), run_now("verify_usage", {}));
    }

    Answer run_now(const char *statement, const std::vector<Value> &parameters)
    {
        const std::vector<Query> group = {{statement, parameters}};
        return answer_of(run_in_pipeline(player_.connection_, {group})[0]);
    }

    std::string sql_of(const Step &step, const Call &call, bool is_undone) const
    {
        std::string sql = player_.statements_.at(call.query.statement);
        for (size_t i = call.query.parameters.size(); i > 0; i--) {
            const std::string name = "$" + std::to_string(i);
            sql.replace(sql.find(name), name.size(), quoted(call.query.parameters[i - 1]));
        }
        return std::string(text_of_settlement(step.settlement)) +
               (step.rejects_unknown_accounts ? ", reject" : "") + (is_undone ? ", undone" : "") +
               ": " + sql;
    }

    static bool has_outcome(const std::string &statement)
    {
        static const std::set<std::string> statements = {
            "increment_usage", "record_usage", "credit_usage", "void_usage",
            "reserve_usage",   "spend_usage",  "release_usage"};
        return statements.count(statement) != 0;
    }

    void count_outcome(const Call &call, const Answer &given)
    {
        if (!given.sqlstate.empty()) {
            player_.outcome_counts_[call.query.statement + " " + given.sqlstate]++;
        } else if (call.query.statement == "increment_usage_batch" ||
                   call.query.statement == "record_usage_batch") {
            for (const Row &row : given.rows) {
                player_.outcome_counts_["item " + *row.at(1)]++;
            }
        } else if (has_outcome(call.query.statement)) {
            const Row &row = given.rows.at(0);
            const bool names_scope = row[0] == "limit_reached" && !row.back()->empty();
            player_.outcome_counts_[call.query.statement + " " + *row[0] +
                                    (names_scope ? " by a scope" : "")]++;
        } else {
            player_.outcome_counts_[call.query.statement]++;
        }
    }

    Player &player_;
    const Scene &scene_;
    const Time focus_;
    Model model_;
    std::optional<Model> before_transaction_; /* none outside a transaction of several calls */
    Time now_;
    std::vector<std::string> accounts_;
    std::string all_accounts_;
};

Player::Player(uint64_t seed) : seed_(seed)
{
    for (const char *setting :
         {"synchronous_commit = off", "timezone = 'UTC'", "datestyle = 'ISO'",
          "client_min_messages = error", "log_min_messages = fatal", "statement_timeout = '20s'"}) {
        connection_.value(std::string("SET ") + setting);
    }
    empty_ledger(connection_);
    connection_.value("LOAD 'usage_ledger'");
    connection_.value(
        "SELECT set_config('usage_ledger.max_event_age', $1, false),"
        " set_config('usage_ledger.max_breakdowns', $2, false)",
        {std::to_string(Model::event_age_max / second), std::to_string(Model::breakdowns_max)});

    prepare("settings", "SELECT now(), set_config('usage_ledger.settlement', $1, true),"
                        " set_config('usage_ledger.unknown_account', $2, true)");
    prepare("increment_usage", "SELECT * FROM increment_usage($1, $2, $3, $4, $5, $6)");
    prepare("increment_usage_batch",
            "SELECT item, outcome, tokens_used, period_start, period_end, detail IS NOT NULL"
            " FROM increment_usage_batch($1, $2, $3, $4, $5, $6)");
    prepare("record_usage", "SELECT * FROM record_usage($1, $2, $3, $4, $5, $6, $7, $8, $9, $10,"
                            " $11, $12, $13)");
    prepare("record_usage_batch",
            "SELECT item, outcome, tokens_used, period_start, period_end, detail IS NOT NULL"
            " FROM record_usage_batch($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)");
    prepare("credit_usage", "SELECT * FROM credit_usage($1, $2, $3, $4)");
    prepare("end_usage_period", "SELECT * FROM end_usage_period($1, $2)");
    prepare("void_usage", "SELECT * FROM void_usage($1, $2, $3)");
    prepare("close_usage_period", "SELECT * FROM close_usage_period($1, $2)");
    prepare("open_usage_period", "SELECT * FROM open_usage_period($1, $2, $3, $4, $5, $6)");
    prepare("set_usage_cycle", "SELECT account_id, period_length, period_anchor, time_zone"
                               " FROM set_usage_cycle($1, $2, $3, $4)");
    prepare("settle_usage", "SELECT settle_usage($1)");
    prepare("prune_usage_events", "SELECT prune_usage_events($1, $2)");
    prepare("erase_usage", "SELECT erase_usage($1)");
    prepare("current_usage", "SELECT * FROM current_usage($1)");
    prepare("reserve_usage", "SELECT * FROM reserve_usage($1, $2, $3, $4, $5)");
    prepare("spend_usage", "SELECT * FROM spend_usage($1, $2, $3, $4, $5, $6, $7)");
    prepare("release_usage", "SELECT * FROM release_usage($1, $2)");
    prepare("set_usage_limit",
            "SELECT account_id, token_limit, scope FROM set_usage_limit($1, $2, $3)");
    prepare("balance", "SELECT scope, token_limit, tokens_used, tokens_held, tokens_remaining"
                       " FROM usage_balances WHERE account_id = $1 ORDER BY scope COLLATE \"C\"");
    prepare("holds", "SELECT idempotency_key, tokens, expires_at, scope FROM usage_holds"
                     " WHERE account_id = $1");
    prepare("totals", "SELECT * FROM usage_totals WHERE account_id = $1 ORDER BY period_start");
    prepare("breakdown", "SELECT * FROM usage_breakdown_totals WHERE account_id = $1"
                         " ORDER BY period_start, scope, model");
    prepare("pending", "SELECT * FROM usage_pending WHERE account_id = ANY ($1)");
    prepare("closed_keys", "SELECT account_id, idempotency_key"
                           " FROM usage_events JOIN usage_periods USING (account_id, period_start)"
                           " WHERE account_id = ANY ($1) AND closed_at IS NOT NULL");
    prepare("events", "SELECT idempotency_key, period_start, tokens, reports, chats,"
                      " voided_at IS NOT NULL FROM usage_events WHERE account_id = $1"
                      " ORDER BY idempotency_key COLLATE \"C\"");
    prepare("verify_usage", "SELECT * FROM verify_usage()");
    prepare("boundaries", boundaries_sql);
}

std::optional<Difference> Player::play(size_t scene, const std::vector<Step> &steps,
                                       std::string *transcript)
{
    return Game(*this, scene).play(steps, transcript);
}

void Player::prepare(const char *name, const std::string &sql)
{
    const Result result(PQprepare(connection_.get(), name, sql.c_str(), 0, nullptr));
    if (!result.is_ok()) {
        throw std::runtime_error(sql + ": " + result.error_field(PG_DIAG_MESSAGE_PRIMARY));
    }
    statements_[name] = sql;
}

Cycle Player::cycle_of_server(const Scene &scene, const Length &length, const Value &anchor,
                              const std::string &time_zone)
{
    const Time focus = time_of(scene.focus);
    const std::vector<Query> group = {
        {"boundaries",
         {anchor, time_zone, std::to_string(length.months), std::to_string(length.days),
          std::to_string(length.time) + " microseconds", text_of(focus - scene.reach),
          text_of(focus + scene.reach)}}};
    const std::vector<Result> results = run_in_pipeline(connection_, {group});
    const Result &boundaries = results[0];
    if (!boundaries.is_ok()) {
        throw std::runtime_error(boundaries.error_field(PG_DIAG_MESSAGE_PRIMARY));
    }
    Cycle cycle = {length.text, boundaries.text(0, 1), time_zone, {}};
    for (int row = 0; row < boundaries.row_count(); row++) {
        if (std::stoul(boundaries.text(row, 0)) > cycle.boundaries.size()) {
            cycle.boundaries.emplace_back();
        }
        cycle.boundaries.back().push_back(time_of(boundaries.text(row, 2)));
    }
    return cycle;
}

} // namespace usage_ledger::live
