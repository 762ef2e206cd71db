/*
 * trace: sends a trace of LLM requests to four ways of counting tokens, from many
 * workers with retries. Shows what each way lost and counted twice, and the breakdown by model.
 * With a limit, it shows what two ways of keeping to it let through.
 */
#include <getopt.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "columns.hpp"
#include "contender.hpp"
#include "database.hpp"
#include "core/breakdown.hpp"
#include "requests.hpp"
#include "run.hpp"

namespace usage_ledger::trace
{
namespace
{

const char usage[] =
    "Usage: trace [OPTION]... [FILE]\n"
    "\n"
    "Counts a trace of LLM requests in four ways and compares the results. FILE is CSV\n"
    "with a header, JSON lines or JSON, and each record is a request. Its tokens are the\n"
    "sum of the columns below. Without a file, the trace is generated. record_usage breaks\n"
    "the tokens down by model and kind.\n"
    "\n"
    "  --connection STRING  libpq connection string (default: the PG* environment)\n"
    "  --workers N          concurrent workers, 1 to 64 (default 8)\n"
    "  --accounts N         accounts, 2 to 1000 (default 5)\n"
    "  --requests N         requests to generate (default 5000) or to read (default all)\n"
    "  --seed N             seed of the random generator (default 1)\n"
    "  --limit N            tokens that each account may use: compares the usual check\n"
    "                       before the work with reserve_usage, and shows what passed\n"
    "  --help\n"
    "\n"
    "The database needs the extension usage_ledger. The role must be able to create a\n"
    "schema, to read the ledger's tables, and to call erase_usage and, with --limit,\n"
    "set_usage_limit and reserve_usage. The run removes all that it wrote. Exit status: 0\n"
    "if the ledger lost nothing, counted nothing twice and raised no error, its breakdown\n"
    "is that of the requests, and reserve_usage let nothing pass the limit; 1 otherwise.\n";

const char columns_usage[] =
    "\n"
    "The columns of token counts that FILE may have, by source:\n"
    "\n"
    "%s"
    "\n"
    "Case, spaces, \"_\" and \"-\" in names do not matter. CSV fields are separated by commas,\n"
    "semicolons, tabs or \"|\". The model is in the column \"model\", if there. In JSON, a column "
    "may be in an object of the record, such as\n"
    "\"usage\", and \"data\" and \"results\" are lists of records. A time bucket without usage\n"
    "in an export of OpenAI is not a request.\n";

struct CommandLine {
    Options options;
    std::string file;
    int request_count = 0;
    int64_t token_limit = INT64_MAX; /* of each account */

    bool has_limit() const
    {
        return token_limit < INT64_MAX;
    }
};

[[noreturn]] void refuse(const std::string &message)
{
    std::fprintf(stderr, "trace: %s\n\n%s", message.c_str(), usage);
    std::exit(2);
}

int number_option(const char *name, const char *text, int min, int max)
{
    char *end = nullptr;
    const long number = std::strtol(text, &end, 10);
    if (*text == '\0' || *end != '\0' || number < min || number > max) {
        refuse(std::string("--") + name + " must be a number from " + std::to_string(min) + " to " +
               std::to_string(max));
    }
    return static_cast<int>(number);
}

CommandLine read_command_line(int argc, char **argv)
{
    static const option long_options[] = {
        {"connection", required_argument, nullptr, 'c'},
        {"workers", required_argument, nullptr, 'w'},
        {"accounts", required_argument, nullptr, 'a'},
        {"requests", required_argument, nullptr, 'r'},
        {"seed", required_argument, nullptr, 's'},
        {"limit", required_argument, nullptr, 'l'},
        {"help", no_argument, nullptr, 'h'},
        {nullptr, 0, nullptr, 0},
    };
    CommandLine line;
    for (int c; (c = getopt_long(argc, argv, "", long_options, nullptr)) != -1;) {
        switch (c) {
        case 'c':
            line.options.connection_string = optarg;
            break;
        case 'w':
            line.options.worker_count = number_option("workers", optarg, 1, 64);
            break;
        case 'a':
            line.options.account_count = number_option("accounts", optarg, 2, 1000);
            break;
        case 'r':
            line.request_count = number_option("requests", optarg, 1, 10000000);
            break;
        case 's':
            line.options.seed = number_option("seed", optarg, 0, 2147483647);
            break;
        case 'l':
            line.token_limit = number_option("limit", optarg, 1, 2000000000);
            break;
        case 'h':
            std::fputs(usage, stdout);
            std::printf(columns_usage, describe_known_columns().c_str());
            std::exit(0);
        default:
            std::exit(2);
        }
    }
    if (optind + 1 < argc) {
        refuse("at most one file can be given");
    }
    if (optind < argc) {
        line.file = argv[optind];
    }
    return line;
}

std::vector<Request> requests_of(const CommandLine &line)
{
    if (line.file.empty()) {
        return make_requests(line.request_count > 0 ? line.request_count : 5000, line.options.seed);
    }
    return read_requests(line.file, line.request_count > 0 ? static_cast<size_t>(line.request_count)
                                                           : SIZE_MAX);
}

/* Names that no other run uses, so that several runs can share a database. */
Place make_place(PGconn *connection, int account_count, int64_t token_limit)
{
    const ResultHandle schema =
        query(connection, "SELECT quote_ident(nspname), 'usage_ledger_trace_' || pg_backend_pid()"
                          " FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace"
                          " WHERE extname = 'usage_ledger'");
    if (PQntuples(schema.get()) == 0) {
        throw std::runtime_error("the database has no extension usage_ledger;"
                                 " run CREATE EXTENSION usage_ledger first");
    }
    Place place = {PQgetvalue(schema.get(), 0, 1),
                   PQgetvalue(schema.get(), 0, 0),
                   {},
                   std::to_string(token_limit)};
    const ResultHandle accounts =
        query(connection, "SELECT gen_random_uuid() FROM generate_series(1, " +
                              std::to_string(account_count) + ")");
    for (int i = 0; i < account_count; i++) {
        place.accounts.emplace_back(PQgetvalue(accounts.get(), i, 0));
    }
    return place;
}

std::string with_separators(std::string digits)
{
    for (int i = static_cast<int>(digits.size()) - 3; i > (digits[0] == '-' ? 1 : 0); i -= 3) {
        digits.insert(static_cast<size_t>(i), ",");
    }
    return digits;
}

void print_tallies(const std::vector<Contender> &contenders, const std::vector<Tally> &tallies,
                   bool has_limit)
{
    const auto print_row = [&tallies](const char *name,
                                      const std::function<std::string(const Tally &)> &value) {
        std::printf("%-22s", name);
        for (const Tally &tally : tallies) {
            std::printf(" %24s", with_separators(value(tally)).c_str());
        }
        std::printf("\n");
    };

    std::printf("\n%-22s", "");
    for (const Contender &contender : contenders) {
        std::printf(" %24s", contender.name.c_str());
    }
    std::printf("\n");
    print_row("tokens sent", [](const Tally &t) { return t.tokens_sent; });
    print_row("tokens counted", [](const Tally &t) { return t.tokens_counted; });
    print_row("lost", [](const Tally &t) { return t.tokens_lost; });
    print_row("counted twice", [](const Tally &t) { return t.tokens_counted_twice; });
    if (has_limit) {
        print_row("above the limit", [](const Tally &t) { return t.tokens_above_limit; });
        print_row("requests refused",
                  [](const Tally &t) { return std::to_string(t.refused_count); });
    }
    print_row("errors the worker saw",
              [](const Tally &t) { return std::to_string(t.error_count); });

    std::printf("\n");
    for (size_t i = 0; i < tallies.size(); i++) {
        if (tallies[i].error_count > 0) {
            std::printf("%s, first error: %s", contenders[i].name.c_str(),
                        tallies[i].first_error.c_str());
        }
    }
}

void print_models(const std::vector<ModelTally> &models)
{
    std::printf("\nCounted by record_usage:\n\n%-22s", "model");
    for (const char *heading :
         {"input", "cache read", "cache write", "output", "reasoning", "requests"}) {
        std::printf(" %14s", heading);
    }
    std::printf("\n");
    for (const ModelTally &tally : models) {
        std::printf("%-22s", tally.model.empty() ? "(not known)" : tally.model.c_str());
        for (const std::string &figure : tally.figures) {
            std::printf(" %14s", with_separators(figure).c_str());
        }
        std::printf("\n");
    }
    std::printf("\n");
}

ModelTally sum_of(const std::vector<ModelTally> &models)
{
    ModelTally sum = {"", {}};
    for (size_t i = 0; i < sum.figures.size(); i++) {
        sum.figures[i] = std::to_string(std::accumulate(
            models.begin(), models.end(), int64_t{0},
            [i](int64_t s, const ModelTally &m) { return s + std::stoll(m.figures[i]); }));
    }
    return sum;
}

/* More models than an account's breakdown has room for are counted together. */
bool is_same_breakdown(const std::vector<ModelTally> &counted, const std::vector<ModelTally> &sent)
{
    const bool has_other = std::any_of(counted.begin(), counted.end(), [](const ModelTally &tally) {
        return tally.model == core::other_model;
    });
    return has_other ? sum_of(counted) == sum_of(sent) : counted == sent;
}

bool is_exact(const Tally &tally, bool has_limit)
{
    return tally.tokens_lost == "0" && tally.tokens_counted_twice == "0" &&
           tally.error_count == 0 &&
           (has_limit ? tally.tokens_above_limit == "0"
                      : tally.tokens_counted == tally.tokens_sent);
}

/* Says whether the ledger has done what it promises. */
int verdict(const std::vector<Tally> &tallies, const std::vector<Request> &requests, bool has_limit)
{
    const Tally &last = tallies.back();
    if (!is_exact(last, has_limit) ||
        (!has_limit && !is_exact(tallies[tallies.size() - 2], has_limit))) {
        std::printf("FAILED: see the columns above.\n");
        return 1;
    }
    if (has_limit) {
        std::printf("increment_usage lost nothing, counted nothing twice and raised no error.\n"
                    "reserve_usage let nothing pass the limit.\n");
        return 0;
    }
    if (!is_same_breakdown(last.models, tally_models(requests))) {
        std::printf("FAILED: the breakdown is not that of the requests.\n");
        return 1;
    }
    std::printf(
        "increment_usage and record_usage lost nothing, counted nothing twice and raised no "
        "error.\nThe breakdown is that of the requests.\n");
    return 0;
}

int main(int argc, char **argv)
{
    const CommandLine line = read_command_line(argc, argv);
    const std::vector<Request> requests = requests_of(line);

    const ConnectionHandle connection = connect(line.options.connection_string);
    const Place place = make_place(connection.get(), line.options.account_count, line.token_limit);
    query(connection.get(), "CREATE SCHEMA " + place.scratch_schema);

    std::printf(
        "%zu requests from %s to %zu accounts, %d workers; %d%% of the replies are dropped "
        "after the commit,\n%d%% of the requests are sent several times simultaneously.\n\n",
        requests.size(), line.file.empty() ? "a generated trace" : line.file.c_str(),
        place.accounts.size(), line.options.worker_count, line.options.dropped_reply_percent,
        line.options.storm_percent);
    std::fflush(stdout);

    const std::vector<Contender> contenders =
        line.has_limit()
            ? std::vector<Contender>{check_then_spend(place), reserve_then_count(place)}
            : std::vector<Contender>{naive_read_modify_write(place), check_then_insert(place),
                                     increment_usage(place), record_usage(place)};
    std::vector<Tally> tallies;
    for (const Contender &contender : contenders) {
        tallies.push_back(run(contender, place, requests, line.options));
    }
    query(connection.get(),
          "SET client_min_messages = warning; DROP SCHEMA " + place.scratch_schema + " CASCADE");

    print_tallies(contenders, tallies, line.has_limit());
    if (!line.has_limit()) {
        print_models(tallies.back().models);
    }
    return verdict(tallies, requests, line.has_limit());
}

} // namespace
} // namespace usage_ledger::trace

int main(int argc, char **argv)
{
    try {
        return usage_ledger::trace::main(argc, argv);
    } catch (const std::exception &error) {
        const std::string message = error.what();
        /* The messages of libpq end with a line end. */
        std::fprintf(stderr, "trace: %s%s", message.c_str(),
                     !message.empty() && message.back() == '\n' ? "" : "\n");
        return 1;
    }
}
