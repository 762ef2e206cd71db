/*
 * batch.cpp: increment_usage_batch, many events counted in a constant number of
 * statements.
 *
 * Its steps are those of a single call (increment.cpp), each for all items at
 * once, and it takes its locks in the same order: accounts whose periods must be
 * opened, then keys, then counters, each sorted. So batches that overlap, in
 * whatever order their callers list the items, wait for each other but never in a
 * circle.
 */
#include "pg/postgres.hpp"

#include <algorithm>

#include "core/batch.hpp"
#include "core/limits.hpp"
#include "pg/arrays.hpp"
#include "pg/counters.hpp"
#include "pg/errors.hpp"
#include "pg/events.hpp"
#include "pg/pending.hpp"
#include "pg/periods.hpp"
#include "pg/settings.hpp"
#include "pg/worker.hpp"

namespace usage_ledger
{

namespace
{

using core::Item;
using core::Verdict;

template <typename T> T *allocate(size_t count)
{
    return static_cast<T *>(
        MemoryContextAllocHuge(CurrentMemoryContext, Max(count, 1) * sizeof(T)));
}

/* ---- the arguments ---- */

struct Elements {
    Datum *values;
    bool *nulls;
    int count;
};

Elements elements_of(Datum array_datum, Oid type)
{
    ArrayType *array = DatumGetArrayTypeP(array_datum);
    if (ARR_NDIM(array) > 1) {
        raise_malformed_arrays(psprintf("An array has %d dimensions", ARR_NDIM(array)));
    }
    int16 length;
    bool is_by_value;
    char alignment;
    get_typlenbyvalalign(type, &length, &is_by_value, &alignment);
    Elements elements;
    deconstruct_array(array, type, length, is_by_value, alignment, &elements.values,
                      &elements.nulls, &elements.count);
    return elements;
}

/* An array argument of a batch of count items; one that may be left out is empty then. */
Elements optional_elements(FunctionCallInfo fcinfo, int argument, Oid type, int count)
{
    if (PG_ARGISNULL(argument)) {
        return {nullptr, nullptr, 0};
    }
    const Elements elements = elements_of(PG_GETARG_DATUM(argument), type);
    if (elements.count != count) {
        raise_malformed_arrays(psprintf("Arrays have %d and %d elements", count, elements.count));
    }
    return elements;
}

bool has_element(const Elements &elements, int i)
{
    return elements.count > 0 && !elements.nulls[i];
}

struct Batch {
    Item *items; /* in the order given */
    size_t count;
    TimestampTz now;
};

Batch batch_of_arguments(FunctionCallInfo fcinfo)
{
    static const char *const required[] = {"array of accounts", "array of tokens",
                                           "array of idempotency keys"};
    for (int i = 0; i < static_cast<int>(lengthof(required)); i++) {
        if (PG_ARGISNULL(i)) {
            raise_null_array(required[i]);
        }
    }
    const Elements accounts = elements_of(PG_GETARG_DATUM(0), UUIDOID);
    const int count = accounts.count;
    if (count > core::batch_items_max) {
        raise_malformed_arrays(psprintf("Arrays have %d elements", count));
    }
    const Elements tokens = optional_elements(fcinfo, 1, INT8OID, count);
    const Elements keys = optional_elements(fcinfo, 2, TEXTOID, count);
    const Elements reports = optional_elements(fcinfo, 3, BOOLOID, count);
    const Elements chats = optional_elements(fcinfo, 4, BOOLOID, count);
    const Elements times = optional_elements(fcinfo, 5, TIMESTAMPTZOID, count);

    const Batch batch = {allocate<Item>(count), static_cast<size_t>(count),
                         GetCurrentTransactionStartTimestamp()};
    for (int i = 0; i < count; i++) {
        Item *item = &batch.items[i];
        *item = {};
        item->payload = {
            tokens.nulls[i] ? 0 : DatumGetInt64(tokens.values[i]),
            has_element(reports, i) && DatumGetBool(reports.values[i]) ? 1 : 0,
            has_element(chats, i) && DatumGetBool(chats.values[i]) ? 1 : 0,
        };
        item->occurred_at =
            has_element(times, i) ? DatumGetTimestampTz(times.values[i]) : batch.now;
        if (accounts.nulls[i]) {
            item->fault = core::Fault::account_null;
        } else if (tokens.nulls[i]) {
            item->fault = core::Fault::tokens_null;
        } else if (keys.nulls[i]) {
            item->fault = core::Fault::key_null;
        } else {
            text *key = DatumGetTextPP(keys.values[i]);
            item->account_id = DatumGetUUIDP(accounts.values[i])->data;
            item->key = VARDATA_ANY(key);
            item->key_length = VARSIZE_ANY_EXHDR(key);
            item->fault =
                core::check_arguments(item->payload.tokens, item->key_length, item->occurred_at);
        }
        if (item->fault != core::Fault::none) {
            item->verdict = Verdict::invalid;
        }
    }
    return batch;
}

/* ---- sets of items as arguments of statements ---- */

Datum account_of(const Item &item)
{
    return PointerGetDatum(const_cast<uint8_t *>(item.account_id));
}

Event event_of(const Item &item)
{
    return {account_of(item),
            PointerGetDatum(cstring_to_text_with_len(item.key, static_cast<int>(item.key_length))),
            item.payload, item.occurred_at};
}

struct ItemList {
    Item **items;
    size_t count;
};

/* The items that are not decided yet, in the order given. */
ItemList undecided_items(const Batch &batch)
{
    ItemList undecided = {allocate<Item *>(batch.count), 0};
    for (size_t i = 0; i < batch.count; i++) {
        if (batch.items[i].verdict == Verdict::undecided) {
            undecided.items[undecided.count++] = &batch.items[i];
        }
    }
    return undecided;
}

ItemList copy_of(const ItemList &list)
{
    ItemList copy = {allocate<Item *>(list.count), list.count};
    std::copy(list.items, list.items + list.count, copy.items);
    return copy;
}

/* ---- periods ---- */

void set_period(Item *item, const WantedPeriod &wanted)
{
    switch (wanted.state) {
    case PeriodState::missing:
        item->period = core::ItemPeriod::missing;
        return;
    case PeriodState::unknown_account:
        item->period = core::ItemPeriod::unknown_account;
        return;
    case PeriodState::no_cycle:
        item->period = core::ItemPeriod::no_cycle;
        return;
    case PeriodState::found:
        item->period = wanted.period.is_closed ? core::ItemPeriod::closed : core::ItemPeriod::open;
        item->period_start = wanted.period.start;
        item->period_end = wanted.period.end;
    }
}

/*
 * Finds the periods of all items, and opens those that are missing if that is
 * asked for. Items are sorted by account here, so those of one account and time,
 * most often all of an account's, share a lookup.
 */
void look_up_periods(const ItemList &list, bool is_opening)
{
    const ItemList sorted = copy_of(list);
    std::sort(sorted.items, sorted.items + sorted.count, [](const Item *a, const Item *b) {
        const int order = memcmp(a->account_id, b->account_id, core::account_id_size);
        return order != 0 ? order < 0 : a->occurred_at < b->occurred_at;
    });

    auto *wanted = allocate<WantedPeriod>(sorted.count);
    auto *wanted_by = allocate<size_t>(sorted.count);
    size_t wanted_count = 0;
    for (size_t i = 0; i < sorted.count; i++) {
        const Item *item = sorted.items[i];
        const Item *previous = i > 0 ? sorted.items[i - 1] : nullptr;
        if (previous == nullptr || previous->occurred_at != item->occurred_at ||
            memcmp(previous->account_id, item->account_id, core::account_id_size) != 0) {
            wanted[wanted_count++] = {
                account_of(*item), item->occurred_at, PeriodState::missing, {}, 0};
        }
        wanted_by[i] = wanted_count - 1;
    }
    if (is_opening) {
        open_periods(wanted, wanted_count);
    } else {
        find_periods(wanted, wanted_count);
    }
    for (size_t i = 0; i < sorted.count; i++) {
        set_period(sorted.items[i], wanted[wanted_by[i]]);
    }
}

/* ---- keys ---- */

/* Decides the items of all groups whose key was counted before. */
void decide_counted_groups(Item ***groups, const size_t *sizes, size_t group_count)
{
    auto *events = allocate<Event>(group_count);
    auto *counted = allocate<CountedEvent>(group_count);
    auto *is_counted = allocate<bool>(group_count);
    for (size_t i = 0; i < group_count; i++) {
        events[i] = event_of(*groups[i][0]);
    }
    find_counted_events(events, counted, is_counted, group_count);
    for (size_t i = 0; i < group_count; i++) {
        if (is_counted[i]) {
            core::decide_counted(groups[i], sizes[i], counted[i].payload, counted[i].period_start);
        }
    }
}

/* Groups of a sorted list that a condition holds for. */
struct Groups {
    Item ***groups;
    size_t *sizes;
    size_t count;
};

template <typename Condition> Groups groups_of(const ItemList &sorted, Condition condition)
{
    Groups chosen = {allocate<Item **>(sorted.count), allocate<size_t>(sorted.count), 0};
    for (size_t i = 0; i < sorted.count;) {
        const size_t size = core::group_size(sorted.items + i, sorted.count - i);
        if (condition(sorted.items + i, size)) {
            chosen.groups[chosen.count] = sorted.items + i;
            chosen.sizes[chosen.count++] = size;
        }
        i += size;
    }
    return chosen;
}

template <typename Condition> bool any_item(Item *const *group, size_t size, Condition condition)
{
    return std::any_of(group, group + size, condition);
}

bool is_undecided(Item *const *group, size_t size)
{
    return any_item(group, size,
                    [](const Item *item) { return item->verdict == Verdict::undecided; });
}

bool has_leader(Item *const *group, size_t size)
{
    return any_item(group, size, [](const Item *item) { return item->verdict == Verdict::leader; });
}

/* Some item cannot be counted as it stands; only its key can tell whether it need be. */
bool is_troubled(Item *const *group, size_t size)
{
    return any_item(group, size, [](const Item *item) {
        return item->fault != core::Fault::none || item->period != core::ItemPeriod::open;
    });
}

/*
 * Finds out which item of each key is to be counted, and opens the periods that
 * those items need.
 */
void choose_leaders(const Groups &groups)
{
    ItemList unopened = {allocate<Item *>(groups.count), 0};
    for (size_t i = 0; i < groups.count; i++) {
        Item *leader = core::find_leader(groups.groups[i], groups.sizes[i]);
        if (leader != nullptr && leader->period == core::ItemPeriod::missing) {
            unopened.items[unopened.count++] = leader;
        }
    }
    if (unopened.count == 0) {
        return;
    }
    look_up_periods(unopened, true);

    /*
     * What keeps a period from being opened is its account's, so it keeps all
     * missing periods of the account's items from it.
     */
    for (size_t i = 0; i < groups.count; i++) {
        Item **group = groups.groups[i];
        const size_t size = groups.sizes[i];
        Item **leader = std::find_if(
            group, group + size, [](const Item *item) { return item->verdict == Verdict::leader; });
        if (leader == group + size || (*leader)->period == core::ItemPeriod::open) {
            continue;
        }
        const core::ItemPeriod reason = (*leader)->period;
        for (Item **item = leader; item < group + size; item++) {
            if (*item == *leader || (*item)->period == core::ItemPeriod::missing) {
                (*item)->period = reason;
            }
        }
        (*leader)->verdict = Verdict::undecided;
        core::find_leader(group, size);
    }
}

/*
 * Records the leaders' events; where a key turns out to be taken, decides its
 * group by what took it.
 */
void record_leaders(const Groups &groups, ItemPointerData *rows_by_item, const Batch &batch)
{
    Groups left = groups;
    while (left.count > 0) {
        auto *events = allocate<Event>(left.count);
        auto *starts = allocate<TimestampTz>(left.count);
        auto *rows = allocate<ItemPointerData>(left.count);
        auto *leaders = allocate<Item *>(left.count);
        for (size_t i = 0; i < left.count; i++) {
            leaders[i] =
                *std::find_if(left.groups[i], left.groups[i] + left.sizes[i],
                              [](const Item *item) { return item->verdict == Verdict::leader; });
            events[i] = event_of(*leaders[i]);
            starts[i] = leaders[i]->period_start;
        }
        record_events(events, starts, rows, left.count);

        Groups taken = {allocate<Item **>(left.count), allocate<size_t>(left.count), 0};
        for (size_t i = 0; i < left.count; i++) {
            if (ItemPointerIsValid(&rows[i])) {
                rows_by_item[leaders[i] - batch.items] = rows[i];
                core::follow(left.groups[i], left.sizes[i], leaders[i]);
            } else {
                leaders[i]->verdict = Verdict::undecided;
                taken.groups[taken.count] = left.groups[i];
                taken.sizes[taken.count++] = left.sizes[i];
            }
        }
        if (taken.count > 0) {
            decide_counted_groups(taken.groups, taken.sizes, taken.count);
        }

        /* Taken, yet not to be found: the event was deleted in between, so the key is free again.
         */
        left = {taken.groups, taken.sizes, 0};
        for (size_t i = 0; i < taken.count; i++) {
            if (is_undecided(taken.groups[i], taken.sizes[i]) &&
                core::find_leader(taken.groups[i], taken.sizes[i]) != nullptr) {
                left.groups[left.count] = taken.groups[i];
                left.sizes[left.count++] = taken.sizes[i];
            }
        }
        CHECK_FOR_INTERRUPTS();
    }
}

/* ---- counters ---- */

/* An item's part in the sum of its counter. */
core::Addition addition_of(const Item &item)
{
    core::Addition addition = {};
    memcpy(addition.account_id, item.account_id, core::account_id_size);
    addition.period_start = item.period_start;
    addition.tokens = item.payload.tokens;
    addition.reports = item.payload.reports;
    addition.chats = item.payload.chats;
    addition.row_count = 1;
    return addition;
}

/* A follower is added only if its leader cannot be, but then its counter must be at hand. */
bool may_be_added(const Item &item)
{
    return item.verdict == Verdict::leader ||
           (item.verdict == Verdict::follower && item.period == core::ItemPeriod::open);
}

/* The counters that a batch adds to or answers from, in counters' order. */
struct BatchCounters {
    core::Addition *additions;
    LockedCounter *locked;
    Counter *read;
    size_t count;
};

size_t counter_of(const BatchCounters &counters, const Item &item)
{
    const core::Addition wanted = addition_of(item);
    const core::Addition *found =
        std::lower_bound(counters.additions, counters.additions + counters.count, wanted,
                         [](const core::Addition &a, const core::Addition &b) {
                             return core::compare_counters(a, b) < 0;
                         });
    Assert(found < counters.additions + counters.count &&
           core::compare_counters(*found, wanted) == 0);
    return found - counters.additions;
}

/* Locks the counters to be added to, as the settlement has it, and reads them all. */
BatchCounters take_counters(const ItemList &list)
{
    BatchCounters counters = {allocate<core::Addition>(list.count), nullptr, nullptr, 0};
    for (size_t i = 0; i < list.count; i++) {
        const Item &item = *list.items[i];
        if (may_be_added(item) || item.verdict == Verdict::replayed) {
            core::Addition *addition = &counters.additions[counters.count++];
            *addition = addition_of(item);
            addition->row_count = may_be_added(item) ? 1 : 0;
        }
    }
    counters.count = core::fold(counters.additions, counters.count);
    counters.locked = allocate<LockedCounter>(counters.count);
    counters.read = allocate<Counter>(counters.count);
    memset(counters.locked, 0, counters.count * sizeof(LockedCounter));

    auto *wanted = allocate<core::Addition>(counters.count);
    auto *wanted_locked = allocate<LockedCounter>(counters.count);
    size_t wanted_count = 0;
    for (size_t i = 0; i < counters.count; i++) {
        if (counters.additions[i].row_count > 0) {
            wanted_locked[wanted_count].is_locked = false;
            wanted[wanted_count++] = counters.additions[i];
        }
    }
    if (settlement == settlement_immediate) {
        lock_counters(wanted, wanted_locked, wanted_count);
    } else if (settlement == settlement_adaptive) {
        try_lock_counters(wanted, wanted_locked, wanted_count);
    }
    for (size_t i = 0, j = 0; i < counters.count; i++) {
        if (counters.additions[i].row_count > 0) {
            counters.locked[i] = wanted_locked[j++];
        }
    }

    read_counters(counters.additions, counters.read, counters.count);
    return counters;
}

bool is_counted(const Item &item)
{
    return item.verdict == Verdict::applied || item.verdict == Verdict::queued;
}

/* Adds an item to its counter's sum, unless the counter refuses it. */
void add_item(Item *item, BatchCounters *counters)
{
    const core::Addition addition = addition_of(*item);
    const size_t counter = counter_of(*counters, *item);
    LockedCounter *locked = &counters->locked[counter];
    if (locked->is_locked) {
        if (locked->is_closed) {
            item->verdict = Verdict::closed;
            return;
        }
        if (!core::fits(locked->totals, addition)) {
            item->verdict = Verdict::invalid;
            item->fault = core::Fault::counter_overflow;
            return;
        }
        locked->totals.tokens += addition.tokens;
        locked->totals.reports += addition.reports;
        locked->totals.chats += addition.chats;
    }
    core::Addition *sum = &counters->additions[counter];
    sum->tokens += addition.tokens;
    sum->reports += addition.reports;
    sum->chats += addition.chats;
    sum->row_count++;
    item->verdict = locked->is_locked ? Verdict::applied : Verdict::queued;
}

/*
 * Decides a follower: a retry of its leader or, where that was refused, the next
 * leader. One whose period would have to be opened for that is left undecided, for
 * another round, and so are those that follow it.
 */
void decide_follower(Item *item, BatchCounters *counters)
{
    Item *const leader = item->leader->leader;
    if (leader->verdict == Verdict::undecided) {
        item->verdict = Verdict::undecided;
    } else if (is_counted(*leader)) {
        item->verdict = Verdict::undecided;
        core::decide_counted(&item, 1, leader->payload, leader->period_start);
    } else if (item->fault != core::Fault::none) {
        item->verdict = Verdict::invalid;
    } else if (item->period == core::ItemPeriod::closed) {
        item->verdict = Verdict::closed;
    } else if (item->period == core::ItemPeriod::open) {
        add_item(item, counters);
        item->leader->leader = item;
    } else {
        item->verdict = Verdict::undecided;
        item->leader->leader = item;
    }
}

/*
 * Adds the items up in the order given, as far as their counters take them, and
 * answers each from its counter as it is then.
 */
void add_up(const ItemList &list, BatchCounters *counters)
{
    for (size_t i = 0; i < counters->count; i++) {
        core::Addition *sum = &counters->additions[i];
        sum->tokens = sum->reports = sum->chats = sum->row_count = 0;
        if (!counters->locked[i].is_locked) {
            counters->locked[i].totals = {counters->read[i].tokens_used, 0, 0};
        }
    }
    for (size_t i = 0; i < list.count; i++) {
        Item *item = list.items[i];
        if (item->verdict == Verdict::leader) {
            add_item(item, counters);
        } else if (item->verdict == Verdict::follower) {
            decide_follower(item, counters);
        }
        if (is_counted(*item) || item->verdict == Verdict::replayed) {
            const size_t counter = counter_of(*counters, *item);
            item->tokens_used = counters->locked[counter].totals.tokens;
            item->period_end = counters->read[counter].period_end;
        }
    }
}

/* Adds the sums to the counters that are locked, and leaves the others to a settler. */
void settle_sums(const BatchCounters &counters)
{
    auto *applied = allocate<core::Addition>(counters.count);
    auto *locked = allocate<LockedCounter>(counters.count);
    auto *queued = allocate<core::Addition>(counters.count);
    size_t applied_count = 0, queued_count = 0;
    for (size_t i = 0; i < counters.count; i++) {
        if (counters.additions[i].row_count == 0) {
            continue;
        }
        if (counters.locked[i].is_locked) {
            locked[applied_count] = counters.locked[i];
            applied[applied_count++] = counters.additions[i];
        } else {
            queued[queued_count++] = counters.additions[i];
        }
    }
    if (applied_count > 0) {
        add_to_counters(applied, locked, applied_count);
    }
    if (queued_count > 0) {
        enqueue_all(queued, queued_count);
        note_queued_rows(queued_count);
    }
}

/*
 * Takes back the events of leaders that their counters have refused, and records
 * those of the followers that have taken their place.
 */
void replace_refused(const Batch &batch, const ItemList &list, const ItemPointerData *rows_by_item)
{
    auto *rows = allocate<ItemPointerData>(list.count);
    ItemList successors = {allocate<Item *>(list.count), 0};
    size_t row_count = 0;
    for (size_t i = 0; i < list.count; i++) {
        const Item &item = *list.items[i];
        const ItemPointerData &row = rows_by_item[list.items[i] - batch.items];
        if (ItemPointerIsValid(&row) && !is_counted(item)) {
            rows[row_count++] = row;
            if (is_counted(*item.leader)) {
                successors.items[successors.count++] = item.leader;
            }
        }
    }
    if (row_count == 0) {
        return;
    }
    delete_events(rows, row_count);
    if (successors.count == 0) {
        return;
    }
    core::sort_by_key(successors.items, successors.count);
    auto *events = allocate<Event>(successors.count);
    auto *starts = allocate<TimestampTz>(successors.count);
    for (size_t i = 0; i < successors.count; i++) {
        events[i] = event_of(*successors.items[i]);
        starts[i] = successors.items[i]->period_start;
    }
    record_events(events, starts, rows, successors.count);
}

/* Counts items that are undecided, in the order given. */
void count_items(const Batch &batch, const ItemList &list)
{
    for (size_t i = 0; i < list.count; i++) {
        Item *item = list.items[i];
        item->fault = core::check_time({item->occurred_at, batch.now, event_age_max_us()});
    }
    look_up_periods(list, false);

    const ItemList sorted = copy_of(list);
    core::sort_by_key(sorted.items, sorted.count);
    const Groups troubled = groups_of(sorted, is_troubled);
    if (troubled.count > 0) {
        decide_counted_groups(troubled.groups, troubled.sizes, troubled.count);
    }
    choose_leaders(groups_of(sorted, is_undecided));

    auto *rows_by_item = allocate<ItemPointerData>(batch.count);
    for (size_t i = 0; i < batch.count; i++) {
        ItemPointerSetInvalid(&rows_by_item[i]);
    }
    record_leaders(groups_of(sorted, has_leader), rows_by_item, batch);

    BatchCounters counters = take_counters(list);
    if (counters.count > 0) {
        add_up(list, &counters);
        settle_sums(counters);
        replace_refused(batch, list, rows_by_item);
    }
}

void count_batch(const Batch &batch)
{
    /* One round, but where a counter has refused an item and left its key to a later one. */
    for (ItemList list = undecided_items(batch); list.count > 0; list = undecided_items(batch)) {
        count_items(batch, list);
    }
}

/* ---- the answer ---- */

const char *detail_of(const Item &item)
{
    switch (item.verdict) {
    case Verdict::conflict:
        return psprintf("%s: %s", message_conflict, conflict_text(item.counted, item.payload));
    case Verdict::invalid:
        return message_of(item.fault);
    case Verdict::unknown_account:
        return item.period == core::ItemPeriod::no_cycle ? message_no_period
                                                         : message_unknown_account;
    case Verdict::closed:
        return message_period_closed;
    default:
        return nullptr;
    }
}

void put_answers(const Batch &batch, const ReturnSetInfo *result)
{
    for (size_t i = 0; i < batch.count; i++) {
        const Item &item = batch.items[i];
        const char *detail = detail_of(item);
        const bool is_counted = detail == nullptr;
        const Datum values[] = {
            Int32GetDatum(static_cast<int32>(i + 1)),
            CStringGetTextDatum(core::outcome_of(item.verdict)),
            Int64GetDatum(item.tokens_used),
            TimestampTzGetDatum(item.period_start),
            TimestampTzGetDatum(item.period_end),
            is_counted ? Datum(0) : CStringGetTextDatum(detail),
        };
        const bool nulls[] = {
            false,       false,       !is_counted || item.verdict == Verdict::queued,
            !is_counted, !is_counted, is_counted};
        tuplestore_putvalues(result->setResult, result->setDesc, const_cast<Datum *>(values),
                             const_cast<bool *>(nulls));
    }
}

} // namespace

} // namespace usage_ledger

extern "C" {

PG_FUNCTION_INFO_V1(usage_ledger_increment_usage_batch);

Datum usage_ledger_increment_usage_batch(PG_FUNCTION_ARGS)
{
    using namespace usage_ledger;

    InitMaterializedSRF(fcinfo, 0);

    /* Everything is allocated in SPI's own context, and freed with it. */
    SPI_connect();
    const Batch batch = batch_of_arguments(fcinfo);
    if (batch.count > 0) {
        count_batch(batch);
        put_answers(batch, reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo));
    }
    SPI_finish();

    PG_RETURN_NULL();
}
}
