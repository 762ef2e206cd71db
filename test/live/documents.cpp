#include <array>
#include <chrono>
#include <cstdio>
#include <stdexcept>

#include "documents.hpp"

namespace usage_ledger::live
{

std::string snippet(const std::string &document, const std::string &heading,
                    const std::string &ledger_schema)
{
    const std::string command = "LEDGER_SCHEMA=" + ledger_schema +
                                " " SOURCE_DIRECTORY "/test/tools/snippets.sh " SOURCE_DIRECTORY
                                "/" +
                                document + " '" + heading + "'";
    FILE *pipe = popen(command.c_str(), "r");
    std::string sql;
    std::array<char, 4096> buffer;
    while (pipe != nullptr && fgets(buffer.data(), buffer.size(), pipe) != nullptr) {
        sql += buffer.data();
    }
    if (pipe == nullptr || pclose(pipe) != 0) {
        throw std::runtime_error("no SQL in " + document + " under " + heading);
    }
    return sql;
}

Psql::Psql(const std::string &script) : name_("psql " + new_account())
{
    const std::string command = "PGAPPNAME='" + name_ + "' psql -X -q -o /dev/null -d " +
                                std::string(PQdb(Connection().get()));
    status_ = std::async(std::launch::async, [command, script] {
        FILE *pipe = popen(command.c_str(), "w");
        if (pipe == nullptr || fputs(script.c_str(), pipe) < 0) {
            throw std::runtime_error(command);
        }
        return pclose(pipe);
    });
}

bool Psql::waits_for_lock(Connection &watcher)
{
    while (status_.wait_for(std::chrono::milliseconds(10)) != std::future_status::ready) {
        if (watcher.value("SELECT count(*) FROM pg_stat_activity"
                          " WHERE application_name = $1 AND wait_event_type = 'Lock'",
                          {name_}) != "0") {
            return true;
        }
    }
    return false;
}

} // namespace usage_ledger::live
