-- verify_usage() lists every counter that its events do not explain.
\set a '''eeeeeeee-0000-0000-0000-000000000001'''
\set b '''eeeeeeee-0000-0000-0000-000000000002'''
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET usage_ledger.max_event_age = '20000d';
SELECT outcome FROM increment_usage(:a, 100, 'k1', true, p_occurred_at => '2024-01-05');
SELECT outcome FROM increment_usage(:a, 200, 'k2', false, true, p_occurred_at => '2024-02-05');
SELECT outcome FROM increment_usage(:b, 300, 'k1', p_occurred_at => '2024-01-05');
SELECT * FROM verify_usage();

-- A counter that is wrong is listed, and each of its three parts has its own row.
BEGIN;
UPDATE usage_periods SET tokens_used = tokens_used - 1, reports_used = 0, chats_used = 5
 WHERE account_id = :a AND period_start = '2024-01-01';
SELECT * FROM verify_usage();
SELECT * FROM verify_usage(:a);
SELECT * FROM verify_usage(:b);
ROLLBACK;

-- A lost event, a duplicated event, and an event whose period does not exist.
BEGIN;
DELETE FROM usage_events WHERE account_id = :a AND idempotency_key = 'k1';
INSERT INTO usage_events (account_id, period_start, occurred_at, tokens, reports, chats, idempotency_key)
SELECT account_id, period_start, occurred_at, tokens, reports, chats, 'again' FROM usage_events WHERE account_id = :b;
INSERT INTO usage_events (account_id, period_start, occurred_at, tokens, reports, chats, idempotency_key)
VALUES (:b, '1999-01-01', '1999-01-05', 0, 1, 0, 'nowhere');
SELECT * FROM verify_usage() WHERE account_id IN (:a, :b);
ROLLBACK;

-- A voided event does not count and a pending row does. usage_totals agrees.
BEGIN;
UPDATE usage_events SET voided_at = now(), void_reason = 'test' WHERE account_id = :b;
SELECT * FROM verify_usage(:b);
UPDATE usage_periods SET tokens_used = 0 WHERE account_id = :b;
SELECT * FROM verify_usage(:b);
ROLLBACK;
BEGIN;
UPDATE usage_periods SET tokens_used = 0 WHERE account_id = :b;
INSERT INTO usage_pending VALUES (:b, '2024-01-01', 100, 0, 0), (:b, '2024-01-01', 200, 0, 0);
SELECT * FROM verify_usage(:b);
SELECT period_start, tokens_used FROM usage_totals WHERE account_id = :b;
INSERT INTO usage_pending VALUES (:b, '2024-01-01', 1, 1, 1);
SELECT * FROM verify_usage(:b);
ROLLBACK;

-- A pruned period is not checked, because its events are gone.
BEGIN;
DELETE FROM usage_events WHERE account_id = :a AND period_start = '2024-01-01';
UPDATE usage_periods SET closed_at = now(), pruned_at = now() WHERE account_id = :a AND period_start = '2024-01-01';
SELECT * FROM verify_usage(:a);
ROLLBACK;

SELECT * FROM verify_usage();

-- A sum that exceeds bigint is listed without its number, and hides no other violation.
-- usage_totals has the number.
BEGIN;
UPDATE usage_periods SET tokens_used = 9223372036854775807 WHERE account_id = :a AND period_start = '2024-01-01';
INSERT INTO usage_pending VALUES (:a, '2024-01-01', 5, 1, 0);
UPDATE usage_periods SET reports_used = 9223372036854775807 WHERE account_id = :a AND period_start = '2024-01-01';
INSERT INTO usage_events (account_id, period_start, occurred_at, tokens, reports, chats, idempotency_key)
SELECT account_id, period_start, occurred_at, 9223372036854775807, 0, 0, 'huge' FROM usage_events
 WHERE account_id = :a AND period_start = '2024-02-01';
UPDATE usage_periods SET chats_used = 7 WHERE account_id = :b;
SELECT * FROM verify_usage();
SELECT period_start, tokens_used, reports_used FROM usage_totals WHERE account_id = :a ORDER BY period_start;
ROLLBACK;
SELECT * FROM verify_usage();
