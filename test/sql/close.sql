-- Closing a period fixes its invoice total.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET usage_ledger.max_event_age = '20000d';
\set a '''10000000-0000-0000-0000-000000000001'''
\set b '''10000000-0000-0000-0000-000000000002'''

-- The final row contains the counter and the pending rows of the period. Other periods are unchanged.
SELECT outcome FROM increment_usage(:a, 100, 'k1', true, p_occurred_at => '2024-01-05');
SELECT outcome FROM increment_usage(:a, 5, 'february', p_occurred_at => '2024-02-05');
SET usage_ledger.settlement = 'deferred';
SELECT outcome FROM increment_usage(:a, 20, 'k2', false, true, p_occurred_at => '2024-01-06');
SELECT outcome FROM increment_usage(:a, 3, 'k3', p_occurred_at => '2024-01-07');
SELECT outcome FROM increment_usage(:a, 7, 'february 2', p_occurred_at => '2024-02-06');
SELECT outcome FROM increment_usage(:b, 9, 'k1', p_occurred_at => '2024-01-07');
SELECT account_id, period_start, period_end, tokens_used, reports_used, chats_used,
       closed_at BETWEEN now() AND clock_timestamp() AS closed_now, pruned_at
  FROM close_usage_period(:a, '2024-01-01');
SELECT account_id, period_start, tokens FROM usage_pending ORDER BY 1, 2;
SELECT period_start, tokens_used, closed_at IS NOT NULL AS is_closed FROM usage_totals WHERE account_id = :a ORDER BY 1;
SELECT * FROM verify_usage();

-- Closing twice returns the same row, to the microsecond.
SELECT c = p AS same_row FROM close_usage_period(:a, '2024-01-01') AS c, usage_periods AS p
 WHERE p.account_id = :a AND p.period_start = '2024-01-01';

-- New events of a closed period are refused in every settlement mode. Retries are answered.
SELECT increment_usage(:a, 1, 'late', p_occurred_at => '2024-01-31');
SET usage_ledger.settlement = 'immediate';
\set VERBOSITY sqlstate
SELECT increment_usage(:a, 1, 'late', p_occurred_at => '2024-01-31');
SET usage_ledger.settlement = 'adaptive';
SELECT increment_usage(:a, 1, 'late', p_occurred_at => '2024-01-31');
\set VERBOSITY default
SELECT outcome, detail FROM increment_usage_batch(ARRAY[:a, :a]::uuid[], '{1,1}', '{late,late 2}', p_occurred_at => '{2024-01-31,2024-02-01}');
RESET usage_ledger.settlement;
SELECT outcome, tokens_used FROM increment_usage(:a, 3, 'k3', p_occurred_at => '2024-01-07');
-- The call that the hint suggests.
SELECT outcome, period_start = date_trunc('month', now()) AS this_month FROM increment_usage(:a, 1, 'late');

-- The current period can be closed too. Events of today are then refused.
SELECT tokens_used FROM close_usage_period(:a, date_trunc('month', now()));
\set VERBOSITY terse
SELECT increment_usage(:a, 1, 'too early');
\set VERBOSITY default

-- After a rollback the period is still open and its pending rows are still pending.
BEGIN;
SELECT tokens_used FROM close_usage_period(:b, '2024-01-01');
ROLLBACK;
SELECT tokens FROM usage_pending WHERE account_id = :b;
SELECT outcome FROM increment_usage(:b, 1, 'k2', p_occurred_at => '2024-01-08');

-- A close in the same transaction as calls, in deferred mode.
BEGIN;
SET LOCAL usage_ledger.settlement = 'deferred';
SELECT outcome FROM increment_usage(:b, 30, 'k3', p_occurred_at => '2024-01-08');
SAVEPOINT closed;
SELECT tokens_used FROM close_usage_period(:b, '2024-01-01');
\set VERBOSITY sqlstate
SELECT increment_usage(:b, 40, 'k4', p_occurred_at => '2024-01-08');
ROLLBACK TO closed;
SELECT outcome FROM increment_usage(:b, 50, 'k5', p_occurred_at => '2024-01-08');
SELECT tokens_used FROM close_usage_period(:b, '2024-01-01');
COMMIT;
\set VERBOSITY default

-- A period that does not exist cannot be closed, nor a counter that its events do not explain,
SELECT close_usage_period(:b, '2024-01-02');
SELECT close_usage_period('10000000-0000-0000-0000-00000000000f', '2024-01-01');
SELECT close_usage_period(NULL, '2024-01-01');
SELECT close_usage_period(:b, NULL);
SELECT close_usage_period(:b, 'infinity');
BEGIN;
SELECT outcome FROM increment_usage(:b, 10, 'k6', p_occurred_at => '2024-03-08');
UPDATE usage_periods SET tokens_used = tokens_used - 1 WHERE account_id = :b AND period_start = '2024-03-01';
SELECT close_usage_period(:b, '2024-03-01');
ROLLBACK;
-- nor a counter that its pending rows would overflow.
BEGIN;
SELECT tokens_used FROM open_usage_period(:b, '2020-01-01', '2020-02-01', 9223372036854775800);
SET LOCAL usage_ledger.settlement = 'deferred';
SELECT outcome FROM increment_usage(:b, 8, 'k7', p_occurred_at => '2020-01-08');
SELECT close_usage_period(:b, '2020-01-01');
ROLLBACK;
-- Several pending rows whose reports add up to more than an integer can hold.
BEGIN;
SELECT reports_used FROM open_usage_period(:b, '2020-01-01', '2020-02-01', 0, 2147483647);
INSERT INTO usage_events (account_id, period_start, occurred_at, tokens, reports, chats, idempotency_key)
SELECT :b, '2020-01-01', '2020-01-01', 0, 2147483647, 0, 'many ' || i FROM generate_series(1, 3) AS i;
INSERT INTO usage_pending SELECT :b, '2020-01-01', 0, 2147483647, 0 FROM generate_series(1, 3);
SELECT reports_used = 4 * 2147483647::bigint AS all_of_them FROM close_usage_period(:b, '2020-01-01');
ROLLBACK;
SELECT * FROM verify_usage();

-- One statement closes a whole ledger: more periods than the lock table has room for.
SELECT count(*) FROM generate_series(1, 10000) AS i, increment_usage(md5('close' || i)::uuid, i, 'k', p_occurred_at => '2024-01-05');
SELECT count(*), sum(invoice.tokens_used)
  FROM (SELECT account_id, period_start FROM usage_totals WHERE period_end <= now() AND closed_at IS NULL ORDER BY 1, 2) AS due,
       close_usage_period(due.account_id, due.period_start) AS invoice
 WHERE due.account_id IN (SELECT md5('close' || i)::uuid FROM generate_series(1, 10000) AS i);
-- One statement queues usage for as many accounts, with single calls and with a batch.
SET usage_ledger.settlement = 'deferred';
SELECT count(*) FROM generate_series(1, 10000) AS i, increment_usage(md5('close' || i)::uuid, i, 'queued') AS u WHERE u.outcome = 'queued';
SELECT count(*) FROM increment_usage_batch((SELECT array_agg(md5('close' || i)::uuid) FROM generate_series(1, 100000) AS i),
                                           array_fill(1::bigint, '{100000}'), array_fill('batch'::text, '{100000}')) AS u WHERE u.outcome = 'queued';
RESET usage_ledger.settlement;
SELECT settle_usage(1000000) AS settled;
SELECT * FROM verify_usage();
-- The dead rows of so many would slow down the tests that follow.
TRUNCATE usage_accounts, usage_periods, usage_events, usage_pending, usage_breakdown;
