-- A session keeps working whatever is done to the extension in the meantime.
\set a '''ffffffff-0000-0000-0000-000000000001'''
-- A new session, whose transaction has already failed before the first call.
\c -
BEGIN;
SELECT 1/0;
SELECT outcome FROM increment_usage(:a, 1, 'first');
ROLLBACK;
-- The first call to run in the session fails. The next one succeeds in a transaction that fails.
BEGIN;
SELECT outcome FROM increment_usage(:a, -1, 'first');
ROLLBACK;
BEGIN;
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'first');
SELECT 1/0;
ROLLBACK;
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'first');

DISCARD ALL;
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'after discard all');

-- New statistics invalidate the plans.
ANALYZE usage_accounts, usage_periods, usage_events;
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'after analyze');

-- The planner would scan a table of one page, but the table may grow. The kept plans use the index,
EXPLAIN (COSTS OFF) SELECT * FROM usage_periods WHERE account_id = :a;
SELECT pg_stat_force_next_flush();
SELECT pg_stat_get_numscans('usage_periods'::regclass) AS sequential_scans_before \gset
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'by index');
SELECT pg_stat_force_next_flush();
SELECT pg_stat_get_numscans('usage_periods'::regclass) - :sequential_scans_before AS sequential_scans;

-- and look keys up by the primary key, though most accounts have one event, of which an index on
-- accounts and periods would find as few.
BEGIN;
SELECT count(*) FROM generate_series(1, 2000) AS n, increment_usage(md5(n::text)::uuid, 0, 'key ' || n);
SELECT count(*) FROM set_usage_limit(:a, 1000000);
COMMIT;
ANALYZE usage_accounts, usage_periods, usage_events;
SELECT pg_stat_force_next_flush();
SELECT pg_stat_get_numscans('usage_events_period'::regclass) AS period_scans_before \gset
SELECT outcome FROM increment_usage(:a, 1, 'by index');
SELECT outcome FROM increment_usage_batch(ARRAY[:a]::uuid[], '{1}', '{by index}');
SELECT outcome FROM reserve_usage(:a, 2, 'held');
SELECT outcome FROM reserve_usage(:a, 999999, 'too much');
SELECT pg_stat_force_next_flush();
SELECT pg_stat_get_numscans('usage_events_period'::regclass) - :period_scans_before AS period_scans;
DELETE FROM usage_limits;
DELETE FROM usage_holds;

-- even if the server plans them again for another search path or row_security setting.
CREATE SCHEMA elsewhere;
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'planned for the path');
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'planned for the path');
SELECT pg_stat_force_next_flush();
SELECT pg_stat_get_numscans('usage_periods'::regclass) + pg_stat_get_numscans('usage_events'::regclass) AS sequential_scans_before \gset
SET search_path = elsewhere, public;
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'another path');
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'another path');
RESET search_path;
SET row_security = off;
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'no row security');
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'no row security');
RESET row_security;
SELECT pg_stat_force_next_flush();
SELECT pg_stat_get_numscans('usage_periods'::regclass) + pg_stat_get_numscans('usage_events'::regclass) - :sequential_scans_before AS sequential_scans;
DROP SCHEMA elsewhere;

-- A table is moved to another schema and back, which takes a superuser who switches the guard
-- off. Later the schema is renamed.
CREATE SCHEMA moved;
ALTER EVENT TRIGGER usage_ledger_guard DISABLE;
ALTER TABLE usage_events SET SCHEMA moved;
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'table moved');
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'first');
ALTER TABLE moved.usage_events SET SCHEMA public;
DROP SCHEMA moved;
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'table moved back');

SELECT token_limit FROM set_usage_limit(:a, 100);
SELECT outcome, tokens_remaining FROM reserve_usage(:a, 5, 'reserved');
DROP EXTENSION usage_ledger;
CREATE SCHEMA billing;
CREATE EXTENSION usage_ledger SCHEMA billing;
SELECT outcome, tokens_remaining FROM billing.reserve_usage(:a, 5, 'reserved');
SELECT token_limit FROM billing.set_usage_limit(:a, 10);
SELECT outcome, tokens_remaining FROM billing.reserve_usage(:a, 5, 'reserved');
SELECT outcome, tokens_remaining FROM billing.release_usage(:a, 'reserved');
SELECT outcome, tokens_used FROM billing.increment_usage(:a, 1, 'first');
SELECT outcome, tokens_used FROM billing.record_usage(:a, 'broken down', 'model', 'team');
SELECT outcome FROM billing.record_usage_batch(ARRAY[:a]::uuid[], '{broken down too}', '{model}', '{team}');
SELECT outcome FROM billing.void_usage(:a, 'broken down', NULL);
ALTER SCHEMA billing RENAME TO "Billing 2";
SELECT outcome, tokens_used FROM "Billing 2".increment_usage(:a, 1, 'first');
SELECT outcome, tokens_used FROM "Billing 2".increment_usage(:a, 1, 'renamed');
SELECT outcome, tokens_remaining FROM "Billing 2".reserve_usage(:a, 5, 'reserved');
SELECT outcome, tokens_used FROM "Billing 2".record_usage(:a, 'broken down again', 'model', 'team');
SELECT outcome FROM "Billing 2".record_usage_batch(ARRAY[:a]::uuid[], '{broken down once more}', '{new model}', '{team}');
SELECT outcome FROM "Billing 2".void_usage(:a, 'broken down too', NULL);
SELECT scope, model, events FROM "Billing 2".usage_breakdown_totals ORDER BY 1, 2;
SELECT tokens_used FROM "Billing 2".current_usage(:a);
SELECT period_length FROM "Billing 2".set_usage_cycle(:a, '2 months');
SELECT tokens_used FROM "Billing 2".open_usage_period(:a, '2020-01-01', '2020-02-01', 5);
SELECT * FROM "Billing 2".verify_usage();

-- The same in the middle of a transaction that is rolled back.
BEGIN;
SELECT outcome FROM "Billing 2".increment_usage(:a, 1, 'in transaction');
ALTER SCHEMA "Billing 2" RENAME TO billing;
SELECT outcome FROM billing.increment_usage(:a, 1, 'in transaction');
ROLLBACK;
SELECT outcome FROM "Billing 2".increment_usage(:a, 1, 'in transaction');
BEGIN;
DROP EXTENSION usage_ledger;
CREATE EXTENSION usage_ledger SCHEMA "Billing 2";
SELECT outcome, tokens_used FROM "Billing 2".increment_usage(:a, 1, 'first');
ROLLBACK;
SELECT outcome, tokens_used FROM "Billing 2".increment_usage(:a, 1, 'first');

-- A trigger on the ledger's table calls increment_usage while the plans are being replaced.
CREATE FUNCTION count_again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.idempotency_key NOT LIKE 'again: %' THEN
        ANALYZE "Billing 2".usage_events;
        PERFORM "Billing 2".increment_usage(NEW.account_id, 1, 'again: ' || NEW.idempotency_key);
    END IF;
    RETURN NEW;
END $$;
ALTER EVENT TRIGGER usage_ledger_guard DISABLE;
CREATE TRIGGER count_again BEFORE INSERT ON "Billing 2".usage_events FOR EACH ROW EXECUTE FUNCTION count_again();
SELECT outcome, tokens_used FROM "Billing 2".increment_usage(:a, 1, 'nested 1');
SELECT outcome, tokens_used FROM "Billing 2".increment_usage(:a, 1, 'nested 2');
DROP TRIGGER count_again ON "Billing 2".usage_events;
ALTER EVENT TRIGGER usage_ledger_guard ENABLE;
DROP FUNCTION count_again;
SELECT * FROM "Billing 2".verify_usage();

DROP EXTENSION usage_ledger;
DROP SCHEMA "Billing 2";
CREATE EXTENSION usage_ledger;
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'first');

-- The period cache of the session. After a manual DELETE of the period, one call fails.
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'second');
DELETE FROM usage_events;
DELETE FROM usage_periods;
DELETE FROM usage_accounts;
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'third');
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'third');
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'fourth');
SET usage_ledger.settlement = 'deferred';
DELETE FROM usage_events;
DELETE FROM usage_periods;
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'fifth');
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'fifth');
RESET usage_ledger.settlement;
-- After a TRUNCATE no call fails.
TRUNCATE usage_accounts, usage_periods, usage_events, usage_pending, usage_breakdown;
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'sixth');
-- A period whose opening is rolled back is not cached,
TRUNCATE usage_accounts, usage_periods, usage_events, usage_pending, usage_breakdown;
BEGIN;
SAVEPOINT opened;
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'seventh');
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'eighth');
ROLLBACK TO opened;
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'eighth');
ROLLBACK;
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'ninth');
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'tenth', p_occurred_at => now() - interval '32 days');
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'eleventh');
-- nor is one that was written by hand: inserted in the transaction or in a savepoint, with a
-- batch, or given other bounds.
TRUNCATE usage_accounts, usage_periods, usage_events, usage_pending, usage_breakdown;
BEGIN;
INSERT INTO usage_periods (account_id, period_start, period_end) VALUES (:a, now() - interval '1 day', now() + interval '1 day');
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'by hand');
ROLLBACK;
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'by hand');
TRUNCATE usage_accounts, usage_periods, usage_events, usage_pending, usage_breakdown;
BEGIN;
SAVEPOINT inserted;
INSERT INTO usage_periods (account_id, period_start, period_end) VALUES (:a, now() - interval '1 day', now() + interval '1 day');
SELECT outcome, tokens_used FROM increment_usage_batch(ARRAY[:a]::uuid[], '{1}', '{by hand}');
ROLLBACK TO inserted;
SELECT outcome, tokens_used FROM increment_usage_batch(ARRAY[:a]::uuid[], '{1}', '{by hand}');
COMMIT;
\set b '''ffffffff-0000-0000-0000-000000000002'''
SELECT tokens_used FROM open_usage_period(:b, current_date - 20, current_date - 10, 1);
BEGIN;
UPDATE usage_periods SET period_start = current_date - 21 WHERE account_id = :b AND period_start = current_date - 20;
SELECT outcome, tokens_used FROM increment_usage(:b, 1, 'other bounds', p_occurred_at => current_date - 15);
ROLLBACK;
SELECT outcome, tokens_used FROM increment_usage(:b, 1, 'other bounds', p_occurred_at => current_date - 15);
SELECT * FROM verify_usage();
