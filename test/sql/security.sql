-- A hostile caller creates operators, tables, temporary tables, functions, types and casts
-- with the names that our SQL uses, and puts them first in the search path. It gains no
-- rights. (threats.sql tests grants and row security.)
CREATE ROLE usage_worker;
GRANT EXECUTE ON FUNCTION increment_usage, increment_usage_batch, record_usage, record_usage_batch TO usage_worker;
\set a '''99999999-0000-0000-0000-000000000001'''
SELECT outcome, tokens_used FROM increment_usage(:a, 100, 'k');
\c -
\set VERBOSITY terse
CREATE SCHEMA hostile AUTHORIZATION usage_worker;
GRANT CREATE, TEMPORARY ON DATABASE :DBNAME TO usage_worker;
SET ROLE usage_worker;
CREATE FUNCTION hostile.boom() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'hostile code ran as %', current_user; END $$;
CREATE FUNCTION hostile.eq(uuid, uuid) RETURNS boolean LANGUAGE sql AS 'SELECT hostile.boom()';
CREATE FUNCTION hostile.eq(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT hostile.boom()';
CREATE FUNCTION hostile.eq(timestamptz, timestamptz) RETURNS boolean LANGUAGE sql AS 'SELECT hostile.boom()';
CREATE FUNCTION hostile.eq(bigint, bigint) RETURNS boolean LANGUAGE sql AS 'SELECT hostile.boom()';
CREATE FUNCTION hostile.eq(name, text) RETURNS boolean LANGUAGE sql AS 'SELECT hostile.boom()';
CREATE FUNCTION hostile.eq(oid, oid) RETURNS boolean LANGUAGE sql AS 'SELECT hostile.boom()';
CREATE FUNCTION hostile.plus(bigint, bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 0::bigint WHERE hostile.boom()';
CREATE FUNCTION hostile.plus(bigint, integer) RETURNS bigint LANGUAGE sql AS 'SELECT 0::bigint WHERE hostile.boom()';
CREATE FUNCTION hostile.now() RETURNS timestamptz LANGUAGE sql AS $$SELECT '2000-01-01'::timestamptz WHERE hostile.boom()$$;
CREATE FUNCTION hostile.unnest(anyarray) RETURNS SETOF anyelement LANGUAGE sql AS 'SELECT $1[1] WHERE hostile.boom()';
CREATE FUNCTION hostile.format(text, text) RETURNS text LANGUAGE sql AS $$SELECT ''::text WHERE hostile.boom()$$;
CREATE FUNCTION hostile.split_part(text, text, integer) RETURNS text LANGUAGE sql AS $$SELECT ''::text WHERE hostile.boom()$$;
CREATE FUNCTION hostile.string_to_array(text, text) RETURNS text[] LANGUAGE sql AS $$SELECT '{}'::text[] WHERE hostile.boom()$$;
CREATE FUNCTION hostile.sum_step(bigint, bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 0::bigint WHERE hostile.boom()';
CREATE AGGREGATE hostile.sum(bigint) (SFUNC = hostile.sum_step, STYPE = bigint);
CREATE OPERATOR hostile.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = hostile.eq);
CREATE OPERATOR hostile.= (LEFTARG = text, RIGHTARG = text, FUNCTION = hostile.eq);
CREATE OPERATOR hostile.~ (LEFTARG = text, RIGHTARG = text, FUNCTION = hostile.eq);
CREATE OPERATOR hostile.= (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = hostile.eq);
CREATE OPERATOR hostile.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = hostile.eq);
CREATE OPERATOR hostile.= (LEFTARG = name, RIGHTARG = text, FUNCTION = hostile.eq);
CREATE OPERATOR hostile.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = hostile.eq);
CREATE OPERATOR hostile.<> (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = hostile.eq);
CREATE OPERATOR hostile.<= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = hostile.eq);
CREATE OPERATOR hostile.<= (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = hostile.eq);
CREATE OPERATOR hostile.> (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = hostile.eq);
CREATE OPERATOR hostile.+ (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = hostile.plus);
CREATE OPERATOR hostile.+ (LEFTARG = bigint, RIGHTARG = integer, FUNCTION = hostile.plus);
CREATE TABLE hostile.usage_events (account_id uuid, idempotency_key text, tokens bigint);
CREATE TABLE hostile.usage_periods (account_id uuid, tokens_used bigint);
CREATE TABLE hostile.usage_accounts (account_id uuid);
CREATE TABLE hostile.usage_totals (account_id uuid);
CREATE TABLE hostile.usage_breakdown (account_id uuid);
CREATE TABLE hostile.pg_extension (extname text, extnamespace oid);
CREATE DOMAIN hostile.uuid AS text;
CREATE DOMAIN hostile.bigint AS text;
CREATE DOMAIN hostile.text AS pg_catalog.text CHECK (hostile.boom());
CREATE DOMAIN hostile.int8 AS pg_catalog.int8 CHECK (hostile.boom());
CREATE TEMPORARY TABLE usage_events (account_id uuid, idempotency_key text, tokens bigint);
CREATE TEMPORARY TABLE usage_periods (account_id uuid, tokens_used bigint);
CREATE TEMPORARY TABLE usage_breakdown (account_id uuid);
CREATE TEMPORARY TABLE pg_namespace (nspname text);
CREATE TYPE hostile.money_like AS (amount bigint);
CREATE FUNCTION hostile.cast_it(hostile.money_like) RETURNS bigint LANGUAGE sql AS 'SELECT 0::bigint WHERE hostile.boom()';
CREATE CAST (hostile.money_like AS bigint) WITH FUNCTION hostile.cast_it(hostile.money_like) AS IMPLICIT;
SET search_path = hostile, pg_temp, pg_catalog, public;
-- The trap works.
SELECT 1::pg_catalog.int8 = 1::pg_catalog.int8;
-- Our functions do not trigger it, neither on the first call of a session nor later.
SELECT outcome, tokens_used FROM public.increment_usage(:a, 100, 'hostile');
SELECT outcome, tokens_used FROM public.increment_usage(:a, 100, 'hostile');
SELECT outcome, tokens_used FROM public.increment_usage('99999999-0000-0000-0000-000000000004', 100, 'hostile');
SELECT outcome, tokens_used FROM public.increment_usage_batch(ARRAY[:a, :a, '99999999-0000-0000-0000-000000000005']::pg_catalog.uuid[], '{100,7,8}', '{hostile,hostile 2,hostile}');
SELECT outcome, tokens_used FROM public.record_usage(:a, 'hostile a', 'model', 'team', 1);
SELECT outcome, tokens_used FROM public.record_usage(:a, 'hostile b', 'model', 'team', 1);
SELECT outcome, tokens_used FROM public.record_usage(:a, 'hostile b', 'model', 'team', 1);
SELECT outcome, tokens_used FROM public.record_usage_batch(ARRAY[:a, :a, :a]::pg_catalog.uuid[], '{hostile b,hostile c,hostile d}', '{model,model,new}', '{team,team,team}', '{1,1,1}');
SET usage_ledger.settlement = 'deferred';
SELECT outcome, tokens_used FROM public.record_usage(:a, 'hostile e', 'model', 'team', 1);
SELECT outcome, tokens_used FROM public.record_usage_batch(ARRAY[:a, :a]::pg_catalog.uuid[], '{hostile f,hostile g}', '{model,pending}', '{team,team}', '{1,1}');
SELECT outcome, tokens_used FROM public.increment_usage(:a, 1, 'hostile 3');
SELECT outcome, tokens_used FROM public.increment_usage_batch(ARRAY[:a]::pg_catalog.uuid[], '{1}', '{hostile 4}');
RESET usage_ledger.settlement;
RESET ROLE;
SELECT tokens_used FROM public.current_usage(:a);
SELECT tokens_used FROM public.usage_totals AS t WHERE t.account_id OPERATOR(pg_catalog.=) :a;
SELECT pg_catalog.string_agg(pg_catalog.concat(b.model, ' ', b.events), ', ' ORDER BY b.model) FROM public.usage_breakdown_totals AS b WHERE b.account_id OPERATOR(pg_catalog.=) :a;
SELECT count(*) FROM public.verify_usage();
SELECT public.settle_usage();
SELECT period_length FROM public.set_usage_cycle(:a, '2 months');
SELECT tokens_used FROM public.open_usage_period(:a, '2020-01-01', '2020-02-01', 5);
SET usage_ledger.settlement = 'deferred';
SELECT outcome FROM public.void_usage(:a, 'hostile 3', 'hostile');
RESET usage_ledger.settlement;
SELECT outcome, tokens_used FROM public.void_usage(:a, 'hostile 2', 'hostile');
SELECT outcome FROM public.void_usage(:a, 'hostile d', 'hostile');
SELECT token_limit FROM public.set_usage_limit(:a, 1000000);
SELECT outcome FROM public.reserve_usage(:a, 1, 'hostile 5');
SELECT outcome FROM public.reserve_usage(:a, 1000000, 'hostile 6');
SELECT outcome FROM public.release_usage(:a, 'hostile 5');
SELECT outcome FROM public.spend_usage(:a, 1, 'hostile 7');
SELECT token_limit, tokens_held FROM public.usage_balances;
SELECT p.tokens_used FROM public.usage_periods AS u, public.close_usage_period(u.account_id, u.period_start) AS p WHERE u.account_id OPERATOR(pg_catalog.=) :a ORDER BY 1;
SELECT public.prune_usage_events('infinity') OPERATOR(pg_catalog.>) 0;
SELECT public.erase_usage('99999999-0000-0000-0000-000000000005');
SELECT (SELECT count(*) FROM hostile.usage_events) AS hostile_events, (SELECT count(*) FROM pg_temp.usage_events) AS temporary_events;
-- The extension can also be installed with the trap first in the path,
DROP EXTENSION usage_ledger;
CREATE EXTENSION usage_ledger SCHEMA public;
SELECT outcome, tokens_used FROM public.increment_usage(:a, 100, 'hostile');
-- and into the schema that contains the trap.
DROP EXTENSION usage_ledger;
DROP TABLE hostile.usage_events, hostile.usage_periods, hostile.usage_accounts, hostile.usage_totals, hostile.usage_breakdown;
CREATE EXTENSION usage_ledger SCHEMA hostile;
SELECT outcome, tokens_used FROM hostile.increment_usage(:a, 100, 'hostile');
SELECT outcome, tokens_used FROM hostile.increment_usage(:a, 100, 'hostile');
SELECT outcome, tokens_used FROM hostile.record_usage(:a, 'hostile a', 'model', 'team', 1);
SELECT outcome, tokens_used FROM hostile.record_usage_batch(ARRAY[:a, :a]::pg_catalog.uuid[], '{hostile b,hostile c}', '{model,new}', '{team,team}', '{1,1}');
SELECT tokens_used FROM hostile.current_usage(:a);
SELECT pg_catalog.string_agg(pg_catalog.concat(b.model, ' ', b.events), ', ' ORDER BY b.model) FROM hostile.usage_breakdown_totals AS b WHERE b.account_id OPERATOR(pg_catalog.=) :a;
SELECT count(*) FROM hostile.verify_usage();
DROP EXTENSION usage_ledger;
RESET search_path;
\set VERBOSITY default

SET client_min_messages = warning;
DROP SCHEMA hostile CASCADE;
\c -
CREATE EXTENSION usage_ledger;
REVOKE ALL ON DATABASE :DBNAME FROM usage_worker;
DROP OWNED BY usage_worker;
DROP ROLE usage_worker;
