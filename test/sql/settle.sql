-- Settlement: the same call is added to the counter in its transaction or later.
SET timezone = 'UTC';
\set a '''66666666-0000-0000-0000-000000000001'''
\set b '''66666666-0000-0000-0000-000000000002'''
\set full '''66666666-0000-0000-0000-000000000003'''
\set closed '''66666666-0000-0000-0000-000000000004'''
LOAD 'usage_ledger';
SHOW usage_ledger.settlement;
SET usage_ledger.settlement = 'later';

-- deferred: recorded and pending, not yet in the counter, always in the totals.
SET usage_ledger.settlement = 'deferred';
SELECT outcome, tokens_used, period_start = date_trunc('month', now(), 'UTC') AS this_month FROM increment_usage(:a, 100, 'k1', true);
SELECT outcome, tokens_used FROM increment_usage(:a, 20, 'k2', false, true);
SELECT outcome, tokens_used FROM increment_usage(:b, 3, 'k1');
SELECT account_id, tokens, reports, chats FROM usage_pending ORDER BY account_id, tokens;
SELECT tokens_used, reports_used, chats_used FROM usage_periods WHERE account_id = :a;
SELECT tokens_used, reports_used, chats_used FROM usage_totals WHERE account_id = :a;
SELECT tokens_used, reports_used, chats_used FROM current_usage(:a);
SELECT * FROM verify_usage();

-- A retry gets the same answer in every mode, whatever the mode of the first call.
SELECT outcome, tokens_used FROM increment_usage(:a, 100, 'k1', true);
SET usage_ledger.settlement = 'adaptive';
SELECT outcome, tokens_used FROM increment_usage(:a, 100, 'k1', true);
SET usage_ledger.settlement = 'immediate';
SELECT outcome, tokens_used FROM increment_usage(:a, 100, 'k1', true);
SET usage_ledger.settlement = 'deferred';
\set VERBOSITY sqlstate
SELECT increment_usage(:a, 101, 'k1', true);
SET usage_ledger.settlement = 'immediate';
SELECT increment_usage(:a, 101, 'k1', true);
\set VERBOSITY default

-- adaptive: no other session holds the counter, so the call adds to it.
SET usage_ledger.settlement = 'adaptive';
SELECT outcome, tokens_used FROM increment_usage(:a, 4000, 'k3');

-- Settles one row, then the rest.
SELECT settle_usage(1);
SELECT count(*) AS pending FROM usage_pending;
SELECT * FROM verify_usage();
SELECT settle_usage();
SELECT settle_usage();
SELECT account_id, tokens_used, reports_used, chats_used FROM usage_periods WHERE account_id IN (:a, :b) ORDER BY 1;
SELECT * FROM verify_usage();

-- A settlement that is rolled back changes nothing.
SET usage_ledger.settlement = 'deferred';
SELECT outcome FROM increment_usage(:a, 7, 'k4');
BEGIN;
SELECT settle_usage();
SELECT * FROM verify_usage();
ROLLBACK;
SELECT count(*) AS pending FROM usage_pending;
SELECT tokens_used FROM usage_totals WHERE account_id = :a;
SELECT settle_usage();

-- A call for a closed period is refused in every mode.
SELECT tokens_used FROM open_usage_period(:closed, '2020-01-01Z', '2100-01-01Z');
SELECT outcome FROM increment_usage(:closed, 1, 'k1');
UPDATE usage_periods SET closed_at = now() WHERE account_id = :closed;
\set VERBOSITY sqlstate
SELECT increment_usage(:closed, 1, 'k2');
SET usage_ledger.settlement = 'adaptive';
SELECT increment_usage(:closed, 1, 'k2');
\set VERBOSITY default

-- Rows that cannot be folded are reported and stay pending as one row. The rows of other accounts are settled.
SET usage_ledger.settlement = 'deferred';
SELECT tokens_used FROM open_usage_period(:full, '2020-01-01Z', '2100-01-01Z', 9223372036854775800);
SELECT outcome FROM increment_usage(:full, 7, 'fits');
SELECT outcome FROM increment_usage(:full, 1, 'does not');
SELECT outcome FROM increment_usage(:b, 3, 'k2');
\set SHOW_CONTEXT never
SELECT regexp_replace(settle_usage()::text, '^', 'settled ');
SELECT account_id, tokens FROM usage_pending ORDER BY 1;
SELECT account_id, tokens_used FROM usage_totals WHERE account_id IN (:full, :b) ORDER BY 1;
SELECT tokens_used FROM current_usage(:full);
SELECT * FROM verify_usage();
-- Once there is room and the period is open again, they are folded.
UPDATE usage_periods SET closed_at = NULL WHERE account_id = :closed;
UPDATE usage_periods SET tokens_used = tokens_used - 1 WHERE account_id = :full;
UPDATE usage_events SET tokens = tokens - 1 WHERE account_id = :full AND idempotency_key LIKE 'opening:%';
SELECT settle_usage();
SELECT count(*) AS pending FROM usage_pending;
SELECT * FROM verify_usage();

-- Many rows of many accounts are settled in several calls.
INSERT INTO usage_accounts (account_id, period_anchor) SELECT md5(i::text)::uuid, '2001-01-01Z' FROM generate_series(1, 500) AS i;
SELECT count(*) AS queued FROM generate_series(1, 5000) AS i, increment_usage(md5((i % 500 + 1)::text)::uuid, i, 'many ' || i) AS u WHERE u.outcome = 'queued';
SELECT settle_usage(2000);
SELECT settle_usage(4000);
SELECT count(*) AS pending FROM usage_pending;
SELECT sum(tokens_used) AS tokens FROM usage_periods WHERE account_id IN (SELECT md5(i::text)::uuid FROM generate_series(1, 500) AS i);
SELECT * FROM verify_usage();

-- Limits.
SELECT settle_usage(0);
SELECT settle_usage(-1);
SELECT settle_usage(10000001);
SELECT settle_usage(NULL);
RESET usage_ledger.settlement;

-- Pending usage whose period was deleted by hand holds up nobody. It is listed, and a replay
-- of a key of that period is answered.
BEGIN;
\set gone '''66666666-0000-0000-0000-0000000000e1'''
\set other '''66666666-0000-0000-0000-0000000000e2'''
SET LOCAL usage_ledger.settlement = 'deferred';
SELECT outcome FROM increment_usage(:gone, 50, 'k');
DELETE FROM usage_periods WHERE account_id = :gone;
SELECT outcome FROM increment_usage(:other, 70, 'k');
\set SHOW_CONTEXT never
SELECT regexp_replace(settle_usage()::text, '^', 'settled ');
SELECT tokens_used FROM usage_periods WHERE account_id = :other;
SELECT count(*) AS pending FROM usage_pending WHERE account_id = :gone;
SELECT account_id, counter, recorded, expected FROM verify_usage() WHERE account_id IN (:gone, :other);
SELECT outcome, tokens_used, period_start IS NOT NULL AS has_start, period_end FROM increment_usage(:gone, 50, 'k');
SELECT outcome, tokens_used, period_end, detail FROM increment_usage_batch(ARRAY[:gone]::uuid[], '{50}', '{k}');
SAVEPOINT s;
SELECT void_usage(:gone, 'k', 'test');
ROLLBACK TO s;
-- The account is erased by hand as a whole: then only the queue knows of it.
DELETE FROM usage_events WHERE account_id = :gone;
SELECT account_id, counter, recorded, expected FROM verify_usage() WHERE account_id IN (:gone, :other);
ROLLBACK;
