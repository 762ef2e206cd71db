-- Retention: events of closed periods are deleted in bounded steps.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET usage_ledger.max_event_age = '20000d';
\set a '''30000000-0000-0000-0000-000000000001'''
\set b '''30000000-0000-0000-0000-000000000002'''
-- Prunes the periods that earlier tests have closed.
SELECT prune_usage_events('infinity', 10000000) >= 0 AS done;
SELECT prune_usage_events('infinity');
SELECT sum(1) AS january FROM generate_series(1, 25) AS i, increment_usage(:a, 1, 'january ' || i, p_occurred_at => '2024-01-05');
SELECT sum(1) AS february FROM generate_series(1, 5) AS i, increment_usage(:a, 1, 'february ' || i, p_occurred_at => '2024-02-05');
SELECT sum(1) AS january FROM generate_series(1, 10) AS i, increment_usage(:b, 1, 'january ' || i, p_occurred_at => '2024-01-05');
SELECT outcome FROM void_usage(:a, 'january 7', 'test');
CREATE VIEW events_left AS
SELECT p.account_id, p.period_start, p.tokens_used, p.closed_at IS NOT NULL AS is_closed,
       CASE WHEN p.pruned_at = 'infinity' THEN 'in part' WHEN p.pruned_at <= now() THEN 'all' END AS pruned,
       (SELECT count(*) FROM usage_events AS e WHERE e.account_id = p.account_id AND e.period_start = p.period_start) AS events
  FROM usage_periods AS p WHERE p.account_id IN ('30000000-0000-0000-0000-000000000001', '30000000-0000-0000-0000-000000000002');

-- No period is closed, so nothing is pruned.
SELECT prune_usage_events('infinity');

-- Periods are pruned in the order in which they were closed: b's January, then a's. a's February is open.
SELECT tokens_used FROM close_usage_period(:b, '2024-01-01');
SELECT tokens_used FROM close_usage_period(:a, '2024-01-01');
SELECT prune_usage_events('2024-01-01');
SELECT prune_usage_events(now(), 4);
SELECT * FROM events_left ORDER BY 1, 2;
SELECT * FROM verify_usage();
SELECT prune_usage_events(now(), 6);
SELECT * FROM events_left ORDER BY 1, 2;
SELECT prune_usage_events(now(), 6);
SELECT * FROM events_left ORDER BY 1, 2;
SELECT * FROM verify_usage();
SELECT prune_usage_events(now(), 100);
SELECT prune_usage_events(now(), 100);
SELECT * FROM events_left ORDER BY 1, 2;
SELECT * FROM verify_usage();

-- The invoice total and the period's bounds remain. A retry of a pruned event is refused.
SELECT period_start, tokens_used FROM usage_totals WHERE account_id = :a ORDER BY 1;
SELECT tokens_used FROM close_usage_period(:a, '2024-01-01');
\set VERBOSITY terse
SELECT increment_usage(:a, 1, 'january 1', p_occurred_at => '2024-01-05');
SELECT void_usage(:a, 'january 7', 'test');
\set VERBOSITY default

-- A period without events is marked as pruned, and does not count towards the limit.
SELECT tokens_used FROM open_usage_period(:b, '2020-01-01', '2020-02-01');
SELECT tokens_used FROM close_usage_period(:b, '2020-01-01');
SELECT prune_usage_events('infinity', 1);
SELECT * FROM events_left WHERE account_id = :b ORDER BY 1, 2;

-- A rollback restores everything.
SELECT tokens_used FROM close_usage_period(:a, '2024-02-01');
BEGIN;
SELECT prune_usage_events('infinity', 3);
SELECT prune_usage_events('infinity', 3);
SELECT * FROM events_left WHERE account_id = :a ORDER BY 1, 2;
ROLLBACK;
SELECT * FROM events_left WHERE account_id = :a ORDER BY 1, 2;
SELECT * FROM verify_usage();

-- Many periods in one call, more than one chunk.
SELECT count(*) FROM generate_series(1, 2500) AS i, increment_usage(md5('prune' || i)::uuid, 1, 'k', p_occurred_at => '2024-01-05');
SELECT count(close_usage_period(account_id, period_start)) FROM usage_totals WHERE account_id IN (SELECT md5('prune' || i)::uuid FROM generate_series(1, 2500) AS i);
SELECT prune_usage_events('infinity', 2100);
SELECT prune_usage_events('infinity');

-- Limits.
SELECT prune_usage_events(NULL);
SELECT prune_usage_events(now(), NULL);
SELECT prune_usage_events(now(), 0);
SELECT prune_usage_events(now(), 10000001);
SELECT prune_usage_events('-infinity');
DROP VIEW events_left;
SELECT * FROM verify_usage();
