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

-- Reading the view takes grants on it and on its function. They do not open usage_pending.
CREATE ROLE usage_monitor;
SET ROLE usage_monitor;
SELECT pending_rows FROM usage_ledger_stats;
SELECT usage_ledger_stats();
SELECT usage_ledger_stats_reset();
RESET ROLE;
GRANT SELECT ON usage_ledger_stats TO usage_monitor;
GRANT EXECUTE ON FUNCTION usage_ledger_stats() TO usage_monitor;
GRANT SELECT (recorded_at) ON usage_pending TO usage_monitor;
CREATE POLICY monitor ON usage_pending FOR SELECT TO usage_monitor USING (true);
SET ROLE usage_monitor;
SELECT pending_rows FROM usage_ledger_stats;
SELECT * FROM usage_pending;
RESET ROLE;
REVOKE SELECT ON usage_ledger_stats FROM usage_monitor;
REVOKE EXECUTE ON FUNCTION usage_ledger_stats() FROM usage_monitor;
REVOKE SELECT (recorded_at) ON usage_pending FROM usage_monitor;
DROP POLICY monitor ON usage_pending;
DROP ROLE usage_monitor;
DELETE FROM usage_events WHERE account_id = :a;
DELETE FROM usage_periods WHERE account_id = :a;
DELETE FROM usage_accounts WHERE account_id = :a;
