#include "core/schedule.hpp"

#include <algorithm>
#include <cassert>

namespace usage_ledger::core
{

namespace
{

/* After the end of its last visit. */
int64_t wait_ms(const Visits &visits, const Pace &pace, uint64_t announced_rows)
{
    const uint64_t new_rows = announced_rows - visits.seen_rows;
    if (visits.backoff_ms > 0) {
        return visits.backoff_ms;
    }
    if (new_rows >= pace.round_row_count) {
        return 0;
    }
    if (new_rows > 0 || visits.has_left_rows) {
        return pace.interval_ms;
    }
    return std::max(pace.interval_ms, idle_interval_ms);
}

int64_t due_ms(const Visits &visits, const Pace &pace, uint64_t announced_rows)
{
    return visits.has_ended ? visits.ended_ms + wait_ms(visits, pace, announced_rows) : INT64_MIN;
}

bool can_begin(const Visits &visits)
{
    return visits.is_served && !visits.is_in_progress;
}

/* Until when the visits in progress hold up others; INT64_MIN: they do not. */
int64_t held_up_until_ms(const Visits *databases, size_t count, const Pace &pace)
{
    int64_t until_ms = INT64_MIN;
    for (size_t i = 0; i < count; i++) {
        if (databases[i].is_in_progress) {
            until_ms = std::max(until_ms, databases[i].began_ms + patience_ms(pace));
        }
    }
    return until_ms;
}

} // namespace

void begin_visit(Visits *visits, uint64_t announced_rows, int64_t now_ms)
{
    assert(!visits->is_in_progress);
    visits->is_in_progress = true;
    visits->began_ms = visits->heard_ms = now_ms;
    visits->began_rows = announced_rows;
}

void end_visit(Visits *visits, VisitResult result, const Pace &pace, int64_t now_ms)
{
    assert(visits->is_in_progress);
    visits->is_in_progress = false;
    visits->has_ended = true;
    visits->ended_ms = now_ms;
    if (result == VisitResult::failed) {
        visits->backoff_ms =
            std::min(std::max(2 * visits->backoff_ms, 2 * pace.interval_ms), backoff_max_ms);
        return;
    }
    visits->backoff_ms = 0;
    visits->has_left_rows = result == VisitResult::rows_left;
    visits->seen_rows = visits->began_rows;
}

int64_t patience_ms(const Pace &pace)
{
    return std::min(pace.interval_ms, patience_max_ms);
}

int64_t lock_wait_max_ms(const Pace &pace)
{
    return std::max<int64_t>(patience_ms(pace) / 2, 100);
}

bool is_silent(const Visits &visits, int64_t now_ms)
{
    return visits.is_in_progress && now_ms - visits.heard_ms > silence_max_ms;
}

size_t next_visit(const Visits *databases, size_t count, const Pace &pace, uint64_t announced_rows,
                  int64_t now_ms)
{
    if (now_ms < held_up_until_ms(databases, count, pace)) {
        return count;
    }
    size_t next = count;
    int64_t next_due_ms = now_ms;
    for (size_t i = 0; i < count; i++) {
        if (!can_begin(databases[i])) {
            continue;
        }
        const int64_t due = due_ms(databases[i], pace, announced_rows);
        if (due < next_due_ms || (due == next_due_ms && next == count)) {
            next = i;
            next_due_ms = due;
        }
    }
    return next;
}

int64_t sleep_ms(const Visits *databases, size_t count, const Pace &pace, uint64_t announced_rows,
                 int64_t now_ms)
{
    /* Announcements below wake_rows() and silent settlers wake nobody, so look for them. */
    int64_t until_ms = now_ms + patience_ms(pace);
    const int64_t held_up_until = held_up_until_ms(databases, count, pace);
    if (now_ms < held_up_until) {
        return std::min(until_ms, held_up_until) - now_ms;
    }
    for (size_t i = 0; i < count; i++) {
        if (can_begin(databases[i])) {
            until_ms = std::min(until_ms, due_ms(databases[i], pace, announced_rows));
        }
    }
    return std::max(until_ms, now_ms) - now_ms;
}

uint64_t wake_rows(const Visits *databases, size_t count, const Pace &pace)
{
    uint64_t rows = UINT64_MAX;
    for (size_t i = 0; i < count; i++) {
        if (can_begin(databases[i]) && databases[i].backoff_ms == 0) {
            rows = std::min(rows, databases[i].seen_rows + pace.round_row_count);
        }
    }
    return rows;
}

} // namespace usage_ledger::core
