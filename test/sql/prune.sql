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
SELECT increment_usage(:a, 1, 'january 1', p_occurred_at => '2024-01-05');
SELECT outcome, detail, sqlstate FROM increment_usage_batch(ARRAY[:a]::uuid[], ARRAY[7], ARRAY['january 7'], p_occurred_at => ARRAY['2024-01-07'::timestamptz]);
\set VERBOSITY terse
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

-- An event that a foreign key refers to is left. All others are pruned, of its period and of later ones.
CREATE FUNCTION count_and_close(events integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM increment_usage(md5('referenced' || i)::uuid, 1, 'key ' || k, p_occurred_at => '2024-01-05') FROM generate_series(1, 3) AS i, generate_series(1, events) AS k;
    PERFORM close_usage_period(md5('referenced' || i)::uuid, '2024-01-01') FROM generate_series(1, 3) AS i;
END $$;
CREATE VIEW referenced_left AS
SELECT i, p.tokens_used, p.pruned_at IS NOT NULL AS begun, p.pruned_at < 'infinity' AS pruned, (SELECT string_agg(idempotency_key, ' ' ORDER BY idempotency_key) FROM usage_events AS e WHERE e.account_id = p.account_id) AS events
  FROM generate_series(1, 3) AS i JOIN usage_periods AS p ON p.account_id = md5('referenced' || i)::uuid ORDER BY i;
SELECT count_and_close(5);
CREATE TABLE invoice_lines (account_id uuid, idempotency_key text, CONSTRAINT of_event FOREIGN KEY (account_id, idempotency_key) REFERENCES usage_events);
INSERT INTO invoice_lines VALUES (md5('referenced1')::uuid, 'key 2'), (md5('referenced1')::uuid, 'key 3'), (md5('referenced2')::uuid, 'key 5');
SELECT prune_usage_events('infinity', 4);
SELECT * FROM referenced_left;
SELECT prune_usage_events('infinity', 4);
SELECT * FROM referenced_left;
SELECT prune_usage_events('infinity');
SELECT prune_usage_events('infinity');
SELECT * FROM referenced_left;
SELECT * FROM verify_usage();
-- When nothing refers to them any more, the next call prunes them.
DELETE FROM invoice_lines WHERE idempotency_key <> 'key 5';
SELECT prune_usage_events('infinity');
DROP TABLE invoice_lines;
SELECT prune_usage_events('infinity');
SELECT * FROM referenced_left;
SELECT erase_usage(md5('referenced' || i)::uuid) FROM generate_series(1, 3) AS i;

-- The same for other kinds of foreign keys: checked only at commit, forbidden in any case, and through a table that cascades. A WARNING names ten events.
SELECT count_and_close(8);
CREATE TABLE deferred (account_id uuid, idempotency_key text, CONSTRAINT deferred_of_event FOREIGN KEY (account_id, idempotency_key) REFERENCES usage_events DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE restricted (key text, account uuid, CONSTRAINT restricted_of_event FOREIGN KEY (account, key) REFERENCES usage_events ON DELETE RESTRICT);
CREATE TABLE cascading (account_id uuid, idempotency_key text, id integer PRIMARY KEY, FOREIGN KEY (account_id, idempotency_key) REFERENCES usage_events ON DELETE CASCADE);
CREATE TABLE of_cascading (id integer CONSTRAINT of_cascading REFERENCES cascading);
INSERT INTO deferred SELECT md5('referenced1')::uuid, 'key ' || k FROM generate_series(1, 8) AS k;
INSERT INTO restricted SELECT 'key ' || k, md5('referenced2')::uuid FROM generate_series(1, 2) AS k;
INSERT INTO cascading SELECT md5('referenced3')::uuid, 'key ' || k, k FROM generate_series(1, 3) AS k;
INSERT INTO of_cascading VALUES (1);
SELECT prune_usage_events('infinity');
SELECT * FROM referenced_left;
SELECT id FROM cascading;
-- Nothing of a period with all of its events is stamped.
SELECT * FROM verify_usage();
DROP TABLE deferred, restricted, of_cascading, cascading;
SELECT prune_usage_events('infinity');
SELECT * FROM referenced_left;
DROP VIEW referenced_left;
DROP FUNCTION count_and_close;

-- Limits.
SELECT prune_usage_events(NULL);
SELECT prune_usage_events(now(), NULL);
SELECT prune_usage_events(now(), 0);
SELECT prune_usage_events(now(), 10000001);
SELECT prune_usage_events('-infinity');
DROP VIEW events_left;
SELECT * FROM verify_usage();
