/*
 * schedule.hpp: when the background worker visits which of its databases.
 *
 * A visit is the work of one settler in one database. The clock counts milliseconds and never
 * goes back, whatever happens to the time of day. Rows are counted as sessions announce them,
 * over all databases, and that count only grows. So an announcement is not lost: it stays ahead
 * of what a database has seen until a visit there has succeeded.
 */
#pragma once

#include <cstddef>
#include <cstdint>

namespace usage_ledger::core
{

/* The worker's settings. */
struct Pace {
    int64_t interval_ms;
    uint64_t round_row_count;
};

/*
 * A database is visited this often even if no rows were announced: some may date from before
 * a restart.
 */
constexpr int64_t idle_interval_ms = 10000;

/* How often a visit deletes dead holds too. */
constexpr int64_t sweep_interval_ms = 10000;

/* After a failure, a database is visited after twice the interval, doubled each time, up to this.
 */
constexpr int64_t backoff_max_ms = 300000;

/* How long a visit may hold up visits of other databases, whatever the interval. */
constexpr int64_t patience_max_ms = 10000;

/* A settler that has finished no round for this long is reported. */
constexpr int64_t silence_max_ms = 10000;

enum class VisitResult {
    done,
    rows_left, /* rows that another session held, and that can be settled later */
    failed,
};

/* What the launcher knows of a database. All zero: it has never been visited. */
struct Visits {
    bool is_served;
    bool is_in_progress;
    bool has_ended; /* an earlier one */
    bool has_left_rows;
    int64_t began_ms;
    int64_t heard_ms; /* when the settler began, or last finished a round */
    int64_t ended_ms;
    int64_t backoff_ms;  /* 0 unless the last one failed */
    uint64_t began_rows; /* announced when it began */
    uint64_t seen_rows;  /* announced when the last one that succeeded began */
};

void begin_visit(Visits *visits, uint64_t announced_rows, int64_t now_ms);
void end_visit(Visits *visits, VisitResult result, const Pace &pace, int64_t now_ms);

/* How long visits of other databases wait for one that is in progress. */
int64_t patience_ms(const Pace &pace);

/*
 * How long a settler waits for a lock. It then gives up before others lose patience, so that
 * one settler at a time is enough.
 */
int64_t lock_wait_max_ms(const Pace &pace);

/* Whether the settler of a visit in progress has been silent for too long. */
bool is_silent(const Visits &visits, int64_t now_ms);

/*
 * The database to visit now: of those that are due, the one that has been due longest. None
 * (returns count) while a visit is in progress that the others have patience with.
 */
size_t next_visit(const Visits *databases, size_t count, const Pace &pace, uint64_t announced_rows,
                  int64_t now_ms);

/* How long nothing is to be done, unless a visit ends or wake_rows() are announced. */
int64_t sleep_ms(const Visits *databases, size_t count, const Pace &pace, uint64_t announced_rows,
                 int64_t now_ms);

/* The announced rows at which some database is due immediately; UINT64_MAX: none. */
uint64_t wake_rows(const Visits *databases, size_t count, const Pace &pace);

} // namespace usage_ledger::core
