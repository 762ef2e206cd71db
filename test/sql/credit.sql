-- Credits: tokens are taken off the current period, once, and never below zero.
SET timezone = 'UTC';
SET datestyle = 'ISO';
\set a '''1c000000-0000-0000-0000-000000000001'''
\set b '''1c000000-0000-0000-0000-000000000002'''
SELECT outcome, tokens_used FROM increment_usage(:a, 100, 'k1', true);
SELECT outcome, tokens_used, period_start <= now() AND period_end > now() AS is_current FROM credit_usage(:a, 30, 'c1', 'outage on Monday');
SELECT idempotency_key, tokens, reports, chats, occurred_at = recorded_at AS is_now, voided_at, void_reason FROM usage_events WHERE account_id = :a ORDER BY 1;
-- A retry is replayed, whatever its reason. Another amount is a conflict, and so is a credit under the key of usage, and usage under the key of a credit.
SELECT outcome, tokens_used FROM credit_usage(:a, 30, 'c1', repeat('x', 1001));
SELECT void_reason FROM usage_events WHERE account_id = :a AND idempotency_key = 'c1';
SELECT credit_usage(:a, 31, 'c1', NULL);
SELECT credit_usage(:a, 100, 'k1', NULL);
SELECT increment_usage(:a, 30, 'c1');
SELECT outcome FROM increment_usage_batch(ARRAY[:a]::uuid[], '{30}', '{c1}');
-- More than the total is refused, and all of it is not.
SELECT credit_usage(:a, 71, 'c2', NULL);
SELECT outcome, tokens_used FROM credit_usage(:a, 70, 'c2', NULL);
SELECT credit_usage(:a, 1, 'c3', NULL);
SELECT tokens_used, reports_used FROM current_usage(:a);
-- An event that a credit stands against cannot be voided before the credit.
SELECT void_usage(:a, 'k1', 'test');
SELECT * FROM void_usage(:a, 'c2', NULL);
SELECT void_usage(:a, 'k1', 'test');
SELECT * FROM void_usage(:a, 'c1', NULL);
SELECT * FROM void_usage(:a, 'c1', 'again');
SELECT * FROM void_usage(:a, 'k1', 'test');
SELECT outcome, tokens_used FROM credit_usage(:a, 30, 'c1', NULL);
SELECT idempotency_key, tokens, voided_at IS NOT NULL AS is_voided, void_reason FROM usage_events WHERE account_id = :a ORDER BY 1;
SELECT * FROM verify_usage(:a);

-- In every settlement mode, what is pending counts, and is settled.
CREATE TABLE credits (event_mode text, credit_mode text, account uuid DEFAULT gen_random_uuid());
INSERT INTO credits SELECT e, c FROM unnest('{immediate,adaptive,deferred}'::text[]) AS e, unnest('{immediate,adaptive,deferred}'::text[]) AS c;
SELECT c.event_mode, count(*), u.outcome, v.outcome
  FROM (SELECT *, set_config('usage_ledger.settlement', event_mode, false) FROM credits OFFSET 0) AS c, increment_usage(c.account, 50, 'k', true, true) AS u, increment_usage(c.account, 7, 'k2') AS v GROUP BY 1, 3, 4 ORDER BY 1;
SELECT c.event_mode, c.credit_mode, u.outcome, u.tokens_used
  FROM (SELECT *, set_config('usage_ledger.settlement', credit_mode, false) FROM credits ORDER BY 1, 2 OFFSET 0) AS c, credit_usage(c.account, 45, 'credit', NULL) AS u;
SELECT count(*) AS pending FROM usage_pending JOIN credits ON account = account_id;
SET usage_ledger.settlement = 'deferred';
SELECT u.outcome, count(*) FROM credits, increment_usage(account, 1, 'k3') AS u GROUP BY 1;
-- The event of 50 does not fit what is left, in the counter or the queue.
CREATE FUNCTION refused(command text, account uuid) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    detail text;
BEGIN
    EXECUTE command USING account;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
    RETURN concat_ws(': ', SQLSTATE || ' ' || SQLERRM, substring(detail FROM 'the total.*'));
END $$;
SELECT refused($$SELECT void_usage($1, 'k', NULL)$$, account), count(*) FROM credits GROUP BY 1;
SELECT refused($$SELECT credit_usage($1, 14, 'too much', NULL)$$, account), count(*) FROM credits GROUP BY 1;
-- The events of 7 and 1 fit.
SELECT v.outcome, v.tokens_used, w.outcome, w.tokens_used, count(*) FROM credits, void_usage(account, 'k2', NULL) AS v, void_usage(account, 'k3', NULL) AS w GROUP BY 1, 2, 3, 4;
SELECT refused($$SELECT credit_usage($1, 6, 'too much', NULL)$$, account), count(*) FROM credits GROUP BY 1;
SELECT u.outcome, u.tokens_used, count(*) FROM credits, credit_usage(account, 5, 'the rest', NULL) AS u GROUP BY 1, 2;
SELECT v.outcome, v.tokens_used, count(*) FROM credits, void_usage(account, 'credit', 'not owed') AS v GROUP BY 1, 2;
RESET usage_ledger.settlement;
-- A closed period has the credit in its total. The next credit is refused.
SELECT c.tokens_used, c.reports_used, count(*) FROM (SELECT p.* FROM credits JOIN usage_periods AS p ON account = account_id OFFSET 0) AS p, close_usage_period(p.account_id, p.period_start) AS c GROUP BY 1, 2;
SELECT refused($$SELECT credit_usage($1, 1, 'closed', NULL)$$, account) AS refused, count(*) FROM credits GROUP BY 1;
SELECT refused($$SELECT void_usage($1, 'the rest', NULL)$$, account) AS refused, count(*) FROM credits GROUP BY 1;
-- The period can be ended, and credits go to the next one.
SELECT count(*) FROM credits, end_usage_period(account, NULL);
SELECT u.outcome, count(*) FROM credits, increment_usage(account, 10, 'next', p_occurred_at => clock_timestamp() + interval '1 s') AS u GROUP BY 1;
SELECT count(*) FROM credits, verify_usage(account);
DROP FUNCTION refused;
DROP TABLE credits;

-- Settlement reads rows that voids and credits leave behind in any order.
BEGIN;
SET LOCAL usage_ledger.settlement = 'deferred';
SELECT outcome FROM increment_usage(:b, 10, 'k1');
SELECT outcome FROM increment_usage(:b, 20, 'k2');
SELECT * FROM void_usage(:b, 'k1', NULL);
SELECT settle_usage(1);
SELECT outcome, tokens_used FROM credit_usage(:b, 20, 'c1', NULL);
SELECT settle_usage();
SELECT tokens_used FROM current_usage(:b);
SELECT * FROM verify_usage(:b);
ROLLBACK;

-- Errors. A refused credit writes nothing.
SELECT credit_usage(NULL, 1, 'k', NULL);
SELECT credit_usage(:b, NULL, 'k', NULL);
SELECT credit_usage(:b, 1, NULL, NULL);
SELECT credit_usage(:b, 0, 'k', NULL);
SELECT credit_usage(:b, -1, 'k', NULL);
SELECT credit_usage(:b, 1000000000001, 'k', NULL);
SELECT credit_usage(:b, 1, '', NULL);
SELECT credit_usage(:b, 1, repeat('k', 256), NULL);
SELECT credit_usage(:b, 1, 'k', repeat('x', 1001));
SELECT credit_usage(:b, 1, 'k', NULL);
SET usage_ledger.unknown_account = 'reject';
SELECT credit_usage(:b, 1, 'k', NULL);
RESET usage_ledger.unknown_account;
SELECT count(*) FROM usage_accounts WHERE account_id = :b;
