#include "model.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>

namespace usage_ledger::live
{

namespace
{

constexpr Wide counter_max = std::numeric_limits<int64_t>::max();
constexpr Wide opening_count_max = std::numeric_limits<int32_t>::max();
constexpr int64_t event_tokens_max = 1000000000000;
constexpr size_t key_length_max = 255;
constexpr Time millisecond = 1000;
constexpr Time clock_skew_max = 5 * minute;
constexpr size_t kind_count = 5; /* of tokens, the first amounts of a breakdown */

bool is_key(const std::string &key)
{
    return !key.empty() && key.size() <= key_length_max;
}

Usage operator+(const Usage &a, const Usage &b)
{
    return {a.tokens + b.tokens, a.reports + b.reports, a.chats + b.chats};
}

Usage operator-(const Usage &a)
{
    return {-a.tokens, -a.reports, -a.chats};
}

Payload negative(const Payload &payload)
{
    Payload negated = {-payload, payload.breakdown};
    if (negated.breakdown) {
        for (Wide &amount : negated.breakdown->amounts) {
            amount = -amount;
        }
    }
    return negated;
}

void add(Amounts *sum, const Amounts &amounts)
{
    for (size_t i = 0; i < amounts.size(); i++) {
        (*sum)[i] += amounts[i];
    }
}

Usage sum_of(const std::vector<Payload> &usages)
{
    Usage sum;
    for (const Usage &usage : usages) {
        sum = sum + usage;
    }
    return sum;
}

bool overflows(const Usage &counter)
{
    return counter.tokens > counter_max || counter.reports > counter_max ||
           counter.chats > counter_max;
}

bool is_below_zero(const Usage &counter)
{
    return counter.tokens < 0 || counter.reports < 0 || counter.chats < 0;
}

std::string text_of_number(Wide number)
{
    std::string text;
    for (Wide rest = number < 0 ? -number : number; rest > 0 || text.empty(); rest /= 10) {
        text.insert(text.begin(), static_cast<char>('0' + static_cast<int>(rest % 10)));
    }
    return number < 0 ? "-" + text : text;
}

Answer error(const std::string &sqlstate)
{
    return {sqlstate, {}};
}

Answer value(const std::string &text)
{
    return {"", {{text}}};
}

/* An answer that no answer of the ledger equals. */
Answer violation(const std::string &what)
{
    return {"violation: " + what, {}};
}

/* Whether an event is acceptable, apart from its time. */
bool has_valid_arguments(const Report &report)
{
    return report.account && report.tokens && report.key && is_key(*report.key) &&
           *report.tokens >= 0 && *report.tokens <= event_tokens_max;
}

/* The outcome of a batch item whose own call would fail. */
std::string item_outcome(const std::string &sqlstate)
{
    return sqlstate == "UL001"   ? "conflict"
           : sqlstate == "UL002" ? "unknown_account"
           : sqlstate == "UL003" ? "closed"
           : sqlstate == "UL005" ? "out_of_time"
                                 : "invalid";
}

} // namespace

bool operator==(const Usage &a, const Usage &b)
{
    return a.tokens == b.tokens && a.reports == b.reports && a.chats == b.chats;
}

bool operator==(const Payload &a, const Payload &b)
{
    const Usage &usage_of_a = a, &usage_of_b = b;
    return usage_of_a == usage_of_b && a.breakdown.has_value() == b.breakdown.has_value() &&
           (!a.breakdown || (a.breakdown->pair == b.breakdown->pair &&
                             a.breakdown->amounts == b.breakdown->amounts));
}

bool operator==(const Answer &a, const Answer &b)
{
    return a.sqlstate == b.sqlstate && a.rows == b.rows;
}

std::string text_of(const Answer &answer)
{
    if (!answer.sqlstate.empty()) {
        return answer.sqlstate;
    }
    std::string text;
    for (const Row &row : answer.rows) {
        text += text.empty() ? "" : "\n    ";
        for (const Value &field : row) {
            text += (&field == &row[0] ? "" : " | ") + field.value_or("NULL");
        }
    }
    return answer.rows.empty() ? "no rows" : text;
}

std::string opening_key(Time period_start)
{
    std::string start = text_of(period_start);
    start[start.find(' ')] = 'T';
    return "opening:" + start + ":00";
}

std::optional<Span> Cycle::period_covering(Time time) const
{
    for (const std::vector<Time> &range : boundaries) {
        const auto next = std::upper_bound(range.begin(), range.end(), time);
        if (next != range.begin() && next != range.end()) {
            return Span{*(next - 1), *next};
        }
    }
    return {};
}

Answer Model::answer_of(const Outcome &outcome)
{
    if (!outcome.sqlstate.empty()) {
        return error(outcome.sqlstate);
    }
    return {"",
            {{outcome.outcome,
              outcome.tokens_used ? Value(text_of_number(*outcome.tokens_used)) : Value(),
              text_of(outcome.period.start), text_of(outcome.period.end)}}};
}

Answer Model::increment_usage(const Transaction &transaction, const Report &report)
{
    Queue queue;
    const Outcome outcome = count(transaction, report, &queue);
    add_pending(queue);
    return answer_of(outcome);
}

Answer Model::credit_usage(const Transaction &transaction, const Report &report)
{
    if (!report.account || !report.tokens || !report.key) {
        return error("22004");
    }
    if (!has_valid_arguments(report) || *report.tokens == 0) {
        return error("22023");
    }
    const Payload payload = {{-Wide(*report.tokens), 0, 0}, {}};
    if (const std::optional<Outcome> replayed = replay(report, payload)) {
        return answer_of(*replayed);
    }
    Account *account = find(*report.account);
    if (account == nullptr && transaction.rejects_unknown_accounts) {
        return error("UL002");
    }
    const Period *existing =
        account != nullptr ? period_covering(*account, transaction.now) : nullptr;
    if (existing == nullptr) {
        return error("22023");
    }
    if (existing->closed_at) {
        return error("UL003");
    }
    const Usage total = existing->counter + sum_of(existing->pending) + payload;
    if (is_below_zero(total)) {
        return error("22023");
    }
    if (overflows(total)) {
        return error("22003");
    }
    Period &period = account->periods.at(existing->start);
    period.counter = total;
    add_to_breakdown(&period, period.pending);
    period.pending.clear();
    account->events[*report.key] = {period.start, transaction.now, payload, false};
    return answer_of({"", "applied", total.tokens, {period.start, period.end}});
}

Answer Model::increment_usage_batch(const Transaction &transaction,
                                    const std::vector<Report> &reports)
{
    Queue queue;
    Answer answer;
    std::map<std::pair<std::string, std::string>, Outcome> refusals; /* by account and key */
    for (size_t i = 0; i < reports.size(); i++) {
        const Report &report = reports[i];
        const bool is_valid = has_valid_arguments(report);
        const auto name = std::make_pair(report.account.value_or(""), report.key.value_or(""));
        const auto refusal = refusals.find(name);
        const Outcome outcome = is_valid && refusal != refusals.end()
                                    ? refusal->second
                                    : count(transaction, report, &queue);
        if (is_valid && !outcome.sqlstate.empty() && outcome.sqlstate != "UL001") {
            refusals[name] = outcome;
        }
        const std::string item = std::to_string(i + 1);
        if (!outcome.sqlstate.empty()) {
            answer.rows.push_back({item, item_outcome(outcome.sqlstate), {}, {}, {}, "t"});
        } else {
            answer.rows.push_back(
                {item, outcome.outcome,
                 outcome.tokens_used ? Value(text_of_number(*outcome.tokens_used)) : Value(),
                 text_of(outcome.period.start), text_of(outcome.period.end), "f"});
        }
    }
    add_pending(queue);
    return answer;
}

std::optional<Model::Outcome> Model::replay(const Report &report, const Payload &payload) const
{
    const Account *account = find(*report.account);
    if (account == nullptr || account->events.count(*report.key) == 0) {
        return {};
    }
    const Event &counted = account->events.at(*report.key);
    if (!(counted.payload == payload)) {
        return Outcome{"UL001", "", {}, {}};
    }
    const Period &period = account->periods.at(counted.period_start);
    return Outcome{"", "replayed", period.counter.tokens, {period.start, period.end}};
}

Model::Outcome Model::count(const Transaction &transaction, const Report &report, Queue *queue)
{
    const auto refuse = [](const char *sqlstate) { return Outcome{sqlstate, "", {}, {}}; };
    if (!report.account || !report.tokens || !report.key) {
        return refuse("22004");
    }
    if (!has_valid_arguments(report)) {
        return refuse("22023");
    }
    const Payload payload = {{*report.tokens, report.is_report ? 1 : 0, report.is_chat ? 1 : 0},
                             report.breakdown};
    if (const std::optional<Outcome> replayed = replay(report, payload)) {
        return *replayed;
    }

    Account *account = find(*report.account);

    const Time time = report.occurred_at.value_or(transaction.now);
    if (time < transaction.now - event_age_max || time > transaction.now + clock_skew_max) {
        return refuse("UL005");
    }
    if (account == nullptr && transaction.rejects_unknown_accounts) {
        return refuse("UL002");
    }
    const Period *existing = account != nullptr ? period_covering(*account, time) : nullptr;
    if (existing != nullptr && existing->closed_at) {
        return refuse("UL003");
    }
    const bool is_queued = transaction.settlement == Settlement::deferred;
    if (existing != nullptr && !is_queued && overflows(existing->counter + payload)) {
        return refuse("22003");
    }

    /* From here on, nothing can refuse the event. */
    if (account == nullptr) {
        account = &accounts_[*report.account];
        account->cycle = default_cycle_;
    }
    const Period found = existing != nullptr ? *existing : new_period(*account, time);
    Period &period = account->periods.emplace(found.start, found).first->second;
    account->events[*report.key] = {period.start, time, payload, false};
    if (is_queued) {
        add_to_queue({*report.account, period.start}, payload, queue);
        return {"", "queued", {}, {period.start, period.end}};
    }
    period.counter = period.counter + payload;
    add_to_breakdown(&period, {payload});
    return {"", "applied", period.counter.tokens, {period.start, period.end}};
}

void Model::add_to_queue(const std::pair<std::string, Time> &counter, const Payload &payload,
                         Queue *queue)
{
    std::optional<Pair> pair;
    if (payload.breakdown) {
        pair = payload.breakdown->pair;
    }
    Payload &queued = (*queue)[{counter.first, counter.second, pair}];
    static_cast<Usage &>(queued) = queued + payload;
    if (pair && queued.breakdown) {
        add(&queued.breakdown->amounts, payload.breakdown->amounts);
    } else {
        queued.breakdown = payload.breakdown;
    }
}

void Model::add_pending(const Queue &queue)
{
    for (const auto &[counter, usage] : queue) {
        const auto &[account, start, pair] = counter;
        accounts_.at(account).periods.at(start).pending.push_back(usage);
    }
}

/* Where a pair is counted: in its row, or under _other if some pair found no place. */
Pair Model::place_of(const Period &period, const Pair &pair)
{
    const bool is_full = std::any_of(period.breakdown.begin(), period.breakdown.end(),
                                     [](const auto &row) { return row.first.second == "_other"; });
    if (!is_full || period.breakdown.count(pair) != 0) {
        return pair;
    }
    return {pair.first.substr(0, pair.first.find('/')), "_other"};
}

/* Pairs that are added together share the last places in their order. */
void Model::add_to_breakdown(Period *period, const std::vector<Payload> &usages)
{
    std::map<Pair, Amounts> sums;
    for (const Payload &usage : usages) {
        if (usage.breakdown) {
            add(&sums[usage.breakdown->pair], usage.breakdown->amounts);
        }
    }
    std::map<Pair, Amounts> &rows = period->breakdown;
    for (const auto &[pair, amounts] : sums) {
        Pair place = place_of(*period, pair);
        if (rows.count(place) == 0 && place == pair && rows.size() >= breakdowns_max) {
            place = {pair.first.substr(0, pair.first.find('/')), "_other"};
        }
        add(&rows[place], amounts);
    }
}

Answer Model::void_usage(const std::string &account_id, const std::string &key)
{
    if (!is_key(key)) {
        return error("22023");
    }
    Account *account = find(account_id);
    if (account == nullptr || account->events.count(key) == 0) {
        return error("UL004");
    }
    Event &event = account->events.at(key);
    Period &period = account->periods.at(event.period_start);
    if (event.is_voided) {
        return {"", {{"replayed", text_of_number(period.counter.tokens)}}};
    }
    if (period.closed_at) {
        return error("UL003");
    }
    if (is_below_zero(period.counter + sum_of(period.pending) + -event.payload)) {
        return error("22023");
    }
    event.is_voided = true;

    /* An event that is still pending cannot be subtracted from the counter. */
    const Usage remainder = period.counter + -event.payload;
    if (is_below_zero(remainder) || overflows(remainder)) {
        period.pending.push_back(negative(event.payload));
        return {"", {{"voided", {}}}};
    }
    period.counter = remainder;
    add_to_breakdown(&period, {negative(event.payload)});
    return {"", {{"voided", text_of_number(period.counter.tokens)}}};
}

Answer Model::erase_usage(const std::string &account_id)
{
    const Account *account = find(account_id);
    const size_t event_count = account != nullptr ? account->events.size() : 0;
    accounts_.erase(account_id);
    limits_.erase(account_id);
    return value(std::to_string(event_count));
}

Answer Model::set_usage_cycle(const std::string &account, const Cycle &cycle)
{
    accounts_[account].cycle = cycle;
    return {"", {{account, cycle.length, cycle.anchor, cycle.time_zone}}};
}

Answer Model::open_usage_period(const std::string &account_id, const Span &span,
                                const Usage &opening)
{
    if (span.start >= span.end || is_below_zero(opening) || overflows(opening) ||
        opening.reports > opening_count_max || opening.chats > opening_count_max ||
        span.start % 1000 != 0 || span.end % 1000 != 0) {
        return error("22023");
    }
    const bool has_totals = !(opening == Usage());
    const std::string key = opening_key(span.start);
    Account *account = find(account_id);
    if (account != nullptr) {
        for (const auto &[start, period] : account->periods) {
            if (start == span.start && period.end == span.end &&
                Payload{opening, {}} == (account->events.count(key) != 0
                                             ? account->events.at(key).payload
                                             : Payload())) {
                return {"", {row_of(account_id, period, period.counter)}};
            }
            if (start < span.end && period.end > span.start) {
                return error("23P01");
            }
        }
    }
    if (has_totals && account != nullptr && account->events.count(key) != 0) {
        return error("UL001");
    }

    if (account == nullptr) {
        account = &accounts_[account_id];
        account->cycle = default_cycle_;
    }
    const Period period = {span.start, span.end, opening, {}, {}, {}, {}};
    account->periods.emplace(span.start, period);
    if (has_totals) {
        account->events[key] = {span.start, span.start, {opening, {}}, false};
    }
    return {"", {row_of(account_id, period, opening)}};
}

Answer Model::end_usage_period(const Transaction &transaction, const std::string &account_id,
                               Time at)
{
    if (at % millisecond != 0) {
        return error("22023");
    }
    Account *account = find(account_id);
    Period *period = nullptr;
    if (account != nullptr) {
        for (auto &[start, candidate] : account->periods) {
            if (start < at || (start == at && (period == nullptr || period->end != at))) {
                period = &candidate;
            }
        }
    }
    if (period == nullptr) {
        return error("UL002");
    }
    if (at < period->end) {
        Time last_event = period->start;
        for (const auto &[key, event] : account->events) {
            if (event.period_start == period->start) {
                last_event = std::max(last_event, event.occurred_at);
            }
        }
        if (at <= last_event || at > transaction.now + millisecond) {
            return error("22023");
        }
        period->end = at;
    }
    return {"", {row_of(account_id, *period, period->counter)}};
}

Answer Model::close_usage_period(const Transaction &transaction, const std::string &account_id,
                                 Time period_start, const Answer &given)
{
    Account *account = find(account_id);
    if (account == nullptr || account->periods.count(period_start) == 0) {
        return error("UL002");
    }
    Period &period = account->periods.at(period_start);
    if (!period.closed_at) {
        const Usage total = period.counter + sum_of(period.pending);
        if (overflows(total)) {
            return error("22003");
        }
        constexpr size_t closed_at_column = 6;
        const Value closed_at = given.rows.empty() ? Value() : given.rows[0].at(closed_at_column);
        if (!closed_at || time_of(*closed_at) < transaction.now) {
            return violation("not closed in this transaction");
        }
        period.counter = total;
        add_to_breakdown(&period, period.pending);
        period.pending.clear();
        period.closed_at = time_of(*closed_at);
    }
    return {"", {row_of(account_id, period, period.counter)}};
}

Answer Model::settle_usage(size_t row_count_max, const std::vector<PendingRow> &left)
{
    std::map<std::pair<std::string, Time>, std::vector<Payload>> left_of;
    for (const PendingRow &row : left) {
        left_of[{row.account, row.period_start}].push_back(row.usage);
    }
    size_t folded_row_count = 0, pending_row_count = 0;
    for (auto &[account_id, account] : accounts_) {
        for (auto &[start, period] : account.periods) {
            pending_row_count += period.pending.size();
            std::vector<Payload> rows_left = left_of[{account_id, start}];
            left_of.erase({account_id, start});

            std::vector<Payload> folded = period.pending;
            for (const Payload &row : rows_left) {
                const auto pending = std::find(folded.begin(), folded.end(), row);
                if (pending == folded.end()) {
                    return violation("a row that was not pending");
                }
                folded.erase(pending);
            }
            folded_row_count += folded.size();
            period.counter = period.counter + sum_of(folded);
            add_to_breakdown(&period, folded);
            period.pending = std::move(rows_left);
            if (is_below_zero(period.counter) || overflows(period.counter)) {
                return violation("a counter out of range");
            }
        }
    }
    if (!left_of.empty()) {
        return violation("a row of no period");
    }
    if (folded_row_count > row_count_max) {
        return violation("more rows than the call's limit");
    }
    /* If the limit allows every row, only rows that do not fit their counter may stay. */
    for (const auto &[account_id, account] : accounts_) {
        for (const auto &[start, period] : account.periods) {
            if (row_count_max >= pending_row_count && !period.pending.empty() &&
                !overflows(period.counter + sum_of(period.pending))) {
                return violation("a row left that could be folded");
            }
        }
    }
    return value(std::to_string(folded_row_count));
}

Answer Model::prune_usage_events(const Transaction &transaction, std::optional<Time> closed_before,
                                 size_t row_count_max,
                                 const std::set<std::pair<std::string, std::string>> &left)
{
    /* Periods in the order in which they were closed. */
    std::map<Time, std::pair<std::string, Period *>> prunable;
    for (auto &[account_id, account] : accounts_) {
        for (auto &[start, period] : account.periods) {
            if (period.closed_at && (!closed_before || *period.closed_at < *closed_before) &&
                period.pruned_at.value_or("infinity") == "infinity") {
                prunable[*period.closed_at] = {account_id, &period};
            }
        }
    }

    size_t rows_wanted = row_count_max;
    for (auto &[closed_at, named_period] : prunable) {
        if (rows_wanted == 0) {
            break;
        }
        auto &[account_id, period] = named_period;
        Account &account = accounts_.at(account_id);
        size_t event_count = 0, deleted_count = 0;
        for (auto event = account.events.begin(); event != account.events.end();) {
            const bool is_in_period = event->second.period_start == period->start;
            const bool is_deleted = is_in_period && left.count({account_id, event->first}) == 0;
            event_count += is_in_period ? 1 : 0;
            deleted_count += is_deleted ? 1 : 0;
            event = is_deleted ? account.events.erase(event) : std::next(event);
        }
        if (deleted_count != std::min(event_count, rows_wanted)) {
            return violation("too few or too many events of a period were deleted");
        }
        period->pruned_at = deleted_count == event_count ? text_of(transaction.now) : "infinity";
        rows_wanted -= deleted_count;
    }

    std::set<std::pair<std::string, std::string>> expected;
    for (const auto &[account_id, account] : accounts_) {
        for (const auto &[key, event] : account.events) {
            if (account.periods.at(event.period_start).closed_at) {
                expected.insert({account_id, key});
            }
        }
    }
    if (left != expected) {
        return violation("events of other periods were deleted");
    }
    return value(std::to_string(row_count_max - rows_wanted));
}

bool Model::is_counted(const std::string &account_id, const std::string &key) const
{
    const Account *account = find(account_id);
    return account != nullptr && account->events.count(key) != 0;
}

/* A hold is dead once it has expired, or once its key has an event. */
bool Model::is_live(const std::string &account_id, const Holds::value_type &hold) const
{
    return !hold.second.has_expired && !is_counted(account_id, hold.first);
}

/* Why an event cannot be counted, apart from its arguments. */
std::optional<Answer> Model::refuse(const Transaction &transaction, const Report &report,
                                    Time time) const
{
    const Account *account = find(*report.account);
    if (account == nullptr && transaction.rejects_unknown_accounts) {
        return error("UL002");
    }
    const Period *period = account != nullptr ? period_covering(*account, time) : nullptr;
    if (period != nullptr && period->closed_at) {
        return error("UL003");
    }
    return {};
}

namespace
{

bool is_within(const std::string &scope, const std::string &level)
{
    return level.empty() || (scope + "/").rfind(level + "/", 0) == 0;
}

} // namespace

/*
 * The sum of the events. Once events may have been pruned, it is that of the breakdown, unless
 * the breakdown has usage of the level under _other.
 */
Wide Model::used_within(const Account &account, const Period &period,
                        const std::string &level) const
{
    if (level.empty()) {
        return (period.counter + sum_of(period.pending)).tokens;
    }
    const size_t slash = level.find('/');
    Wide tokens = 0;
    if (!period.pruned_at || (slash != std::string::npos &&
                              period.breakdown.count({level.substr(0, slash), "_other"}) != 0)) {
        for (const auto &[key, event] : account.events) {
            const bool counts = event.period_start == period.start && !event.is_voided &&
                                event.payload.breakdown &&
                                is_within(event.payload.breakdown->pair.first, level);
            tokens += counts ? event.payload.tokens : 0;
        }
        return tokens;
    }
    for (const auto &[pair, amounts] : period.breakdown) {
        for (size_t kind = 0; kind < kind_count && is_within(pair.first, level); kind++) {
            tokens += amounts[kind];
        }
    }
    return tokens;
}

/* The limited levels of a scope. Each has the most that is used in a period between the times. */
Model::Standings Model::standings(const std::string &account_id, const std::string &key,
                                  const std::string &scope, Time earliest, Time latest) const
{
    Standings standings;
    const auto limit = limits_.find(account_id);
    if (limit == limits_.end()) {
        return standings;
    }
    std::vector<const Period *> periods;
    Time last_start = std::numeric_limits<Time>::min();
    const Account *account = find(account_id);
    if (account != nullptr) {
        for (const auto &[start, period] : account->periods) {
            if (start <= latest && period.end > earliest) {
                periods.push_back(&period);
                last_start = start;
            }
        }
    }
    for (const auto &[level, token_limit] : limit->second.tokens) {
        if (!token_limit || !is_within(scope, level)) {
            continue;
        }
        Standing standing = {level, *token_limit, 0, 0, 0, 0, 0};
        for (const Holds::value_type &hold : limit->second.holds) {
            const Wide live_tokens = is_live(account_id, hold) ? hold.second.tokens : 0;
            if (!is_within(hold.second.scope, level)) {
                continue;
            }
            if (hold.first == key) {
                standing.own_tokens = last_start < hold.second.expires_at ? live_tokens : 0;
                standing.own_stored_tokens = hold.second.tokens;
            } else {
                standing.live_tokens += live_tokens;
                standing.stored_tokens += hold.second.tokens;
            }
        }
        for (const Period *period : periods) {
            standing.tokens_used =
                std::max(standing.tokens_used, used_within(*account, *period, level));
        }
        standing.tokens_used = std::min(standing.tokens_used, counter_max);
        standings.push_back(standing);
    }
    return standings;
}

/* Takes over which dead holds were deleted. The answer is a violation. */
std::optional<Answer> Model::adopt_holds(const std::string &account_id, const Answer &left)
{
    Holds rows_left;
    Holds &holds = limits_[account_id].holds;
    for (const Row &row : left.rows) {
        const auto hold = holds.find(*row.at(0));
        if (hold == holds.end() || text_of_number(hold->second.tokens) != row.at(1) ||
            hold->second.expires_at != time_of(*row.at(2)) || hold->second.scope != row.at(3)) {
            return violation("a hold that should not be there");
        }
        rows_left.insert(*hold);
    }
    for (const Holds::value_type &hold : holds) {
        if (is_live(account_id, hold) && rows_left.count(hold.first) == 0) {
            return violation("a hold was deleted that is not dead");
        }
    }
    holds = rows_left;
    return {};
}

namespace
{

Wide positive(Wide tokens)
{
    return std::max<Wide>(tokens, 0);
}

/* Dead holds that have not been deleted may make what remains less than it is. */
Value remaining(const Value &given, Wide least, Wide most)
{
    const bool is_legal =
        given && std::stoll(*given) >= positive(least) && std::stoll(*given) <= positive(most);
    return is_legal ? given : Value(text_of_number(positive(most)));
}

Value value_of(const Answer &answer, size_t column)
{
    return answer.rows.empty() ? Value() : answer.rows[0].at(column);
}

std::string scope_of(const Report &report)
{
    return report.breakdown ? report.breakdown->pair.first : "";
}

/* The least of all levels. */
template <typename Standings, typename Number> Wide least(const Standings &standings, Number number)
{
    Wide least = counter_max;
    for (const auto &standing : standings) {
        least = std::min(least, number(standing));
    }
    return least;
}

} // namespace

/* The first level that has no room. Null: all have. */
const Model::Standing *Model::refusing(const Standings &standings, Wide tokens)
{
    const auto found =
        std::find_if(standings.begin(), standings.end(), [&](const Standing &standing) {
            return tokens > std::max(positive(standing.room()), standing.own_tokens);
        });
    return found == standings.end() ? nullptr : &*found;
}

Answer Model::reserve_usage(const Transaction &transaction, const Report &report, Time length,
                            const Answer &given, const Answer &left)
{
    if (!report.account || !report.tokens || !report.key) {
        return error("22004");
    }
    if (!has_valid_arguments(report) || length <= 0 || length > day) {
        return error("22023");
    }
    if (is_counted(*report.account, *report.key)) {
        return {"", {{"replayed", {}, {}, {}}}};
    }
    if (const std::optional<Answer> refusal = refuse(transaction, report, transaction.now)) {
        return *refusal;
    }
    const std::string scope = scope_of(report);
    const Standings before = standings(*report.account, *report.key, scope, transaction.now,
                                       transaction.now + length - 1);
    if (before.empty()) {
        return {"", {{"unlimited", {}, {}, {}}}};
    }
    const Wide room = least(before, [](const Standing &s) { return s.room(); });
    Holds &holds = limits_[*report.account].holds;
    Answer answer;
    if (const Standing *refused_by = refusing(before, *report.tokens)) {
        const auto own = holds.find(*report.key);
        const bool has_hold = own != holds.end() && is_live(*report.account, *own);
        answer.rows = {{"limit_reached", text_of_number(positive(room)),
                        has_hold ? Value(text_of(own->second.expires_at)) : Value(),
                        refused_by->level}};
    } else {
        const Value expires_at = value_of(given, 2);
        if (!expires_at || time_of(*expires_at) < transaction.now + length) {
            return violation("the hold is too short");
        }
        holds[*report.key] = {*report.tokens, time_of(*expires_at), length <= momentary_length,
                              scope};
        const Wide least_room = least(before, [](const Standing &s) { return s.least_room(); });
        answer.rows = {
            {"reserved",
             remaining(value_of(given, 1), least_room - *report.tokens, room - *report.tokens),
             expires_at,
             {}}};
    }
    return adopt_holds(*report.account, left).value_or(answer);
}

Answer Model::spend_usage(const Transaction &transaction, const Report &report, const Answer &given,
                          const Answer &left)
{
    const Time time = report.occurred_at.value_or(transaction.now);
    const bool is_limited =
        has_valid_arguments(report) && time >= transaction.now - event_age_max &&
        time <= transaction.now + clock_skew_max && !is_counted(*report.account, *report.key) &&
        !refuse(transaction, report, time);
    const std::string scope = scope_of(report);
    const Standings before =
        is_limited ? standings(*report.account, *report.key, scope, time, time) : Standings();
    const Wide room = least(before, [](const Standing &s) { return s.room(); });
    const Standing *refused_by = is_limited ? refusing(before, *report.tokens) : nullptr;
    if (refused_by != nullptr) {
        const Answer answer = {
            "", {{"limit_reached", {}, {}, {}, text_of_number(positive(room)), refused_by->level}}};
        return adopt_holds(*report.account, left).value_or(answer);
    }
    Answer answer = increment_usage(transaction, report);
    if (!answer.sqlstate.empty()) {
        return answer;
    }
    if (before.empty()) {
        answer.rows[0].resize(answer.rows[0].size() + 2);
        return answer;
    }
    /* Without a scope, the key's own hold may not be looked up. */
    const Wide least_room = least(before, [&](const Standing &s) {
        return s.least_room() - (scope.empty() ? s.own_stored_tokens : 0);
    });
    answer.rows[0].push_back(
        remaining(value_of(given, 4), least_room - *report.tokens, room - *report.tokens));
    answer.rows[0].push_back({});
    return adopt_holds(*report.account, left).value_or(answer);
}

Answer Model::release_usage(const Transaction &transaction, const std::string &account,
                            const std::string &key, const Answer &given, const Answer &left)
{
    if (!is_key(key)) {
        return error("22023");
    }
    const auto limit = limits_.find(account);
    if (limit == limits_.end()) {
        return {"", {{"replayed", {}}}};
    }
    Holds &holds = limit->second.holds;
    const auto hold = holds.find(key);
    Answer answer = {"", {{"replayed", {}}}};
    if (hold != holds.end() && is_live(account, *hold)) {
        holds.erase(hold);
        const Standings after = standings(account, key, "", transaction.now, transaction.now);
        answer.rows = {{"released", after.empty()
                                        ? Value()
                                        : remaining(value_of(given, 1), after[0].least_room(),
                                                    after[0].room())}};
    }
    return adopt_holds(account, left).value_or(answer);
}

Answer Model::set_usage_limit(const std::string &account, std::optional<int64_t> token_limit,
                              const std::string &scope)
{
    if (token_limit && *token_limit < 0) {
        return error("22023");
    }
    std::map<std::string, std::optional<int64_t>> &levels = limits_[account].tokens;
    levels.try_emplace(""); /* a level needs the account's row */
    levels[scope] = token_limit;
    return {"", {{account, token_limit ? Value(text_of_number(*token_limit)) : Value(), scope}}};
}

Answer Model::balance(const Transaction &transaction, const std::string &account_id) const
{
    const auto limit = limits_.find(account_id);
    if (limit == limits_.end()) {
        return {};
    }
    const Account *account = find(account_id);
    const Period *period =
        account != nullptr ? period_covering(*account, transaction.now) : nullptr;
    Answer answer;
    for (const auto &[level, tokens] : limit->second.tokens) {
        const Wide used = period != nullptr ? used_within(*account, *period, level) : Wide(0);
        Wide held = 0;
        for (const Holds::value_type &hold : limit->second.holds) {
            const bool counts = is_live(account_id, hold) && is_within(hold.second.scope, level);
            held += counts ? hold.second.tokens : 0;
        }
        answer.rows.push_back(
            {level, tokens ? Value(text_of_number(*tokens)) : Value(), text_of_number(used),
             text_of_number(held),
             tokens ? Value(text_of_number(positive(*tokens - used - held))) : Value()});
    }
    return answer;
}

Answer Model::current_usage(const Transaction &transaction, const std::string &account_id) const
{
    const Account *account = find(account_id);
    const Period *period =
        account != nullptr ? period_covering(*account, transaction.now) : nullptr;
    if (period == nullptr) {
        constexpr size_t column_count = 8;
        return {"", {Row(column_count)}};
    }
    return {"", {row_of(account_id, *period, period->counter + sum_of(period->pending))}};
}

Answer Model::totals(const std::string &account_id) const
{
    Answer answer;
    const Account *account = find(account_id);
    if (account != nullptr) {
        for (const auto &[start, period] : account->periods) {
            answer.rows.push_back(
                row_of(account_id, period, period.counter + sum_of(period.pending)));
        }
    }
    return answer;
}

Answer Model::events(const std::string &account_id) const
{
    Answer answer;
    const Account *account = find(account_id);
    if (account != nullptr) {
        for (const auto &[key, event] : account->events) {
            answer.rows.push_back(
                {key, text_of(event.period_start), text_of_number(event.payload.tokens),
                 text_of_number(event.payload.reports), text_of_number(event.payload.chats),
                 event.is_voided ? "t" : "f"});
        }
    }
    return answer;
}

Answer Model::breakdown(const std::string &account_id) const
{
    Answer answer;
    const Account *account = find(account_id);
    if (account == nullptr) {
        return answer;
    }
    for (const auto &[start, period] : account->periods) {
        std::map<Pair, Amounts> totals = period.breakdown;
        for (const Payload &usage : period.pending) {
            if (usage.breakdown) {
                add(&totals[place_of(period, usage.breakdown->pair)], usage.breakdown->amounts);
            }
        }
        for (const auto &[pair, amounts] : totals) {
            Row row = {account_id, text_of(start), pair.first, pair.second};
            for (const Wide amount : amounts) {
                row.emplace_back(text_of_number(amount));
            }
            answer.rows.push_back(row);
        }
    }
    return answer;
}

const Cycle &Model::cycle_of(const std::string &account_id) const
{
    const Account *account = find(account_id);
    return account != nullptr ? account->cycle : default_cycle_;
}

std::vector<Span> Model::periods_of(const std::string &account_id) const
{
    std::vector<Span> spans;
    const Account *account = find(account_id);
    if (account != nullptr) {
        for (const auto &[start, period] : account->periods) {
            spans.push_back({period.start, period.end});
        }
    }
    return spans;
}

std::vector<Time> Model::times_of_closing() const
{
    std::vector<Time> times;
    for (const auto &[account_id, account] : accounts_) {
        for (const auto &[start, period] : account.periods) {
            if (period.closed_at) {
                times.push_back(*period.closed_at);
            }
        }
    }
    std::sort(times.begin(), times.end());
    return times;
}

bool Model::is_covered(const std::string &account_id, Time time) const
{
    const Account *account = find(account_id);
    return account != nullptr && period_covering(*account, time) != nullptr;
}

Model::Account *Model::find(const std::string &account)
{
    const auto found = accounts_.find(account);
    return found == accounts_.end() ? nullptr : &found->second;
}

const Model::Account *Model::find(const std::string &account) const
{
    const auto found = accounts_.find(account);
    return found == accounts_.end() ? nullptr : &found->second;
}

Row Model::row_of(const std::string &account, const Period &period, const Usage &usage)
{
    return {account,
            text_of(period.start),
            text_of(period.end),
            text_of_number(usage.tokens),
            text_of_number(usage.reports),
            text_of_number(usage.chats),
            period.closed_at ? Value(text_of(*period.closed_at)) : Value(),
            period.pruned_at};
}

const Model::Period *Model::period_covering(const Account &account, Time time)
{
    auto next = account.periods.upper_bound(time);
    if (next == account.periods.begin()) {
        return nullptr;
    }
    const Period &period = std::prev(next)->second;
    return time < period.end ? &period : nullptr;
}

/* The period of the cycle that covers a time, clipped to the periods that exist. */
Model::Period Model::new_period(const Account &account, Time time)
{
    const std::optional<Span> span = account.cycle.period_covering(time);
    if (!span) {
        throw std::logic_error("no boundaries known near " + text_of(time));
    }
    Period period = {span->start, span->end, {}, {}, {}, {}, {}};
    for (const auto &[start, other] : account.periods) {
        if (other.end <= time) {
            period.start = std::max(period.start, other.end);
        } else {
            period.end = std::min(period.end, start);
        }
    }
    return period;
}

} // namespace usage_ledger::live
