-- Voiding: an event is voided once, and its key stays claimed.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET usage_ledger.max_event_age = '20000d';
\set a '''20000000-0000-0000-0000-000000000001'''
\set b '''20000000-0000-0000-0000-000000000002'''
SELECT outcome, tokens_used FROM increment_usage(:a, 100, 'k1', true);
SELECT outcome, tokens_used FROM increment_usage(:a, 20, 'k2', false, true);

SELECT * FROM void_usage(:a, 'k1', 'reported twice under two keys');
SELECT tokens_used, reports_used, chats_used FROM current_usage(:a);
SELECT idempotency_key, tokens, voided_at = now() AS voided_now, void_reason FROM usage_events WHERE account_id = :a AND voided_at IS NOT NULL;
SELECT idempotency_key, tokens, voided_at <= now() AS is_voided, void_reason FROM usage_events WHERE account_id = :a AND voided_at IS NOT NULL;
-- Voiding twice changes nothing, not even the reason. A retry of the call is a replay or a conflict.
SELECT * FROM void_usage(:a, 'k1', 'another reason');
SELECT void_reason FROM usage_events WHERE account_id = :a AND idempotency_key = 'k1';
SELECT outcome, tokens_used FROM increment_usage(:a, 100, 'k1', true);
SELECT outcome FROM increment_usage_batch(ARRAY[:a, :a]::uuid[], '{100,101}', '{k1,k1}', '{true,true}');
SELECT tokens_used, reports_used, chats_used FROM current_usage(:a);
SELECT * FROM verify_usage(:a);

-- Voids in every settlement mode, of events that are pending or settled. Each locks the counter.
CREATE TABLE voids (event_mode text, void_mode text, is_settled boolean, account uuid DEFAULT gen_random_uuid());
INSERT INTO voids SELECT e, v, s FROM unnest('{immediate,adaptive,deferred}'::text[]) AS e, unnest('{immediate,adaptive,deferred}'::text[]) AS v, unnest('{true,false}'::boolean[]) AS s;
SELECT v.event_mode, v.is_settled, count(*), u.outcome, u.tokens_used
  FROM (SELECT *, set_config('usage_ledger.settlement', event_mode, false) FROM voids WHERE is_settled OFFSET 0) AS v, increment_usage(v.account, 50, 'k', true, true) AS u GROUP BY 1, 2, 4, 5 ORDER BY 1;
SELECT settle_usage();
SELECT v.event_mode, v.is_settled, count(*), u.outcome, u.tokens_used
  FROM (SELECT *, set_config('usage_ledger.settlement', event_mode, false) FROM voids WHERE NOT is_settled OFFSET 0) AS v, increment_usage(v.account, 50, 'k', true, true) AS u GROUP BY 1, 2, 4, 5 ORDER BY 1;
SELECT v.event_mode, v.is_settled, v.void_mode, u.outcome, u.tokens_used
  FROM (SELECT *, set_config('usage_ledger.settlement', void_mode, false) FROM voids ORDER BY 1, 2, 3 OFFSET 0) AS v, void_usage(v.account, 'k', NULL) AS u ORDER BY 1, 2, 3;
RESET usage_ledger.settlement;
SELECT count(*), sum(tokens_used), sum(reports_used), sum(chats_used) FROM usage_totals JOIN voids ON account = account_id;
SELECT min(tokens_used) AS never_below_zero FROM usage_periods;
SELECT * FROM verify_usage();
SELECT count(*), u.outcome, u.tokens_used FROM voids AS v, void_usage(v.account, 'k', NULL) AS u GROUP BY 2, 3 ORDER BY 3;
-- A settler that folds one row at a time never subtracts an event before it has added it,
SELECT settle_usage(1) >= 0 AS settled FROM generate_series(1, 40);
SELECT count(*) AS pending FROM usage_pending;
SELECT count(*), sum(tokens_used), sum(reports_used), sum(chats_used) FROM usage_periods JOIN voids ON account = account_id;
SELECT * FROM verify_usage();
DROP TABLE voids;
-- even if the void comes first in the queue.
BEGIN;
SELECT outcome FROM increment_usage(:b, 0, 'first');
INSERT INTO usage_pending SELECT account_id, period_start, n, 0, 0 FROM usage_periods, unnest('{-50,50}'::integer[]) AS n WHERE account_id = :b;
SELECT settle_usage(1) AS counted;
SELECT tokens AS left_for_later FROM usage_pending;
SELECT settle_usage(1) AS taken_back;
-- A void that is alone in the queue stays pending until its event is pending too.
INSERT INTO usage_pending SELECT account_id, period_start, -50, 0, 0 FROM usage_periods WHERE account_id = :b;
SELECT settle_usage() AS settled;
INSERT INTO usage_pending SELECT account_id, period_start, 50, 0, 0 FROM usage_periods WHERE account_id = :b;
SELECT settle_usage() AS settled;
ROLLBACK;

-- Voids of an event with zero tokens, and of opening totals. The usage is counted again under a new key.
SELECT outcome, tokens_used FROM increment_usage(:b, 0, 'free', true);
SELECT * FROM void_usage(:b, 'free', '');
SELECT tokens_used FROM open_usage_period(:b, '2020-01-01', '2020-02-01', 9223372036854775807, 2147483647, 1);
SELECT * FROM void_usage(:b, 'opening:2020-01-01T00:00:00+00:00', 'typing error');
SELECT tokens_used, reports_used, chats_used FROM usage_totals WHERE account_id = :b ORDER BY period_start;
SELECT outcome FROM increment_usage(:b, 10, 'recount');
SELECT * FROM verify_usage(:b);

-- After a rollback the event counts as before.
BEGIN;
SELECT * FROM void_usage(:b, 'recount', 'test');
ROLLBACK;
SELECT tokens_used FROM current_usage(:b);

-- A void in a closed period is refused and writes nothing. A retry of an earlier void is answered.
SELECT outcome FROM increment_usage(:b, 5, 'january', p_occurred_at => '2024-01-05');
SELECT outcome FROM increment_usage(:b, 6, 'january voided', p_occurred_at => '2024-01-05');
SELECT * FROM void_usage(:b, 'january voided', 'test');
SELECT tokens_used FROM close_usage_period(:b, '2024-01-01');
SELECT void_usage(:b, 'january', 'too late');
SET usage_ledger.settlement = 'deferred';
SELECT void_usage(:b, 'january', 'too late');
RESET usage_ledger.settlement;
SELECT * FROM void_usage(:b, 'january voided', 'test');
SELECT count(*) FROM usage_events WHERE account_id = :b AND idempotency_key = 'january' AND voided_at IS NULL;

-- Errors.
SELECT void_usage(:b, 'no such key', 'test');
SELECT void_usage('20000000-0000-0000-0000-00000000000f', 'k1', 'test');
SELECT void_usage(NULL, 'k1', 'test');
SELECT void_usage(:b, NULL, 'test');
SELECT void_usage(:b, 'recount', repeat('x', 1001));
SELECT void_usage(:b, '', 'test');
SELECT void_usage(:b, repeat('k', 256), 'test');
SELECT void_usage(:b, repeat('k', 255), 'test');
SELECT outcome FROM void_usage(:b, 'recount', repeat('x', 1000));
SELECT * FROM verify_usage();
