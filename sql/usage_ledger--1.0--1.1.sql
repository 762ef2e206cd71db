\echo Use "ALTER EXTENSION usage_ledger UPDATE TO '1.1'" to load this file. \quit

-- Keys are ordered by their bytes: a locale's order costs more to compare in, and changes
-- with the system's libraries, when an index would no longer find a key that it has.
ALTER TABLE @extschema@.usage_events
    ALTER COLUMN idempotency_key TYPE text COLLATE pg_catalog."C";

-- Closed periods that have events left, in the order in which they are pruned: none of
-- those that are being counted in, so no counter's update has anything to do with it.
CREATE INDEX usage_periods_prunable ON @extschema@.usage_periods (closed_at)
 WHERE closed_at IS NOT NULL
   AND (pruned_at IS NULL OR pruned_at OPERATOR(pg_catalog.=) 'infinity');

-- Finds the events of one period beside those of all others: together with the primary
-- key it leads to the pages that hold an account's events of that time. It costs writers
-- next to nothing, where a B-tree on account and period costs a batch a seventh of its
-- speed and a fifth more WAL. Several intervals a range, because pruning lets new events
-- into old pages.
CREATE INDEX usage_events_period ON @extschema@.usage_events
 USING brin (period_start pg_catalog.timestamptz_minmax_multi_ops);

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

-- How long usage has been pending. What is pending now counts from now on.
ALTER TABLE @extschema@.usage_pending ADD COLUMN recorded_at timestamptz NOT NULL DEFAULT pg_catalog.now();

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

-- A caller's search path would decide what the name of a type means in a declaration:
-- without this, who may call current_usage can run code as its owner.
ALTER FUNCTION @extschema@.current_usage(uuid) SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION @extschema@.verify_usage(uuid) SET search_path = pg_catalog, pg_temp;

-- Nobody but the owner has a right on what is new, whoever default privileges would
-- have let in.
DO $rights$
DECLARE
    revoke_command pg_catalog.text;
BEGIN
    FOR revoke_command IN
        SELECT pg_catalog.format('REVOKE ALL ON %s %s FROM %s', object.kind, object.name,
                                 CASE WHEN acl.grantee OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC'
                                      ELSE acl.grantee::pg_catalog.regrole::pg_catalog.text END)
          FROM (SELECT 'TABLE' AS kind, oid::pg_catalog.regclass::pg_catalog.text AS name,
                       relowner AS owner,
                       COALESCE(relacl, pg_catalog.acldefault('r', relowner)) AS rights
                  FROM pg_catalog.pg_class
                 WHERE oid OPERATOR(pg_catalog.=) '@extschema@.usage_ledger_stats'::pg_catalog.regclass
                UNION ALL
                SELECT 'FUNCTION', oid::pg_catalog.regprocedure::pg_catalog.text, proowner,
                       COALESCE(proacl, pg_catalog.acldefault('f', proowner))
                  FROM pg_catalog.pg_proc
                 WHERE oid OPERATOR(pg_catalog.=) ANY (ARRAY[
                           '@extschema@.close_usage_period(uuid, timestamptz)',
                           '@extschema@.void_usage(uuid, text, text)',
                           '@extschema@.prune_usage_events(timestamptz, integer)',
                           '@extschema@.usage_ledger_stats()',
                           '@extschema@.usage_ledger_stats_reset()'
                       ]::pg_catalog.regprocedure[])) AS object
         CROSS JOIN LATERAL pg_catalog.aclexplode(object.rights) AS acl
         WHERE acl.grantee OPERATOR(pg_catalog.<>) object.owner
         GROUP BY object.kind, object.name, acl.grantee
    LOOP
        EXECUTE revoke_command;
    END LOOP;
END
$rights$;
