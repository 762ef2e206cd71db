-- Uses a ledger after it has been moved. Old keys are known, new events are counted, and
-- pending usage can be settled, periods closed, and events pruned.
SET client_min_messages = warning;
SET timezone = 'UTC';
SET usage_ledger.max_event_age = '20000d';
\set months '''11111111-0000-0000-0000-000000000001'''
\set weeks  '''11111111-0000-0000-0000-000000000002'''
\set moved  '''11111111-0000-0000-0000-000000000003'''
\set gone   '''11111111-0000-0000-0000-000000000004'''

SELECT 'again', i.outcome, count(*)
  FROM usage_events AS e, increment_usage(e.account_id, e.tokens, e.idempotency_key, e.reports = 1, e.chats = 1) AS i
 WHERE e.idempotency_key NOT LIKE 'opening:%' AND e.breakdown IS NULL GROUP BY 2;
SELECT 'record again', r.outcome, count(*)
  FROM (SELECT account_id, idempotency_key, string_to_array(breakdown, E'\t') AS part FROM usage_events) AS e,
       record_usage(account_id, idempotency_key, part[2], part[1], part[3]::bigint, part[4]::bigint, part[5]::bigint, part[6]::bigint, part[7]::bigint, part[8]::bigint) AS r
 WHERE part IS NOT NULL GROUP BY 2;
SELECT 'batch again', b.outcome, count(*)
  FROM (SELECT array_agg(account_id) AS accounts, array_agg(tokens) AS tokens, array_agg(idempotency_key) AS keys, array_agg(reports = 1) AS are_reports, array_agg(chats = 1) AS are_chats
          FROM usage_events WHERE idempotency_key NOT LIKE 'opening:%' AND breakdown IS NULL) AS e,
       increment_usage_batch(accounts, tokens, keys, are_reports, are_chats) AS b GROUP BY 2;
SELECT 'with other tokens', b.outcome
  FROM increment_usage_batch(ARRAY[:months::uuid], ARRAY[2], ARRAY['immediate 1']) AS b;
SELECT 'of a pruned period', b.outcome
  FROM increment_usage_batch(ARRAY[:gone::uuid], ARRAY[1], ARRAY['january 1'], p_occurred_at => ARRAY['2024-01-10Z'::timestamptz]) AS b;
SELECT 'voided again', outcome FROM void_usage(:months, 'deferred 50', 'again');

SELECT sum(tokens_used) AS before FROM usage_totals \gset
SELECT 'new', outcome, tokens_used, period_start, period_end FROM increment_usage(:months, 1000, 'after', true, p_occurred_at => '2024-04-20');
SELECT 'new period', outcome, tokens_used, period_start, period_end FROM increment_usage(:weeks, 2000, 'after', p_occurred_at => '2024-11-05');
SELECT 'clipped period', outcome, tokens_used, period_start, period_end FROM increment_usage(:weeks, 4000, 'clipped', p_occurred_at => '2024-04-06');
SELECT 'new account', outcome, tokens_used FROM increment_usage('11111111-0000-0000-0000-000000000005', 8000, 'after', p_occurred_at => '2024-04-20');
SET usage_ledger.settlement = 'deferred';
SELECT 'new pending', outcome FROM increment_usage(:moved, 16000, 'after', p_occurred_at => '2024-01-20');
SELECT 'added', sum(tokens_used) - :before FROM usage_totals;
SELECT 'voided', outcome FROM void_usage(:moved, 'deferred 1', 'after');
SELECT 'violations', count(*) FROM verify_usage();

SELECT 'settled', settle_usage(), count(*) FROM usage_pending;
SELECT 'closed', tokens_used, reports_used, chats_used FROM close_usage_period(:months, '2024-04-01');
SELECT 'closed before', tokens_used, reports_used, chats_used FROM close_usage_period(:months, '2024-03-01');
SELECT 'pruned', prune_usage_events('infinity', 1000000);
SELECT 'violations', count(*) FROM verify_usage();
