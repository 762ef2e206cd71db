#include "core/schedule.hpp"

#include <cstdint>

#include <gtest/gtest.h>

namespace usage_ledger::core
{
namespace
{

constexpr Pace pace = {1000, 100};

/* Databases that the worker serves, on a clock that the test sets. */
struct Worker {
    Visits databases[3] = {};
    uint64_t announced_rows = 0;
    int64_t now_ms = 5000;

    explicit Worker(size_t served_count)
    {
        for (size_t i = 0; i < served_count; i++) {
            databases[i].is_served = true;
        }
    }

    size_t next() const
    {
        return next_visit(databases, 3, pace, announced_rows, now_ms);
    }

    int64_t sleep() const
    {
        return sleep_ms(databases, 3, pace, announced_rows, now_ms);
    }

    void begin(size_t database)
    {
        begin_visit(&databases[database], announced_rows, now_ms);
    }

    void end(size_t database, VisitResult result = VisitResult::done)
    {
        end_visit(&databases[database], result, pace, now_ms);
    }

    void visit(size_t database, VisitResult result = VisitResult::done)
    {
        begin(database);
        end(database, result);
    }

    /* Lets time pass until a database is to be visited, and returns how much. */
    int64_t wait_until_due()
    {
        const int64_t start_ms = now_ms;
        for (; next() == none && now_ms - start_ms < 1000000; now_ms++) {
        }
        return now_ms - start_ms;
    }

    static constexpr size_t none = 3;
};

TEST(Schedule, VisitsEachServedDatabaseFirst)
{
    Worker worker(2);
    EXPECT_EQ(worker.sleep(), 0);
    EXPECT_EQ(worker.next(), 0U);
    worker.visit(0);
    EXPECT_EQ(worker.next(), 1U);
    worker.visit(1);
    EXPECT_EQ(worker.next(), Worker::none);
    EXPECT_EQ(Worker(0).next(), Worker::none);
}

TEST(Schedule, VisitsAnnouncedRowsAfterTheInterval)
{
    Worker worker(1);
    worker.visit(0);
    worker.announced_rows = 1;
    EXPECT_EQ(worker.sleep(), 1000);
    EXPECT_EQ(worker.wait_until_due(), 1000);
}

TEST(Schedule, VisitsAFullRoundImmediately)
{
    Worker worker(1);
    worker.visit(0);
    worker.announced_rows = 99;
    EXPECT_EQ(worker.next(), Worker::none);
    EXPECT_EQ(wake_rows(worker.databases, 3, pace), 100U);
    worker.announced_rows = 100;
    EXPECT_EQ(worker.sleep(), 0);
    EXPECT_EQ(worker.next(), 0U);
    worker.visit(0);
    EXPECT_EQ(wake_rows(worker.databases, 3, pace), 200U);
}

TEST(Schedule, VisitsAnIdleDatabaseRarely)
{
    Worker worker(1);
    worker.visit(0);
    EXPECT_EQ(worker.wait_until_due(), idle_interval_ms);
    EXPECT_EQ(next_visit(worker.databases, 3, {3600000, 100}, 0, worker.now_ms), Worker::none);
}

TEST(Schedule, KeepsAnAnnouncementThatComesDuringAVisit)
{
    Worker worker(1);
    worker.begin(0);
    worker.announced_rows = 1;
    worker.end(0);
    EXPECT_EQ(worker.wait_until_due(), 1000);
    worker.visit(0);
    EXPECT_EQ(worker.wait_until_due(), idle_interval_ms);
}

TEST(Schedule, KeepsTheAnnouncementsOfARoundThatFailed)
{
    Worker worker(1);
    worker.visit(0);
    worker.announced_rows = 1;
    worker.visit(0, VisitResult::failed);
    EXPECT_EQ(worker.wait_until_due(), 2000);
    worker.announced_rows = 1000; /* a full round does not shorten a backoff */
    worker.visit(0, VisitResult::failed);
    EXPECT_EQ(wake_rows(worker.databases, 3, pace), UINT64_MAX);
    EXPECT_EQ(worker.wait_until_due(), 4000);
    for (int i = 0; i < 20; i++) {
        worker.visit(0, VisitResult::failed);
    }
    EXPECT_EQ(worker.wait_until_due(), backoff_max_ms);
    worker.visit(0);
    EXPECT_EQ(worker.wait_until_due(), idle_interval_ms);
}

TEST(Schedule, ComesBackForRowsThatWereLeft)
{
    Worker worker(1);
    worker.announced_rows = 1000;
    worker.visit(0, VisitResult::rows_left);
    EXPECT_EQ(worker.wait_until_due(), 1000);
    worker.visit(0);
    EXPECT_EQ(worker.wait_until_due(), idle_interval_ms);
}

TEST(Schedule, RunsOneSettlerAtATime)
{
    Worker worker(3);
    worker.begin(0);
    EXPECT_EQ(worker.next(), Worker::none);
    EXPECT_EQ(worker.sleep(), 1000);
    worker.now_ms += 10;
    worker.end(0);
    EXPECT_EQ(worker.next(), 1U);
}

TEST(Schedule, WaitsForNoDatabaseLongerThanTheInterval)
{
    Worker worker(3);
    worker.begin(0);
    EXPECT_EQ(worker.wait_until_due(), 1000);
    EXPECT_EQ(worker.next(), 1U);
    worker.begin(1);
    EXPECT_EQ(worker.wait_until_due(), 1000);
    EXPECT_EQ(worker.next(), 2U);
    worker.visit(2);
    EXPECT_EQ(worker.wait_until_due(), idle_interval_ms);
    EXPECT_EQ(worker.next(), 2U) << "a settler in progress is not started again";
    EXPECT_EQ(patience_ms({3600000, 1}), patience_max_ms);
}

TEST(Schedule, GivesUpALockBeforeOthersLosePatience)
{
    EXPECT_EQ(lock_wait_max_ms(pace), 500);
    EXPECT_EQ(lock_wait_max_ms({10, 1}), 100);
    EXPECT_LT(lock_wait_max_ms({3600000, 1}), patience_max_ms);
}

TEST(Schedule, SleepsNoLongerThanAnnouncementsMayWait)
{
    Worker worker(1);
    worker.visit(0);
    EXPECT_EQ(worker.sleep(), 1000);
    EXPECT_EQ(sleep_ms(worker.databases, 3, {3600000, 100}, 0, worker.now_ms), patience_max_ms);
    EXPECT_EQ(sleep_ms(worker.databases, 0, pace, 0, worker.now_ms), 1000);
}

TEST(Schedule, TakesTheDatabaseThatHasBeenDueLongest)
{
    Worker worker(2);
    worker.visit(0);
    worker.visit(1);
    worker.announced_rows = 1000;
    worker.now_ms += 1;
    worker.visit(0);
    worker.announced_rows = 2000; /* again a full round of the first */
    EXPECT_EQ(worker.next(), 1U);
}

TEST(Schedule, FindsASilentSettler)
{
    Worker worker(1);
    worker.begin(0);
    worker.now_ms += silence_max_ms;
    EXPECT_FALSE(is_silent(worker.databases[0], worker.now_ms));
    EXPECT_TRUE(is_silent(worker.databases[0], worker.now_ms + 1));
    worker.databases[0].heard_ms = worker.now_ms;
    EXPECT_FALSE(is_silent(worker.databases[0], worker.now_ms + 1));
    worker.end(0);
    EXPECT_FALSE(is_silent(worker.databases[0], worker.now_ms + 2 * silence_max_ms));
}

TEST(Schedule, LeavesADatabaseThatIsServedNoLonger)
{
    Worker worker(1);
    worker.databases[0].is_served = false;
    EXPECT_EQ(worker.next(), Worker::none);
    EXPECT_EQ(wake_rows(worker.databases, 3, pace), UINT64_MAX);
}

} // namespace
} // namespace usage_ledger::core
