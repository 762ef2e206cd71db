-- Ending a period early: a customer who comes back, a plan that changes in mid-period.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET usage_ledger.max_event_age = '20000d';
\set a '''18000000-0000-0000-0000-000000000001'''
\set b '''18000000-0000-0000-0000-000000000002'''
\set c '''18000000-0000-0000-0000-000000000003'''
\set d '''18000000-0000-0000-0000-000000000004'''
CREATE VIEW periods AS
SELECT right(account_id::text, 1) AS account, period_start, period_end, tokens_used, closed_at IS NOT NULL AS is_closed
  FROM usage_totals WHERE account_id IN (:a, :b, :c, :d) ORDER BY 1, 2;

-- The customer's period is closed, and the customer is back on the same day.
SELECT outcome FROM increment_usage(:a, 100, 'r1');
SELECT count(*) FROM usage_periods AS p, close_usage_period(p.account_id, p.period_start) WHERE p.account_id = :a;
SELECT period_end AS ended_at, tokens_used, closed_at IS NOT NULL AS is_closed,
       period_end BETWEEN clock_timestamp() - interval '1 minute' AND clock_timestamp() + interval '1 ms' AS ended_now,
       period_end = date_trunc('milliseconds', period_end) AS is_whole
  FROM end_usage_period(:a) \gset ended_
\echo :ended_tokens_used :ended_is_closed :ended_ended_now :ended_is_whole
SELECT count(*) FROM set_usage_cycle(:a, '1 month', :'ended_ended_at');
SELECT outcome, tokens_used, period_start = :'ended_ended_at' AS starts_there, period_end = :'ended_ended_at'::timestamptz + interval '1 month' AS is_whole_month
  FROM increment_usage(:a, 50, 'r2', p_occurred_at => :'ended_ended_at');
-- Its retry, and a retry of what was counted before the end, are answered from their periods.
SELECT outcome, tokens_used, period_start = :'ended_ended_at' AS starts_there FROM increment_usage(:a, 50, 'r2');
SELECT outcome, tokens_used, period_end = :'ended_ended_at' AS ends_there FROM increment_usage(:a, 100, 'r1');
-- Ending twice answers the same row: the same time again, although another period starts there.
SELECT e = p AS same_row FROM end_usage_period(:a, :'ended_ended_at') AS e, usage_periods AS p
 WHERE p.account_id = :a AND p.period_end = :'ended_ended_at';

-- The cycle of the new plan is set first.
SELECT outcome FROM increment_usage(:b, 1000, 'old plan');
BEGIN;
SELECT count(*) FROM set_usage_cycle(:b, '1 month', now());
SELECT period_end AS ended_at FROM end_usage_period(:b) \gset
COMMIT;
SELECT tokens_used, period_start = :'ended_at' AS starts_there FROM increment_usage(:b, 1, 'new plan', p_occurred_at => :'ended_at');
-- Without usage in between, NULL twice answers the same row.
SELECT count(*) FROM end_usage_period(:b);
SELECT (SELECT e FROM end_usage_period(:b) AS e) = (SELECT e FROM end_usage_period(:b) AS e) AS same_row;

-- At a time in the past: events go where their times say, whenever they come.
SELECT outcome FROM increment_usage(:c, 100, 'first', p_occurred_at => '2024-01-05');
SELECT outcome FROM increment_usage(:c, 20, 'last', p_occurred_at => '2024-01-10 12:00:00.0005');
SELECT outcome FROM void_usage(:c, 'last', 'voided events count as well');
SELECT period_start, period_end, tokens_used FROM end_usage_period(:c, '2024-01-20');
SELECT outcome, tokens_used, period_start, period_end FROM increment_usage(:c, 1, 'late', p_occurred_at => '2024-01-19 23:59:59.999999');
SELECT outcome, tokens_used, period_start, period_end FROM increment_usage(:c, 2, 'next', p_occurred_at => '2024-01-20');
-- The period can be ended again, but only earlier, and after the late event.
SELECT end_usage_period(:c, '2024-01-19 23:59:59.999');
SELECT end_usage_period(:c, '2024-01-01');
-- The period that follows is the current one of this time, and that one of its own start.
SELECT end_usage_period(:c, '2024-01-20 00:00:00.000');
SELECT period_start, period_end FROM end_usage_period(:c, '2024-01-21');
-- Where no period covers the time, the last one is answered.
SELECT period_start, period_end FROM end_usage_period(:c, '2024-01-25');
SELECT period_start, period_end FROM end_usage_period(:c, '2024-01-21');
SELECT * FROM periods WHERE account = '3';

-- After an event that is reported ahead of the clock, the period ends just after it.
BEGIN;
SELECT count(*) FROM set_usage_cycle(:d, '100 years');
SELECT outcome FROM increment_usage(:d, 1, 'ahead', p_occurred_at => date_trunc('minute', now()) + interval '3 minutes 1.5 ms');
SELECT period_end = date_trunc('minute', now()) + interval '3 minutes 2 ms' AS just_after FROM end_usage_period(:d);
SELECT period_end = date_trunc('minute', now()) + interval '3 minutes 2 ms' AS same FROM end_usage_period(:d);
-- The same session counts the next event in the next period, and after a rollback in the old one.
SAVEPOINT ended;
SELECT outcome, tokens_used FROM increment_usage(:d, 1, 'next', p_occurred_at => date_trunc('minute', now()) + interval '3 minutes 2 ms');
ROLLBACK;
SELECT outcome FROM increment_usage(:d, 1, 'k');
BEGIN;
SELECT count(*) FROM end_usage_period(:d);
ROLLBACK;
SELECT tokens_used FROM increment_usage(:d, 2, 'k2');

-- With pending rows, in every settlement mode, alone and in a batch.
SET usage_ledger.settlement = 'deferred';
SELECT outcome FROM increment_usage(:d, 3, 'old', p_occurred_at => '2024-05-05');
SELECT outcome FROM increment_usage(:d, 10, 'pending', p_occurred_at => '2024-05-06');
SELECT period_start, period_end, tokens_used FROM end_usage_period(:d, '2024-05-07');
SELECT outcome, period_start, period_end FROM increment_usage(:d, 4, 'new', p_occurred_at => '2024-05-07');
SET usage_ledger.settlement = 'adaptive';
SELECT outcome, period_start, period_end FROM increment_usage(:d, 5, 'new 2', p_occurred_at => '2024-05-07');
SELECT outcome, tokens_used, period_start FROM increment_usage_batch(array_fill(:d::uuid, '{2}'), '{6,7}', '{b1,b2}', p_occurred_at => '{2024-05-06,2024-05-08}');
RESET usage_ledger.settlement;
SELECT outcome FROM void_usage(:d, 'pending', 'in an ended period');
SELECT tokens_used FROM close_usage_period(:d, '2024-05-01');
SELECT settle_usage();
SELECT * FROM periods WHERE account = '4' AND period_start > '2024-02-01' AND period_end < '2024-12-01';
SELECT outcome, tokens_used, period_end FROM increment_usage(:d, 3, 'old');
SELECT count(*) FROM end_usage_period(:d, '2024-05-06');
SELECT * FROM verify_usage();

-- Errors.
SELECT end_usage_period(NULL);
SELECT end_usage_period('18000000-0000-0000-0000-00000000000f', '2024-01-01');
SELECT end_usage_period(:c, '2023-01-01');
SELECT end_usage_period(:c, '2024-01-01 00:00:00.0001');
SELECT end_usage_period(:c, 'infinity');
SELECT end_usage_period(:c, '-infinity');
SELECT outcome FROM increment_usage(:c, 1, 'now');
\set VERBOSITY terse
SELECT end_usage_period(:c, date_trunc('milliseconds', clock_timestamp()) + interval '1 minute');
\set VERBOSITY default
DROP VIEW periods;
