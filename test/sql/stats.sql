-- usage_ledger_stats without shared_preload_libraries shows what is pending, and nothing
-- else. (test/t/008_stats.pl tests the other columns.)
\set a '''67000000-0000-0000-0000-000000000001'''
SELECT * FROM usage_ledger_stats;
SET usage_ledger.settlement = 'deferred';
SELECT outcome FROM increment_usage(:a, 5, 'k1');
SELECT outcome FROM increment_usage(:a, 5, 'k2');
RESET usage_ledger.settlement;
UPDATE usage_pending SET recorded_at = now() - interval '1 hour' WHERE ctid = (SELECT min(ctid) FROM usage_pending);
SELECT pending_rows, date_trunc('hour', pending_age) AS pending_age, applied, worker_pid FROM usage_ledger_stats;
SELECT settle_usage();
SELECT pending_rows, pending_age FROM usage_ledger_stats;
SELECT usage_ledger_stats_reset();
\echo :LAST_ERROR_SQLSTATE

-- The worker has no status either, and a list of databases that it cannot serve is refused.
SELECT * FROM usage_ledger_worker;
ALTER SYSTEM SET usage_ledger.settle_databases = 'one, two,';
ALTER SYSTEM SET usage_ledger.settle_databases = 'one, ""';

-- Reading the view takes grants on it and on its function. They do not open usage_pending.
CREATE ROLE usage_monitor;
SET ROLE usage_monitor;
SELECT pending_rows FROM usage_ledger_stats;
SELECT usage_ledger_stats();
SELECT usage_ledger_stats_reset();
SELECT * FROM usage_ledger_worker;
SELECT * FROM usage_ledger_worker();
RESET ROLE;
GRANT SELECT ON usage_ledger_stats, usage_ledger_worker TO usage_monitor;
GRANT EXECUTE ON FUNCTION usage_ledger_stats(), usage_ledger_worker() TO usage_monitor;
GRANT SELECT (recorded_at) ON usage_pending TO usage_monitor;
CREATE POLICY monitor ON usage_pending FOR SELECT TO usage_monitor USING (true);
SET ROLE usage_monitor;
SELECT pending_rows FROM usage_ledger_stats;
SELECT * FROM usage_ledger_worker;
SELECT * FROM usage_pending;
RESET ROLE;
REVOKE SELECT ON usage_ledger_stats, usage_ledger_worker FROM usage_monitor;
REVOKE EXECUTE ON FUNCTION usage_ledger_stats(), usage_ledger_worker() FROM usage_monitor;
REVOKE SELECT (recorded_at) ON usage_pending FROM usage_monitor;
DROP POLICY monitor ON usage_pending;
DROP ROLE usage_monitor;
DELETE FROM usage_events WHERE account_id = :a;
DELETE FROM usage_periods WHERE account_id = :a;
DELETE FROM usage_accounts WHERE account_id = :a;
