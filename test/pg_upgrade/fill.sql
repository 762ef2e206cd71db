-- Fills a ledger with one of everything that an upgrade must keep. Needs
-- max_prepared_transactions.
SET client_min_messages = warning;
SET timezone = 'UTC';
SET usage_ledger.max_event_age = '20000d';
CREATE EXTENSION usage_ledger;
\o /dev/null
\set months '''11111111-0000-0000-0000-000000000001'''
\set weeks  '''11111111-0000-0000-0000-000000000002'''
\set moved  '''11111111-0000-0000-0000-000000000003'''
\set gone   '''11111111-0000-0000-0000-000000000004'''

-- Cycles: the default, one in a time zone, a clipped period, and opening totals.
SELECT FROM set_usage_cycle(:weeks, '7 days', '2024-01-31 00:00+01', 'Europe/Berlin');
SELECT FROM open_usage_period(:weeks, '2024-04-03', '2024-04-05');
SELECT FROM open_usage_period(:moved, '2024-01-01', '2024-02-01', 9000000000000000000, 12, 3);

-- Every settlement mode. The adaptive calls find their counter locked.
SELECT FROM generate_series(1, 1000) AS i,
            increment_usage(:months, i, 'immediate ' || i, i % 2 = 0, i % 3 = 0, '2024-03-01Z'::timestamptz + i * interval '1 hour');
SELECT FROM increment_usage_batch(array_fill(:weeks::uuid, ARRAY[200]),
                                  ARRAY(SELECT generate_series(1, 200)),
                                  ARRAY(SELECT 'batch ' || i FROM generate_series(1, 200) AS i),
                                  p_occurred_at => ARRAY(SELECT '2024-03-20Z'::timestamptz + i * interval '2 hours' FROM generate_series(1, 200) AS i));
BEGIN;
SELECT FROM increment_usage(:months, 10, 'held', p_occurred_at => '2024-04-01 12:00');
PREPARE TRANSACTION 'holds a counter';
SET usage_ledger.settlement = 'adaptive';
SELECT FROM generate_series(1, 50) AS i, increment_usage(:months, i, 'adaptive ' || i, true, false, '2024-04-10');
COMMIT PREPARED 'holds a counter';
SET usage_ledger.settlement = 'deferred';
SELECT FROM generate_series(1, 50) AS i, increment_usage(:months, i, 'deferred ' || i, false, true, '2024-04-10');
SELECT FROM generate_series(1, 5) AS i, increment_usage(:moved, 100000000000, 'deferred ' || i, p_occurred_at => '2024-01-10');
SET usage_ledger.settlement = 'immediate';

-- Keys that a dump must quote, and events at their limits.
SELECT FROM unnest(ARRAY[E'a tab\tin it', E'two\nlines', E'\\', E'\\.', E'\\N', '''', '"', ' ', 'Schlüssel', 'ключ', '🗝', repeat('k', 255)]) AS key,
            increment_usage(:moved, 1, key, p_occurred_at => '2024-06-01');
SELECT FROM increment_usage(:moved, 0, 'nothing', true, p_occurred_at => '2024-06-01');
SELECT FROM increment_usage(:moved, 1000000000000, 'much', true, true, '2024-06-01');

-- Breakdowns, in rows of their own, under _other, and pending.
SET usage_ledger.max_breakdowns = 2;
SELECT FROM generate_series(1, 10) AS i,
            record_usage(:weeks, 'record ' || i, 'model ' || i % 3, E'team\\' || i % 2 || '/ключ', i, 2, 3, 4, 5, -6, p_occurred_at => '2024-05-01');
SET usage_ledger.settlement = 'deferred';
SELECT FROM record_usage(:weeks, 'record deferred', 'model 1', 'other team', 7, p_occurred_at => '2024-05-01');
SET usage_ledger.settlement = 'immediate';
RESET usage_ledger.max_breakdowns;

-- Voids of events that are in the counter, and that are pending.
SELECT FROM void_usage(:months, 'immediate 1000', 'counted for the wrong account');
SELECT FROM void_usage(:months, 'deferred 50', NULL);
SET usage_ledger.settlement = 'deferred';
SELECT FROM void_usage(:months, 'immediate 999', E'two\nlines');
SET usage_ledger.settlement = 'immediate';

-- Periods that are closed, closed and pruned in part, closed and pruned.
SELECT FROM generate_series(1, 20) AS i, increment_usage(:gone, 1, 'january ' || i, p_occurred_at => '2024-01-10');
SELECT FROM generate_series(1, 20) AS i, increment_usage(:gone, 1, 'february ' || i, p_occurred_at => '2024-02-10');
SELECT FROM close_usage_period(:gone, '2024-01-01');
SELECT FROM close_usage_period(:gone, '2024-02-01');
SELECT prune_usage_events('infinity', 25);
SELECT FROM close_usage_period(:months, '2024-03-01');

-- Grants.
CREATE ROLE worker;
CREATE ROLE biller;
GRANT EXECUTE ON FUNCTION increment_usage, increment_usage_batch TO worker;
GRANT SELECT ON usage_totals TO biller;
GRANT EXECUTE ON FUNCTION current_usage, verify_usage, close_usage_period, void_usage TO biller;
GRANT SELECT ON usage_events TO biller;
CREATE POLICY billing ON usage_events FOR SELECT TO biller USING (true);

-- Row counts, so that the test notices if the SQL above has written less.
\o
SELECT 'events', count(*), count(voided_at) AS voided FROM usage_events;
SELECT 'pending', count(*), sum(tokens) FROM usage_pending;
SELECT 'periods', count(*), count(closed_at) AS closed, count(*) FILTER (WHERE pruned_at = 'infinity') AS pruned_in_part, count(*) FILTER (WHERE pruned_at < 'infinity') AS pruned FROM usage_periods;
