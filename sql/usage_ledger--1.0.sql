\echo Use "CREATE EXTENSION usage_ledger" to load this file. \quit

-- Every built-in function and operator below is qualified, so that nothing a
-- hostile user has planted in the target schema can be picked up.

------------------------------------------------------------------------------
-- Tables
--
-- Each leads with account_id, and every unique key contains it, so that the
-- ledger can be sharded by account. Fixed-width columns come first.
--
-- usage_periods and usage_events carry no CHECK and no foreign key: the executor
-- would set them up again on every call, and the functions below are the only
-- writers. verify_usage() is the check.
------------------------------------------------------------------------------

CREATE TABLE @extschema@.usage_accounts (
    account_id     uuid        NOT NULL,
    period_anchor  timestamptz NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT pg_catalog.now(),
    period_length  interval    NOT NULL DEFAULT '1 month',
    time_zone      text        NOT NULL DEFAULT 'UTC',
    PRIMARY KEY (account_id)
);
COMMENT ON TABLE @extschema@.usage_accounts IS
    'Accounts and their billing cycle: period n runs from period_anchor + n * period_length to period_anchor + (n + 1) * period_length, reckoned in time_zone.';

-- Half-filled pages leave room for the next version of a counter's row beside
-- the last one, so that an update touches no index (HOT). Dead versions are
-- pruned as pages are visited; autovacuum need only come for the rest.
CREATE TABLE @extschema@.usage_periods (
    account_id    uuid        NOT NULL,
    period_start  timestamptz NOT NULL,
    period_end    timestamptz NOT NULL,
    tokens_used   bigint      NOT NULL DEFAULT 0,
    reports_used  bigint      NOT NULL DEFAULT 0,
    chats_used    bigint      NOT NULL DEFAULT 0,
    closed_at     timestamptz,
    pruned_at     timestamptz,
    PRIMARY KEY (account_id, period_start)
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0
);
COMMENT ON TABLE @extschema@.usage_periods IS
    'Counters: one row of running totals per account and billing period [period_start, period_end). Pending usage is not in them: read usage_totals.';

-- Closed periods that have events left, in the order in which they are pruned: none of
-- those that are being counted in, so no counter's update has anything to do with it.
CREATE INDEX usage_periods_prunable ON @extschema@.usage_periods (closed_at)
 WHERE closed_at IS NOT NULL
   AND (pruned_at IS NULL OR pruned_at OPERATOR(pg_catalog.=) 'infinity');

-- Only ever added to, until its period is closed and pruned: vacuum comes for
-- the visibility map and to freeze, in small steps. Keys are ordered by their bytes: a
-- locale's order costs more to compare in, and changes with the system's libraries, when
-- an index would no longer find a key that it has.
CREATE TABLE @extschema@.usage_events (
    account_id       uuid        NOT NULL,
    period_start     timestamptz NOT NULL,
    occurred_at      timestamptz NOT NULL,
    recorded_at      timestamptz NOT NULL DEFAULT pg_catalog.now(),
    tokens           bigint      NOT NULL,
    reports          integer     NOT NULL,
    chats            integer     NOT NULL,
    idempotency_key  text        COLLATE pg_catalog."C" NOT NULL,
    voided_at        timestamptz,
    void_reason      text,
    PRIMARY KEY (account_id, idempotency_key)
) WITH (
    autovacuum_vacuum_insert_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.05
);
COMMENT ON TABLE @extschema@.usage_events IS
    'Billable events, one row per account and idempotency key. The primary key is what makes a retry count once.';

-- Finds the events of one period beside those of all others: together with the primary
-- key it leads to the pages that hold an account's events of that time. It costs writers
-- next to nothing, where a B-tree on account and period costs a batch a seventh of its
-- speed and a fifth more WAL. Several intervals a range, because pruning lets new events
-- into old pages.
CREATE INDEX usage_events_period ON @extschema@.usage_events
 USING brin (period_start pg_catalog.timestamptz_minmax_multi_ops);

-- A queue: all rows come and go, so vacuum comes as often as it can, to make room
-- for the next ones and to cut the table short. Its statistics interest nobody.
CREATE TABLE @extschema@.usage_pending (
    account_id    uuid        NOT NULL,
    period_start  timestamptz NOT NULL,
    tokens        bigint      NOT NULL,
    reports       integer     NOT NULL,
    chats         integer     NOT NULL,
    recorded_at   timestamptz NOT NULL DEFAULT pg_catalog.now()
) WITH (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_insert_threshold = -1,
    autovacuum_analyze_threshold = 1000000,
    autovacuum_vacuum_cost_delay = 0
);
ALTER TABLE @extschema@.usage_pending REPLICA IDENTITY FULL;
COMMENT ON TABLE @extschema@.usage_pending IS
    'Usage that is recorded in usage_events but not yet added to its counter in usage_periods.';

ALTER TABLE @extschema@.usage_accounts ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.usage_periods ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.usage_events ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.usage_pending ENABLE ROW LEVEL SECURITY;

SELECT pg_catalog.pg_extension_config_dump('@extschema@.usage_accounts', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.usage_periods', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.usage_events', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.usage_pending', '');

------------------------------------------------------------------------------
-- What billing reads
------------------------------------------------------------------------------

-- tokens_used is numeric, as sums of bigint are: pending usage that overflows its
-- counter must not fail everybody's reading.
CREATE VIEW @extschema@.usage_totals AS
SELECT p.account_id,
       p.period_start,
       p.period_end,
       p.tokens_used OPERATOR(pg_catalog.+) COALESCE(q.tokens, 0) AS tokens_used,
       p.reports_used OPERATOR(pg_catalog.+) COALESCE(q.reports, 0) AS reports_used,
       p.chats_used OPERATOR(pg_catalog.+) COALESCE(q.chats, 0) AS chats_used,
       p.closed_at,
       p.pruned_at
  FROM @extschema@.usage_periods AS p
  LEFT JOIN (SELECT account_id,
                    period_start,
                    pg_catalog.sum(tokens) AS tokens,
                    pg_catalog.sum(reports) AS reports,
                    pg_catalog.sum(chats) AS chats
               FROM @extschema@.usage_pending
              GROUP BY account_id, period_start) AS q
    ON q.account_id OPERATOR(pg_catalog.=) p.account_id
   AND q.period_start OPERATOR(pg_catalog.=) p.period_start;
COMMENT ON VIEW @extschema@.usage_totals IS
    'Usage per account and period: the counter plus what is pending, exact at the reader''s snapshot.';

------------------------------------------------------------------------------
-- Functions
--
-- All are SECURITY DEFINER: their callers need no right on any table. The
-- PL/pgSQL ones look up the schema at each call, so that ALTER SCHEMA ... RENAME
-- is safe. They pin the search path, for it decides what the name of a type means in
-- a declaration, and temporary types come first in it. The C ones have nothing that a
-- path decides, so they pin nothing that would have to be paid for at each call.
------------------------------------------------------------------------------

-- Counts one event, once per account and idempotency key, in the caller's
-- transaction.
--
--   p_account_id       the account; registered on first use (monthly periods in
--                      UTC), unless usage_ledger.unknown_account is 'reject'
--   p_tokens           tokens, 0 to 10^12
--   p_idempotency_key  names the event within its account, 1 to 255 bytes; send
--                      the same key again with every retry
--   p_is_report        the event is a report (NULL means false)
--   p_is_chat          the event is a chat (NULL means false)
--   p_occurred_at      when it happened: at most usage_ledger.max_event_age ago
--                      and 5 minutes ahead; NULL means now()
--
-- Outcomes:
--   applied   recorded and added; tokens_used is the counter after the addition
--   queued    recorded and pending, to be settled later (usage_ledger.settlement
--             adaptive or deferred); tokens_used is NULL
--   replayed  the key was counted before with this payload (tokens, report,
--             chat) and nothing changed; tokens_used, period_start and
--             period_end are those of the period it was counted in
--
-- Errors (nothing is written):
--   UL001  the key was counted before with another payload
--   UL002  the account is unknown and unknown accounts are rejected, or no
--          period covers the time and none can be opened
--   UL003  the period that covers the time is closed
--   22003  the counter would overflow
--   22004  account, tokens or key is NULL
--   22023  key, tokens or time is outside its limits
CREATE FUNCTION @extschema@.increment_usage(
    p_account_id uuid,
    p_tokens bigint,
    p_idempotency_key text,
    p_is_report boolean DEFAULT false,
    p_is_chat boolean DEFAULT false,
    p_occurred_at timestamptz DEFAULT NULL,
    OUT outcome text,
    OUT tokens_used bigint,
    OUT period_start timestamptz,
    OUT period_end timestamptz)
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
AS 'MODULE_PATHNAME', 'usage_ledger_increment_usage';
COMMENT ON FUNCTION @extschema@.increment_usage(uuid, bigint, text, boolean, boolean, timestamptz) IS
    'Counts p_tokens (0 to 10^12) of p_account_id once per p_idempotency_key (1 to 255 bytes), at p_occurred_at (NULL: now()). Outcome applied, queued or replayed. Errors: UL001 key reused with another payload, UL002 unknown account or no period, UL003 period closed, 22003 overflow, 22004 NULL argument, 22023 argument outside its limits.';

-- Counts many events in the caller's transaction, each as increment_usage would
-- have in a call of its own, the calls made in the order given. One bad item does
-- not sink the others.
--
--   p_account_ids .. p_idempotency_keys  as increment_usage's, an element an item;
--                                        1,000,000 items at most
--   p_is_report .. p_occurred_at         likewise; the whole array may be NULL
--
-- Returns a row per item, in the order given, with its number from 1, the outcome
-- of increment_usage or one of
--   conflict         as UL001
--   unknown_account  as UL002
--   closed           as UL003
--   invalid          as 22003, 22004 and 22023
-- and then the reason in detail. Errors (nothing is written): 22004 the array of
-- accounts, tokens or keys is NULL; 22023 arrays of unequal length, of several
-- dimensions, or too long.
CREATE FUNCTION @extschema@.increment_usage_batch(
    p_account_ids uuid[],
    p_tokens bigint[],
    p_idempotency_keys text[],
    p_is_report boolean[] DEFAULT NULL,
    p_is_chat boolean[] DEFAULT NULL,
    p_occurred_at timestamptz[] DEFAULT NULL)
RETURNS TABLE (item integer, outcome text, tokens_used bigint,
               period_start timestamptz, period_end timestamptz, detail text)
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
AS 'MODULE_PATHNAME', 'usage_ledger_increment_usage_batch';
COMMENT ON FUNCTION @extschema@.increment_usage_batch(uuid[], bigint[], text[], boolean[], boolean[], timestamptz[]) IS
    'Counts up to 1,000,000 events, given as arrays of equal length, each as increment_usage does. A row per item in the order given: applied, queued, replayed, or conflict, unknown_account, closed, invalid with the reason in detail. Errors: 22004 NULL array, 22023 malformed arrays.';

-- Sets the billing cycle of an account, registering it where it is unknown.
-- Periods that exist stay as they are; the next one to be opened follows the
-- new cycle, clipped to the gap that it falls in.
--
--   p_account_id     the account
--   p_period_length  1 second to 100 years, no field negative
--   p_period_anchor  where some period starts, in the years 1 to 9999; NULL means
--                    midnight of Monday, 1 January 2001 in p_time_zone, so that
--                    months, ISO weeks and days are those of the calendar
--   p_time_zone      name of the time zone in which months and days are added
--
-- Returns the account's row. Errors: 22004 a NULL among account, length and time
-- zone; 22023 a length or an anchor outside its limits, an unknown zone.
CREATE FUNCTION @extschema@.set_usage_cycle(
    p_account_id uuid,
    p_period_length interval,
    p_period_anchor timestamptz DEFAULT NULL,
    p_time_zone text DEFAULT 'UTC')
RETURNS @extschema@.usage_accounts
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
AS 'MODULE_PATHNAME', 'usage_ledger_set_usage_cycle';
COMMENT ON FUNCTION @extschema@.set_usage_cycle(uuid, interval, timestamptz, text) IS
    'Sets the billing cycle of p_account_id for periods not yet opened: p_period_length (1 second to 100 years) counted from p_period_anchor (NULL: calendar-aligned) in p_time_zone. Registers an unknown account. Errors: 22004 NULL argument, 22023 argument outside its limits.';

-- Opens one period by hand, registering the account where it is unknown. Opening
-- totals carried over from another system are recorded as an event too, under
-- the key 'opening:' and the period's start, so that the events explain the
-- counter.
--
--   p_account_id    the account
--   p_period_start  first instant of the period
--   p_period_end    first instant after it
--   p_tokens_used   opening tokens, 0 to 2^63 - 1
--   p_reports_used  opening reports, 0 to 2^31 - 1
--   p_chats_used    opening chats, 0 to 2^31 - 1
--
-- Returns the period's row. Errors: 22004 a NULL argument; 22023 an end not after
-- the start, an infinite bound, a total outside its limits; 23P01 a period that
-- exists overlaps; UL001 the opening event's key is taken.
CREATE FUNCTION @extschema@.open_usage_period(
    p_account_id uuid,
    p_period_start timestamptz,
    p_period_end timestamptz,
    p_tokens_used bigint DEFAULT 0,
    p_reports_used bigint DEFAULT 0,
    p_chats_used bigint DEFAULT 0)
RETURNS @extschema@.usage_periods
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
AS 'MODULE_PATHNAME', 'usage_ledger_open_usage_period';
COMMENT ON FUNCTION @extschema@.open_usage_period(uuid, timestamptz, timestamptz, bigint, bigint, bigint) IS
    'Opens the period [p_period_start, p_period_end) of p_account_id, with opening totals of tokens (0 to 2^63 - 1), reports and chats (0 to 2^31 - 1 each) that are recorded as an event. Registers an unknown account. Errors: 22004 NULL argument, 22023 argument outside its limits, 23P01 overlapping period, UL001 opening event exists.';

-- Folds pending usage into counters, in the caller's transaction; waits for
-- nobody. What cannot be folded stays pending: silently where a session holds the
-- counter, with a WARNING where the counter would overflow or is closed.
--
--   p_max_rows  pending rows to fold at most, 1 to 10,000,000
--
-- Returns the number of rows folded. Errors: 22004 NULL, 22023 outside its limits.
CREATE FUNCTION @extschema@.settle_usage(p_max_rows integer DEFAULT 100000)
RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
AS 'MODULE_PATHNAME', 'usage_ledger_settle_usage';
COMMENT ON FUNCTION @extschema@.settle_usage(integer) IS
    'Folds at most p_max_rows (1 to 10,000,000) rows of usage_pending into the counters of usage_periods and returns how many it folded. Waits for nobody; WARNING for an account that cannot be settled. Errors: 22004 NULL argument, 22023 argument outside its limits.';

-- Closes a period: the number on the invoice. Settles what is pending for it, checks
-- the counter against the events, as verify_usage does, and stamps closed_at. Waits
-- for everybody who has counted usage of the account and not yet committed; whoever
-- comes later waits for it and gets UL003. Other accounts are not held up.
--
--   p_account_id    the account
--   p_period_start  start of one of its periods; one that has not ended can be
--                   closed too, and then takes no usage until it has
--
-- Returns the period's row; of a period that is closed already, the same row again.
-- Errors: UL002 there is no such period; 22003 what is pending overflows the counter;
-- 22004 a NULL argument; XX001 the counter differs from its events.
CREATE FUNCTION @extschema@.close_usage_period(p_account_id uuid, p_period_start timestamptz)
RETURNS @extschema@.usage_periods
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
AS 'MODULE_PATHNAME', 'usage_ledger_close_usage_period';
COMMENT ON FUNCTION @extschema@.close_usage_period(uuid, timestamptz) IS
    'Closes the period of p_account_id that starts at p_period_start: settles what is pending, checks the counter against its events, stamps closed_at and returns the final row; of a closed period, the same row again. Errors: UL002 no such period, 22003 overflow, 22004 NULL argument, XX001 counter differs from its events.';

-- Takes an event back, once, whether or not it is still pending. Its key stays
-- claimed: a late retry of the call that counted it is replayed.
--
--   p_account_id       the account
--   p_idempotency_key  the key that the event was counted under
--   p_reason           kept with the event, up to 1,000 bytes; NULL is none
--
-- Outcomes:
--   voided    taken back; tokens_used is the counter without it, or NULL where that
--             is queued (usage_ledger.settlement adaptive or deferred, or the event
--             itself still pending)
--   replayed  it was voided before, and nothing changed, the reason included;
--             tokens_used is the counter
--
-- Errors (nothing is written): UL003 its period is closed; UL004 no event was counted
-- under this key; 22004 account or key is NULL; 22023 the key is empty or over 255
-- bytes, or the reason is too long.
CREATE FUNCTION @extschema@.void_usage(
    p_account_id uuid,
    p_idempotency_key text,
    p_reason text,
    OUT outcome text,
    OUT tokens_used bigint)
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
AS 'MODULE_PATHNAME', 'usage_ledger_void_usage';
COMMENT ON FUNCTION @extschema@.void_usage(uuid, text, text) IS
    'Takes back the event that p_account_id counted under p_idempotency_key, once, and keeps p_reason (up to 1,000 bytes) with it. Its key stays claimed. Outcome voided, or replayed if it was voided before. Errors: UL003 period closed, UL004 no such event, 22004 NULL argument, 22023 argument outside its limits.';

-- Deletes events of periods closed before a time, those that were closed first coming
-- first, and with them their keys: a retry that comes later still is a new event. Call
-- it until it returns less than p_max_rows. Safe beside everything else, itself
-- included; a period that another call is pruning is passed over.
--
--   p_closed_before  periods with an earlier closed_at
--   p_max_rows       events to delete at most, 1 to 10,000,000
--
-- Returns the number of events deleted. Stamps pruned_at: 'infinity' while a period
-- has events left, then the time. Errors: 22004 a NULL argument; 22023 outside its
-- limits.
CREATE FUNCTION @extschema@.prune_usage_events(
    p_closed_before timestamptz,
    p_max_rows integer DEFAULT 10000)
RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
AS 'MODULE_PATHNAME', 'usage_ledger_prune_usage_events';
COMMENT ON FUNCTION @extschema@.prune_usage_events(timestamptz, integer) IS
    'Deletes at most p_max_rows (1 to 10,000,000) events, and their keys, of periods closed before p_closed_before, those closed first coming first; returns how many it deleted. Errors: 22004 NULL argument, 22023 argument outside its limits.';

-- Returns the row of usage_totals for the period of p_account_id that covers
-- now(); NULL when there is none yet. Errors: 22004 the account is NULL.
CREATE FUNCTION @extschema@.current_usage(p_account_id uuid)
RETURNS @extschema@.usage_totals
LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    usage pg_catalog.record;
BEGIN
    IF p_account_id IS NULL THEN
        RAISE EXCEPTION 'account must not be null'
            USING ERRCODE = 'null_value_not_allowed',
                  DETAIL = 'Argument p_account_id is null.',
                  HINT = 'Pass the uuid of an account.';
    END IF;

    EXECUTE pg_catalog.format($query$
        SELECT t.*
          FROM %s.usage_totals AS t
         WHERE t.account_id OPERATOR(pg_catalog.=) $1
           AND t.period_start OPERATOR(pg_catalog.<=) pg_catalog.now()
           AND t.period_end OPERATOR(pg_catalog.>) pg_catalog.now()
        $query$, (SELECT extnamespace::pg_catalog.regnamespace
                    FROM pg_catalog.pg_extension
                   WHERE extname OPERATOR(pg_catalog.=) 'usage_ledger'))
       INTO usage
      USING p_account_id;

    RETURN usage;
END
$function$;
COMMENT ON FUNCTION @extschema@.current_usage(uuid) IS
    'The row of usage_totals for the period of p_account_id that covers now(); NULL when there is none. Errors: 22004 NULL argument.';

-- Lists every counter that its events do not explain: for each period not yet
-- pruned, recorded is counter plus pending, expected the sum of the events that
-- are not voided. A sound ledger has no row here, also while writers run: the
-- whole check reads one snapshot. Events whose period does not exist are
-- violations too, with recorded NULL.
--
--   p_account_id  the account to check; NULL means all of them
CREATE FUNCTION @extschema@.verify_usage(p_account_id uuid DEFAULT NULL)
RETURNS TABLE (account_id uuid, period_start timestamptz, counter text, recorded bigint, expected bigint)
LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    RETURN QUERY EXECUTE pg_catalog.format($query$
        SELECT COALESCE(t.account_id, e.account_id),
               COALESCE(t.period_start, e.period_start),
               c.counter,
               c.recorded::bigint,
               c.expected::bigint
          FROM (SELECT *
                  FROM %1$s.usage_totals
                 WHERE $1 IS NULL OR account_id OPERATOR(pg_catalog.=) $1) AS t
          FULL JOIN (SELECT account_id,
                            period_start,
                            pg_catalog.sum(tokens) AS tokens,
                            pg_catalog.sum(reports) AS reports,
                            pg_catalog.sum(chats) AS chats
                       FROM %1$s.usage_events
                      WHERE voided_at IS NULL
                        AND ($1 IS NULL OR account_id OPERATOR(pg_catalog.=) $1)
                      GROUP BY account_id, period_start) AS e
            ON e.account_id OPERATOR(pg_catalog.=) t.account_id
           AND e.period_start OPERATOR(pg_catalog.=) t.period_start
         CROSS JOIN LATERAL (
               VALUES (1, 'tokens', t.tokens_used, COALESCE(e.tokens, 0)),
                      (2, 'reports', t.reports_used, COALESCE(e.reports, 0)),
                      (3, 'chats', t.chats_used, COALESCE(e.chats, 0))
               ) AS c (ordinal, counter, recorded, expected)
         WHERE t.pruned_at IS NULL
           AND (c.recorded IS NULL OR c.recorded OPERATOR(pg_catalog.<>) c.expected)
         ORDER BY 1, 2, c.ordinal
        $query$, (SELECT extnamespace::pg_catalog.regnamespace
                    FROM pg_catalog.pg_extension
                   WHERE extname OPERATOR(pg_catalog.=) 'usage_ledger'))
    USING p_account_id;
END
$function$;
COMMENT ON FUNCTION @extschema@.verify_usage(uuid) IS
    'Lists every counter (tokens, reports, chats) of p_account_id, or of all accounts when NULL, whose recorded value (counter plus pending) differs from the expected one (sum of its events). No rows in a sound ledger.';

------------------------------------------------------------------------------
-- What monitoring reads
------------------------------------------------------------------------------

-- The statistics that all sessions and the worker keep in shared memory, over all
-- databases; NULL unless the library is in shared_preload_libraries.
CREATE FUNCTION @extschema@.usage_ledger_stats(
    OUT applied bigint,
    OUT queued bigint,
    OUT replayed bigint,
    OUT conflicts bigint,
    OUT refused bigint,
    OUT lock_waits bigint,
    OUT settle_rounds bigint,
    OUT settled_rows bigint,
    OUT worker_pid integer,
    OUT worker_error text,
    OUT worker_error_at timestamptz,
    OUT stats_reset timestamptz)
LANGUAGE C VOLATILE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'usage_ledger_stats';
COMMENT ON FUNCTION @extschema@.usage_ledger_stats() IS
    'The statistics that view usage_ledger_stats shows, those of pending usage apart; NULLs unless usage_ledger is in shared_preload_libraries.';

-- Sets the statistics to 0, those of all databases, and forgets the worker's last error.
-- Errors: 55000 usage_ledger is not in shared_preload_libraries.
CREATE FUNCTION @extschema@.usage_ledger_stats_reset()
RETURNS void
LANGUAGE C VOLATILE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'usage_ledger_stats_reset';
COMMENT ON FUNCTION @extschema@.usage_ledger_stats_reset() IS
    'Sets the statistics of usage_ledger_stats to 0, in all databases, and forgets the worker''s last error. Errors: 55000 usage_ledger is not in shared_preload_libraries.';

-- Reads the queue of this database from end to end, which is short where it is settled.
CREATE VIEW @extschema@.usage_ledger_stats AS
SELECT s.applied,
       s.queued,
       s.replayed,
       s.conflicts,
       s.refused,
       s.lock_waits,
       s.settle_rounds,
       s.settled_rows,
       q.pending_rows,
       q.pending_age,
       s.worker_pid,
       s.worker_error,
       s.worker_error_at,
       s.stats_reset
  FROM @extschema@.usage_ledger_stats() AS s
 CROSS JOIN (SELECT pg_catalog.count(*) AS pending_rows,
                    pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) pg_catalog.min(recorded_at) AS pending_age
               FROM @extschema@.usage_pending) AS q;
COMMENT ON VIEW @extschema@.usage_ledger_stats IS
    'One row: what calls came to since stats_reset in all databases, what is pending in this one, and the settling worker. Without usage_ledger in shared_preload_libraries only what is pending is known.';
COMMENT ON COLUMN @extschema@.usage_ledger_stats.applied IS 'Calls, and items of batches, that were recorded and added to their counter.';
COMMENT ON COLUMN @extschema@.usage_ledger_stats.queued IS 'Calls and items that were recorded and left to a settler.';
COMMENT ON COLUMN @extschema@.usage_ledger_stats.replayed IS 'Calls and items whose key had been counted before.';
COMMENT ON COLUMN @extschema@.usage_ledger_stats.conflicts IS 'Calls and items whose key had been counted before with another payload (UL001).';
COMMENT ON COLUMN @extschema@.usage_ledger_stats.refused IS 'Calls and items refused otherwise (UL002, UL003, 22003, 22004, 22023).';
COMMENT ON COLUMN @extschema@.usage_ledger_stats.lock_waits IS 'Calls that have waited in line for a counter.';
COMMENT ON COLUMN @extschema@.usage_ledger_stats.settle_rounds IS 'How often a worker or settle_usage has looked for pending rows.';
COMMENT ON COLUMN @extschema@.usage_ledger_stats.settled_rows IS 'Pending rows folded into counters.';
COMMENT ON COLUMN @extschema@.usage_ledger_stats.pending_rows IS 'Rows in usage_pending of this database.';
COMMENT ON COLUMN @extschema@.usage_ledger_stats.pending_age IS 'How long the oldest of them has been pending; NULL when there is none.';
COMMENT ON COLUMN @extschema@.usage_ledger_stats.worker_pid IS 'Process of the settling worker''s launcher; NULL when it does not run.';
COMMENT ON COLUMN @extschema@.usage_ledger_stats.worker_error IS 'Why the worker last failed to settle a database, at most 255 bytes; NULL if it has not.';
COMMENT ON COLUMN @extschema@.usage_ledger_stats.worker_error_at IS 'When that was.';
COMMENT ON COLUMN @extschema@.usage_ledger_stats.stats_reset IS 'When the statistics were last reset.';

------------------------------------------------------------------------------
-- Rights
--
-- Nobody but the owner has any, whoever PUBLIC and the default privileges of
-- the schema or the database would have let in.
------------------------------------------------------------------------------

DO $rights$
DECLARE
    revoke_command pg_catalog.text;
BEGIN
    FOR revoke_command IN
        SELECT DISTINCT pg_catalog.format(
                   'REVOKE ALL ON %s FROM %s',
                   CASE WHEN c.oid IS NULL
                        THEN pg_catalog.format('FUNCTION %s', p.oid::pg_catalog.regprocedure)
                        ELSE pg_catalog.format('TABLE %s', c.oid::pg_catalog.regclass) END,
                   CASE WHEN acl.grantee OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC'
                        ELSE acl.grantee::pg_catalog.regrole::pg_catalog.text END)
          FROM pg_catalog.pg_extension AS e
          JOIN pg_catalog.pg_depend AS d
            ON d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
           AND d.refobjid OPERATOR(pg_catalog.=) e.oid
          LEFT JOIN pg_catalog.pg_class AS c
            ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
           AND d.objid OPERATOR(pg_catalog.=) c.oid
          LEFT JOIN pg_catalog.pg_proc AS p
            ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
           AND d.objid OPERATOR(pg_catalog.=) p.oid
         CROSS JOIN LATERAL pg_catalog.aclexplode(
               COALESCE(c.relacl, p.proacl, pg_catalog.acldefault('f', p.proowner))) AS acl
         WHERE e.extname OPERATOR(pg_catalog.=) 'usage_ledger'
           AND acl.grantee OPERATOR(pg_catalog.<>) COALESCE(c.relowner, p.proowner)
    LOOP
        EXECUTE revoke_command;
    END LOOP;
END
$rights$;
