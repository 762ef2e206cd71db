-- Every error, with its SQLSTATE, DETAIL and HINT. A call that fails writes nothing.
SET timezone = 'UTC';
CREATE FUNCTION failure(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    message text; detail text; hint text;
BEGIN
    EXECUTE command;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    detail := regexp_replace(detail, 'clock is at 20[^.]*\.?[0-9]*[^.]*', 'clock is at TIME');
    RETURN concat_ws(E'\n  ', SQLSTATE || ' ' || message, detail, hint);
END $$;
\pset format unaligned
\pset tuples_only on
\set a '''cccccccc-0000-0000-0000-000000000001'''
\set closed '''cccccccc-0000-0000-0000-000000000002'''
\set full '''cccccccc-0000-0000-0000-000000000003'''
\set broken '''cccccccc-0000-0000-0000-000000000004'''
\set unknown '''cccccccc-0000-0000-0000-00000000ffff'''
SELECT outcome FROM increment_usage(:a, 1, 'taken');
SELECT outcome FROM increment_usage(:closed, 1, 'before');
UPDATE usage_periods SET period_start = '2020-01-01Z', period_end = '2100-01-01Z', closed_at = now() WHERE account_id = :closed;
UPDATE usage_events SET period_start = '2020-01-01Z' WHERE account_id = :closed;
SELECT count(*) FROM open_usage_period(:full, '2020-01-01Z', '2100-01-01Z', 9223372036854775807, 2147483647, 2147483647);
INSERT INTO usage_accounts (account_id, period_anchor, period_length) VALUES (:broken, '2020-01-01Z', '0');
CREATE TABLE before AS SELECT * FROM usage_events;
CREATE TABLE periods_before AS SELECT * FROM usage_periods;

-- UL001
SELECT failure(format($$SELECT increment_usage(%L, 2, 'taken')$$, :a));

-- UL002
SET usage_ledger.unknown_account = 'reject';
SELECT failure(format($$SELECT increment_usage(%L, 1, 'k')$$, :unknown));
RESET usage_ledger.unknown_account;
SET usage_ledger.max_event_age = '20000d';
SELECT failure(format($$SELECT increment_usage(%L, 1, 'k', p_occurred_at => '2024-01-05Z')$$, :broken));
UPDATE usage_accounts SET period_length = '1 month', time_zone = 'Mars/Olympus_Mons' WHERE account_id = :broken;
SELECT failure(format($$SELECT increment_usage(%L, 1, 'k', p_occurred_at => '2024-01-05Z')$$, :broken));
RESET usage_ledger.max_event_age;

-- UL003
SELECT failure(format($$SELECT increment_usage(%L, 1, 'after')$$, :closed));

-- 22003: the event's row is not written either
SELECT failure(format($$SELECT increment_usage(%L, 1, 'one too many')$$, :full));
SELECT count(*) AS recorded FROM usage_events WHERE idempotency_key = 'one too many';
-- zero tokens still fit
SELECT outcome, tokens_used FROM increment_usage(:full, 0, 'nothing');

-- 22004
SELECT failure($$SELECT increment_usage(NULL, 1, 'k')$$);
SELECT failure(format($$SELECT increment_usage(%L, NULL, 'k')$$, :a));
SELECT failure(format($$SELECT increment_usage(%L, 1, NULL)$$, :a));
SELECT failure($$SELECT increment_usage(NULL, NULL, NULL)$$);
SELECT failure($$SELECT current_usage(NULL)$$);
SELECT failure($$SELECT set_usage_cycle(NULL, '1 month')$$);
SELECT failure(format($$SELECT set_usage_cycle(%L, NULL)$$, :a));
SELECT failure(format($$SELECT set_usage_cycle(%L, '1 month', NULL, NULL)$$, :a));
SELECT failure($$SELECT open_usage_period(NULL, '2020-01-01', '2020-02-01')$$);
SELECT failure(format($$SELECT open_usage_period(%L, NULL, '2020-02-01')$$, :a));
SELECT failure(format($$SELECT open_usage_period(%L, '2020-01-01', NULL)$$, :a));
SELECT failure(format($$SELECT open_usage_period(%L, '2020-01-01', '2020-02-01', NULL)$$, :a));
SELECT failure(format($$SELECT open_usage_period(%L, '2020-01-01', '2020-02-01', 0, NULL)$$, :a));
SELECT failure(format($$SELECT open_usage_period(%L, '2020-01-01', '2020-02-01', 0, 0, NULL)$$, :a));

-- 22023: the key
SELECT failure(format($$SELECT increment_usage(%L, 1, '')$$, :a));
SELECT failure(format($$SELECT increment_usage(%L, 1, repeat('k', 256))$$, :a));
SELECT failure(format($$SELECT increment_usage(%L, 1, repeat('é', 128))$$, :a));
SELECT failure(format($$SELECT increment_usage(%L, 1, repeat('kilobyte', 1000000))$$, :a));
SELECT outcome FROM increment_usage(:a, 1, repeat('k', 255));
-- 22023: tokens
SELECT failure(format($$SELECT increment_usage(%L, -1, 'k')$$, :a));
SELECT failure(format($$SELECT increment_usage(%L, 1000000000001, 'k')$$, :a));
SELECT failure(format($$SELECT increment_usage(%L, 9223372036854775807, 'k')$$, :a));
SELECT failure(format($$SELECT increment_usage(%L, '-9223372036854775808', 'k')$$, :a));
-- 22023: the time
SELECT failure(format($$SELECT increment_usage(%L, 1, 'k', p_occurred_at => 'infinity')$$, :a));
SELECT failure(format($$SELECT increment_usage(%L, 1, 'k', p_occurred_at => '-infinity')$$, :a));
SELECT failure(format($$SELECT increment_usage(%L, 1, 'k', p_occurred_at => '2001-02-03 04:05:06Z')$$, :a));
SELECT failure(format($$SELECT increment_usage(%L, 1, 'k', p_occurred_at => '2999-02-03 04:05:06Z')$$, :a));
SELECT failure(format($$SELECT increment_usage(%L, 1, 'k', p_occurred_at => '4714-11-24 00:00:00+00 BC')$$, :a));
SELECT failure(format($$SELECT increment_usage(%L, 1, 'k', p_occurred_at => '294276-12-31 23:59:59Z')$$, :a));
-- 22023: a cycle
SELECT failure(format($$SELECT set_usage_cycle(%L, '0')$$, :a));
SELECT failure(format($$SELECT set_usage_cycle(%L, '-1 month')$$, :a));
SELECT failure(format($$SELECT set_usage_cycle(%L, '2 months -1 day')$$, :a));
SELECT failure(format($$SELECT set_usage_cycle(%L, '0.5 seconds')$$, :a));
SELECT failure(format($$SELECT set_usage_cycle(%L, '101 years')$$, :a));
SELECT failure(format($$SELECT set_usage_cycle(%L, '178000000 years')$$, :a));
SELECT failure(format($$SELECT set_usage_cycle(%L, '1 month', 'infinity')$$, :a));
SELECT failure(format($$SELECT set_usage_cycle(%L, '1 month', '-infinity')$$, :a));
SELECT failure(format($$SELECT set_usage_cycle(%L, '1 month', NULL, 'Mars/Olympus_Mons')$$, :a));
SELECT failure(format($$SELECT set_usage_cycle(%L, '1 month', NULL, '')$$, :a));
SELECT failure(format($$SELECT set_usage_cycle(%L, '1 month', NULL, repeat('x', 300))$$, :a));
-- 22023: a period
SELECT failure(format($$SELECT open_usage_period(%L, '2020-02-01Z', '2020-01-01Z')$$, :a));
SELECT failure(format($$SELECT open_usage_period(%L, '2020-02-01Z', '2020-02-01Z')$$, :a));
SELECT failure(format($$SELECT open_usage_period(%L, '-infinity', '2020-02-01Z')$$, :a));
SELECT failure(format($$SELECT open_usage_period(%L, '2020-02-01Z', 'infinity')$$, :a));
SELECT failure(format($$SELECT open_usage_period(%L, '2020-01-01Z', '2020-02-01Z', -1)$$, :a));
SELECT failure(format($$SELECT open_usage_period(%L, '2020-01-01Z', '2020-02-01Z', 0, -1)$$, :a));
SELECT failure(format($$SELECT open_usage_period(%L, '2020-01-01Z', '2020-02-01Z', 0, 2147483648)$$, :a));
SELECT failure(format($$SELECT open_usage_period(%L, '2020-01-01Z', '2020-02-01Z', 0, 0, 2147483648)$$, :a));

-- 23P01
SELECT failure(format($$SELECT open_usage_period(%L, '2019-12-01Z', '2020-01-01 00:00:00.001Z')$$, :full));
SELECT failure(format($$SELECT open_usage_period(%L, '2099-12-31 23:59:59.999Z', '2200-01-01Z')$$, :full));
-- Bounds and lengths finer than a millisecond, which JavaScript's Date would lose.
SELECT failure(format($$SELECT open_usage_period(%L, '2019-01-01 00:00:00.0001Z', '2019-02-01Z')$$, :full));
SELECT failure(format($$SELECT open_usage_period(%L, '2019-01-01Z', '2019-02-01 00:00:00.000001Z')$$, :full));
SELECT failure(format($$SELECT set_usage_cycle(%L, '1.0005 seconds')$$, :full));
SELECT failure(format($$SELECT open_usage_period(%L, '2020-01-01Z', '2100-01-01Z')$$, :full));
SELECT failure(format($$SELECT open_usage_period(%L, '2030-01-01Z', '2031-01-01Z')$$, :full));
SELECT failure(format($$SELECT open_usage_period(%L, '2000-01-01Z', '2200-01-01Z')$$, :full));

-- UL001: the key of the opening totals is already used
SELECT outcome FROM increment_usage(:a, 1, 'opening:2019-01-01T00:00:00+00:00');
SELECT failure(format($$SELECT open_usage_period(%L, '2019-01-01Z', '2020-01-01Z', 5)$$, :a));

\pset format aligned
\pset tuples_only off
-- The calls that failed have written nothing.
SELECT account_id, left(idempotency_key, 40) AS key, tokens FROM usage_events EXCEPT
SELECT account_id, idempotency_key, tokens FROM before ORDER BY 1, 2;
SELECT account_id, period_start FROM usage_periods EXCEPT SELECT account_id, period_start FROM periods_before;
SELECT count(*) AS unknown_registered FROM usage_accounts WHERE account_id = :unknown;
DROP TABLE before, periods_before;
SELECT * FROM verify_usage();
DROP FUNCTION failure;
