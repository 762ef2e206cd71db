#include "model_steps.hpp"

#include <limits>

namespace usage_ledger::live
{

namespace
{

constexpr int key_count = 50, batch_size_max = 12;
constexpr int held_keys_begin = 100, held_key_count = 16; /* keys that meet in calls under limits */
constexpr int credit_keys_begin = 1000;                   /* the keys of credits */
constexpr int record_keys_begin = 2000;                   /* most keys of events with a breakdown */

using Random = std::mt19937_64;

bool happens(Random &random, unsigned percent)
{
    return random() % 100 < percent;
}

template <typename Choice, size_t count>
Choice any_of(Random &random, const Choice (&choices)[count])
{
    return choices[random() % count];
}

When random_when(Random &random)
{
    static constexpr Time offsets[] = {0, 0,    0,           0,     -1,         -1,      1,
                                       1, hour, 30 * minute, -hour, 7 * second, -second, 2 * day};
    using Near = When::Near;
    static constexpr Near nears[] = {
        Near::now,           Near::edge_of_cycle,   Near::edge_of_cycle, Near::edge_of_cycle,
        Near::edge_of_cycle, Near::start_of_period, Near::end_of_period, Near::end_of_period};
    if (happens(random, 2)) {
        /* Near the limits of accepted times, with a margin because the call comes later. */
        return {Near::from_now, 0,
                any_of(random, {minute, 5 * minute, 5 * minute + 5 * second, hour,
                                -Model::event_age_max, 10 * second - Model::event_age_max})};
    }
    return {any_of(random, nears), static_cast<unsigned>(random()), any_of(random, offsets)};
}

/* One of few periods, so that opening totals often meet a key that is taken. */
When after_an_early_period(Random &random)
{
    return {When::Near::end_of_period, static_cast<unsigned>(random() % 5), 0};
}

/* The payload depends on the key, so that an event whose key is taken is a retry. */
void set_payload_of_key(Item *item)
{
    item->tokens = item->key * 37 % 1000;
    item->is_report = item->key % 3 == 0;
    item->is_chat = item->key % 5 == 0;
}

Item random_item(Random &random)
{
    Item item = {};
    item.account = static_cast<int>(random() % account_count);
    item.key = static_cast<int>(random() % key_count);
    item.has_tokens = true;
    set_payload_of_key(&item);
    item.when = random_when(random);
    item.pair = static_cast<unsigned>(item.key);
    if (happens(random, 15)) {
        item.tokens = any_of<int64_t>(random, {0, 1, 7, 1000000000000, 999999999999});
        item.is_report = happens(random, 50);
        item.is_chat = happens(random, 50);
        item.pair = static_cast<unsigned>(random());
    }
    if (happens(random, 4)) {
        item.key = -2;
        item.when = after_an_early_period(random);
        item.when.offset = any_of<Time>(random, {-1, 0, hour});
    }
    if (happens(random, 2)) {
        switch (random() % 5) {
        case 0:
            item.account = -1;
            break;
        case 1:
            item.key = -1;
            break;
        case 2:
            item.key = -3;
            break;
        case 3:
            item.has_tokens = false;
            break;
        default:
            item.tokens = any_of<int64_t>(random, {-1, 1000000000001});
        }
    }
    return item;
}

/* Half of the batches have few accounts, keys and times, so that items meet. */
std::vector<Item> random_batch(Random &random)
{
    const size_t item_count = random() % (batch_size_max + 1);
    const bool is_tight = happens(random, 50);
    std::vector<Item> items;
    for (size_t i = 0; i < item_count; i++) {
        Item item = random_item(random);
        if (is_tight && i > 0) {
            item.account = items[0].account;
            if (happens(random, 40)) {
                item.when = items[random() % i].when;
            }
            if (happens(random, 40)) {
                const Item &other = items[random() % i];
                item.key = other.key;
                item.tokens = other.tokens;
                item.is_report = other.is_report;
                item.is_chat = other.is_chat != happens(random, 15);
                item.pair = other.pair + (happens(random, 15) ? 1 : 0);
            }
        }
        items.push_back(item);
    }
    return items;
}

Function random_function(Random &random)
{
    struct Share {
        Function function;
        unsigned percent;
    };
    static constexpr Share shares[] = {
        {Function::increment, 13}, {Function::batch, 7},        {Function::void_event, 10},
        {Function::record, 12},    {Function::record_batch, 5}, {Function::close, 3},
        {Function::open, 4},       {Function::set_cycle, 2},    {Function::settle, 4},
        {Function::prune, 3},      {Function::current, 2},      {Function::credit, 4},
        {Function::end_period, 2}, {Function::erase, 1},        {Function::reserve, 7},
        {Function::spend, 3},      {Function::release, 2},      {Function::set_limit, 4},
        {Function::balance, 1},    {Function::begin, 2},        {Function::end, 9},
    };
    unsigned left = random() % 100;
    for (const Share &share : shares) {
        if (left < share.percent) {
            return share.function;
        }
        left -= share.percent;
    }
    return Function::increment;
}

Usage random_opening(Random &random)
{
    constexpr int64_t tokens_max = std::numeric_limits<int64_t>::max(),
                      count_max = std::numeric_limits<int32_t>::max();
    if (happens(random, 30)) {
        return {};
    }
    return {any_of<int64_t>(random, {0, 500, 1000000000000, tokens_max - 1500, tokens_max - 1500,
                                     tokens_max - 1000000000000, tokens_max}),
            any_of<int64_t>(random, {0, 1, 12, count_max}),
            any_of<int64_t>(random, {0, 1, 3, count_max})};
}

bool is_of_limits(Function function)
{
    return function == Function::reserve || function == Function::spend ||
           function == Function::release;
}

/* Calls under limits meet in few keys, and half of them in the current period. */
void choose_held_key(Random &random, Function function, Item *item)
{
    if (item->key < 0 || !happens(random, is_of_limits(function) ? 80 : 12)) {
        return;
    }
    item->key = held_keys_begin + item->key % held_key_count;
    set_payload_of_key(item);
    item->pair = static_cast<unsigned>(happens(random, 10) ? random() : item->key);
    if (happens(random, 50)) {
        item->when = {When::Near::now, 0, 0};
    }
    if (function == Function::reserve && happens(random, 30)) {
        item->tokens = any_of<int64_t>(random, {0, 1, 100, 2 * item->tokens});
    }
}

void set_limit_arguments(Random &random, Step *step)
{
    if (is_of_limits(step->function) || step->function == Function::increment ||
        step->function == Function::record) {
        choose_held_key(random, step->function, &step->items[0]);
    }
    step->hold_length = happens(random, 3)
                            ? any_of<Time>(random, {-hour, 0, day + 1})
                            : any_of<Time>(random, {17 * minute, 17 * minute, 90 * minute,
                                                    Model::momentary_length});
    step->token_limit =
        any_of<int64_t>(random, {-2, -1, 0, 500, 1000, 1000, 2000, 2000, 4000, 1000000002000,
                                 std::numeric_limits<int64_t>::max()});
    step->limited_scope = happens(random, 40) ? "" : any_of(random, scopes);
}

Step random_step(Random &random)
{
    Step step = {};
    step.function = random_function(random);
    step.settlement =
        any_of(random, {Settlement::immediate, Settlement::adaptive, Settlement::deferred});
    step.rejects_unknown_accounts = happens(random, 30);
    step.is_undone = happens(random, step.function == Function::end ? 60 : 20);
    const bool is_record =
        step.function == Function::record || step.function == Function::record_batch;
    step.items = step.function == Function::batch || step.function == Function::record_batch
                     ? random_batch(random)
                     : std::vector<Item>{random_item(random)};
    if ((is_record && happens(random, 80)) ||
        (step.function == Function::void_event && happens(random, 40))) {
        for (Item &item : step.items) {
            item.key += item.key < 0 ? 0 : record_keys_begin;
        }
    }
    if (step.function == Function::close && happens(random, 85)) {
        step.items[0].when = {When::Near::start_of_period, static_cast<unsigned>(random()), 0};
    }
    if (step.function == Function::credit ||
        (step.function == Function::void_event && happens(random, 10))) {
        step.items[0].key += step.items[0].key < 0 ? 0 : credit_keys_begin;
    }
    if (step.function == Function::void_event && happens(random, 5)) {
        step.items[0].key = -2;
        step.items[0].when = {When::Near::start_of_period, static_cast<unsigned>(random()), 0};
    }
    if (step.function == Function::open && happens(random, 60)) {
        step.items[0].when = after_an_early_period(random);
    }
    step.span = any_of<Time>(random, {0, -1, 1, hour, hour, day, day, 40 * day, 40 * day});
    step.opening = random_opening(random);
    step.length = static_cast<unsigned>(random());
    step.anchor = static_cast<unsigned>(random());
    step.time_zone = static_cast<unsigned>(random());
    step.row_count = any_of(random, {1, 2, 5, 20, 100, 1000000});
    set_limit_arguments(random, &step);
    return step;
}

/* Takes the account and the key of a reservation that came shortly before. */
void follow_reservation(const std::vector<Step> &steps, Step *step)
{
    constexpr size_t reach = 20;
    for (size_t i = steps.size(); i > 0 && i + reach > steps.size(); i--) {
        if (steps[i - 1].function == Function::reserve) {
            const Item &reserved = steps[i - 1].items[0];
            step->items[0].account = reserved.account;
            step->items[0].key = reserved.key;
            return;
        }
    }
}

} // namespace

const std::vector<Scene> &scenes()
{
    static const std::vector<Length>
        short_lengths = {{"01:00:00", 0, 0, hour},     {"01:30:00", 0, 0, hour + 30 * minute},
                         {"06:00:00", 0, 0, 6 * hour}, {"25:00:00", 0, 0, 25 * hour},
                         {"1 day", 0, 1, 0},           {"1 day 01:00:00", 0, 1, hour},
                         {"7 days", 0, 7, 0},          {"1 mon", 1, 0, 0}},
        middle_lengths = {{"1 day", 0, 1, 0},
                          {"7 days", 0, 7, 0},
                          {"10 days", 0, 10, 0},
                          {"28 days", 0, 28, 0},
                          {"30 days 12:00:00", 0, 30, 12 * hour},
                          {"1 mon", 1, 0, 0},
                          {"1 mon 15 days", 1, 15, 0},
                          {"3 mons", 3, 0, 0}},
        long_lengths = {{"7 days", 0, 7, 0},      {"1 mon", 1, 0, 0},   {"1 mon 15 days", 1, 15, 0},
                        {"3 mons", 3, 0, 0},      {"1 year", 12, 0, 0}, {"1 year 1 mon", 13, 0, 0},
                        {"100 years", 1200, 0, 0}};
    constexpr Time short_reach = 6 * day, middle_reach = 75 * day, long_reach = 2200 * day;

    static const std::vector<Scene> scenes = {
        /* Clocks go forward or back: New York, Berlin, Lord Howe (half an hour), Kathmandu
           (a quarter of an hour, permanently). */
        {"2024-03-10 07:00:00+00", short_reach, short_lengths},
        {"2023-11-05 06:00:00+00", short_reach, short_lengths},
        {"2024-03-31 01:00:00+00", short_reach, short_lengths},
        {"2023-10-29 01:00:00+00", short_reach, short_lengths},
        {"2024-04-06 15:00:00+00", short_reach, short_lengths},
        {"2023-09-30 15:30:00+00", short_reach, short_lengths},
        {"1985-12-31 18:30:00+00", short_reach, short_lengths},
        /* Ends of February with and without a leap day, and the two epochs. */
        {"2024-02-29 12:00:00+00", middle_reach, middle_lengths},
        {"2023-02-28 23:59:59.999999+00", middle_reach, middle_lengths},
        {"2000-01-01 00:00:00+00", middle_reach, middle_lengths},
        {"1970-01-01 00:00:00+00", middle_reach, middle_lengths},
        {"2012-06-01 00:00:00+00", long_reach, long_lengths},
        {"2000-01-01 00:00:00+00", long_reach, long_lengths},
        {"1972-01-01 00:00:00+00", long_reach, long_lengths},
    };
    return scenes;
}

std::vector<Step> random_steps(std::mt19937_64 &random, size_t count)
{
    std::vector<Step> steps;
    for (size_t i = 0; i < count; i++) {
        Step step = random_step(random);
        if (step.function == Function::release ||
            (step.function == Function::increment && happens(random, 5))) {
            follow_reservation(steps, &step);
        }
        steps.push_back(step);
    }
    return steps;
}

} // namespace usage_ledger::live
