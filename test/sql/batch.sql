-- Many events in one call.
SET timezone = 'UTC';
SET datestyle = 'ISO';
\set a '''55555555-0000-0000-0000-000000000001'''
\set b '''55555555-0000-0000-0000-000000000002'''
\set closed '''55555555-0000-0000-0000-000000000003'''
\set full '''55555555-0000-0000-0000-000000000004'''
SELECT tokens_used FROM open_usage_period(:closed, '2020-01-01', '2100-01-01');
UPDATE usage_periods SET closed_at = now() WHERE account_id = :closed;
SELECT tokens_used FROM open_usage_period(:full, '2020-01-01', '2100-01-01', 9223372036854775800);

-- Every outcome, item by item, in the order given.
SELECT outcome FROM increment_usage(:a, 5, 'before');
SELECT item, outcome, tokens_used, period_end > now() AS current, regexp_replace(detail, 'clock is at 20.*', 'clock is at TIME') AS detail, sqlstate
  FROM increment_usage_batch(
    ARRAY[:a, :b, :a, :a, :a, :a, :closed, NULL, :a, :a, :a, :a, :full, :full, :b]::uuid[],
    ARRAY[10, 20, 10, 11, 5, 6, 1, 1, NULL, 1, -1, 1, 8, 7, 1],
    ARRAY['k', 'k', 'k', 'k', 'before', 'before', 'k', 'k', 'k', NULL, 'negative', '', 'too much', 'fits', 'old'],
    p_occurred_at => ARRAY[NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '2001-01-01']::timestamptz[]);
SELECT account_id, tokens_used FROM usage_totals WHERE account_id IN (:a, :b, :closed, :full) ORDER BY 1;
SELECT * FROM verify_usage();

-- The same items again are replays.
SELECT item, outcome, tokens_used FROM increment_usage_batch(ARRAY[:a, :b]::uuid[], ARRAY[10, 20], ARRAY['k', 'k']);

-- Flags, arrays with other lower bounds, and empty arrays.
SELECT item, outcome, tokens_used FROM increment_usage_batch(
    ('[0:1]={' || :a || ',' || :b || '}')::uuid[], '[5:6]={1,2}', '{flag 1,flag 2}', '{t,NULL}', '{NULL,t}');
SELECT reports_used, chats_used FROM usage_totals WHERE account_id IN (:a, :b) ORDER BY account_id;
SELECT * FROM increment_usage_batch('{}', '{}', '{}');

-- Malformed arrays.
SELECT increment_usage_batch(NULL, '{}', '{}');
SELECT increment_usage_batch('{}', NULL, '{}');
SELECT increment_usage_batch('{}', '{}', NULL);
SELECT increment_usage_batch(ARRAY[:a]::uuid[], '{1,2}', '{k}');
SELECT increment_usage_batch(ARRAY[:a]::uuid[], '{1}', '{k,l}');
SELECT increment_usage_batch(ARRAY[:a]::uuid[], '{1}', '{k}', '{t,f}');
SELECT increment_usage_batch(ARRAY[:a]::uuid[], '{1}', '{k}', NULL, '{}');
SELECT increment_usage_batch(ARRAY[ARRAY[:a]]::uuid[], '{1}', '{k}');

-- A batch obeys the settlement mode, and queues one pending row per counter.
SET usage_ledger.settlement = 'deferred';
SELECT item, outcome, tokens_used FROM increment_usage_batch(ARRAY[:a, :a, :b]::uuid[], '{1,2,3}', '{d1,d2,d1}');
SELECT account_id, tokens FROM usage_pending ORDER BY 1;
SELECT * FROM verify_usage();
SELECT settle_usage();
SET usage_ledger.settlement = 'adaptive';
SELECT item, outcome, tokens_used FROM increment_usage_batch(ARRAY[:a, :a, :b]::uuid[], '{1,2,3}', '{a1,a2,a1}');
SELECT count(*) AS pending FROM usage_pending;
RESET usage_ledger.settlement;

-- Items of one key share the fate of the first, unless their own arguments are invalid. The
-- first items are refused for their time, period, account or counter. Alone, the second
-- items would be counted.
SET usage_ledger.unknown_account = 'reject';
SELECT item, outcome, tokens_used, regexp_replace(detail, 'clock is at 20.*', 'clock is at TIME') AS detail, sqlstate
  FROM increment_usage_batch(
    ARRAY[:a, :a, :closed, :closed, '55555555-0000-0000-0000-000000000009', '55555555-0000-0000-0000-000000000009',
          :full, :full, :a, :a, :a, :a]::uuid[],
    ARRAY[1, 1, 1, 1, 1, 1, 8, 1, -1, 2, 3, -1],
    ARRAY['old', 'old', 'k1', 'k1', 'k', 'k', 'much', 'much', 'own', 'own', 'own', 'own'],
    p_occurred_at => ARRAY['2001-01-01', NULL, NULL, '2101-01-01', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL]::timestamptz[]);
RESET usage_ledger.unknown_account;
SELECT idempotency_key FROM usage_events
 WHERE account_id IN (:a, :closed, :full) AND idempotency_key IN ('old', 'k1', 'much', 'own');
SELECT * FROM verify_usage();

-- A loop of single calls gives the same answers. For an item that shares the fate of a
-- refused one, the loop repeats the refusal without a call. Random items: new and known
-- accounts, periods of two cycles, retries, conflicts, invalid and late items, closed
-- periods, a counter that is nearly full, and unknown accounts.
CREATE FUNCTION account(kind text, n integer) RETURNS uuid LANGUAGE sql AS
    $$ SELECT md5(kind || n)::uuid $$;
CREATE TABLE items (n integer, account integer, tokens bigint, key text, is_report boolean, is_chat boolean, occurred_at timestamptz);
CREATE TABLE outcomes (kind text, round integer, n integer, outcome text, tokens_used bigint, period_start timestamptz, period_end timestamptz);
CREATE TABLE refusals (account uuid, key text, outcome text);
CREATE FUNCTION count_one(account uuid, i items) RETURNS outcomes LANGUAGE plpgsql AS $$
DECLARE
    r outcomes;
    is_valid boolean := i.tokens >= 0 AND i.key <> '';
BEGIN
    SELECT f.outcome INTO r.outcome FROM refusals AS f WHERE f.account = count_one.account AND f.key = i.key;
    IF FOUND AND is_valid THEN
        RETURN r;
    END IF;
    SELECT u.outcome, u.tokens_used, u.period_start, u.period_end
      INTO r.outcome, r.tokens_used, r.period_start, r.period_end
      FROM increment_usage(account, i.tokens, i.key, i.is_report, i.is_chat, i.occurred_at) AS u;
    RETURN r;
EXCEPTION
    WHEN SQLSTATE 'UL001' THEN
        r.outcome = 'conflict';
        RETURN r;
    WHEN SQLSTATE 'UL002' OR SQLSTATE 'UL003' OR SQLSTATE 'UL005' OR SQLSTATE '22003' OR SQLSTATE '22004' OR SQLSTATE '22023' THEN
        r.outcome = CASE SQLSTATE WHEN 'UL002' THEN 'unknown_account' WHEN 'UL003' THEN 'closed' WHEN 'UL005' THEN 'out_of_time' ELSE 'invalid' END;
        INSERT INTO refusals SELECT account, i.key, r.outcome WHERE is_valid;
        RETURN r;
END $$;
SELECT setseed(0.20261124);
SET usage_ledger.unknown_account = 'reject';
DO $$
DECLARE
    kinds text[] = '{batch,loop}';
    kind text;
    round_number integer;
BEGIN
    FOREACH kind IN ARRAY kinds LOOP
        PERFORM set_usage_cycle(account(kind, n), '1 month') FROM generate_series(1, 12) AS n;
        PERFORM set_usage_cycle(account(kind, n), '7 days', NULL, 'Europe/Berlin') FROM generate_series(13, 20) AS n;
        PERFORM open_usage_period(account(kind, 5), date_trunc('second', now()) - interval '3 days', date_trunc('second', now()) + interval '1 hour');
        UPDATE usage_periods SET closed_at = now() WHERE account_id = account(kind, 5);
        PERFORM open_usage_period(account(kind, 6), date_trunc('second', now()) - interval '30 days', date_trunc('second', now()) + interval '1 day', 9223372036854775807 - 200);
    END LOOP;
    FOR round_number IN 1..6 LOOP
        TRUNCATE items, refusals;
        INSERT INTO items
        SELECT n, ceil(random() * 22), (ARRAY[NULL, -1, 7, 7, 7, 7, 7, 70])[ceil(random() * 8)],
               CASE WHEN random() < 0.03 THEN NULL WHEN random() < 0.03 THEN '' ELSE 'key ' || floor(random() * 12) END,
               random() < 0.1, random() < 0.1,
               CASE WHEN random() < 0.6 THEN NULL ELSE now() - interval '40 days' * random() + interval '2 days' * random() * (random() < 0.1)::integer END
          FROM generate_series(1, 400) AS n;
        INSERT INTO outcomes
        SELECT 'batch', round_number, b.item, b.outcome, b.tokens_used, b.period_start, b.period_end
          FROM (SELECT array_agg(account('batch', account) ORDER BY n) AS accounts,
                       array_agg(tokens ORDER BY n) AS tokens, array_agg(key ORDER BY n) AS keys,
                       array_agg(is_report ORDER BY n) AS reports, array_agg(is_chat ORDER BY n) AS chats,
                       array_agg(occurred_at ORDER BY n) AS times FROM items) AS a,
               increment_usage_batch(accounts, tokens, keys, reports, chats, times) AS b;
        INSERT INTO outcomes
        SELECT 'loop', round_number, i.n, c.outcome, c.tokens_used, c.period_start, c.period_end
          FROM (SELECT * FROM items ORDER BY n OFFSET 0) AS i, count_one(account('loop', i.account), i::items) AS c;
    END LOOP;
END $$;
RESET usage_ledger.unknown_account;
SELECT count(*) AS items, count(DISTINCT b.outcome) AS kinds_of_outcome,
       count(*) FILTER (WHERE (b.outcome, b.tokens_used, b.period_start, b.period_end)
                              IS DISTINCT FROM (l.outcome, l.tokens_used, l.period_start, l.period_end)) AS differences
  FROM (SELECT * FROM outcomes WHERE kind = 'batch') AS b JOIN (SELECT * FROM outcomes WHERE kind = 'loop') AS l USING (round, n);
SELECT DISTINCT outcome FROM outcomes ORDER BY 1;
SELECT count(*) AS different_periods
  FROM (SELECT n, period_start, period_end, tokens_used, reports_used, chats_used FROM usage_periods, generate_series(1, 22) AS n WHERE account_id = account('batch', n)) AS b
  FULL JOIN (SELECT n, period_start, period_end, tokens_used, reports_used, chats_used FROM usage_periods, generate_series(1, 22) AS n WHERE account_id = account('loop', n)) AS l
  ON b = l WHERE b.n IS NULL OR l.n IS NULL;
SELECT count(*) AS different_events
  FROM (SELECT n, idempotency_key, period_start, occurred_at, tokens, reports, chats FROM usage_events, generate_series(1, 22) AS n WHERE account_id = account('batch', n)) AS b
  FULL JOIN (SELECT n, idempotency_key, period_start, occurred_at, tokens, reports, chats FROM usage_events, generate_series(1, 22) AS n WHERE account_id = account('loop', n)) AS l
  ON b = l WHERE b.n IS NULL OR l.n IS NULL;
SELECT count(*) > 0 AS some_events FROM usage_events, generate_series(1, 22) AS n WHERE account_id = account('batch', n);
DROP TABLE items, outcomes, refusals CASCADE;
DROP FUNCTION account;
SELECT * FROM verify_usage();
