/*
 * Calls every function with arguments of every kind. A call succeeds, or fails with a
 * documented SQLSTATE, or PostgreSQL refuses the argument before the call. A call that
 * fails leaves no trace in the tables or in the session's memory.
 *
 * BAD_INPUT_CALLS is the number of random calls, BAD_INPUT_SEED the seed.
 */
#include <gtest/gtest.h>

#include <iostream>
#include <iterator>
#include <map>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "connection.hpp"
#include "environment.hpp"

namespace usage_ledger::live
{
namespace
{

using Sqlstates = std::set<std::string>;

/*
 * SQLSTATEs of PostgreSQL's input functions, for text that is not a value of the
 * argument's type. Our functions are not called.
 */
const Sqlstates input_sqlstates = {
    "22P02", /* text that is not a uuid, number, boolean or array literal */
    "22003", /* number too large for its type */
    "22007", /* text that is not a date or interval */
    "22008", /* date out of range, or not in the calendar */
    "22015", /* interval with a field out of range */
    "22009", /* time with an offset from UTC that is out of range */
    "22023", /* time with a time zone that does not exist */
    "22021", /* bytes that are not UTF-8 */
    "2202E", /* array whose elements do not match its dimensions, or with impossible bounds */
    "54000", /* array with too many dimensions */
};

struct Function {
    const char *name;
    std::vector<const char *> types;
    Sqlstates sqlstates; /* docs/reference.md, "Errors"; sql/usage_ledger--*.sql */
};

const std::vector<Function> functions = {
    {"increment_usage",
     {"uuid", "bigint", "text", "boolean", "boolean", "timestamptz"},
     {"UL001", "UL002", "UL003", "UL005", "22003", "22004", "22023"}},
    {"increment_usage_batch",
     {"uuid[]", "bigint[]", "text[]", "boolean[]", "boolean[]", "timestamptz[]"},
     {"22004", "22023"}},
    {"record_usage",
     {"uuid", "text", "text", "text", "bigint", "bigint", "bigint", "bigint", "bigint", "bigint",
      "boolean", "boolean", "timestamptz"},
     {"UL001", "UL002", "UL003", "UL005", "22003", "22004", "22023"}},
    {"record_usage_batch",
     {"uuid[]", "text[]", "text[]", "text[]", "bigint[]", "bigint[]", "bigint[]", "bigint[]",
      "bigint[]", "bigint[]", "boolean[]", "boolean[]", "timestamptz[]"},
     {"22004", "22023"}},
    {"record_usage_batch", {"uuid[]", "text[]", "text[]"}, {"22004", "22023"}},
    {"void_usage", {"uuid", "text", "text"}, {"UL003", "UL004", "22004", "22023"}},
    {"credit_usage",
     {"uuid", "bigint", "text", "text"},
     {"UL001", "UL002", "UL003", "22003", "22004", "22023"}},
    {"close_usage_period", {"uuid", "timestamptz"}, {"UL002", "22003", "22004"}},
    {"end_usage_period", {"uuid", "timestamptz"}, {"UL002", "22004", "22023"}},
    {"open_usage_period",
     {"uuid", "timestamptz", "timestamptz", "bigint", "bigint", "bigint"},
     {"UL001", "22004", "22023", "23P01"}},
    {"set_usage_limit", {"uuid", "bigint", "text"}, {"22004", "22023"}},
    {"reserve_usage",
     {"uuid", "bigint", "text", "interval", "text"},
     {"UL002", "UL003", "22004", "22023"}},
    {"release_usage", {"uuid", "text"}, {"22004", "22023"}},
    {"spend_usage",
     {"uuid", "bigint", "text", "boolean", "boolean", "timestamptz", "text"},
     {"UL001", "UL002", "UL003", "UL005", "22003", "22004", "22023"}},
    {"set_usage_cycle", {"uuid", "interval", "timestamptz", "text"}, {"22004", "22023"}},
    {"settle_usage", {"integer"}, {"22004", "22023"}},
    {"prune_usage_events", {"timestamptz", "integer"}, {"22004", "22023"}},
    {"erase_usage", {"uuid"}, {"22004"}},
    {"current_usage", {"uuid"}, {"22004"}},
    {"verify_usage", {"uuid"}, {}},
};

/* Either text that is sent as a parameter, or an expression that the server evaluates. */
struct Argument {
    Value text;
    std::string expression;
    std::string input_sqlstate; /* of the input function's error; empty if it accepts the text */
};

Argument sent(const Value &text)
{
    return {text, "", ""};
}

Argument eval(const std::string &expression)
{
    return {{}, expression, ""};
}

struct Choices {
    std::vector<Argument> ordinary, odd, huge;
};

const std::vector<Argument> odd_times = {
    sent({}),
    sent("infinity"),
    sent("-infinity"),
    sent("4714-11-24 00:00:00+00 BC"), /* the first timestamp, then the last */
    sent("294276-12-31 23:59:59.999999+00"),
    sent("4713-01-01 00:00:00+00 BC"),
    sent("294276-12-31 00:00:00+00"),
    sent("4714-11-23 00:00:00+00 BC"),
    sent("294277-01-01 00:00:00+00"),
    sent("0001-01-01 00:00:00+00"),
    sent("1970-01-01 00:00:00+00"),
    sent("1999-12-31 23:59:59.999999+00"),
    sent("2999-01-01 00:00:00+00"),
    sent("2024-02-30"),
    sent("2024-01-01 00:00 Mars/Olympus_Mons"),
    sent("2024-01-01 00:00+99"),
    sent("epoch"),
    sent("no time"),
    sent(""),
    eval("now() - interval '65 years'"),
    eval("now() - interval '24000 days'"),
    eval("now() + interval '5 minutes 1 microsecond'"),
};

const std::vector<Argument> odd_texts = {
    sent({}),
    sent(""),
    sent(" "),
    sent("_other"),
    sent("/"),
    sent("a//b"),
    sent(std::string(255, 'k')),
    sent(std::string(256, 'k')),
    sent("\xd0\xba\xd0\xbb\xd1\x8e\xd1\x87"),
    sent("\xf0\x9f\x92\xb8'\"\\;--%s%n$1\n\t\x01\x7f"),
    sent("\xff"),
    sent("\xc3("),
    sent("k\xed\xa0\x80"),
    sent("\xf8\x88\x80\x80\x80"),
    eval("repeat('\xc3\xa9', 127)"),
    eval("repeat('\xc3\xa9', 128)"),
    eval("repeat('k', 1000)"),
    eval("repeat('k', 1001)"),
    eval("repeat('\xf0\x9f\x92\xb8', 250)"),
    eval("repeat('k', 1000000)"),
    eval("(SELECT string_agg(md5(n::text), '') FROM generate_series(1, 3000) AS n)"),
    sent("opening:2024-01-01T00:00:00+00:00"),
};

const std::vector<Argument> odd_time_zones = {
    sent("+99"),
    sent("-99"),
    sent("+05:30"),
    sent("UTC+24"),
    sent("UTC-167"),
    sent("XYZ-12"),
    sent("<+05>-5"),
    sent("EST5EDT"),
    sent("EST5EDT,M3.2.0,M11.1.0"),
    sent("EST5EDT,nonsense"),
    sent("posixrules"),
    sent("posix/Europe/Berlin"),
    sent("right/Europe/Berlin"),
    sent("Factory"),
    sent("localtime"),
    sent("CET"),
    sent("cest"),
    sent("EST"),
    sent("europe/berlin"),
    sent("Europe"),
    sent("Europe/"),
    sent("/etc/passwd"),
    sent("../../../etc/passwd"),
    sent("zone.tab"),
    sent("Mars/Olympus_Mons"),
    eval("repeat('A', 255)"),
    eval("repeat('A', 256)"),
};

std::vector<Argument> operator+(std::vector<Argument> a, const std::vector<Argument> &b)
{
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

/* The arguments to choose from, by type. */
std::map<std::string, Choices> all_choices(const std::vector<std::string> &accounts)
{
    const std::string &a = accounts[0], &b = accounts[1], &c = accounts[2];
    std::map<std::string, Choices> choices;
    choices["uuid"] = {{sent(a), sent(b), sent(c)},
                       {sent({}), sent(accounts[3]), sent("{" + a + "}"), sent(a + "0"),
                        sent("00000000-0000-0000-0000-000000000000"),
                        sent("ffffffff-ffff-ffff-ffff-ffffffffffff"), sent("no uuid"), sent("")},
                       {}};
    choices["bigint"] = {{sent("0"), sent("1"), sent("500"), sent("1000000000000")},
                         {sent({}), sent("-1"), sent("1000000000001"), sent("2147483648"),
                          sent("9223372036854775807"), sent("-9223372036854775808"),
                          sent("9223372036854775806"), sent("9223372036854775808"), sent("1.5"),
                          sent("1e3"), sent(" 7 "), sent(""), sent("many")},
                         {}};
    choices["integer"] = {{sent("1"), sent("100"), sent("10000000")},
                          {sent({}), sent("0"), sent("-1"), sent("10000001"), sent("2147483647"),
                           sent("-2147483648"), sent("2147483648"), sent("")},
                          {}};
    choices["boolean"] = {{sent("f"), sent("t")}, {sent({}), sent("maybe"), sent("")}, {}};
    choices["text"] = {{sent("k1"), sent("k2"), sent("k3"), sent("UTC"), sent("Europe/Berlin"),
                        sent("America/New_York"), sent("Asia/Kathmandu")},
                       odd_texts + odd_time_zones,
                       {eval("repeat('k', 100000000)")}};
    choices["timestamptz"] = {{eval("now()"), eval("now() - interval '1 day'"),
                               eval("date_trunc('month', now(), 'UTC')"),
                               eval("date_trunc('month', now(), 'UTC') + interval '1 month'"),
                               sent("2024-01-01 00:00:00+00"), sent("2024-02-01 00:00:00+00"),
                               sent("1990-01-01 00:00:00+00")},
                              odd_times,
                              {}};
    choices["interval"] = {{sent("1 month"), sent("7 days"), sent("1 day"), sent("1 hour")},
                           {sent({}),
                            sent("0"),
                            sent("1 second"),
                            sent("0.999999 seconds"),
                            sent("100 years"),
                            sent("36525 days"),
                            sent("36525 days 0.000001 seconds"),
                            sent("1200 months"),
                            sent("1201 months"),
                            sent("1 month 15 days 12:34:56.789"),
                            sent("1 month -1 day"),
                            sent("-1 month 40 days"),
                            sent("1 day -1 hour"),
                            sent("-1 day"),
                            sent("178000000 years"),
                            sent("-178000000 years"),
                            sent("2147483647 months"),
                            sent("-2147483648 months"),
                            sent("2147483648 months"),
                            sent("2147483647 days"),
                            sent("-2147483648 days"),
                            sent("2147483647 months 2147483647 days 2562047788:00:54.775807"),
                            sent("2562047788:00:54.775807"),
                            sent("-2562047788:00:54.775808"),
                            sent("infinity"),
                            sent("P1Y"),
                            sent("no interval"),
                            sent("")},
                           {}};
    choices["uuid[]"] = {{sent("{" + a + "," + b + "}"), sent("{" + a + "," + a + "}"),
                          sent("{" + c + "," + a + "}")},
                         {sent("{" + a + "}"), sent("{" + a + "," + b + "," + c + "}"), sent({}),
                          sent("{}"), sent("{NULL}"), sent("{NULL," + a + "}"),
                          sent("[0:1]={" + a + "," + b + "}"), sent("[-5:-5]={" + a + "}"),
                          sent("{{" + a + "," + b + "}}"), sent("{{" + a + "},{" + b + "}}"),
                          sent("{no uuid}"), sent("{" + a), sent(a), sent("[1:2]={" + a + "}"),
                          sent("[2147483647:2147483647]={" + a + "}"), sent("[2:1]={}"),
                          sent("{{{{{{{" + a + "}}}}}}}")},
                         {eval("array_fill('" + a + "'::uuid, '{1000001}')"),
                          eval("array_fill(NULL::uuid, '{100000}')")}};
    choices["bigint[]"] = {
        {sent("{1}"), sent("{1,2}"), sent("{5,5,7}")},
        {sent({}), sent("{}"), sent("{NULL}"), sent("{NULL,1}"), sent("{-1,1}"),
         sent("{9223372036854775807,-9223372036854775808}"), sent("{9223372036854775808}"),
         sent("[0:1]={1,2}"), sent("{{1},{2}}"), sent("{1,2,3,4}"), sent("[7:7]={1}"),
         sent("{1,}")},
        {eval("array_fill(1::bigint, '{1000001}')"), eval("array_fill(1::bigint, '{100000}')")}};
    choices["text[]"] = {
        {sent("{k1,k2}"), sent("{k1,k1}"), sent("{k5,k6}")},
        {sent("{k1}"), sent("{k1,k1,k3}"), sent({}), sent("{}"), sent("{NULL}"), sent("{k,NULL}"),
         sent("{\"\"}"), sent("{\"\",k}"), sent("[0:1]={k4,k5}"), sent("{{k},{l}}"),
         sent("{k,l,m,n}"), sent("{\xff}"), sent("{\"k}"),
         eval("ARRAY[repeat('k', 255), repeat('k', 256)]"), eval("ARRAY[repeat('k', 1000000)]"),
         eval("ARRAY[repeat('\xc3\xa9', 127), repeat('\xc3\xa9', 128)]"),
         sent("{\xd0\xba\xd0\xbb\xd1\x8e\xd1\x87}")},
        {eval("array_fill('k'::text, '{1000001}')"), eval("array_fill('k'::text, '{100000}')"),
         eval("ARRAY[repeat('k', 100000000), 'k']")}};
    choices["boolean[]"] = {{sent({}), sent("{f,f}"), sent("{t,f}")},
                            {sent("{t}"), sent("{f,t,f}"), sent("{}"), sent("{NULL}"),
                             sent("{NULL,t}"), sent("[0:1]={t,f}"), sent("{{t},{f}}"),
                             sent("{maybe}"), sent("{t,t,t,t}")},
                            {eval("array_fill(true, '{100000}')")}};
    choices["timestamptz[]"] = {
        {sent({}), eval("ARRAY[now(), NULL]"), eval("ARRAY[now(), '2024-01-01Z']"),
         sent("{1990-01-01Z,2024-02-01Z}")},
        {sent("{2024-01-01Z}"), sent("{2024-01-01Z,1990-01-01Z,2024-02-01Z}"), sent("{}"),
         sent("{NULL}"), sent("{infinity}"), sent("{infinity,-infinity}"),
         sent("{4714-11-24 00:00:00+00 BC,294276-12-31 23:59:59.999999+00}"),
         sent("{294277-01-01 00:00:00+00}"), sent("{now,yesterday}"), sent("[0:1]={epoch,now}"),
         sent("{{now},{now}}"), sent("{no time}"), sent("{1990-01-01Z,1962-01-01Z}")},
        {eval("array_fill(now(), '{100000}')")}};
    return choices;
}

class BadInput : public testing::Test
{
protected:
    void SetUp() override
    {
        for (const char *setting :
             {"synchronous_commit = off", "client_min_messages = error", "timezone = 'UTC'",
              "log_min_messages = fatal", "statement_timeout = '60s'"}) {
            connection.value(std::string("SET ") + setting);
        }
        connection.value("LOAD 'usage_ledger'");
        empty_ledger(connection);
        server = server_identity();
        traces = traces_in_tables();
        use_new_accounts();
    }

    /* Once its periods are closed, an account mostly answers that they are closed. */
    void use_new_accounts()
    {
        std::vector<std::string> accounts(4);
        for (std::string &account : accounts) {
            account = connection.value("SELECT gen_random_uuid()");
        }
        choices = all_choices(accounts);
        for (auto &[type, of_type] : choices) {
            for (std::vector<Argument> *arguments : {&of_type.ordinary, &of_type.odd}) {
                for (Argument &argument : *arguments) {
                    probe(type, &argument);
                }
            }
        }
    }

    void TearDown() override
    {
        EXPECT_EQ(connection.value("SELECT count(*) FROM verify_usage()"), "0");
        EXPECT_EQ(server_identity(), server);
        empty_ledger(connection); /* pending rows may be left that cannot be settled */
    }

    /* Changes when the session or the server has restarted. */
    std::string server_identity()
    {
        return connection.value("SELECT pg_backend_pid() || ' ' || pg_postmaster_start_time()");
    }

    /* Determines whether the type's input function accepts the text. */
    void probe(const std::string &type, Argument *argument)
    {
        if (argument->expression.empty()) {
            argument->input_sqlstate =
                connection.run("SELECT $1::" + type, {argument->text}).sqlstate();
            if (!argument->input_sqlstate.empty()) {
                EXPECT_EQ(input_sqlstates.count(argument->input_sqlstate), 1U)
                    << argument->input_sqlstate << ": " << argument->text.value_or("NULL");
            }
        }
    }

    /* A digest of the tables that changes with every row and every counter. */
    std::string traces_in_tables()
    {
        return connection.value(
            "SELECT (SELECT count(*) || ' ' || COALESCE(sum(hashtext(a::text)::bigint), 0)"
            " FROM usage_accounts AS a) || ', ' ||"
            " (SELECT count(*) || ' ' || COALESCE(sum(hashtext(p::text)::bigint), 0)"
            " FROM usage_periods AS p) || ', ' ||"
            " (SELECT count(*) || ' ' || count(voided_at) FROM usage_events) || ', ' ||"
            " (SELECT count(*) || ' ' || COALESCE(sum(tokens), 0) FROM usage_pending) || ', ' ||"
            " (SELECT count(*) || ' ' || COALESCE(sum(hashtext(b::text)::bigint), 0)"
            " FROM usage_breakdown AS b)"
            " || ', ' ||"
            " (SELECT count(*) || ' ' || COALESCE(sum(token_limit::numeric), 0) FROM usage_limits)"
            " || ', ' || (SELECT count(*) || ' ' || COALESCE(sum(tokens), 0) FROM usage_holds)");
    }

    /*
     * Calls a function and checks the result. The call is a transaction of its own, or runs
     * in a savepoint of a transaction that commits. Returns the SQLSTATE.
     */
    std::string call(const Function &function, const std::vector<Argument> &arguments,
                     bool is_in_savepoint = false)
    {
        std::string sql, shown;
        std::vector<Value> parameters;
        Sqlstates refused_inputs;
        for (size_t i = 0; i < arguments.size(); i++) {
            const Argument &argument = arguments[i];
            const std::string comma = i == 0 ? "" : ", ";
            if (!argument.expression.empty()) {
                sql += comma + argument.expression;
                shown += comma + argument.expression;
            } else {
                parameters.push_back(argument.text);
                sql += comma + "$" + std::to_string(parameters.size()) + "::" + function.types[i];
                shown += comma + (argument.text ? "'" + *argument.text + "'" : "NULL");
            }
            if (!argument.input_sqlstate.empty()) {
                refused_inputs.insert(argument.input_sqlstate);
            }
        }
        SCOPED_TRACE(std::string(function.name) + "(" + shown + ")");

        if (is_in_savepoint) {
            connection.value("BEGIN");
            connection.value("SAVEPOINT before");
        }
        const Result result = connection.run(
            std::string("SELECT count(*) FROM ") + function.name + "(" + sql + ")", parameters);
        std::string sqlstate = result.sqlstate();
        if (PQstatus(connection.get()) != CONNECTION_OK) {
            throw std::runtime_error("connection lost by " + std::string(function.name) + "(" +
                                     shown + ")");
        }
        if (is_in_savepoint) {
            if (!result.is_ok()) {
                connection.value("ROLLBACK TO before");
            }
            connection.value("COMMIT");
        }

        const std::string traces_before = traces;
        traces = traces_in_tables();
        if (!sqlstate.empty()) {
            const Sqlstates &expected =
                refused_inputs.empty() ? function.sqlstates : refused_inputs;
            EXPECT_EQ(expected.count(sqlstate), 1U)
                << sqlstate << ": " << result.error_field(PG_DIAG_MESSAGE_PRIMARY) << "\n"
                << result.error_field(PG_DIAG_MESSAGE_DETAIL);
            EXPECT_EQ(traces, traces_before);
        } else {
            EXPECT_TRUE(refused_inputs.empty());
        }
        outcome_counts[std::string(function.name) + " " + (sqlstate.empty() ? "done" : sqlstate)]++;
        return sqlstate;
    }

    void change_settings(std::mt19937_64 &random)
    {
        static const char *const settlements[] = {"immediate", "adaptive", "deferred"};
        static const char *const ages[] = {"35d", "0", "24000d"};
        connection.value("SELECT set_config('usage_ledger.settlement', $1, false),"
                         " set_config('usage_ledger.unknown_account', $2, false),"
                         " set_config('usage_ledger.max_event_age', $3, false)",
                         {settlements[random() % 3], random() % 4 == 0 ? "reject" : "register",
                          ages[random() % 3]});
    }

    /* Returns an odd argument with a probability of odd_percent. */
    Argument random_argument(std::mt19937_64 &random, const std::string &type, unsigned odd_percent)
    {
        const Choices &of_type = choices.at(type);
        const std::vector<Argument> &from = random() % 2000 == 0 && !of_type.huge.empty()
                                                ? of_type.huge
                                            : random() % 100 < odd_percent ? of_type.odd
                                                                           : of_type.ordinary;
        return from[random() % from.size()];
    }

    void call_at_random(std::mt19937_64 &random, uint64_t call_count)
    {
        constexpr uint64_t calls_per_set_of_accounts = 100;
        static constexpr unsigned odd_percents[] = {0, 10, 40};
        for (uint64_t i = 0; i < call_count && !HasFailure(); i++) {
            if (i % calls_per_set_of_accounts == 0) {
                use_new_accounts();
            }
            change_settings(random);
            const Function &function = functions[random() % functions.size()];
            const unsigned odd_percent = odd_percents[random() % std::size(odd_percents)];
            std::vector<Argument> arguments;
            for (const char *type : function.types) {
                arguments.push_back(random_argument(random, type, odd_percent));
            }
            call(function, arguments, random() % 2 == 0);
        }
    }

    const Function &function_named(const std::string &name) const
    {
        for (const Function &function : functions) {
            if (function.name == name) {
                return function;
            }
        }
        throw std::invalid_argument(name);
    }

    /* Bytes in use: a leak inside the free part of a large block does not change the total. */
    /* Without plans: some are made late, at the first call that needs them. */
    long session_bytes()
    {
        return std::stol(
            connection.value("SELECT sum(used_bytes) FROM pg_backend_memory_contexts"
                             " WHERE name NOT LIKE 'CachedPlan%' AND name <> 'SPI Plan'"));
    }

    long plan_count()
    {
        return std::stol(connection.value("SELECT count(*) FROM pg_backend_memory_contexts"
                                          " WHERE name = 'SPI Plan'"));
    }

    Connection connection;
    std::map<std::string, Choices> choices;
    std::map<std::string, int> outcome_counts;
    std::string server, traces;
};

TEST_F(BadInput, OneOddArgumentRaisesOnlyDocumentedErrors)
{
    std::mt19937_64 random(1);
    for (const Function &function : functions) {
        for (size_t odd = 0; odd < function.types.size(); odd++) {
            for (const Argument &argument : choices.at(function.types[odd]).odd) {
                change_settings(random);
                std::vector<Argument> arguments;
                for (size_t i = 0; i < function.types.size(); i++) {
                    arguments.push_back(i == odd ? argument
                                                 : choices.at(function.types[i]).ordinary[0]);
                }
                call(function, arguments, random() % 2 == 0);
            }
        }
    }
}

TEST_F(BadInput, HugeTextsAreRefused)
{
    const Argument account = choices.at("uuid").ordinary[0], tokens = sent("1"), no_flag = sent({});
    call(function_named("increment_usage"),
         {account, tokens, sent("k"), no_flag, no_flag, sent({})});
    for (const char *size_kb : {"1000", "100000", "1073741"}) {
        /* random() keeps the planner from evaluating the text and storing it in the plan. */
        const Argument text =
            eval("repeat(repeat('k', 1000), " + std::string(size_kb) + " + 0 * random()::integer)");
        EXPECT_EQ(call(function_named("increment_usage"),
                       {account, tokens, text, no_flag, no_flag, sent({})}),
                  "22023");
        EXPECT_EQ(connection.value("SELECT outcome || ': ' || detail FROM increment_usage_batch("
                                   "ARRAY[$1]::uuid[], '{1}', ARRAY[" +
                                       text.expression + "])",
                                   {account.text}),
                  "invalid: idempotency key must not be longer than 255 bytes");
        EXPECT_EQ(call(function_named("void_usage"), {account, text, sent("reason")}), "22023");
        EXPECT_EQ(call(function_named("void_usage"), {account, sent("k"), text}), "22023");
        EXPECT_EQ(
            call(function_named("set_usage_cycle"), {account, sent("1 month"), sent({}), text}),
            "22023");
    }
}

/* Usage can be counted under every cycle that set_usage_cycle accepts. */
TEST_F(BadInput, CyclesAtTheEndsOfTimeAreUsableOrRefused)
{
    connection.value("SET usage_ledger.max_event_age = '24000d'");
    for (const Argument &anchor : odd_times) {
        for (const char *time_zone :
             {"UTC", "America/New_York", "Asia/Kathmandu", "Pacific/Kiritimati"}) {
            for (const char *length : {"1 second", "1 day", "1 month", "100 years"}) {
                const Argument account = sent(new_account());
                Argument probed_anchor = anchor;
                probe("timestamptz", &probed_anchor);
                if (!call(function_named("set_usage_cycle"),
                          {account, sent(length), probed_anchor, sent(time_zone)})
                         .empty()) {
                    continue;
                }
                for (const char *time : {"now()", "'1990-01-01Z'", "'1962-01-01Z'"}) {
                    EXPECT_EQ(call(function_named("increment_usage"),
                                   {account, sent("1"), sent(time), sent({}), sent({}),
                                    eval(std::string(time) + "::timestamptz")}),
                              "");
                }
            }
        }
    }
}

TEST_F(BadInput, RandomArgumentsRaiseOnlyDocumentedErrorsAndLeakNoMemory)
{
    const uint64_t call_count = number_from_environment("BAD_INPUT_CALLS", 8000),
                   seed = number_from_environment("BAD_INPUT_SEED", 20261124);
    std::cout << "BAD_INPUT_SEED=" << seed << " BAD_INPUT_CALLS=" << call_count << std::endl;
    std::mt19937_64 random(seed);

    call_at_random(random, call_count / 2);
    const long bytes_before = session_bytes();
    call_at_random(random, call_count - call_count / 2);
    const long bytes_after = session_bytes();

    for (const auto &[outcome, count] : outcome_counts) {
        std::cout << "  " << count << " " << outcome << std::endl;
    }
    /*
     * By default each of the twelve functions is called 330 times in the second half, so a
     * leak of 50 bytes per call is noticed. The allowance is for the server's caches of catalogs.
     */
    std::cout << "session grew by " << bytes_after - bytes_before << " bytes" << std::endl;
    EXPECT_LT(bytes_after - bytes_before, 16384);
    EXPECT_LT(plan_count(), 200); /* one for each statement */
}

} // namespace
} // namespace usage_ledger::live
