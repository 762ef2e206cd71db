/*
 * What the trace reads from files of known and unknown kinds. Each test would rather see a
 * file refused than read wrongly.
 */
#include "trace/requests.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "core/limits.hpp"
#include "trace/request_list.hpp"

namespace usage_ledger::trace
{
namespace
{

using Tokens = std::vector<int64_t>;

Tokens tokens_of(const std::vector<Request> &requests)
{
    Tokens tokens;
    for (const Request &request : requests) {
        tokens.push_back(request.tokens());
    }
    return tokens;
}

Tokens read(const std::string &contents, size_t count_max = SIZE_MAX)
{
    return tokens_of(parse_requests("f", contents, count_max));
}

/* The requests as "model: input cache_read cache_write output reasoning". */
std::vector<std::string> breakdown_of(const std::string &contents)
{
    std::vector<std::string> lines;
    for (const Request &request : parse_requests("f", contents, SIZE_MAX)) {
        lines.push_back(request.model + ":");
        for (const int64_t tokens : request.kinds) {
            lines.back() += " " + std::to_string(tokens);
        }
    }
    return lines;
}

using Lines = std::vector<std::string>;

/* The error, in which the file is "f". */
std::string fault_of(const std::string &contents)
{
    try {
        parse_requests("f", contents, SIZE_MAX);
    } catch (const std::runtime_error &error) {
        return error.what();
    }
    return "no fault";
}

std::string utf16(std::string_view ascii, bool is_little_endian)
{
    std::string text = is_little_endian ? "\xff\xfe" : "\xfe\xff";
    for (const char c : ascii) {
        text += is_little_endian ? std::string({c, '\0'}) : std::string({'\0', c});
    }
    return text;
}

const std::string csv = "ContextTokens,GeneratedTokens\n374,44\n1,2\n";

TEST(ReadCsv, TakesTheColumnsInAnyOrderAmongOthers)
{
    EXPECT_EQ(read(csv), Tokens({418, 3}));
    EXPECT_EQ(read("GeneratedTokens,Model,ContextTokens\n44,gpt,374\n"), Tokens({418}));
}

TEST(ReadCsv, SkipsByteOrderMarks)
{
    EXPECT_EQ(read("\xef\xbb\xbf" + csv), Tokens({418, 3}));
    EXPECT_EQ(read(utf16(csv, true)), Tokens({418, 3}));
    EXPECT_EQ(read(utf16(csv, false)), Tokens({418, 3}));
    EXPECT_EQ(fault_of("\xff\xfe" + csv),
              "f:1: it has a byte order mark of UTF-16, but is not UTF-16");
}

TEST(ReadCsv, TakesQuotedFields)
{
    EXPECT_EQ(read("\"TIMESTAMP\",\"ContextTokens\",\"GeneratedTokens\"\n\"x\",\"374\",\"44\"\n"),
              Tokens({418}));
    EXPECT_EQ(read("Model,ContextTokens,GeneratedTokens\n"
                   "\"a,b\",374,44\n\"a \"\"b\"\"\",1,2\n\"two\n\nlines\",3,4\n"),
              Tokens({418, 3, 7}));
    EXPECT_EQ(read("\xef\xbb\xbf\"ContextTokens\";\"GeneratedTokens\"\n\"374\";\"44\"\n"),
              Tokens({418}));
}

TEST(ReadCsv, FindsTheDelimiter)
{
    const std::string delimiters = ",;\t|";
    for (const char delimiter : delimiters) {
        std::string contents = "Model;ContextTokens;GeneratedTokens\nothers;374;44\n";
        std::replace(contents.begin(), contents.end(), ';', delimiter);
        std::string others = delimiters;
        others.erase(others.find(delimiter), 1);
        contents.replace(contents.find("others"), 6, others);
        EXPECT_EQ(read(contents), Tokens({418})) << contents;
    }
}

TEST(ReadCsv, TakesEveryLineEnd)
{
    EXPECT_EQ(read("ContextTokens,GeneratedTokens\r\n374,44\r\n1,2\r\n"), Tokens({418, 3}));
    EXPECT_EQ(read("ContextTokens,GeneratedTokens\r374,44\r1,2"), Tokens({418, 3}));
    EXPECT_EQ(read("ContextTokens,GeneratedTokens\n374,44\n1,2"), Tokens({418, 3}));
}

TEST(ReadCsv, SkipsEmptyRows)
{
    EXPECT_EQ(read("\n \nContextTokens,GeneratedTokens\n\n374,44\n\r\n\t\n , \n,\n1,2\n\n\n"),
              Tokens({418, 3}));
    EXPECT_EQ(read("ContextTokens\tGeneratedTokens\n\t\n374\t44\n\t"), Tokens({418}));
}

TEST(ReadCsv, TakesSpacesAroundFields)
{
    EXPECT_EQ(read(" ContextTokens , GeneratedTokens \n 374 ,\" 44 \"\n"), Tokens({418}));
}

TEST(ReadCsv, TakesIntegersThatWereFloatingPointNumbers)
{
    EXPECT_EQ(read("ContextTokens,GeneratedTokens\n374.0,44.0\n"), Tokens({418}));
}

TEST(ReadCsv, TakesZero)
{
    EXPECT_EQ(read("ContextTokens,GeneratedTokens\n0,0\n"), Tokens({0}));
}

TEST(ReadCsv, KnowsTheColumnsOfEachSource)
{
    EXPECT_EQ(read("TIMESTAMP,ContextTokens,GeneratedTokens\n"
                   "2024-05-10 00:00:00.009930+00:00,2162,5\n"),
              Tokens({2167}));
    EXPECT_EQ(read("arrived_at,num_prefill_tokens,num_decode_tokens\n0.0,374,44\n"), Tokens({418}));
    EXPECT_EQ(read("num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n"
                   "3772,54,3826,69.85185185185185\n"),
              Tokens({3826}));
    EXPECT_EQ(read("Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
                   "5,ChatGPT,472,18,490,Conversation log\n"),
              Tokens({490}));
    EXPECT_EQ(read("start_time,end_time,num_model_requests,model,input_tokens,output_tokens,"
                   "input_cached_tokens,input_audio_tokens\n"
                   "1759622400,1759708800,10.0,gpt-4o,59200.0,10646.0,5760.0,0.0\n"),
              Tokens({69846}));
    EXPECT_EQ(read("n_requests,n_context_tokens_total,n_generated_tokens_total\n2,118,35\n"),
              Tokens({153}));
    EXPECT_EQ(read("generation_id,cost_total,tokens_prompt,tokens_completion,tokens_reasoning,"
                   "tokens_cached\ngen-1,0.1,100,50,30,80\n"),
              Tokens({150}));
    EXPECT_EQ(read("usage_date_utc,context_window,usage_input_tokens_no_cache,"
                   "usage_input_tokens_cache_write_5m,usage_input_tokens_cache_write_1h,"
                   "usage_input_tokens_cache_read,usage_output_tokens,web_search_count\n"
                   "2026-03-22,≤ 200k,100000,20000,3000,400,50,10\n"),
              Tokens({123450}));
}

TEST(ReadCsv, SplitsTheTokensOfEachSourceIntoKinds)
{
    EXPECT_EQ(breakdown_of("TIMESTAMP,ContextTokens,GeneratedTokens\nx,2162,5\n"),
              Lines({": 2162 0 0 5 0"}));
    EXPECT_EQ(breakdown_of("arrived_at,num_prefill_tokens,num_decode_tokens\n0.0,374,44\n"),
              Lines({": 374 0 0 44 0"}));
    EXPECT_EQ(breakdown_of("Timestamp,Model,Request tokens,Response tokens,Total tokens\n"
                           "5,ChatGPT,472,18,490\n"),
              Lines({"ChatGPT: 472 0 0 18 0"}));
    EXPECT_EQ(breakdown_of("start_time,num_model_requests,model,input_tokens,output_tokens,"
                           "input_cached_tokens\n1759622400,10.0,gpt-4o,59200.0,10646.0,5760.0\n"),
              Lines({"gpt-4o: 53440 5760 0 10646 0"}));
    EXPECT_EQ(breakdown_of("snapshot_id,n_context_tokens_total,n_generated_tokens_total\n"
                           "gpt-4,118,35\n"),
              Lines({"gpt-4: 118 0 0 35 0"}));
    EXPECT_EQ(breakdown_of("model,tokens_prompt,tokens_completion,tokens_reasoning,tokens_cached\n"
                           "a/b,100,50,30,80\n"),
              Lines({"a/b: 20 80 0 20 30"}));
    EXPECT_EQ(breakdown_of("model_version,usage_input_tokens_no_cache,"
                           "usage_input_tokens_cache_write_5m,usage_input_tokens_cache_write_1h,"
                           "usage_input_tokens_cache_read,usage_output_tokens\n"
                           "claude,100000,20000,3000,400,50\n"),
              Lines({"claude: 100000 400 23000 50 0"}));
}

TEST(ReadCsv, CutsAPartThatIsLargerThanItsWhole)
{
    EXPECT_EQ(breakdown_of("input_tokens,output_tokens,cached_tokens,cache_write_tokens,"
                           "reasoning_tokens\n5136,201,10192,7,300\n"),
              Lines({": 0 5136 0 0 201"}));
}

TEST(ReadCsv, TakesModelsThatRecordUsageTakes)
{
    EXPECT_EQ(breakdown_of("Model,ContextTokens,GeneratedTokens\n"
                           " gpt-5 ,1,2\n_other,1,2\n\"a\tb\xe9\xff\",1,2\n,1,2\n"),
              Lines({"gpt-5: 1 0 0 2 0", "other: 1 0 0 2 0", "a?b??: 1 0 0 2 0", ": 1 0 0 2 0"}));
    EXPECT_EQ(
        breakdown_of("Model,ContextTokens,GeneratedTokens\n" + std::string(256, 'm') + ",1,2\n"),
        Lines({std::string(255, 'm') + ": 1 0 0 2 0"}));
}

TEST(ReadCsv, TakesNamesOfAnotherCaseAndSpelling)
{
    EXPECT_EQ(read("context_tokens,generated_tokens\n374,44\n"), Tokens({418}));
    EXPECT_EQ(read("Prompt Tokens,Completion Tokens\n374,44\n"), Tokens({418}));
    EXPECT_EQ(read("usage.prompt_tokens,usage.completion_tokens\n374,44\n"), Tokens({418}));
}

TEST(ReadCsv, SkipsTimeBucketsWithoutUsage)
{
    EXPECT_EQ(read("start_time,model,input_tokens,output_tokens\n1,,,\n2,gpt,3.0,4.0\n3,,,\n"),
              Tokens({7}));
    EXPECT_EQ(fault_of("start_time,model,input_tokens,output_tokens\n1,,,\n2,gpt,,4\n"),
              "f:3: input_tokens is missing");
    EXPECT_EQ(fault_of("TIMESTAMP,ContextTokens,GeneratedTokens\nx,,\n"),
              "f:2: ContextTokens is missing");
}

TEST(ReadCsv, NamesEachRowThatCannotBeRead)
{
    EXPECT_EQ(fault_of("ContextTokens,GeneratedTokens\n374,x\n1,2\n\n\"3\n\",y\n-5,1\n6\n"),
              "f:2: GeneratedTokens is \"x\", which is not a number of tokens\n"
              "f:5: GeneratedTokens is \"y\", which is not a number of tokens\n"
              "f:7: ContextTokens is \"-5\", which is not a number of tokens\n"
              "f:8: GeneratedTokens is missing");
}

TEST(ReadCsv, RefusesWhatOnlyResemblesANumber)
{
    for (const char *number : {"1e3", "+5", "0x10", "1,234", "1.234", "1.5", "1.000", ".0", "NaN",
                               "inf", "5 6", "1_000", "-0"}) {
        EXPECT_EQ(fault_of(std::string("ContextTokens,GeneratedTokens\n\"") + number + "\",44\n"),
                  std::string("f:2: ContextTokens is \"") + number +
                      "\", which is not a number of tokens");
    }
}

TEST(ReadCsv, RefusesMoreTokensThanAnEventCanHave)
{
    const std::string header = "ContextTokens,GeneratedTokens\n";
    EXPECT_EQ(read(header + "1000000000000,0\n"), Tokens({1000000000000}));
    EXPECT_EQ(fault_of(header + "1,2\n1000000000000,1\n"),
              "f:3: 1000000000001 tokens, but an event has at most 1000000000000");
    for (const char *number : {"1000000000001", "9223372036854775807", "9223372036854775808",
                               "18446744073709551616", "99999999999999999999999"}) {
        EXPECT_EQ(fault_of(header + number + ",44\n"),
                  std::string("f:2: ContextTokens is \"") + number +
                      "\", but an event has at most 1000000000000 tokens");
    }
}

TEST(ReadCsv, RefusesShiftedColumns)
{
    EXPECT_EQ(fault_of("Model,ContextTokens,GeneratedTokens\na,374,44\nb,2024,374,44\n"),
              "f:3: 4 fields, but the header has 3");
    EXPECT_EQ(read("Model,ContextTokens,GeneratedTokens\na,374,44,\nb,1,2,,\n"), Tokens({418, 3}));
}

TEST(ReadCsv, RefusesMisplacedQuotes)
{
    EXPECT_EQ(fault_of("Model,ContextTokens,GeneratedTokens\n5\" disk,1,2\n\"a\"b,1,2\n"
                       "c,374,44\nd,x,44\n"),
              "f:2: a quote is neither at the start nor at the end of a field\n"
              "f:3: a quote is neither at the start nor at the end of a field\n"
              "f:5: ContextTokens is \"x\", which is not a number of tokens");
    EXPECT_EQ(fault_of("Model,ContextTokens,GeneratedTokens\na,1,2\n\"b,3,4\nc,5,6\n"),
              "f:3: a quoted field is not closed");
}

TEST(ReadCsv, RefusesUnknownColumns)
{
    EXPECT_EQ(fault_of("\nTIMESTAMP,ContextTokens\nx,374\n"),
              "f:2: no known columns of token counts in \"TIMESTAMP, ContextTokens\"");
    EXPECT_EQ(fault_of("374,44\n"), "f:1: no known columns of token counts in \"374, 44\"");
    EXPECT_EQ(fault_of("a;b;c\n1;2;3\n"), "f:1: no known columns of token counts in \"a, b, c\"");
    EXPECT_EQ(fault_of(std::string("PK\x03\x04\0\0", 6)),
              "f:1: no known columns of token counts in \"PK????\"");
}

TEST(ReadCsv, RefusesAmbiguousColumns)
{
    EXPECT_EQ(fault_of("ContextTokens,GeneratedTokens,context_tokens\n374,44,1\n"),
              "f:1: there are two columns ContextTokens");
    EXPECT_EQ(fault_of("ContextTokens,GeneratedTokens,input_length,output_length\n374,44,1,2\n"),
              "f:1: there are columns of two sources: Azure LLM inference traces; Mooncake");
}

TEST(ReadCsv, LimitsTheListOfFaults)
{
    std::string contents = "ContextTokens,GeneratedTokens\n";
    for (int i = 0; i < 13; i++) {
        contents += "x,1\n";
    }
    const std::string fault = fault_of(contents);
    EXPECT_NE(fault.find("\nf:11: "), std::string::npos);
    EXPECT_EQ(fault.find("\nf:12: "), std::string::npos);
    EXPECT_NE(fault.find("\nf: and 3 more records that cannot be read"), std::string::npos);
}

TEST(ReadRequests, RefusesFilesWithoutRequests)
{
    EXPECT_EQ(fault_of(""), "f:1: the file is empty");
    EXPECT_EQ(fault_of("\xef\xbb\xbf"), "f:1: the file is empty");
    EXPECT_EQ(fault_of("\n\r\n \t\n"), "f:1: the file is empty");
    EXPECT_EQ(fault_of("ContextTokens,GeneratedTokens\n"), "f:1: there are no requests in it");
    EXPECT_EQ(fault_of("ContextTokens,GeneratedTokens\n\n,\n"), "f:1: there are no requests in it");
    EXPECT_EQ(fault_of("[]"), "f:1: there are no requests in it");
    EXPECT_EQ(fault_of(R"({"data": [{"results": []}]})"), "f:1: there are no requests in it");
}

TEST(ReadRequests, StopsAfterTheRequestsAskedFor)
{
    EXPECT_EQ(read("ContextTokens,GeneratedTokens\n374,44\n1,2\nx,y\n", 2), Tokens({418, 3}));
    EXPECT_EQ(read("{\"input_length\": 1, \"output_length\": 2}\n{", 1), Tokens({3}));
    EXPECT_EQ(read(R"([{"input_length": 1, "output_length": 2}, {]} )", 1), Tokens({3}));
}

TEST(ReadRequests, NamesAFileThatCannotBeOpened)
{
    const auto fault = [](const std::string &path) {
        try {
            read_requests(path, SIZE_MAX);
        } catch (const std::runtime_error &error) {
            return std::string(error.what());
        }
        return std::string("no fault");
    };
    EXPECT_EQ(fault("/nowhere/f.csv"), "/nowhere/f.csv: No such file or directory");
    EXPECT_EQ(fault("/"), "/: Is a directory");
}

TEST(ReadRequests, ReadsAFile)
{
    const std::string path = testing::TempDir() + "requests_test.csv";
    std::FILE *file = std::fopen(path.c_str(), "wb");
    ASSERT_NE(file, nullptr);
    std::fputs(csv.c_str(), file);
    std::fclose(file);
    EXPECT_EQ(tokens_of(read_requests(path, SIZE_MAX)), Tokens({418, 3}));
    std::remove(path.c_str());
}

/* As many events as a counter holds, and one more. */
TEST(RequestList, RefusesMoreTokensThanACounterCanHold)
{
    constexpr size_t count = INT64_MAX / core::event_tokens_max;
    const Request full = {"", {core::event_tokens_max}};
    RequestList requests("f", SIZE_MAX);
    for (size_t line = 2; line < 2 + count; line++) {
        requests.add_request(line, full);
    }
    ASSERT_FALSE(requests.is_full());
    requests.add_request(2 + count, full);
    ASSERT_TRUE(requests.is_full());
    try {
        requests.finish();
        FAIL();
    } catch (const std::runtime_error &error) {
        EXPECT_EQ(error.what(),
                  "f:" + std::to_string(2 + count) +
                      ": the tokens up to this line are more than a counter can hold, which is "
                      "9223372036854775807");
    }
}

TEST(ReadJson, ReadsMooncakeLines)
{
    EXPECT_EQ(
        read(R"({"timestamp": 0, "input_length": 6955, "output_length": 52, "hash_ids": [46]})"
             "\n"
             R"({"timestamp": 1, "input_length": 3, "output_length": 4, "hash_ids": []})"
             "\n"),
        Tokens({7007, 7}));
}

TEST(ReadJson, SkipsByteOrderMarksAndEmptyLines)
{
    const std::string line = R"({"input_length": 1, "output_length": 2})";
    EXPECT_EQ(read("\xef\xbb\xbf" + line), Tokens({3}));
    EXPECT_EQ(read(utf16(line, true)), Tokens({3}));
    EXPECT_EQ(read("\n\n" + line + "\r\n \n" + line + "\n\n"), Tokens({3, 3}));
}

TEST(ReadJson, ReadsResponsesOfEachApi)
{
    EXPECT_EQ(read(R"({"id": "chatcmpl-1", "choices": [{"index": 0}], "usage": {"prompt_tokens": 19,
                       "completion_tokens": 10, "total_tokens": 29,
                       "prompt_tokens_details": {"cached_tokens": 8},
                       "completion_tokens_details": {"reasoning_tokens": 5}}})"),
              Tokens({29}));
    EXPECT_EQ(read(R"({"usage": {"input_tokens": 36, "input_tokens_details": {"cached_tokens": 6},
                       "output_tokens": 87, "total_tokens": 123}})"),
              Tokens({123}));
    EXPECT_EQ(read(R"({"usage": {"input_tokens": 3, "cache_creation_input_tokens": 23724,
                       "cache_read_input_tokens": 14269, "output_tokens": 229,
                       "cache_creation": {"ephemeral_5m_input_tokens": 0,
                                          "ephemeral_1h_input_tokens": 23724}}})"),
              Tokens({38225}));
    EXPECT_EQ(read(R"({"usage": {"input_tokens": 3, "output_tokens": 4,
                       "cache_creation_input_tokens": null, "cache_read_input_tokens": null}})"),
              Tokens({7}));
    EXPECT_EQ(read(R"({"custom_id": "1", "response": {"body": {"usage":
                       {"prompt_tokens": 1, "completion_tokens": 2}}}})"),
              Tokens({3}));
}

TEST(ReadJson, SplitsTheTokensOfEachApiIntoKinds)
{
    EXPECT_EQ(breakdown_of(R"({"model": "gpt-5", "usage": {"prompt_tokens": 19,
                               "completion_tokens": 10, "total_tokens": 29,
                               "prompt_tokens_details": {"cached_tokens": 8,
                                                         "cache_write_tokens": 4},
                               "completion_tokens_details": {"reasoning_tokens": 6}}})"),
              Lines({"gpt-5: 7 8 4 4 6"}));
    EXPECT_EQ(breakdown_of(R"({"response": {"body": {"model": "gpt-5", "usage":
                               {"input_tokens": 36, "input_tokens_details":
                                {"cached_tokens": 6, "cache_write_tokens": 10},
                                "output_tokens": 87, "output_tokens_details":
                                {"reasoning_tokens": 64}, "total_tokens": 123}}}})"),
              Lines({"gpt-5: 20 6 10 23 64"}));
    EXPECT_EQ(breakdown_of(R"({"model": "claude", "usage": {"input_tokens": 3,
                               "cache_creation_input_tokens": 23724,
                               "cache_read_input_tokens": 14269, "output_tokens": 229,
                               "output_tokens_details": {"thinking_tokens": 200},
                               "cache_creation": {"ephemeral_5m_input_tokens": 0,
                                                  "ephemeral_1h_input_tokens": 23724}}})"),
              Lines({"claude: 3 14269 23724 29 200"}));
    EXPECT_EQ(breakdown_of(R"({"data": [{"results": [
                               {"uncached_input_tokens": 1000,
                                "cache_creation": {"ephemeral_1h_input_tokens": 200,
                                                   "ephemeral_5m_input_tokens": 30},
                                "cache_read_input_tokens": 4, "output_tokens": 50000,
                                "model": null}]}]})"),
              Lines({": 1000 4 230 50000 0"}));
    EXPECT_EQ(breakdown_of(R"({"data": [{"model": "a/b", "prompt_tokens": 50,
                               "completion_tokens": 125, "reasoning_tokens": 25}]})"),
              Lines({"a/b: 50 0 0 100 25"}));
}

/* A record may have the model that was asked for too. */
TEST(ReadJson, TakesTheFirstOfSeveralModels)
{
    EXPECT_EQ(breakdown_of(R"({"request": {"model": "gpt-5"}, "response": {"model": "gpt-5-2026",
                               "usage": {"input_tokens": 1, "output_tokens": 2}}})"),
              Lines({"gpt-5: 1 0 0 2 0"}));
}

TEST(MakeRequests, MakesTheSameTokensOfEachKindAgain)
{
    const std::vector<Request> requests = make_requests(1000, 7), again = make_requests(1000, 7);
    EXPECT_EQ(tokens_of(requests), tokens_of(again));
    Kinds used = {};
    for (const Request &request : requests) {
        EXPECT_GT(request.tokens(), 0);
        for (size_t kind = 0; kind < kind_count; kind++) {
            EXPECT_GE(request.kinds[kind], 0);
            used[kind] += request.kinds[kind];
        }
    }
    EXPECT_GT(used[input], 0);
    EXPECT_GT(used[cache_read], 0);
    EXPECT_GT(used[output], 0);
    EXPECT_GT(used[reasoning], 0);
}

TEST(ReadJson, ReadsUsageReports)
{
    EXPECT_EQ(read(R"({"object": "page", "data": [
                       {"object": "bucket", "start_time": 1, "results": [
                           {"input_tokens": 1000, "output_tokens": 500,
                            "input_cached_tokens": 800, "project_id": null},
                           {"input_tokens": 1, "output_tokens": 2}]},
                       {"object": "bucket", "start_time": 2, "results": []}],
                       "has_more": false, "next_page": null})"),
              Tokens({1500, 3}));
    EXPECT_EQ(read(R"({"data": [{"starting_at": "x", "results": [
                           {"uncached_input_tokens": 1000,
                            "cache_creation": {"ephemeral_1h_input_tokens": 200,
                                               "ephemeral_5m_input_tokens": 30},
                            "cache_read_input_tokens": 4, "output_tokens": 50000,
                            "server_tool_use": {"web_search_requests": 9}}]}]})"),
              Tokens({51234}));
    EXPECT_EQ(read(R"({"data": [{"usage": 0.015, "requests": 5, "prompt_tokens": 50,
                       "completion_tokens": 125, "reasoning_tokens": 25}]})"),
              Tokens({175}));
    EXPECT_EQ(read(R"({"data": [{"promptTokens": 50, "completionTokens": 125}]})"), Tokens({175}));
    EXPECT_EQ(read(R"({"object": "list", "data": [{"n_requests": 1, "n_context_tokens_total": 5,
                       "n_generated_tokens_total": 6}], "ft_data": [{"x": 1}]})"),
              Tokens({11}));
}

TEST(ReadJson, ReadsArraysAndSeveralDocuments)
{
    EXPECT_EQ(read("[\n{\"input_length\": 1, \"output_length\": 2},\n"
                   "{\"input_length\": 3, \"output_length\": 4}\n]\n"),
              Tokens({3, 7}));
    EXPECT_EQ(read("{\n\"input_length\": 1, \"output_length\": 2}\n"
                   "{\n\"input_length\": 3, \"output_length\": 4}\n"),
              Tokens({3, 7}));
    EXPECT_EQ(
        read(R"({"input_length": 1, "output_length": 2} {"input_length": 3, "output_length": 4})"),
        Tokens({3, 7}));
}

TEST(ReadJson, TakesNumbersInStrings)
{
    EXPECT_EQ(read(R"({"input_length": "374", "output_length": 44.0})"), Tokens({418}));
}

TEST(ReadJson, NamesEachLineThatCannotBeRead)
{
    EXPECT_EQ(fault_of("{\"input_length\": 1, \"output_length\": 2}\n"
                       "{\"input_length\": 1, \"output_length\": \n"
                       "\n"
                       "{\"input_length\": 1}\n"
                       "{\"input_length\": -1, \"output_length\": 2}\n"
                       "{\"input_length\": 1, \"output_length\": null}\n"
                       "{\"input_length\": 1, \"input_length\": 1, \"output_length\": 2}\n"
                       "5\n"
                       "{}\n"),
              "f:2: not JSON that can be read: \"syntax error while parsing value - unexpected end "
              "of input; "
              "expected '[', '{', or a literal\"\n"
              "f:4: no known columns of token counts in \"input_length\"\n"
              "f:5: input_length is \"-1\", which is not a number of tokens\n"
              "f:6: output_length is missing\n"
              "f:7: there are two columns input_length\n"
              "f:8: \"5\" is not a record\n"
              "f:9: no known columns of token counts in \"\"");
}

TEST(ReadJson, NamesTheLineOfARecordInADocument)
{
    EXPECT_EQ(fault_of("{\n"
                       "  \"data\": [\n"
                       "    {\"input_tokens\": 1,\n"
                       "     \"output_tokens\": 2},\n"
                       "    {\n"
                       "      \"input_tokens\": 1.5,\n"
                       "      \"output_tokens\": 2\n"
                       "    },\n"
                       "    7,\n"
                       "    {\"amount\": {\"value\": 1}}\n"
                       "  ]\n"
                       "}\n"),
              "f:5: input_tokens is \"1.5\", which is not a number of tokens\n"
              "f:9: \"7\" is not a record\n"
              "f:10: no known columns of token counts in \"amount.value\"");
}

TEST(ReadJson, NamesTheLineOfASyntaxError)
{
    EXPECT_EQ(fault_of("[\n{\"input_length\": 1, \"output_length\": 2},\n{\"input_length\" 1}\n]\n")
                  .substr(0, 13),
              "f:3: not JSON");
    EXPECT_EQ(fault_of("[\n{\"input_length\": 1, \"output_length\": 2}\n").substr(0, 13),
              "f:2: not JSON");
    EXPECT_EQ(fault_of("[{\"input_length\": \"1\n\", \"output_length\": 2}]").substr(0, 13),
              "f:1: not JSON");
}

TEST(ReadJson, RefusesNumbersThatOverflow)
{
    for (const char *number : {"1000000000001", "9223372036854775807", "18446744073709551615",
                               "18446744073709551616", "99999999999999999999999"}) {
        EXPECT_EQ(
            fault_of(std::string(R"({"input_length": )") + number + R"(, "output_length": 2})"),
            std::string("f:1: input_length is \"") + number +
                "\", but an event has at most 1000000000000 tokens");
    }
    EXPECT_EQ(fault_of(R"({"input_length": 1e999, "output_length": 2})"),
              "f:1: not JSON that can be read: \"number overflow parsing '1e999'\"");
    EXPECT_EQ(fault_of(R"({"input_length": 1e3, "output_length": 2})"),
              "f:1: input_length is \"1e3\", which is not a number of tokens");
}

TEST(ReadJson, SurvivesDeepNesting)
{
    const std::string open(100000, '['), close(100000, ']');
    EXPECT_EQ(read(open + R"({"input_length": 1, "output_length": 2})" + close), Tokens({3}));
    EXPECT_EQ(fault_of(open).substr(0, 13), "f:1: not JSON");
}

} // namespace
} // namespace usage_ledger::trace
