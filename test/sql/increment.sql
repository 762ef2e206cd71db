-- One call counts one event.
SET timezone = 'UTC';
\set a '''aaaaaaaa-0000-0000-0000-000000000001'''
\set b '''aaaaaaaa-0000-0000-0000-000000000002'''

-- First use registers the account with calendar months in UTC and opens the period.
SELECT outcome, tokens_used,
       period_start = date_trunc('month', now(), 'UTC') AS starts_with_month,
       period_end = date_trunc('month', now(), 'UTC') + interval '1 month' AS ends_with_month
  FROM increment_usage(:a, 50000, 'report-1');
SELECT period_length, period_anchor AT TIME ZONE 'UTC' AS anchor, time_zone FROM usage_accounts WHERE account_id = :a;

-- Tokens, reports and chats add up. A report of zero tokens counts as a report. Flags may be NULL.
SELECT outcome, tokens_used FROM increment_usage(:a, 25000, 'report-2', true);
SELECT outcome, tokens_used FROM increment_usage(:a, 0, 'report-3', p_is_report => true);
SELECT outcome, tokens_used FROM increment_usage(:a, 100, 'chat-1', p_is_chat => true);
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'both', true, true);
SELECT outcome, tokens_used FROM increment_usage(:a, 2, 'neither', NULL, NULL, NULL);
SELECT tokens_used, reports_used, chats_used FROM usage_periods WHERE account_id = :a;
SELECT tokens_used, reports_used, chats_used, closed_at FROM current_usage(:a);
SELECT idempotency_key, tokens, reports, chats, occurred_at = recorded_at AS same_time
  FROM usage_events WHERE account_id = :a ORDER BY idempotency_key COLLATE "C";

-- Totals beyond 32 bits.
SELECT outcome, tokens_used FROM increment_usage(:b, 1000000000000, 'large-1');
SELECT outcome, tokens_used FROM increment_usage(:b, 1000000000000, 'large-2');

-- Keys are per account: the same key of another account names another event.
SELECT outcome, tokens_used FROM increment_usage(:b, 50000, 'report-1');

-- Several calls in one statement.
SELECT i, (increment_usage(:b, i, 'bulk-' || i)).outcome FROM generate_series(1, 3) AS i;

-- Usage commits and rolls back together with the caller's own rows.
CREATE TABLE reports (title text);
BEGIN;
INSERT INTO reports VALUES ('rolled back');
SELECT outcome, tokens_used FROM increment_usage(:a, 999, 'report-4');
ROLLBACK;
SELECT count(*) AS reports, (SELECT tokens_used FROM current_usage(:a)) FROM reports;
BEGIN;
INSERT INTO reports VALUES ('committed');
SELECT outcome, tokens_used FROM increment_usage(:a, 999, 'report-4');
COMMIT;
SELECT count(*) AS reports, (SELECT tokens_used FROM current_usage(:a)) FROM reports;
DROP TABLE reports;

-- A period that is open is not opened again.
SELECT count(*) AS periods FROM usage_periods WHERE account_id = :a;

-- An account without usage has no current period yet.
SELECT * FROM current_usage('aaaaaaaa-0000-0000-0000-00000000ffff');

SELECT * FROM verify_usage();
