#include "pg/postgres.hpp"

#include "pg/settings.hpp"

#include "core/limits.hpp"

namespace usage_ledger
{

int unknown_account = unknown_account_register;
int settlement_mode = settlement_immediate;
int64_t default_token_limit = -1;
int max_breakdowns;
char *settle_databases;
int settle_row_count;

namespace
{

int max_event_age_s;
int settle_interval_ms;
char *default_token_limit_text;

const config_enum_entry unknown_account_options[] = {
    {"register", unknown_account_register, false},
    {"reject", unknown_account_reject, false},
    {nullptr, 0, false},
};

const config_enum_entry settlement_options[] = {
    {"immediate", settlement_immediate, false},
    {"adaptive", settlement_adaptive, false},
    {"deferred", settlement_deferred, false},
    {nullptr, 0, false},
};

/* Why a list of databases cannot be served, or null. Changes the list. */
const char *fault_in_databases(char *list)
{
    List *names;
    if (!SplitIdentifierString(list, ',', &names)) {
        return "It is not a list of names.";
    }
    const char *fault = nullptr;
    if (list_length(names) > core::settle_databases_max) {
        fault = psprintf("It names %d databases, and at most %d can be served.", list_length(names),
                         core::settle_databases_max);
    }
    ListCell *cell;
    foreach (cell, names) {
        if (*static_cast<const char *>(lfirst(cell)) == '\0') {
            fault = "A name is empty.";
        }
    }
    list_free(names);
    return fault;
}

/* A reload keeps the list before one that is refused. */
bool check_settle_databases(char **value, void **, GucSource)
{
    char *copy = pstrdup(*value);
    const char *fault = fault_in_databases(copy);
    pfree(copy);
    if (fault != nullptr) {
        GUC_check_errdetail("%s", fault);
        GUC_check_errhint("Separate names by commas. Quote a name that has other characters than "
                          "lower-case letters, digits and underscores.");
    }
    return fault == nullptr;
}

/* The number of a text, or -1 if the text is empty. An integer setting has 32 bits only. */
bool parse_token_limit(const char *text, int64 *limit)
{
    *limit = -1;
    if (*text == '\0') {
        return true;
    }
    char *end;
    errno = 0;
    *limit = strtoll(text, &end, 10);
    return errno == 0 && *end == '\0' && *limit >= 0;
}

bool check_default_token_limit(char **value, void **, GucSource)
{
    int64 limit;
    const bool is_good = parse_token_limit(*value, &limit);
    if (!is_good) {
        GUC_check_errdetail("It is not a number of tokens.");
        GUC_check_errhint("Set 0 to " INT64_FORMAT " tokens, or an empty text for no limit.",
                          PG_INT64_MAX);
    }
    return is_good;
}

void assign_default_token_limit(const char *value, void *)
{
    (void)parse_token_limit(value, &default_token_limit);
}

} // namespace

int64_t event_age_max_us()
{
    return max_event_age_s * core::microseconds_per_second;
}

core::Pace settle_pace()
{
    return {settle_interval_ms, static_cast<uint64_t>(settle_row_count)};
}

void define_settings()
{
    DefineCustomEnumVariable("usage_ledger.unknown_account",
                             "What increment_usage does on first use of an account.",
                             "register: register it with calendar months in UTC. "
                             "reject: raise an error (UL002).",
                             &unknown_account, unknown_account_register, unknown_account_options,
                             PGC_SUSET, 0, nullptr, nullptr, nullptr);

    DefineCustomIntVariable(
        "usage_ledger.max_event_age", "The oldest p_occurred_at that increment_usage accepts.",
        "Retries of events already counted are answered at any age.", &max_event_age_s, 35 * 86400,
        0, INT_MAX, PGC_SUSET, GUC_UNIT_S, nullptr, nullptr, nullptr);

    DefineCustomIntVariable("usage_ledger.max_breakdowns",
                            "How many pairs of scope and model of a period are counted apart.",
                            "Usage of further pairs is counted under the model _other.",
                            &max_breakdowns, 1000, 0, core::breakdowns_max, PGC_SUSET, 0, nullptr,
                            nullptr, nullptr);

    DefineCustomEnumVariable("usage_ledger.settlement", "How increment_usage adds to the counter.",
                             "immediate: in its transaction, waiting for the counter's lock. "
                             "adaptive: as immediate if the lock is free, otherwise as deferred. "
                             "deferred: by a pending row, to be settled later.",
                             &settlement_mode, settlement_immediate, settlement_options,
                             PGC_USERSET, 0, nullptr, nullptr, nullptr);

    DefineCustomStringVariable(
        "usage_ledger.default_token_limit",
        "Tokens that an account may use in a period until set_usage_limit sets its limit.",
        "An account gets it with its first reservation. Empty: no limit.",
        &default_token_limit_text, "", PGC_SUSET, 0, check_default_token_limit,
        assign_default_token_limit, nullptr);

    DefineCustomStringVariable("usage_ledger.settle_databases",
                               "Databases that the background worker settles, separated by commas.",
                               "It runs if usage_ledger is in shared_preload_libraries.",
                               &settle_databases, "", PGC_SIGHUP, 0, check_settle_databases,
                               nullptr, nullptr);

    DefineCustomIntVariable("usage_ledger.settle_interval",
                            "Time between two rounds of the background worker.", nullptr,
                            &settle_interval_ms, 1000, 10, 3600000, PGC_SIGHUP, GUC_UNIT_MS,
                            nullptr, nullptr, nullptr);

    DefineCustomIntVariable("usage_ledger.settle_rows",
                            "Pending rows that the background worker settles in a transaction, "
                            "and at which it does not wait for its next round.",
                            nullptr, &settle_row_count, 100000, 1, core::call_rows_max, PGC_SIGHUP,
                            0, nullptr, nullptr, nullptr);

    MarkGUCPrefixReserved("usage_ledger");
}

} // namespace usage_ledger
