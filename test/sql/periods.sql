-- Billing periods: opened on first use by cycle and time zone, and opened explicitly.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET usage_ledger.max_event_age = '20000d';
\set a '''dddddddd-0000-0000-0000-000000000001'''
\set b '''dddddddd-0000-0000-0000-000000000002'''
\set c '''dddddddd-0000-0000-0000-000000000003'''
\set d '''dddddddd-0000-0000-0000-000000000004'''
\set e '''dddddddd-0000-0000-0000-000000000005'''
\set f '''dddddddd-0000-0000-0000-000000000006'''
CREATE FUNCTION count_at(account uuid, occurred_at timestamptz) RETURNS text LANGUAGE sql AS $$
    SELECT outcome || ' ' || period_start || ' - ' || period_end
      FROM increment_usage(account, 1, occurred_at::text, p_occurred_at => occurred_at)
$$;

-- Calendar months by default. A late event is counted in the month in which it occurred.
SELECT count_at(:a, t) FROM unnest('{2024-01-01, 2024-01-31 23:59:59.999999, 2024-02-01, 2024-02-29 12:00, 2023-12-31 23:59:59.999999}'::timestamptz[]) AS t;
SELECT period_start, tokens_used FROM usage_totals WHERE account_id = :a ORDER BY 1;

-- A month-end anchor does not drift, in later periods or in earlier ones.
SELECT set_usage_cycle(:b, '1 month', '2024-01-31 10:00Z') \gset
SELECT count_at(:b, t) FROM unnest('{2024-02-10, 2024-03-10, 2024-04-10, 2025-02-28 10:00, 2023-11-30 10:00, 2023-11-30 09:59}'::timestamptz[]) AS t;

-- Daylight saving does not shift the hour: midnight in Berlin in summer and in winter.
SELECT account_id, period_length, period_anchor, time_zone FROM set_usage_cycle(:c, '1 month', NULL, 'Europe/Berlin');
SELECT count_at(:c, t) FROM unnest('{2024-03-15, 2024-04-15, 2024-10-15, 2024-11-15}'::timestamptz[]) AS t;
-- The same for a day of 23 hours, a day of 25 hours and an anchor in the skipped hour.
SELECT set_usage_cycle(:d, '1 day', '2024-01-01 02:30 America/New_York', 'America/New_York') \gset
SELECT count_at(:d, t) FROM unnest('{2024-03-09 12:00, 2024-03-10 07:29:59, 2024-03-10 07:30, 2024-11-02 12:00, 2024-11-03 12:00}'::timestamptz[]) AS t;
-- A length of less than a day is elapsed time.
SELECT set_usage_cycle(:e, '6 hours', '2024-03-10 00:00 America/New_York', 'America/New_York') \gset
SELECT count_at(:e, t) FROM unnest('{2024-03-10 05:00, 2024-03-10 10:59:59, 2024-03-10 11:00}'::timestamptz[]) AS t;

-- A day that a time zone skipped entirely has no period.
SELECT set_usage_cycle(:f, '1 day', '2011-12-01 00:00 Pacific/Apia', 'Pacific/Apia') \gset
SELECT count_at(:f, t) FROM unnest('{2011-12-30 09:59:59, 2011-12-30 10:00}'::timestamptz[]) AS t;

-- ISO weeks, quarters, years and mixed lengths.
CREATE FUNCTION period_of(cycle interval, occurred_at timestamptz) RETURNS text LANGUAGE sql AS $$
    SELECT count_at(account_id, occurred_at) FROM set_usage_cycle(gen_random_uuid(), cycle)
$$;
SELECT period_of('7 days', '2024-05-15'), extract(isodow FROM timestamptz '2024-05-13');
SELECT period_of('3 months', '2024-05-15');
SELECT period_of('1 year', '2024-05-15');
SELECT period_of('1 month 15 days', '2024-05-15');
SELECT period_of('1 day 1 hour', '2024-05-15');
SELECT period_of('100 years', '2024-05-15');
SELECT period_of('1 second', '2024-05-15 12:00:00.5');

-- A new cycle changes no existing period. The next period is clipped to its gap.
SELECT set_usage_cycle(:a, '1 month', '2024-01-15Z') \gset
SELECT count_at(:a, t) FROM unnest('{2024-02-29 13:00, 2024-03-01, 2024-03-15, 2023-11-30}'::timestamptz[]) AS t;
SELECT period_start, period_end, tokens_used FROM usage_totals WHERE account_id = :a ORDER BY 1;
-- In a gap shorter than the cycle, the new period fills exactly the gap.
SELECT set_usage_cycle(:a, '1 year') \gset
SELECT count(*) FROM open_usage_period(:a, '2024-06-01', '2024-07-01');
SELECT count_at(:a, t) FROM unnest('{2024-05-01, 2024-08-01, 2024-06-15}'::timestamptz[]) AS t;
-- Other accounts keep their cycles.
SELECT count_at(:b, '2024-02-15');

-- Opened explicitly with totals from an older system. The totals are recorded as an event.
\set g '''dddddddd-0000-0000-0000-000000000007'''
SELECT * FROM open_usage_period(:g, '2024-01-10', '2024-02-10', 500000, 12, 3);
SELECT idempotency_key, occurred_at, tokens, reports, chats FROM usage_events WHERE account_id = :g;
SELECT count_at(:g, '2024-01-20');
SELECT * FROM open_usage_period(:g, '2024-02-10', '2024-03-10');
SELECT * FROM open_usage_period(:g, '2023-12-10', '2024-01-10', 0, 0, 1);
SELECT count(*) AS opening_events FROM usage_events WHERE account_id = :g AND idempotency_key LIKE 'opening:%';
SELECT outcome, tokens_used FROM increment_usage(:g, 1, 'between', p_occurred_at => '2024-02-10');
SELECT period_start, tokens_used, reports_used, chats_used FROM usage_totals WHERE account_id = :g ORDER BY 1;

-- Unknown accounts are rejected. Accounts with a cycle or an opened period still count.
SET usage_ledger.unknown_account = 'reject';
SELECT count_at(:g, '2024-05-01');
SELECT set_usage_cycle('dddddddd-0000-0000-0000-000000000008', '1 month') \gset
SELECT count_at('dddddddd-0000-0000-0000-000000000008', '2024-05-01');
SELECT count(*) FROM open_usage_period('dddddddd-0000-0000-0000-000000000009', '2024-05-01', '2024-06-01');
SELECT count_at('dddddddd-0000-0000-0000-000000000009', '2024-05-01');
RESET usage_ledger.unknown_account;

-- No two periods of an account overlap, and every event lies within its period.
SELECT count(*) AS overlaps
  FROM usage_periods AS p JOIN usage_periods AS q
    ON p.account_id = q.account_id AND p.period_start < q.period_start AND p.period_end > q.period_start;
SELECT count(*) AS misplaced
  FROM usage_events AS e LEFT JOIN usage_periods AS p USING (account_id, period_start)
 WHERE p.account_id IS NULL OR e.occurred_at < p.period_start OR e.occurred_at >= p.period_end;

-- The window of acceptable times.
RESET usage_ledger.max_event_age;
SHOW usage_ledger.max_event_age;
SELECT outcome FROM increment_usage(:b, 1, 'old', p_occurred_at => now() - interval '35 days');
SELECT outcome FROM increment_usage(:b, 1, 'ahead', p_occurred_at => now() + interval '5 minutes');
\set VERBOSITY sqlstate
SELECT outcome FROM increment_usage(:b, 1, 'older', p_occurred_at => now() - interval '35 days 1 microsecond');
SELECT outcome FROM increment_usage(:b, 1, 'further', p_occurred_at => clock_timestamp() + interval '6 minutes');
-- The latest time counts from the clock, not from the start of a long transaction. (The
-- transaction is a sleep longer than the call is past the limit at its start.)
BEGIN;
SELECT pg_sleep(0.2);
SELECT outcome FROM increment_usage(:b, 1, 'of a long transaction', p_occurred_at => now() + interval '5 minutes 0.1 seconds');
COMMIT;
SET usage_ledger.max_event_age = '1h';
SELECT outcome FROM increment_usage(:b, 1, 'recent', p_occurred_at => now() - interval '1 hour');
SELECT outcome FROM increment_usage(:b, 1, 'not recent', p_occurred_at => now() - interval '61 minutes');
\set VERBOSITY default
RESET usage_ledger.max_event_age;

DROP FUNCTION period_of, count_at;
SELECT * FROM verify_usage();

-- Anchors are truncated to a millisecond, also before the epoch, so that a client which keeps
-- no more finds the period by the start that it was given.
\set d '''dddddddd-0000-0000-0000-0000000000d1'''
SELECT period_anchor FROM set_usage_cycle(:d, '1 month', '2024-01-31 10:00:00.123456Z');
SELECT period_anchor FROM set_usage_cycle(:d, '1 month', '1999-01-31 10:00:00.123456Z');
SELECT count(*) AS finer_than_a_millisecond FROM usage_periods
 WHERE period_start <> date_trunc('milliseconds', period_start) OR period_end <> date_trunc('milliseconds', period_end);

-- The same call opens the same period again. With another bound or other totals it does not.
SELECT period_start, tokens_used FROM open_usage_period(:d, '2024-01-01', '2024-02-01', 500, 2, 1);
SELECT period_start, tokens_used FROM open_usage_period(:d, '2024-01-01', '2024-02-01', 500, 2, 1);
SELECT period_start, tokens_used FROM open_usage_period(:d, '2024-02-01', '2024-03-01');
SELECT period_start, tokens_used FROM open_usage_period(:d, '2024-02-01', '2024-03-01');
\set VERBOSITY sqlstate
SELECT open_usage_period(:d, '2024-01-01', '2024-02-01', 501, 2, 1);
SELECT open_usage_period(:d, '2024-01-01', '2024-02-01');
SELECT open_usage_period(:d, '2024-01-01', '2024-01-31', 500, 2, 1);
SELECT open_usage_period(:d, '2024-02-01', '2024-03-01', 1);
\set VERBOSITY default
SELECT * FROM verify_usage(:d);
