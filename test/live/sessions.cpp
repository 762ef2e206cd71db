#include "sessions.hpp"

#include <atomic>
#include <thread>
#include <vector>

namespace usage_ledger::live
{

void OutcomeCounts::add(const Result &result)
{
    add(result.is_ok() ? result.text(0, 0) : result.sqlstate());
}

void OutcomeCounts::add(const std::string &what)
{
    const std::lock_guard<std::mutex> guard(mutex_);
    counts_[what]++;
}

void in_sessions(int session_count, const std::function<void(Connection &, int)> &body)
{
    std::atomic<int> waiting_count{session_count};
    std::vector<std::thread> threads;
    for (int session = 0; session < session_count; session++) {
        threads.emplace_back([&, session] {
            Connection connection;
            waiting_count--;
            while (waiting_count > 0) {
                std::this_thread::yield();
            }
            body(connection, session);
        });
    }
    for (std::thread &thread : threads) {
        thread.join();
    }
}

} // namespace usage_ledger::live
