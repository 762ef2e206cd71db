/*
 * referenced_events.cpp: events are deleted in a subtransaction, many at a time. If the server
 * refuses that for a foreign key, each half of them is tried, down to a single event.
 *
 * So the server decides which events are referenced, whatever the foreign keys do and whoever
 * writes to their tables in the meantime. n referenced events cost at most 2n log n attempts.
 */
#include "pg/postgres.hpp"

#include "pg/referenced_events.hpp"

#include "pg/errors.hpp"
#include "pg/events.hpp"
#include "pg/extension_tables.hpp"
#include "pg/spi.hpp"

namespace usage_ledger
{

namespace
{

constexpr int64 chunk_event_count = 10000;

/* A WARNING names so many events. */
constexpr int64 named_events_max = 10;

/* A key refuses a deletion by the first, or, if it is RESTRICT and since PostgreSQL 18, the second.
 */
bool is_referenced(const ErrorData &error)
{
    return error.sqlerrcode == ERRCODE_FOREIGN_KEY_VIOLATION ||
           error.sqlerrcode == ERRCODE_RESTRICT_VIOLATION;
}

/* Deletes events in a subtransaction. Returns the error if one is referenced; then none is deleted.
 */
ErrorData *try_to_delete(const Event *events, const ItemPointerData *tids, size_t count)
{
    MemoryContext context = CurrentMemoryContext;
    ResourceOwner owner = CurrentResourceOwner;
    ErrorData *volatile error = nullptr;
    BeginInternalSubTransaction(nullptr);
    PG_TRY();
    {
        delete_events(events, tids, count);
        ReleaseCurrentSubTransaction();
    }
    PG_CATCH();
    {
        MemoryContextSwitchTo(context);
        error = CopyErrorData();
        FlushErrorState();
        RollbackAndReleaseCurrentSubTransaction();
    }
    PG_END_TRY();
    MemoryContextSwitchTo(context);
    CurrentResourceOwner = owner;
    if (error != nullptr && !is_referenced(*error)) {
        ReThrowError(error);
    }
    return error;
}

void add_referenced(const Event &event, const ErrorData &error, ReferencedEvents *referenced)
{
    if (referenced->count++ >= named_events_max) {
        return;
    }
    const char *reason = error.constraint_name == nullptr || error.table_name == nullptr
                             ? error.message
                             : psprintf("foreign key \"%s\" of table \"%s\"", error.constraint_name,
                                        error.table_name);
    const char *line = psprintf("%s: %s.", event_text(name_of(event)), reason);
    referenced->names =
        referenced->names == nullptr ? line : psprintf("%s\n%s", referenced->names, line);
}

int64 delete_unreferenced(const Event *events, const ItemPointerData *tids, size_t count,
                          ReferencedEvents *referenced)
{
    CHECK_FOR_INTERRUPTS();
    ErrorData *error = count > 0 ? try_to_delete(events, tids, count) : nullptr;
    if (error == nullptr) {
        return static_cast<int64>(count);
    }
    if (count == 1) {
        add_referenced(events[0], *error, referenced);
    }
    FreeErrorData(error);
    if (count == 1) {
        return 0;
    }
    const size_t half = count / 2;
    return delete_unreferenced(events, tids, half, referenced) +
           delete_unreferenced(events + half, tids + half, count - half, referenced);
}

} // namespace

bool foreign_keys_refer_to_events()
{
    Relation events = table_open(extension_table("usage_events"), RowExclusiveLock);
    const TriggerDesc *triggers = events->trigdesc;
    bool is_deferrable = false;
    for (int i = 0; triggers != nullptr && i < triggers->numtriggers; i++) {
        is_deferrable |= triggers->triggers[i].tgdeferrable;
    }
    const bool refer = triggers != nullptr && triggers->trig_delete_after_row;
    table_close(events, NoLock);
    if (refer && is_deferrable &&
        SPI_execute("SET CONSTRAINTS ALL IMMEDIATE", false, 0) != SPI_OK_UTILITY) {
        elog(ERROR, "could not set constraints");
    }
    return refer;
}

int64 delete_unreferenced_events(const core::CounterId &period, int64 row_count_max,
                                 ReferencedEvents *referenced)
{
    static Statement statement = {"usage_events",
                                  "SELECT ctid, idempotency_key FROM %s" WHERE_COUNTER,
                                  {UUIDOID, TIMESTAMPTZOID}};
    const Datum arguments[] = {account_of(period), TimestampTzGetDatum(period.period_start)};
    auto *tids =
        static_cast<ItemPointerData *>(palloc(chunk_event_count * sizeof(ItemPointerData)));
    auto *of_period = static_cast<Event *>(palloc0(chunk_event_count * sizeof(Event)));
    int64 deleted_count = 0;
    uint64 count;
    Portal events = open_cursor(&statement, arguments);
    do {
        count = fetch(events, Min(row_count_max - deleted_count, chunk_event_count));
        for (uint64 row = 0; row < count; row++) {
            tids[row] = tid_column(1, row);
            of_period[row].account_id = account_of(period);
            of_period[row].idempotency_key = required_column(2, row);
        }
        SPITupleTable *keys = SPI_tuptable;
        deleted_count += delete_unreferenced(of_period, tids, count, referenced);
        SPI_freetuptable(keys);
    } while (count > 0 && deleted_count < row_count_max);
    SPI_cursor_close(events);
    pfree(tids);
    pfree(of_period);
    return deleted_count;
}

void warn_of_referenced_events(const ReferencedEvents &referenced)
{
    if (referenced.count == 0) {
        return;
    }
    ereport(WARNING,
            (errmsg("events to which foreign keys refer cannot be pruned: " INT64_FORMAT,
                    referenced.count),
             errdetail("%s%s", referenced.names,
                       referenced.count > named_events_max ? "\nAnd others." : ""),
             errhint("Delete the rows that refer to them, or drop the foreign keys. Then the next "
                     "call prunes them.")));
}

} // namespace usage_ledger
