-- erase_usage forgets an account. Whatever comes later is counted for a new one.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET usage_ledger.max_event_age = '20000d';
\set a '''70000000-0000-0000-0000-000000000001'''
\set b '''70000000-0000-0000-0000-000000000002'''
\set c '''70000000-0000-0000-0000-000000000003'''
CREATE VIEW rows_left AS
SELECT account_id,
       count(*) FILTER (WHERE kind = 'account') AS accounts, count(*) FILTER (WHERE kind = 'period') AS periods,
       count(*) FILTER (WHERE kind = 'event') AS events, count(*) FILTER (WHERE kind = 'pending') AS pending
  FROM (SELECT account_id, 'account' AS kind FROM usage_accounts
         UNION ALL SELECT account_id, 'period' FROM usage_periods
         UNION ALL SELECT account_id, 'event' FROM usage_events
         UNION ALL SELECT account_id, 'pending' FROM usage_pending) AS r
 WHERE account_id::text LIKE '70000000-%' GROUP BY account_id;

-- An account with everything: a cycle, opening totals, a closed and a pruned period, voided and pending events.
SELECT period_length FROM set_usage_cycle(:a, '10 days', '2024-01-01');
SELECT tokens_used FROM open_usage_period(:a, '2023-01-01', '2024-01-01', 1000);
SELECT outcome FROM increment_usage(:a, 1, 'pruned', p_occurred_at => '2024-01-05');
SELECT outcome FROM increment_usage(:a, 2, 'closed', p_occurred_at => '2024-01-15');
SELECT outcome FROM increment_usage(:a, 3, 'voided', p_occurred_at => '2024-01-25');
SELECT outcome FROM void_usage(:a, 'voided', 'test');
SELECT tokens_used FROM close_usage_period(:a, '2024-01-01');
SELECT prune_usage_events('infinity') > 0 AS pruned;
SELECT tokens_used FROM close_usage_period(:a, '2024-01-11');
SET usage_ledger.settlement = 'deferred';
SELECT outcome FROM increment_usage(:a, 4, 'pending', p_occurred_at => '2024-01-25');
SELECT outcome FROM increment_usage(:b, 5, 'pending', p_occurred_at => '2024-01-25');
RESET usage_ledger.settlement;
SELECT * FROM rows_left ORDER BY 1;

-- A rollback restores all of it, and the session goes on with what it has cached.
BEGIN;
SELECT erase_usage(:a);
SELECT * FROM rows_left ORDER BY 1;
ROLLBACK;
SELECT * FROM rows_left ORDER BY 1;
SELECT outcome, tokens_used, period_end FROM increment_usage(:a, 5, 'after', p_occurred_at => '2024-01-26');

SELECT erase_usage(:a);
SELECT * FROM rows_left ORDER BY 1;
SELECT * FROM usage_totals WHERE account_id = :a;
SELECT * FROM verify_usage();

-- Its keys are free, and its cycle is the default again.
SELECT outcome, tokens_used, period_start, period_end FROM increment_usage(:a, 7, 'closed', p_occurred_at => '2024-01-15');
SELECT outcome, tokens_used, period_start, period_end FROM increment_usage_batch(ARRAY[:a]::uuid[], '{8}', '{voided}', p_occurred_at => '{2024-01-25}');
\set VERBOSITY terse
SELECT void_usage(:a, 'pending', 'test');
SELECT close_usage_period(:a, '2023-01-01');
\set VERBOSITY default

-- In the transaction of the erase too, in every mode.
BEGIN;
SELECT erase_usage(:a);
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'closed', p_occurred_at => '2024-01-15');
SELECT erase_usage(:a);
SET LOCAL usage_ledger.settlement = 'deferred';
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'closed', p_occurred_at => '2024-01-15');
SELECT erase_usage(:a);
SELECT outcome, tokens_used FROM increment_usage_batch(ARRAY[:a]::uuid[], '{1}', '{closed}', p_occurred_at => '{2024-01-15}');
SAVEPOINT s;
SELECT erase_usage(:a);
ROLLBACK TO SAVEPOINT s;
SET LOCAL usage_ledger.settlement = 'adaptive';
SELECT outcome, tokens_used FROM increment_usage(:a, 2, 'more', p_occurred_at => '2024-01-16');
COMMIT;
SELECT * FROM rows_left ORDER BY 1;
SELECT settle_usage() > 0 AS settled;
SELECT * FROM verify_usage();

-- An unknown account has nothing to erase, and is still unknown.
SELECT erase_usage(:a), erase_usage(:b);
SELECT erase_usage(:c);
SET usage_ledger.unknown_account = 'reject';
SELECT erase_usage(:c);
\set VERBOSITY terse
SELECT increment_usage(:c, 1, 'k');
\set VERBOSITY default
RESET usage_ledger.unknown_account;
SELECT * FROM rows_left ORDER BY 1;

-- What was deleted by hand in part is erased as a whole.
SELECT outcome FROM increment_usage(:a, 1, 'k', p_occurred_at => '2024-01-15');
DELETE FROM usage_accounts WHERE account_id = :a;
SELECT erase_usage(:a);
SELECT outcome FROM increment_usage(:a, 1, 'k', p_occurred_at => '2024-01-15');
SET usage_ledger.settlement = 'deferred';
SELECT outcome FROM increment_usage(:a, 1, 'k2', p_occurred_at => '2024-01-15');
RESET usage_ledger.settlement;
DELETE FROM usage_accounts WHERE account_id = :a;
DELETE FROM usage_periods WHERE account_id = :a;
SELECT erase_usage(:a);
SELECT * FROM rows_left ORDER BY 1;

-- An event, or the account, that a foreign key refers to is not erased, nor is anything else.
SELECT outcome FROM increment_usage(:a, 1, 'referred to', p_occurred_at => '2024-01-15');
CREATE TABLE invoice_lines (account_id uuid, idempotency_key text, FOREIGN KEY (account_id, idempotency_key) REFERENCES usage_events);
INSERT INTO invoice_lines VALUES (:a, 'referred to');
SELECT erase_usage(:a);
DROP TABLE invoice_lines;
CREATE TABLE customers (account_id uuid REFERENCES usage_accounts);
INSERT INTO customers VALUES (:a);
SELECT erase_usage(:a);
SELECT * FROM rows_left ORDER BY 1;
DROP TABLE customers;
-- A foreign key that cascades takes the caller's rows along.
CREATE TABLE notes (account_id uuid, idempotency_key text, note text, FOREIGN KEY (account_id, idempotency_key) REFERENCES usage_events ON DELETE CASCADE);
INSERT INTO notes VALUES (:a, 'referred to', 'test');
SELECT erase_usage(:a);
TABLE notes;
DROP TABLE notes;

-- REPEATABLE READ.
SELECT outcome FROM increment_usage(:a, 1, 'k', p_occurred_at => '2024-01-15');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT erase_usage(:a);
SELECT outcome, tokens_used FROM increment_usage(:a, 2, 'k', p_occurred_at => '2024-01-15');
COMMIT;
SELECT erase_usage(:a);

SELECT erase_usage(NULL);
SELECT * FROM rows_left ORDER BY 1;
DROP VIEW rows_left;
SELECT * FROM verify_usage();
