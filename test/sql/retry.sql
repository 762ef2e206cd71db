-- Retries are answered but not counted.
SET timezone = 'UTC';
\set a '''bbbbbbbb-0000-0000-0000-000000000001'''
\set b '''bbbbbbbb-0000-0000-0000-000000000002'''

SELECT outcome, tokens_used FROM increment_usage(:a, 50000, 'run-1', true);
SELECT outcome, tokens_used FROM increment_usage(:a, 1000, 'run-2', true);
SELECT outcome, tokens_used FROM increment_usage(:a, 50000, 'run-1', true);
-- A retry with a new time is still a retry. The first time stands.
SELECT outcome, tokens_used FROM increment_usage(:a, 50000, 'run-1', true, p_occurred_at => now() - interval '1 hour');
SELECT occurred_at = recorded_at AS first_time FROM usage_events WHERE account_id = :a AND idempotency_key = 'run-1';

-- Another payload is a conflict, whichever part differs.
SELECT increment_usage(:a, 50001, 'run-1', true);
SELECT increment_usage(:a, 50000, 'run-1', false);
SELECT increment_usage(:a, 50000, 'run-1', true, true);
SELECT tokens_used, reports_used, chats_used FROM current_usage(:a);

-- Twice in one statement, and after a rollback to a savepoint.
SELECT i, (increment_usage(:a, 7, 'run-3')).outcome FROM generate_series(1, 2) AS i;
BEGIN;
SAVEPOINT s;
SELECT outcome, tokens_used FROM increment_usage(:a, 9, 'run-4');
ROLLBACK TO s;
SELECT outcome, tokens_used FROM increment_usage(:a, 9, 'run-4');
SELECT outcome, tokens_used FROM increment_usage(:a, 9, 'run-4');
COMMIT;

-- A replay writes nothing: no WAL, no transaction id, no lock on the row.
CREATE FUNCTION wal_records(command text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    plan json;
BEGIN
    EXECUTE 'EXPLAIN (ANALYZE, WAL, FORMAT json) ' || command INTO plan;
    RETURN plan -> 0 -> 'Plan' ->> 'WAL Records';
END $$;
SELECT wal_records(format('SELECT increment_usage(%L, 11, %L)', :a, 'run-5')) > 0 AS first_call_writes;
BEGIN;
SELECT wal_records(format('SELECT increment_usage(%L, 11, %L)', :a, 'run-5')) AS wal_records;
SELECT wal_records(format('SELECT increment_usage(%L, 11, %L, p_occurred_at => %L)', :a, 'run-5', '2001-01-01')) AS wal_records;
SELECT outcome, tokens_used FROM increment_usage(:a, 11, 'run-5');
SELECT pg_current_xact_id_if_assigned() AS transaction_id;
SELECT count(*) AS row_locks FROM pg_locks WHERE pid = pg_backend_pid() AND locktype IN ('tuple', 'transactionid');
COMMIT;
DROP FUNCTION wal_records;
SELECT outcome FROM increment_usage(:b, 1, 'once');
SELECT outcome FROM increment_usage(:b, 1, 'once');
SELECT xmax = 0 AS untouched FROM usage_periods WHERE account_id = :b;

-- The answer to the first call stands, however much time has passed and whatever has
-- changed since. The event is two months old, in a period that has ended.
SET usage_ledger.max_event_age = '100d';
SELECT outcome, tokens_used FROM increment_usage(:b, 300, 'late', p_occurred_at => date_trunc('month', now(), 'UTC') - interval '40 days');
RESET usage_ledger.max_event_age;
-- 1. Its age is now above the limit.
SELECT outcome, tokens_used, period_end < now() AS period_has_ended
  FROM increment_usage(:b, 300, 'late', p_occurred_at => date_trunc('month', now(), 'UTC') - interval '40 days');
-- 2. The retry has no time. It is answered from the period in which the event was counted.
SELECT outcome, tokens_used, period_end < now() AS period_has_ended FROM increment_usage(:b, 300, 'late');
-- 3. Its period is closed, and so is the current one.
UPDATE usage_periods SET closed_at = now() WHERE account_id = :b;
SELECT outcome, tokens_used FROM increment_usage(:b, 300, 'late');
SELECT outcome, tokens_used FROM increment_usage(:b, 1, 'once');
-- 4. Unknown accounts are now rejected.
SET usage_ledger.unknown_account = 'reject';
SELECT outcome, tokens_used FROM increment_usage(:b, 300, 'late');
RESET usage_ledger.unknown_account;
-- 5. The event was voided. Its key stays claimed.
UPDATE usage_events SET voided_at = now() WHERE account_id = :b AND idempotency_key = 'late';
UPDATE usage_periods SET tokens_used = 0 WHERE account_id = :b AND period_end < now();
SELECT outcome, tokens_used FROM increment_usage(:b, 300, 'late');
-- 6. A conflict is still a conflict.
SELECT increment_usage(:b, 301, 'late');

SELECT * FROM verify_usage();
