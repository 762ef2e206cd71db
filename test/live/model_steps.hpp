/*
 * model_steps.hpp: random calls as data. A step names accounts, keys, times and cycles by
 * numbers, which are resolved when the step runs. So a step is valid after any other steps,
 * and any part of a sequence is a valid sequence.
 */
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "model.hpp"

namespace usage_ledger::live
{

constexpr int account_count = 4;

/* A period length and its fields. */
struct Length {
    const char *text; /* as the server prints it */
    int months, days;
    Time time;
};

/* The times and period lengths of a sequence. */
struct Scene {
    const char *focus; /* a time */
    Time reach;        /* the greatest distance from it */
    std::vector<Length> lengths;
};

constexpr const char *time_zones[] = {"America/New_York", "Europe/Berlin", "Australia/Lord_Howe",
                                      "Asia/Kathmandu", "UTC"};

/* Local times in the time zone; null for the default. Ends of months, and skipped hours. */
constexpr const char *anchors[] = {nullptr,
                                   "2024-01-31 00:00:00",
                                   "2023-12-30 02:30:00",
                                   "2024-02-29 23:59:59.999999",
                                   "2000-01-01 00:00:00",
                                   "1970-05-31 01:30:00",
                                   "2039-08-31 12:00:00",
                                   "2026-03-29 02:15:00"};

/* A time, given by its distance from another. */
struct When {
    enum class Near { now, edge_of_cycle, start_of_period, end_of_period, from_now } near;
    unsigned number; /* chooses the edge or the period */
    Time offset;
};

struct Item {
    int account; /* -1: NULL */
    int key;     /* -1: NULL; -2: the opening key of a period that starts at `when`; -3: empty */
    int64_t tokens;
    bool has_tokens, is_report, is_chat;
    When when;
    unsigned pair; /* of scope and model, in record_usage */
};

constexpr const char *scopes[] = {"", "a", "a/b", "a/b/c", "a-b", "b/c"};
constexpr const char *models[] = {"", "large", "Large"};

enum class Function {
    increment,
    batch,
    record,
    record_batch,
    credit,
    void_event,
    end_period,
    reserve,
    spend,
    release,
    set_limit,
    balance,
    close,
    open,
    set_cycle,
    settle,
    prune,
    erase,
    current,
    begin,
    end
};

struct Step {
    Function function;
    Settlement settlement;
    bool rejects_unknown_accounts;
    bool is_undone;          /* in a transaction of several calls: rolled back to a savepoint */
    std::vector<Item> items; /* a batch's items, or one with the call's account, key and time */
    Time span;               /* the length of the period that open_usage_period opens */
    Usage opening;
    unsigned length, anchor, time_zone;
    int row_count;
    Time hold_length;
    int64_t token_limit; /* below -1: none */
    const char *limited_scope;
};

const std::vector<Scene> &scenes();

std::vector<Step> random_steps(std::mt19937_64 &random, size_t count);

} // namespace usage_ledger::live
