-- Breakdowns: what record_usage counts by scope, model, kinds of tokens and cost.
SET timezone = 'UTC';
SET datestyle = 'ISO';
\set VERBOSITY terse
SET usage_ledger.max_event_age = '20000d';
\set a '''bd000000-0000-0000-0000-000000000001'''
\set b '''bd000000-0000-0000-0000-000000000002'''
\set c '''bd000000-0000-0000-0000-000000000003'''
\set source :DBNAME
CREATE VIEW breakdown AS
SELECT account_id, scope, model, input_tokens AS input, cache_read_tokens AS read, cache_write_tokens AS write,
       output_tokens AS output, reasoning_tokens AS reasoning, cost_nanos AS cost, events FROM usage_breakdown_totals;
CREATE FUNCTION detail_of(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    detail text;
    hint text;
BEGIN
    EXECUTE command;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(' | ', SQLSTATE, SQLERRM, regexp_replace(substring(detail FROM '(?::\s)(.*)'), '\d{4}-\d\d-\d\dT[0-9:.+]+', '<time>', 'g'), hint);
END $$;

-- The kinds exclude each other, and the tokens of the event are their sum.
SELECT outcome, tokens_used FROM record_usage(:a, 'k1', 'gpt-5', 'team/ann', 100, 20, 3, 40, 5, 123456789, true);
SELECT outcome, tokens_used FROM record_usage(:a, 'k2', 'gpt-5', 'team/ann', p_output_tokens => 1000, p_is_chat => true);
SELECT outcome, tokens_used FROM record_usage(:a, 'k3', 'gpt-5', 'team/bob', 7);
SELECT outcome, tokens_used FROM record_usage(:a, 'k4');
SELECT outcome, tokens_used FROM record_usage(:a, 'k5', p_cost_nanos => 1);
SELECT outcome, tokens_used FROM record_usage(:a, 'k6', NULL, NULL, 5, p_is_report => NULL, p_is_chat => NULL);
SELECT outcome, tokens_used FROM increment_usage(:a, 10000, 'plain');
SELECT * FROM breakdown WHERE account_id = :a ORDER BY scope, model;
SELECT tokens_used, reports_used, chats_used FROM current_usage(:a);
SELECT idempotency_key, tokens, reports, chats, string_to_array(breakdown, E'\t') AS breakdown FROM usage_events WHERE account_id = :a ORDER BY 1;
SELECT * FROM verify_usage(:a);

-- A retry is replayed. Each part of the payload makes a conflict, and plain usage has another payload than any breakdown.
SELECT outcome, tokens_used FROM record_usage(:a, 'k1', 'gpt-5', 'team/ann', 100, 20, 3, 40, 5, 123456789, true, p_occurred_at => '2001-01-01');
SELECT part, detail_of(format($$SELECT record_usage('bd000000-0000-0000-0000-000000000001', 'k1', %s)$$, arguments))
  FROM (VALUES ('model', $$'gpt-4', 'team/ann', 100, 20, 3, 40, 5, 123456789, true$$), ('case of the model', $$'GPT-5', 'team/ann', 100, 20, 3, 40, 5, 123456789, true$$),
               ('scope', $$'gpt-5', 'team', 100, 20, 3, 40, 5, 123456789, true$$), ('input and read', $$'gpt-5', 'team/ann', 20, 100, 3, 40, 5, 123456789, true$$),
               ('write', $$'gpt-5', 'team/ann', 100, 20, 4, 40, 5, 123456789, true$$), ('output and reasoning', $$'gpt-5', 'team/ann', 100, 20, 3, 44, 1, 123456789, true$$),
               ('cost', $$'gpt-5', 'team/ann', 100, 20, 3, 40, 5, 123456788, true$$), ('report', $$'gpt-5', 'team/ann', 100, 20, 3, 40, 5, 123456789$$)) AS parts (part, arguments);
SELECT detail_of($$SELECT increment_usage('bd000000-0000-0000-0000-000000000001', 168, 'k1', true)$$);
SELECT detail_of($$SELECT record_usage('bd000000-0000-0000-0000-000000000001', 'plain', p_input_tokens => 10000)$$);
SELECT outcome FROM increment_usage_batch(ARRAY[:a]::uuid[], '{168}', '{k1}', '{true}');
SELECT outcome FROM record_usage_batch(ARRAY[:a]::uuid[], '{plain}', p_input_tokens => '{10000}');
SELECT detail_of($$SELECT credit_usage('bd000000-0000-0000-0000-000000000001', 5, 'k6', NULL)$$);
SELECT * FROM verify_usage(:a);

-- Arguments outside their limits.
SELECT arguments, detail_of(format($$SELECT record_usage(%s)$$, arguments))
  FROM (VALUES ($$NULL, 'k'$$), ($$gen_random_uuid(), NULL$$), ($$gen_random_uuid(), ''$$), ($$gen_random_uuid(), repeat('k', 256)$$),
               ($$gen_random_uuid(), 'k', p_input_tokens => NULL$$), ($$gen_random_uuid(), 'k', p_reasoning_tokens => NULL$$), ($$gen_random_uuid(), 'k', p_cost_nanos => NULL$$),
               ($$gen_random_uuid(), 'k', p_input_tokens => -1$$), ($$gen_random_uuid(), 'k', p_output_tokens => 1000000000001$$),
               ($$gen_random_uuid(), 'k', p_input_tokens => 500000000000, p_output_tokens => 500000000001$$),
               ($$gen_random_uuid(), 'k', p_cost_nanos => 1000000000000000001$$), ($$gen_random_uuid(), 'k', p_cost_nanos => -9223372036854775808$$),
               ($$gen_random_uuid(), 'k', E'a\nb'$$), ($$gen_random_uuid(), 'k', E'\x7f'$$), ($$gen_random_uuid(), 'k', repeat('m', 256)$$), ($$gen_random_uuid(), 'k', repeat('m', 100000)$$),
               ($$gen_random_uuid(), 'k', '_other'$$), ($$gen_random_uuid(), 'k', '', E'a\tb'$$), ($$gen_random_uuid(), 'k', '', repeat('s', 256)$$),
               ($$gen_random_uuid(), 'k', '', '/'$$), ($$gen_random_uuid(), 'k', '', '/a'$$), ($$gen_random_uuid(), 'k', '', 'a/'$$), ($$gen_random_uuid(), 'k', '', 'a//b'$$),
               ($$gen_random_uuid(), 'k', p_occurred_at => 'infinity'$$)) AS calls (arguments);
SELECT item, outcome, sqlstate, detail
  FROM record_usage_batch(array_fill(:b::uuid, '{13}') || NULL::uuid, ARRAY['m', 'n', 'o', 'p', 'q', 'r', 's', 't', 'u', 'v', '', NULL, repeat('k', 256), 'w'],
       ARRAY[E'a\nb', '_other', repeat('m', 256), '', '', '', '', '', '', '', '', '', '', ''], ARRAY['', '', '', '/a', E'\t', NULL, '', '', '', '', '', '', '', ''],
       ARRAY[1, 1, 1, 1, 1, 1, NULL, -1, 1000000000000, 1, 1, 1, 1, 1], p_reasoning_tokens => ARRAY[0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0],
       p_cost_nanos => ARRAY[0, 0, 0, 0, 0, 0, 0, 0, 0, 1000000000000000001, 0, 0, 0, 0]);
SELECT * FROM breakdown WHERE account_id = :b;
SELECT record_usage_batch(NULL, '{k}');
SELECT record_usage_batch(ARRAY[:b]::uuid[], NULL);
SELECT record_usage_batch(ARRAY[:b]::uuid[], '{k}', '{m,n}');
SELECT count(*) FROM record_usage_batch('{}', '{}');

-- Names are kept as they are given, and compared by their bytes.
SELECT count(*) FROM unnest(ARRAY['é', 'É', 'E', 'e', ' e', 'e ', '_OTHER', repeat('x', 255), '''"\%_', 'a/b']) WITH ORDINALITY AS names (name, i), record_usage(:b, 'name ' || i, name, name, 1) AS r WHERE r.outcome = 'applied';
SELECT count(*), sum(events) FROM breakdown WHERE account_id = :b AND scope = model;
-- Only the model _other is reserved, not a scope or a part of one. A control character beyond ASCII is kept too.
SELECT count(*) FROM unnest(ARRAY['_other', '_other/x', U&'\0085', ' / ', '.', '..']) WITH ORDINALITY AS names (name, i), record_usage(:b, 'scope ' || i, 'kept', name, 1) AS r WHERE r.outcome = 'applied';
SELECT string_agg(replace(scope, U&'\0085', '<0085>'), ', ' ORDER BY scope) FROM breakdown WHERE account_id = :b AND model = 'kept';
-- A scope and all below it are a range.
SELECT outcome FROM record_usage_batch(array_fill(:b::uuid, '{5}'), '{s1,s2,s3,s4,s5}', NULL, '{r,r/a,r/b/c,r-a,r0}', '{1,10,100,1000,10000}');
SELECT sum(input) FROM breakdown WHERE account_id = :b AND (scope = 'r' OR scope >= 'r/' AND scope < 'r0');

-- All of that is so in a database of another locale, where the order is not that of bytes.
SELECT CASE WHEN EXISTS (SELECT FROM pg_collation WHERE collprovider = 'i') THEN 'LOCALE_PROVIDER icu ICU_LOCALE ''en-US''' ELSE '' END AS provider \gset
CREATE DATABASE usage_ledger_locale TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C' :provider;
\c usage_ledger_locale
SET client_min_messages = warning;
CREATE EXTENSION usage_ledger;
SET usage_ledger.max_breakdowns = 8;
SET usage_ledger.settlement = 'deferred';
SELECT outcome, count(*) FROM record_usage_batch(array_fill(:b::uuid, '{9}'), '{1,2,3,4,5,6,7,8,9}', '{m,m,M,m,m,m,m,m,m}', ARRAY['r', 'r/a', 'r/a', 'R/a', 'r-a', 'r0', 'ra', U&'\00e9/x', U&'e\0301/x'], '{1,10,100,1000,10000,100000,1000000,10000000,100000000}') GROUP BY 1;
SELECT settle_usage();
SELECT replace(to_json(scope)::text, U&'\0301', '+') AS shown, model, input_tokens FROM usage_breakdown_totals ORDER BY scope, model;
SELECT sum(input_tokens) FROM usage_breakdown_totals WHERE scope = 'r' OR scope >= 'r/' AND scope < 'r0';
SET usage_ledger.settlement = 'immediate';
SELECT outcome FROM record_usage_batch(array_fill(:b::uuid, '{3}'), '{10,11,12}', '{m,new,n}', ARRAY['r', 'r/b', U&'\00e9/y'], '{1,1,1}');
SELECT outcome, tokens_used FROM void_usage(:b, '9', NULL);
SELECT * FROM verify_usage();
SELECT c.closed_at IS NOT NULL AS closed FROM usage_periods AS p, close_usage_period(p.account_id, p.period_start) AS c;
SELECT replace(to_json(scope)::text, U&'\0301', '+') AS shown, model, input_tokens FROM usage_breakdown ORDER BY scope, model;
SELECT attrelid::regclass AS object, attname, attcollation::regcollation FROM pg_attribute
 WHERE attrelid::regclass::text LIKE 'usage%' AND attname IN ('scope', 'model', 'breakdown') ORDER BY attrelid::regclass::text COLLATE "C", 2;
\c :source
DROP DATABASE usage_ledger_locale;
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET usage_ledger.max_event_age = '20000d';
\set VERBOSITY terse

-- Who sees rows is decided by the policies on the tables.
CREATE ROLE usage_tenant;
GRANT SELECT ON usage_breakdown, usage_breakdown_totals, usage_pending TO usage_tenant;
SET usage_ledger.settlement = 'deferred';
SELECT outcome FROM record_usage(:a, 'pending', 'gpt-5', 'team/eve', 3);
RESET usage_ledger.settlement;
SET ROLE usage_tenant;
SELECT (SELECT count(*) FROM usage_breakdown) AS rows, (SELECT count(*) FROM usage_breakdown_totals) AS totals;
RESET ROLE;
CREATE POLICY tenant ON usage_breakdown FOR SELECT TO usage_tenant USING (account_id = 'bd000000-0000-0000-0000-000000000001');
CREATE POLICY tenant ON usage_pending FOR SELECT TO usage_tenant USING (account_id = 'bd000000-0000-0000-0000-000000000001');
SET ROLE usage_tenant;
SELECT account_id, count(*), string_agg(scope, ' ' ORDER BY scope) FROM usage_breakdown_totals GROUP BY 1;
SELECT record_usage(:a, 'k');
UPDATE usage_breakdown SET events = 0;
RESET ROLE;
DROP POLICY tenant ON usage_breakdown;
DROP POLICY tenant ON usage_pending;
REVOKE ALL ON usage_breakdown, usage_breakdown_totals, usage_pending FROM usage_tenant;
DROP ROLE usage_tenant;
SELECT void_usage(:a, 'pending', NULL) IS NOT NULL AS voided;
SELECT settle_usage() > 0 AS settled;

-- What an event costs in WAL: the least of several calls, because the first change of a page logs all of it. Plain usage pays nothing.
CREATE FUNCTION wal_bytes(mode text, command text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    plan json;
    least_bytes bigint;
BEGIN
    PERFORM set_config('usage_ledger.settlement', mode, true);
    FOR i IN 1 .. 20 LOOP
        EXECUTE format('EXPLAIN (ANALYZE, WAL, FORMAT json) SELECT %s', format(command, mode || i)) INTO plan;
        least_bytes := LEAST(least_bytes, (plan #>> '{0,Plan,WAL Bytes}')::bigint);
    END LOOP;
    RETURN least_bytes;
END $$;
SELECT mode, event - plain BETWEEN 1 AND 300 AS event_takes_little, same - plain BETWEEN -8 AND 8 AS plain_takes_nothing
  FROM unnest('{immediate,adaptive,deferred}'::text[]) AS mode,
       wal_bytes(mode, $$increment_usage('bd000000-0000-0000-0000-000000000008', 1500, 'plain %s')$$) AS plain,
       wal_bytes(mode, $$record_usage('bd000000-0000-0000-0000-000000000008', 'event %s', 'claude-opus-4-1', 'team/user', 1000, 200, 100, 150, 50, 12345678)$$) AS event,
       wal_bytes(mode, $$increment_usage('bd000000-0000-0000-0000-000000000008', 1500, 'again %s')$$) AS same;
DROP FUNCTION wal_bytes;
SELECT settle_usage() > 0 AS settled;
SELECT * FROM verify_usage('bd000000-0000-0000-0000-000000000008');

-- Costs are exact, and can be given back without tokens.
SELECT outcome FROM record_usage(:c, 'c1', 'm', '', 1, p_cost_nanos => 999999999999999999);
SELECT outcome FROM record_usage(:c, 'c2', 'm', '', 1, p_cost_nanos => 2);
SELECT outcome FROM record_usage(:c, 'c3', 'm', '', 0, p_cost_nanos => -1000000000000000000);
SELECT outcome FROM record_usage(:c, 'c4', 'm', '', 0, p_cost_nanos => -3);
SELECT * FROM breakdown WHERE account_id = :c;
-- A sum that overflows is refused, and nothing is written; in a batch, the item alone.
SELECT u.outcome, count(*) FROM generate_series(1, 9) AS i, record_usage(:c, 'large ' || i, 'n', 'x', 1, p_cost_nanos => 1000000000000000000) AS u GROUP BY 1;
SELECT detail_of($$SELECT record_usage('bd000000-0000-0000-0000-000000000003', 'large 10', 'n', 'x', 1, p_cost_nanos => 1000000000000000000)$$);
SELECT item, outcome, sqlstate, detail FROM record_usage_batch(array_fill(:c::uuid, '{4}'), '{l1,l2,l3,l4}', '{n,n,n,n}', '{x,x,x,y}', NULL, p_cost_nanos => '{1000000000000000000,-1000000000000000000,1000000000000000000,1000000000000000000}');
SELECT count(*) FROM usage_events WHERE account_id = :c AND idempotency_key IN ('large 10', 'l1');
SELECT * FROM breakdown WHERE account_id = :c ORDER BY scope, model;
SELECT * FROM verify_usage(:c);
-- So is one of tokens, whose counter a credit has made room in.
BEGIN;
UPDATE usage_breakdown SET reasoning_tokens = 9223372036854775807 WHERE account_id = :c AND scope = 'x';
SELECT detail_of($$SELECT record_usage('bd000000-0000-0000-0000-000000000003', 'reasons', 'n', 'x', p_reasoning_tokens => 1)$$);
SELECT outcome FROM record_usage(:c, 'reasons', 'n', 'y', p_reasoning_tokens => 1);
ROLLBACK;
-- What is pending may not fit. It stays pending with a warning, is part of the view, and holds up no other usage.
SET usage_ledger.settlement = 'deferred';
SELECT u.outcome FROM record_usage(:c, 'large 11', 'n', 'x', 1, p_cost_nanos => 1000000000000000000) AS u;
SELECT u.outcome FROM record_usage(:b, 'pending', 'n', 'x', 1, p_cost_nanos => 1000000000000000000) AS u;
SELECT settle_usage();
SELECT * FROM breakdown WHERE account_id IN (:b, :c) AND scope = 'x';
SELECT * FROM verify_usage(:c);
SELECT detail_of(format('SELECT close_usage_period(%L, %L)', account_id, period_start)) FROM usage_periods WHERE account_id = :c;
SELECT outcome FROM void_usage(:c, 'large 1', NULL);
SELECT settle_usage();
SELECT * FROM breakdown WHERE account_id = :c AND scope = 'x';
-- A batch queues costs that do not fit one row in several.
SELECT u.outcome, count(*) FROM record_usage_batch(array_fill(:c::uuid, '{19}'), (SELECT array_agg('q' || i) FROM generate_series(1, 19) AS i), NULL, NULL, NULL, p_cost_nanos => array_fill(1000000000000000000, '{19}')) AS u GROUP BY 1;
SELECT split_part(breakdown, E'\t', 8) AS cost, split_part(breakdown, E'\t', 9) AS events FROM usage_pending WHERE account_id = :c ORDER BY 2;
SELECT cost, events FROM breakdown WHERE account_id = :c AND scope = '' AND model = '';
SELECT count(*) FROM verify_usage(:c);
SELECT sum((void_usage(:c, 'q' || i, NULL) IS NOT NULL)::int) FROM generate_series(1, 19) AS i;
SELECT settle_usage();
SELECT cost, events FROM breakdown WHERE account_id = :c AND scope = '' AND model = '';
SELECT * FROM verify_usage(:c);

-- A pending row whose breakdown cannot be read stays pending with a warning. The others are folded, of its counter too.
\set f '\'bd000000-0000-0000-0000-000000000006\''
SELECT i, u.outcome FROM generate_series(1, 3) AS i, record_usage(:f, 'f' || i, 'm' || i, 's', i) AS u;
SELECT u.outcome FROM record_usage(:b, 'pending too', 'n', 'y', 1) AS u;
UPDATE usage_pending SET breakdown = replace(breakdown, E'\t2\t', E'\t2x\t') WHERE account_id = :f;
SELECT settle_usage();
SELECT tokens, breakdown ~ 'm2' AS is_malformed FROM usage_pending WHERE account_id IN (:b, :f);
SELECT tokens_used FROM current_usage(:f);
SELECT scope, model, input, events FROM breakdown WHERE account_id = :f ORDER BY 1, 2;
SELECT counter, recorded, expected FROM verify_usage(:f);
-- What needs all that is pending says why it fails, and a void leaves it.
SELECT detail_of(format('SELECT close_usage_period(%L, %L)', account_id, period_start)) FROM usage_periods WHERE account_id = :f;
SELECT detail_of($$SELECT credit_usage('bd000000-0000-0000-0000-000000000006', 1, 'credit', NULL)$$);
SELECT outcome FROM void_usage(:f, 'f1', NULL);
UPDATE usage_pending SET breakdown = replace(breakdown, E'\t2x\t', E'\t2\t') WHERE account_id = :f;
SELECT settle_usage();
SELECT scope, model, input, events FROM breakdown WHERE account_id = :f ORDER BY 1, 2;
SELECT * FROM verify_usage(:f);
-- Such forms are malformed in the view as in the fold.
BEGIN;
INSERT INTO usage_pending SELECT account_id, period_start, 0, 0, 0, now(), form FROM usage_periods,
  unnest(ARRAY['', 's', E's\tm', E's\tm\t1\t2\t3\t4\t5\t6', E's\tm\t1\t2\t3\t4\t5\t6\t1\t', E's\tm\t1\t2\t3\t4\t5\t6\t1\t8', E's\tm\t\t2\t3\t4\t5\t6\t1', E's\tm\t+1\t2\t3\t4\t5\t6\t1',
               E's\tm\t1 \t2\t3\t4\t5\t6\t1', E's\tm\t1.0\t2\t3\t4\t5\t6\t1', E's\tm\t1e3\t2\t3\t4\t5\t6\t1', E's\tm\tNaN\t2\t3\t4\t5\t6\t1', E's\tm\t1\t2\t3\t4\t5\t-\t1',
               E's\tm\t1\t2\t3\t4\t5\t6\t1\n']) AS form WHERE account_id = :f;
SELECT counter, recorded, expected FROM verify_usage(:f);
SELECT settle_usage();
ROLLBACK;
-- A number beyond a bigint cannot be folded either.
BEGIN;
INSERT INTO usage_pending SELECT account_id, period_start, 0, 0, 0, now(), E's\tm\t12345678901234567890\t2\t3\t4\t5\t6\t1' FROM usage_periods WHERE account_id = :f;
SELECT scope, model, input FROM breakdown WHERE account_id = :f AND model = 'm';
SELECT settle_usage();
SELECT counter, recorded, expected FROM verify_usage(:f) LIMIT 1;
ROLLBACK;
RESET usage_ledger.settlement;

-- In every settlement mode, by single calls and batches, with voids and settlement, the breakdown is that of the events.
CREATE TABLE modes (event_mode text, void_mode text, is_settled boolean, account uuid DEFAULT gen_random_uuid());
INSERT INTO modes SELECT e, v, s FROM unnest('{immediate,adaptive,deferred}'::text[]) AS e, unnest('{immediate,adaptive,deferred}'::text[]) AS v, unnest('{true,false}'::boolean[]) AS s;
SELECT event_mode, u.outcome, v.outcome, count(*)
  FROM (SELECT *, set_config('usage_ledger.settlement', event_mode, false) FROM modes OFFSET 0) AS m, record_usage(account, 'k1', 'm1', 's', 1, 2, 3, 4, 5, -6) AS u,
       record_usage_batch(array_fill(account, '{5}'), '{b1,b2,b3,b1,b2}', '{m1,m2,m1,m1,m3}', '{s,s,t,s,s}', '{10,20,30,10,20}', p_is_chat => '{t,t,t,t,t}') AS v GROUP BY 1, 2, 3 ORDER BY 1, 3;
SELECT count(*) FROM modes, verify_usage(account);
SELECT settle_usage(1000) > 0 AS settled;
SELECT count(*) FROM modes, verify_usage(account);
SELECT event_mode, u.outcome, count(*) FROM (SELECT *, set_config('usage_ledger.settlement', event_mode, false) FROM modes OFFSET 0) AS m, record_usage(account, 'k2', 'm4', 's/x', 1, 2, 3, 4, 5, -6) AS u GROUP BY 1, 2 ORDER BY 1;
-- Those of deferred calls are pending.
SELECT void_mode, v.outcome, w.outcome, x.outcome, count(*) FROM (SELECT *, set_config('usage_ledger.settlement', void_mode, false) FROM modes OFFSET 0) AS m,
       void_usage(account, 'k1', NULL) AS v, void_usage(account, 'b3', NULL) AS w, void_usage(account, 'k2', NULL) AS x GROUP BY 1, 2, 3, 4 ORDER BY 1;
SELECT scope, model, input, read, cost, events, count(*) FROM breakdown JOIN modes ON account = account_id GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2;
SELECT count(*) FROM modes, verify_usage(account);
RESET usage_ledger.settlement;
-- A close settles, checks and freezes; a credit settles.
SELECT count(u.outcome) FROM modes, credit_usage(account, 1, 'credit', NULL) AS u WHERE is_settled;
SELECT count(*) FROM modes JOIN usage_pending ON account = account_id WHERE is_settled;
SELECT u.tokens_used, count(*) FROM modes, LATERAL (SELECT * FROM usage_periods WHERE account_id = account OFFSET 0) AS p, close_usage_period(account, p.period_start) AS u GROUP BY 1 ORDER BY 1;
SELECT count(*) FROM modes JOIN usage_pending ON account = account_id;
SELECT b.scope, b.model, b.input_tokens, b.cache_read_tokens, b.cost_nanos, b.events, count(*) FROM usage_breakdown AS b JOIN modes ON account = account_id GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2;
SELECT detail_of(format($$SELECT record_usage(%L, 'late', 'm')$$, account)) ~ '^UL003' AS is_closed, detail_of(format($$SELECT void_usage(%L, 'b1', NULL)$$, account)) ~ '^UL003' AS is_invoiced, count(*) FROM modes GROUP BY 1, 2;
-- Pruning leaves the breakdown, and verify_usage lists nothing of a pruned period.
SELECT prune_usage_events('infinity') > 0 AS pruned;
SELECT count(*), sum(events) FROM breakdown JOIN modes ON account = account_id;
SELECT count(*) FROM modes, verify_usage(account);
-- An erase takes it.
SELECT sum(erase_usage(account)) FROM modes;
SELECT count(*) FROM usage_breakdown JOIN modes ON account = account_id;
DROP TABLE modes;

-- At most max_breakdowns pairs get a row. The others are counted under _other and the first level of their scope.
\set d '''bd000000-0000-0000-0000-000000000004'''
SET usage_ledger.max_breakdowns = 3;
SELECT u.outcome, count(*) FROM generate_series(1, 8) AS i, record_usage(:d, 'd' || i, 'm' || i % 5, 'team' || i % 2 || '/x/' || i % 3, i) AS u GROUP BY 1;
SELECT scope, model, input, events FROM breakdown WHERE account_id = :d ORDER BY 1, 2;
SELECT * FROM verify_usage(:d);
-- A pair that found no place gets none in this period, whatever the setting becomes. One that has a row keeps it.
SET usage_ledger.max_breakdowns = 100;
SELECT outcome FROM record_usage_batch(array_fill(:d::uuid, '{4}'), '{e1,e2,e3,e4}', '{m1,m4,m9,m9}', '{team1/x/1,team0/x/1,new,""}', '{100,100,100,100}');
SELECT outcome FROM record_usage(:d, 'e5', 'm8', 'new/b', 1000);
SET usage_ledger.max_breakdowns = 0;
SELECT outcome FROM record_usage(:d, 'e6', 'm1', 'team1/x/1', 1000);
SET usage_ledger.settlement = 'deferred';
SELECT outcome FROM record_usage(:d, 'e7', 'm1', 'team1/x/1', 10000);
SELECT outcome FROM record_usage(:d, 'e8', 'm7', 'team1/y', 10000);
SELECT outcome FROM record_usage(:d, 'e9', 'm7', 'late', 10000);
SELECT scope, model, input, events FROM breakdown WHERE account_id = :d ORDER BY 1, 2;
SELECT * FROM verify_usage(:d);
SELECT settle_usage();
RESET usage_ledger.settlement;
SELECT scope, model, input_tokens, events FROM usage_breakdown WHERE account_id = :d ORDER BY 1, 2;
SELECT * FROM verify_usage(:d);
-- A void finds where its event was counted.
SELECT v.outcome, count(*) FROM unnest('{d1,d4,d5,e2,e3,e5,e8}'::text[]) AS k, void_usage(:d, k, NULL) AS v GROUP BY 1;
SELECT scope, model, input, events FROM breakdown WHERE account_id = :d ORDER BY 1, 2;
SELECT * FROM verify_usage(:d);
-- Pending pairs that are folded together share the last places in their order. Until then each is shown by itself.
\set e '''bd000000-0000-0000-0000-000000000005'''
SET usage_ledger.max_breakdowns = 2;
SET usage_ledger.settlement = 'deferred';
SELECT u.outcome, count(*) FROM generate_series(1, 6) AS i, record_usage(:e, 'e' || i, 'm' || i % 3, 's' || i % 2, i) AS u GROUP BY 1;
SELECT scope, model, input, events FROM breakdown WHERE account_id = :e ORDER BY 1, 2;
-- A void before that decides for its pair.
SET usage_ledger.settlement = 'immediate';
SELECT outcome FROM increment_usage(:e, 100, 'plain');
SELECT outcome FROM void_usage(:e, 'e5', NULL);
SELECT scope, model, input_tokens, events FROM usage_breakdown WHERE account_id = :e ORDER BY 1, 2;
SELECT scope, model, input, events FROM breakdown WHERE account_id = :e ORDER BY 1, 2;
SELECT * FROM verify_usage(:e);
SELECT settle_usage();
SELECT scope, model, input_tokens, events FROM usage_breakdown WHERE account_id = :e ORDER BY 1, 2;
SELECT * FROM verify_usage(:e);
SELECT tokens_used FROM usage_periods WHERE account_id = :e \gset
SELECT c.tokens_used = :tokens_used AS closes FROM (SELECT * FROM usage_periods WHERE account_id = :e OFFSET 0) AS p, close_usage_period(p.account_id, p.period_start) AS c;
-- The items of a batch take the last places in the order given. One that is refused takes none.
\set g '\'bd000000-0000-0000-0000-000000000007\''
SELECT tokens_used FROM open_usage_period(:g, '2024-03-01', '2024-04-01', 9223372036854775805);
SELECT item, outcome, sqlstate FROM record_usage_batch(array_fill(:g::uuid, '{5}'), '{1,2,3,4,5}', '{refused,z,a,m,z}', '{s/t,s/t,s/t,u,s/t}', '{3,1,1,0,0}', p_occurred_at => array_fill('2024-03-05'::timestamptz, '{5}'));
SELECT scope, model, input, events FROM breakdown WHERE account_id = :g ORDER BY 1, 2;
SELECT * FROM verify_usage(:g);
-- The next period has room again. Usage that is ended away from a period leaves no trace in its breakdown.
SELECT outcome FROM record_usage(:e, 'n1', 'm9', 's9', 5, p_occurred_at => '2024-01-05');
SELECT p.scope, p.model, p.events FROM usage_breakdown AS p WHERE p.account_id = :e AND period_start = '2024-01-01';
RESET usage_ledger.max_breakdowns;

-- Writes by hand are listed by name, and a close refuses them.
BEGIN;
UPDATE usage_breakdown SET output_tokens = output_tokens + 1, events = 0 WHERE account_id = :a AND scope = 'team/ann';
DELETE FROM usage_breakdown WHERE account_id = :a AND scope = 'team/bob';
INSERT INTO usage_breakdown SELECT account_id, period_start, 1, 0, 0, 0, 0, 0, 0, 'by', 'hand' FROM usage_periods WHERE account_id = :a;
SELECT counter, recorded, expected FROM verify_usage(:a);
ROLLBACK;
SELECT detail_of(format($$%s; SELECT close_usage_period('bd000000-0000-0000-0000-000000000001', period_start) FROM usage_periods WHERE account_id = 'bd000000-0000-0000-0000-000000000001'$$, command))
  FROM (VALUES ($$UPDATE usage_breakdown SET cost_nanos = cost_nanos + 1 WHERE scope = 'team/bob'$$), ($$DELETE FROM usage_breakdown WHERE scope = 'team/bob'$$),
               ($$INSERT INTO usage_breakdown SELECT account_id, period_start, 1, 0, 0, 0, 0, 0, 0, 'by', 'hand' FROM usage_periods WHERE account_id = 'bd000000-0000-0000-0000-000000000001'$$),
               ($$DELETE FROM usage_breakdown WHERE account_id = 'bd000000-0000-0000-0000-000000000001'$$)) AS writes (command);
SELECT c.tokens_used FROM (SELECT * FROM usage_periods WHERE account_id = :a OFFSET 0) AS p, close_usage_period(p.account_id, p.period_start) AS c;
-- Sums beyond a bigint are numeric in the view, and NULL in verify_usage.
BEGIN;
INSERT INTO usage_pending SELECT account_id, period_start, 0, 0, 0, now(), E'team/bob\tgpt-5\t9223372036854775807\t0\t0\t0\t0\t-9223372036854775808\t1' FROM usage_periods, generate_series(1, 3) WHERE account_id = :a;
SELECT input, cost, events FROM breakdown WHERE account_id = :a AND scope = 'team/bob';
SELECT counter, recorded, expected FROM verify_usage(:a);
ROLLBACK;

-- So is a breakdown of an event that nobody but a hand can have written. It is an error where it must be read.
BEGIN;
UPDATE usage_events SET breakdown = replace(breakdown, '100', '1oo') WHERE account_id = :a AND idempotency_key = 'k1';
SELECT counter, recorded, expected FROM verify_usage(:a);
SELECT detail_of($$SELECT record_usage('bd000000-0000-0000-0000-000000000001', 'k1', 'gpt-5', 'team/ann', 100, 20, 3, 40, 5, 123456789, true)$$);
SELECT detail_of($$SELECT record_usage_batch('{bd000000-0000-0000-0000-000000000001}', '{k1}')$$);
UPDATE usage_periods SET closed_at = NULL WHERE account_id = :a;
SELECT detail_of($$SELECT void_usage('bd000000-0000-0000-0000-000000000001', 'k1', NULL)$$);
SELECT detail_of(format('SELECT close_usage_period(%L, %L)', account_id, period_start)) FROM usage_periods WHERE account_id = :a;
ROLLBACK;

SELECT count(*) FROM verify_usage() WHERE account_id::text LIKE 'bd%';
DROP FUNCTION detail_of;
DROP VIEW breakdown;
