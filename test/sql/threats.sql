-- The threat model of docs/security.md. Each claim there is tested here or in the test
-- that it names.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;
\pset null null
DROP EXTENSION usage_ledger;
CREATE EXTENSION usage_ledger;
\set a '''70000000-0000-0000-0000-00000000000a'''
\set b '''70000000-0000-0000-0000-00000000000b'''
\set new_account '''70000000-0000-0000-0000-00000000000c'''

-- Runs a command, rolls it back and returns the result: "allowed" or an SQLSTATE.
CREATE FUNCTION attempt(command text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE command;
    RAISE EXCEPTION USING ERRCODE = 'TRIED';
EXCEPTION WHEN OTHERS THEN
    RETURN CASE SQLSTATE WHEN 'TRIED' THEN 'allowed' ELSE SQLSTATE END;
END $$;

------------------------------------------------------------------------------
-- Rights
------------------------------------------------------------------------------

CREATE ROLE worker;
CREATE ROLE biller;
CREATE ROLE dba;
CREATE ROLE monitor;
CREATE ROLE stranger;
\getenv source PG_ABS_SRCDIR
\getenv build PG_ABS_BUILDDIR
\set document :source '/../README.md'
\set grants :build '/results/threats_grants.sql'
\setenv DOCUMENT :document
\setenv LEDGER_SCHEMA public
\setenv GRANTS :grants
\! "$(dirname "$DOCUMENT")/test/tools/snippets.sh" "$DOCUMENT" 'Grants' > "$GRANTS"
\i :grants

SELECT outcome FROM increment_usage(:a, 100, 'of a');
SELECT outcome FROM increment_usage(:b, 987654321, 'of b');
SELECT count(*) FROM open_usage_period(:a, '2020-01-01Z', '2020-02-01Z', 5);

-- R1. The README's grants as printed there, and the rights that they give.
CREATE VIEW roles AS SELECT rolname FROM pg_roles WHERE rolname IN ('worker', 'biller', 'dba', 'monitor', 'stranger');
CREATE VIEW ledger_members AS
SELECT d.classid, d.objid
  FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
 WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'usage_ledger';
SELECT rolname, relname, privilege
  FROM roles, ledger_members JOIN pg_class ON classid = 'pg_class'::regclass AND objid = oid,
       unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) AS privilege
 WHERE has_table_privilege(rolname, oid, privilege) OR
       CASE WHEN privilege IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES') THEN has_any_column_privilege(rolname, oid, privilege) END
 ORDER BY 1, 2, 3;
SELECT rolname, string_agg(proname, ' ' ORDER BY proname) AS may_call
  FROM roles, ledger_members JOIN pg_proc ON classid = 'pg_proc'::regclass AND objid = oid
 WHERE has_function_privilege(rolname, oid, 'EXECUTE')
 GROUP BY 1 ORDER BY 1;

-- R2. Every role tries every kind of access. The superuser tries first, to show that each attempt is valid.
CREATE TABLE attempts AS
SELECT format(command, relname, attname) AS command
  FROM ledger_members JOIN pg_class ON classid = 'pg_class'::regclass AND objid = oid JOIN pg_attribute ON attrelid = oid AND attnum = 1,
       unnest(ARRAY[
           'SELECT FROM %1$I', 'SELECT count(%2$I) FROM %1$I', 'EXPLAIN SELECT * FROM %1$I', 'SELECT FROM %1$I FOR UPDATE',
           'INSERT INTO %1$I (%2$I) SELECT NULL WHERE false', 'UPDATE %1$I SET %2$I = NULL WHERE false',
           'DELETE FROM %1$I WHERE false', 'TRUNCATE %1$I',
           'LOCK TABLE %1$I IN ACCESS SHARE MODE', 'LOCK TABLE %1$I IN ROW EXCLUSIVE MODE', 'LOCK TABLE %1$I',
           'CREATE TRIGGER planted BEFORE UPDATE ON %1$I FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()',
           'CREATE POLICY planted ON %1$I USING (true)', 'CREATE RULE planted AS ON INSERT TO %1$I DO ALSO NOTHING',
           'CREATE INDEX ON %1$I (%2$I)', 'ALTER TABLE %1$I DISABLE ROW LEVEL SECURITY',
           'ALTER TABLE %1$I OWNER TO CURRENT_USER', 'ALTER TABLE %1$I RENAME TO planted']) AS command
UNION ALL
SELECT command
  FROM unnest(ARRAY[
           format('SELECT increment_usage(%L, 1, ''tried'')', :a),
           format('SELECT increment_usage_batch(ARRAY[%L]::uuid[], ''{1}'', ''{tried}'')', :a),
           'SELECT settle_usage()',
           format('SELECT current_usage(%L)', :a),
           format('SELECT set_usage_cycle(%L, ''1 day'')', :a),
           format('SELECT open_usage_period(%L, ''2010-01-01Z'', ''2010-02-01Z'')', :a),
           format('SELECT close_usage_period(%L, ''2020-01-01Z'')', :a),
           format('SELECT end_usage_period(%L)', :a),
           format('SELECT void_usage(%L, ''of a'', ''tried'')', :a),
           format('SELECT credit_usage(%L, 1, ''credit'', ''tried'')', :a),
           'SELECT verify_usage()',
           'SELECT prune_usage_events(''infinity'')',
           format('SELECT erase_usage(%L)', :a),
           'SELECT usage_ledger_stats()', 'SELECT pending_rows FROM usage_ledger_stats',
           'ALTER FUNCTION increment_usage SECURITY INVOKER', 'ALTER FUNCTION increment_usage OWNER TO CURRENT_USER',
           'ALTER EXTENSION usage_ledger DROP FUNCTION current_usage(uuid)', 'ALTER EXTENSION usage_ledger UPDATE',
           'DROP EXTENSION usage_ledger', 'LOAD ''usage_ledger''',
           'SET usage_ledger.unknown_account = ''reject''', 'SET usage_ledger.max_event_age = ''1d''',
           'SET session_replication_role = ''replica''']) AS command;
GRANT SELECT ON attempts TO PUBLIC;
SELECT command, attempt AS not_allowed_to_superuser FROM attempts, attempt(command) WHERE attempt <> 'allowed' ORDER BY command COLLATE "C";
SET SESSION AUTHORIZATION stranger;
SELECT count(*) AS tried, count(*) FILTER (WHERE attempt = 'allowed') AS allowed_to_stranger FROM attempts, attempt(command);
SET SESSION AUTHORIZATION worker;
SELECT command AS allowed_to_worker FROM attempts, attempt(command) WHERE attempt = 'allowed' ORDER BY command COLLATE "C";
SET SESSION AUTHORIZATION biller;
SELECT command AS allowed_to_biller FROM attempts, attempt(command) WHERE attempt = 'allowed' ORDER BY command COLLATE "C";
SET SESSION AUTHORIZATION dba;
SELECT command AS allowed_to_dba FROM attempts, attempt(command) WHERE attempt = 'allowed' ORDER BY command COLLATE "C";
SET SESSION AUTHORIZATION monitor;
SELECT command AS allowed_to_monitor FROM attempts, attempt(command) WHERE attempt = 'allowed' ORDER BY command COLLATE "C";
-- The biller's rights and policy are enough to see the rows.
SET SESSION AUTHORIZATION biller;
SELECT tokens_used FROM usage_totals ORDER BY 1;
SELECT idempotency_key FROM usage_events ORDER BY 1;
RESET SESSION AUTHORIZATION;

-- R3. Row security protects the tables from roles with rights on them, also for new rows and predefined roles.
-- The view and current_usage obey it.
GRANT SELECT, INSERT, UPDATE ON usage_accounts, usage_periods, usage_events, usage_pending, usage_breakdown TO stranger;
GRANT pg_read_all_data TO stranger;
GRANT EXECUTE ON FUNCTION current_usage TO stranger;
SET SESSION AUTHORIZATION stranger;
SELECT (SELECT count(*) FROM usage_accounts) AS accounts, (SELECT count(*) FROM usage_periods) AS periods,
       (SELECT count(*) FROM usage_events) AS events, (SELECT count(*) FROM usage_pending) AS pending;
SELECT (SELECT count(*) FROM usage_totals) AS totals, current_usage(:a) IS NOT DISTINCT FROM NULL AS none_is_current,
       (SELECT count(*) FROM usage_breakdown) AS breakdown, (SELECT count(*) FROM usage_breakdown_totals) AS breakdown_totals;
WITH updated AS (UPDATE usage_periods SET tokens_used = 0 RETURNING 1) SELECT count(*) AS updated FROM updated;
SELECT attempt($$INSERT INTO usage_pending VALUES ('70000000-0000-0000-0000-00000000000a', now(), 1, 0, 0)$$);
SET row_security = off;
SELECT attempt('SELECT FROM usage_events');
RESET row_security;
RESET SESSION AUTHORIZATION;
REVOKE pg_read_all_data FROM stranger;
REVOKE ALL ON usage_accounts, usage_periods, usage_events, usage_pending, usage_breakdown FROM stranger;
REVOKE ALL ON FUNCTION current_usage FROM stranger;

-- R4. Not protected: later grants by the owner on everything. They open every function, and
-- the tables by TRUNCATE. The views obey row security.
BEGIN;
GRANT ALL ON ALL TABLES IN SCHEMA public TO stranger;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO stranger;
SET LOCAL ROLE stranger;
SELECT (SELECT count(*) FROM usage_events) AS events, (SELECT count(*) FROM usage_totals) AS totals;
SELECT command FROM attempts, attempt(command)
 WHERE attempt = 'allowed' AND (command ~ 'usage_pending' OR command ~ '^SELECT \w*usage\w*\(')
 ORDER BY command COLLATE "C";
ROLLBACK;

------------------------------------------------------------------------------
-- What an answer reveals
------------------------------------------------------------------------------

-- A1. An answer is about the given account, even if another account has the same key.
SET SESSION AUTHORIZATION worker;
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'of b');
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'of b');
SELECT outcome, tokens_used, detail FROM increment_usage_batch(ARRAY[:a, :b, :a]::uuid[], '{2,1,3}', '{of b,of a,of a}');
\set VERBOSITY terse
SELECT increment_usage(:a, 2, 'of b');
\set VERBOSITY default

-- A2. No part of an error reveals more than the call's arguments and the event of its own key.
RESET SESSION AUTHORIZATION;
CREATE FUNCTION message(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    text_of_error text; detail text; hint text; context text;
BEGIN
    EXECUTE command;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS text_of_error = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL,
                            hint = PG_EXCEPTION_HINT, context = PG_EXCEPTION_CONTEXT;
    RETURN concat_ws(' | ', SQLSTATE, text_of_error, detail, hint, context);
END $$;
CREATE TABLE messages AS
SELECT command, message(command)
  FROM unnest(ARRAY[
           format('SELECT increment_usage(%L, 2, ''of b'')', :a),
           format('SELECT increment_usage(%L, -1, ''k'')', :a),
           format('SELECT increment_usage(%L, 1, ''k'', p_occurred_at => ''2020-01-15Z'')', :a),
           format('SELECT increment_usage(%L, 1, repeat(''k'', 10000000))', :a),
           format('SELECT increment_usage_batch(ARRAY[%L]::uuid[], ''{1,2}'', ''{k}'')', :a),
           format('SELECT open_usage_period(%L, ''2020-01-15Z'', ''2020-02-15Z'')', :a),
           format('SELECT close_usage_period(%L, ''2019-01-01Z'')', :a),
           format('SELECT end_usage_period(%L, ''2020-01-01Z'')', :a),
           format('SELECT void_usage(%L, ''none'', repeat(''r'', 1001))', :a),
           format('SELECT credit_usage(%L, 1, ''of b'', NULL)', :a),
           format('SELECT void_usage(%L, ''none'', NULL)', :a)]) AS command;
SELECT split_part(message, ' |', 1) AS sqlstate, length(message) < 800 AS is_short,
       message ~ '987654321|00000000000b' AS tells_of_b
  FROM messages ORDER BY 1, command;

-- A3. No role sees statistics of the tables' contents, and catalogs hold no rows.
ANALYZE usage_accounts, usage_periods, usage_events, usage_pending, usage_breakdown;
SELECT count(*) > 0 AS superuser_sees FROM pg_stats WHERE tablename LIKE 'usage\_%';
SET SESSION AUTHORIZATION worker;
SELECT count(*) AS worker_sees FROM pg_stats WHERE tablename LIKE 'usage\_%';
SET SESSION AUTHORIZATION biller;
SELECT count(*) AS biller_sees FROM pg_stats WHERE tablename LIKE 'usage\_%';
RESET SESSION AUTHORIZATION;

------------------------------------------------------------------------------
-- What a caller passes
------------------------------------------------------------------------------

-- P1. Arguments are data. A value of the caller's own type is converted before the call, with the caller's rights.
CREATE SCHEMA hostile;
GRANT ALL ON SCHEMA hostile TO worker, biller;
CREATE TABLE hostile.log (ran_as text);
GRANT ALL ON hostile.log TO PUBLIC;
CREATE FUNCTION hostile.spring() RETURNS boolean LANGUAGE sql AS
    'INSERT INTO hostile.log VALUES (current_user) RETURNING true';
SET SESSION AUTHORIZATION worker;
CREATE DOMAIN hostile.account AS uuid CHECK (hostile.spring());
CREATE DOMAIN hostile.key AS text CHECK (hostile.spring());
SELECT outcome FROM increment_usage(:a::hostile.account, 1, 'k'::hostile.key);
SELECT outcome FROM increment_usage_batch(ARRAY[:a]::hostile.account[], '{1}', ARRAY['k']::hostile.key[]);
SELECT outcome FROM increment_usage(:a, 1, $$'; DROP TABLE usage_events; --$$);
SELECT outcome FROM increment_usage(:a, 1, E'%I %1$I \\ "');
RESET SESSION AUTHORIZATION;
SELECT DISTINCT ran_as FROM hostile.log;
SELECT idempotency_key FROM usage_events WHERE account_id = :a AND idempotency_key ~ '[%;]' ORDER BY idempotency_key COLLATE "C";
SET SESSION AUTHORIZATION dba;
SELECT attempt(format('SELECT set_usage_cycle(%L, ''1 month'', NULL, %L)', :a, zone))
  FROM unnest('{../../../../etc/passwd,/etc/localtime,posixrules/../UTC}'::text[]) AS zone;
RESET SESSION AUTHORIZATION;
TRUNCATE hostile.log;

------------------------------------------------------------------------------
-- The caller's session
------------------------------------------------------------------------------

-- S1. A type for every word in a function's body, in the schema that is searched first for
-- types: the session's temporary schema. (Tables, functions and operators: security.sql.)
\c -
SET client_min_messages = warning;
SET SESSION AUTHORIZATION biller;
DO $$
DECLARE
    word pg_catalog.text;
BEGIN
    FOR word IN
        SELECT DISTINCT (pg_catalog.regexp_matches(prosrc, '[a-z_0-9]+', 'g'))[1]
          FROM pg_catalog.pg_proc
         WHERE proname IN ('current_usage', 'verify_usage')
    LOOP
        EXECUTE pg_catalog.format('CREATE DOMAIN pg_temp.%I AS pg_catalog.text CHECK (hostile.spring())', word);
    END LOOP;
END $$;
-- The trap works.
SELECT 'x'::record;
SELECT ran_as FROM hostile.log;
-- Our functions do not trigger it.
SELECT tokens_used > 0 AS is_read FROM public.current_usage(:a);
SELECT count(*) FROM public.verify_usage();
SELECT outcome FROM public.void_usage(:a, 'of a', 'hostile');
SELECT tokens_used FROM public.close_usage_period(:a, '2020-01-01Z');
RESET SESSION AUTHORIZATION;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO biller;
SET SESSION AUTHORIZATION biller;
SELECT outcome FROM public.increment_usage(:a, 1, 'trapped');
SELECT outcome FROM public.increment_usage_batch(ARRAY[:a]::pg_catalog.uuid[], '{1}', '{trapped too}');
SELECT settle_usage FROM public.settle_usage();
SELECT account_id OPERATOR(pg_catalog.=) :a AS is_set FROM public.set_usage_cycle(:a, '1 month');
SELECT tokens_used FROM public.open_usage_period(:a, '2010-01-01Z', '2010-02-01Z');
SELECT public.prune_usage_events('infinity');
RESET SESSION AUTHORIZATION;
SELECT DISTINCT ran_as FROM hostile.log;
TRUNCATE hostile.log;
\c -
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;

-- S2. Every setting that a caller may change, at both ends of its range and with every
-- value. Each call is planned under that setting. The answers never change.
CREATE FUNCTION scenario() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    account uuid := gen_random_uuid();
    command text;
    answer text;
    answers text;
BEGIN
    FOREACH command IN ARRAY ARRAY[
        'SELECT concat_ws('':'', outcome, tokens_used) FROM increment_usage($1, 10, ''1'', true)',
        'SELECT concat_ws('':'', outcome, tokens_used) FROM increment_usage($1, 10, ''1'', true)',
        'SELECT string_agg(concat_ws('':'', item, outcome, tokens_used), '','') FROM increment_usage_batch(ARRAY[$1, $1, $1, $1], ''{1,2,3,3}'', ''{1,3,2,2}'')',
        'SELECT extract(epoch FROM period_anchor) FROM set_usage_cycle($1, ''1 month'', NULL, ''Europe/Berlin'')',
        'SELECT extract(epoch FROM period_start) FROM increment_usage($1, 4, ''4'', p_occurred_at => date_trunc(''month'', now(), ''UTC'') - interval ''40 hours'')',
        'SELECT tokens_used FROM open_usage_period($1, ''2020-01-01Z'', ''2020-02-01Z'', 5)',
        'SELECT set_config(''usage_ledger.settlement'', ''deferred'', true)',
        'SELECT concat_ws('':'', outcome, tokens_used) FROM increment_usage($1, 20, ''5'')',
        'SELECT string_agg(concat_ws('':'', item, outcome, tokens_used), '','') FROM increment_usage_batch(ARRAY[$1, $1], ''{7,8}'', ''{6,7}'')',
        'SELECT concat_ws('':'', outcome, tokens_used) FROM void_usage($1, ''5'', ''scenario'')',
        'SELECT tokens_used FROM current_usage($1)',
        'SELECT settle_usage()',
        'SELECT set_config(''usage_ledger.settlement'', ''adaptive'', true)',
        'SELECT string_agg(concat_ws('':'', item, outcome, tokens_used), '','') FROM increment_usage_batch(ARRAY[$1, $1], ''{30,40}'', ''{8,9}'')',
        'SELECT concat_ws('':'', outcome, tokens_used) FROM credit_usage($1, 5, ''10'', ''scenario'')',
        'SELECT tokens_used FROM end_usage_period($1, ''2020-01-20Z'')',
        'SELECT tokens_used FROM close_usage_period($1, ''2020-01-01Z'')',
        'SELECT prune_usage_events(''infinity'')',
        'SELECT tokens_used FROM current_usage($1)',
        'SELECT count(*) FROM verify_usage($1)',
        'SELECT erase_usage($1)']
    LOOP
        EXECUTE command INTO answer USING account;
        answers := concat_ws(' ', answers, answer);
    END LOOP;
    RETURN answers;
END $$;
CREATE FUNCTION scenario_under(setting text, value text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answers text;
BEGIN
    PERFORM set_config(setting, value, true);
    answers := scenario();
    RAISE EXCEPTION USING ERRCODE = 'TRIED';
EXCEPTION
    WHEN SQLSTATE 'TRIED' THEN RETURN answers;
    WHEN OTHERS THEN RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
-- All of the README's grants together give the right to call all functions, and no other.
GRANT worker, biller, dba TO stranger;
SET SESSION AUTHORIZATION stranger;
SET plan_cache_mode = 'force_custom_plan';
SELECT scenario_under('plan_cache_mode', 'auto') AS expected \gset
SELECT regexp_replace(:'expected', '\d{9,}\S*', 'TIME', 'g') AS answers;
WITH tries AS (
    SELECT name, value, scenario_under(name, value) AS answers
      FROM pg_settings,
           unnest(CASE vartype WHEN 'bool' THEN '{on,off}' WHEN 'enum' THEN enumvals ELSE ARRAY[min_val, max_val] END) AS value
     WHERE context = 'user' AND vartype <> 'string'
       AND name NOT LIKE 'transaction\_%'  -- the transaction has already begun
       AND name NOT LIKE 'usage\_ledger.%' -- the scenario's own
       AND name NOT LIKE 'debug\_print\_%' AND name NOT LIKE 'log\_%' AND name NOT IN ('client_min_messages', 'exit_on_error')
    UNION ALL
    SELECT name, value, scenario_under(name, value)
      FROM (VALUES ('DateStyle', 'German, DMY'), ('DateStyle', 'SQL, MDY'), ('TimeZone', 'Pacific/Apia'), ('TimeZone', 'America/Caracas'),
                   ('timezone_abbreviations', 'Australia'), ('timezone_abbreviations', 'India'), ('search_path', 'public, pg_temp'),
                   ('lc_numeric', 'C'), ('lc_time', 'C'), ('lc_monetary', 'C'), ('default_text_search_config', 'german'),
                   ('jit_above_cost', '0'), ('plpgsql.extra_errors', 'all'), ('plpgsql.extra_warnings', 'all')) AS s (name, value))
SELECT count(*) > 150 AS many, count(*) FILTER (WHERE answers <> :'expected') AS different,
       string_agg(name || ' = ' || value || ': ' || answers, E'\n' ORDER BY name, value)
           FILTER (WHERE answers <> :'expected') AS which
  FROM tries;
RESET SESSION AUTHORIZATION;
REVOKE worker, biller, dba FROM stranger;
RESET plan_cache_mode;

-- S3. A time zone means the same whatever the session's abbreviations are.
CREATE FUNCTION period_under(abbreviations text, zone text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    account uuid := gen_random_uuid();
    period text;
BEGIN
    PERFORM set_config('timezone_abbreviations', abbreviations, true);
    PERFORM set_usage_cycle(account, '1 month', NULL, zone);
    SELECT concat_ws(' - ', period_start, period_end) INTO period FROM increment_usage(account, 1, 'k', p_occurred_at => '2024-07-15Z');
    RETURN period;
END $$;
SET usage_ledger.max_event_age = '20000d';
SELECT zone, period_under('Default', zone), period_under('Australia', zone) = period_under('Default', zone) AS is_the_same
  FROM unnest('{UTC,Europe/Berlin}'::text[]) AS zone;
-- The same for zones with the name of an abbreviation, on systems that have such zones.
SELECT bool_and(period_under('Australia', name) = period_under('Default', name)) AS are_the_same
  FROM pg_timezone_names WHERE name IN ('EST', 'CET', 'UTC');
RESET usage_ledger.max_event_age;
RESET timezone_abbreviations;

-- S4. Only a superuser can change the superuser's settings, even if a caller has set them
-- before the library was loaded.
\c -
SET SESSION AUTHORIZATION worker;
DO $$
BEGIN
    SET usage_ledger.unknown_account = 'reject';
    SET usage_ledger.max_event_age = '20000d';
EXCEPTION WHEN insufficient_privilege THEN
    NULL; -- the library is loaded already, by shared_preload_libraries
END $$;
SET client_min_messages = error;
\set VERBOSITY terse
SELECT outcome FROM increment_usage(:new_account, 1, 'k');
SELECT outcome FROM increment_usage(:new_account, 1, 'old', p_occurred_at => '2020-01-01Z');
\set VERBOSITY default
SHOW usage_ledger.unknown_account;
SHOW usage_ledger.max_event_age;
CREATE FUNCTION hostile.patient() RETURNS void LANGUAGE sql SET usage_ledger.max_event_age = '20000d' AS '';
SELECT attempt($$SELECT set_config('usage_ledger.max_event_age', '20000d', false)$$) AS set_config,
       attempt('ALTER ROLE worker SET usage_ledger.max_event_age = ''20000d''') AS own_role,
       attempt('SELECT set_config(''usage_ledger.settlement'', ''deferred'', false)') AS settlement_is_free;
SELECT name, attempt(format('SELECT set_config(%L, %L, false)', name, boot_val))
  FROM pg_settings WHERE name LIKE 'usage\_ledger.%' AND context = 'superuser' ORDER BY name;
\c -
SET SESSION AUTHORIZATION worker;
SELECT attempt('ALTER ROLE worker SET usage_ledger.max_event_age = ''20000d''') AS own_role_before_loading;
RESET SESSION AUTHORIZATION;
SET client_min_messages = warning;

-- S5. A caller that catches an error keeps nothing of the call that raised it.
SELECT c.closed_at IS NOT NULL AS is_closed FROM usage_periods AS p, close_usage_period(p.account_id, p.period_start) AS c WHERE p.account_id = :b;
SELECT count(*) FROM open_usage_period(:b, '2001-01-01Z', '2001-02-01Z', 9223372036854775807);
CREATE VIEW row_counts AS
SELECT (SELECT count(*) FROM usage_events) AS events, (SELECT count(*) FROM usage_periods) AS periods,
       (SELECT count(*) FROM usage_accounts) AS accounts, (SELECT count(*) FROM usage_pending) AS pending;
CREATE TABLE row_counts_before AS SELECT * FROM row_counts;
SET SESSION AUTHORIZATION worker;
SELECT settlement,
       attempt(format('SELECT set_config(''usage_ledger.settlement'', %L, true), increment_usage(%L, 1, ''kept'')', settlement, :b)) AS closed,
       attempt(format('SELECT set_config(''usage_ledger.settlement'', %L, true), increment_usage(%L, 2, ''of b'')', settlement, :a)) AS conflict,
       attempt(format('SELECT set_config(''usage_ledger.settlement'', %L, true), increment_usage(%L, 2, ''kept'', p_occurred_at => ''1999-01-01Z'')', settlement, :a)) AS old
  FROM unnest('{immediate,adaptive,deferred}'::text[]) AS settlement;
RESET SESSION AUTHORIZATION;
SET usage_ledger.max_event_age = '20000d';
SELECT settlement,
       attempt(format('SELECT set_config(''usage_ledger.settlement'', %L, true), increment_usage(%L, 1, ''kept'', p_occurred_at => ''2001-01-15Z'')', settlement, :b)) AS overflow
  FROM unnest('{immediate,adaptive}'::text[]) AS settlement;
RESET usage_ledger.max_event_age;
SELECT after = before AS nothing_is_kept FROM row_counts AS after, row_counts_before AS before;
DROP TABLE row_counts_before;
DROP VIEW row_counts;

------------------------------------------------------------------------------
-- The owner and the installing role
------------------------------------------------------------------------------

-- O1. Code on a table runs with the rights of the functions' owner, whatever role calls. The
-- guard refuses it to all roles. While a superuser has disabled the guard, the owner and roles
-- with the TRIGGER right can create it.
CREATE FUNCTION hostile.note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO hostile.log VALUES (current_user); RETURN NEW; END';
GRANT USAGE ON SCHEMA hostile TO stranger;
GRANT TRIGGER ON usage_events TO stranger;
SET SESSION AUTHORIZATION stranger;
SELECT command, attempt(command)
  FROM unnest(ARRAY[
           'CREATE TRIGGER note BEFORE INSERT ON usage_events FOR EACH ROW EXECUTE FUNCTION hostile.note()',
           'ALTER EVENT TRIGGER usage_ledger_guard DISABLE', 'DROP EVENT TRIGGER usage_ledger_guard',
           'SET session_replication_role = ''replica''', 'SELECT usage_ledger_guard()']) AS command;
RESET SESSION AUTHORIZATION;
ALTER EVENT TRIGGER usage_ledger_guard DISABLE;
SET SESSION AUTHORIZATION stranger;
CREATE TRIGGER note BEFORE INSERT ON usage_events FOR EACH ROW EXECUTE FUNCTION hostile.note();
RESET SESSION AUTHORIZATION;
ALTER EVENT TRIGGER usage_ledger_guard ENABLE;
SET SESSION AUTHORIZATION worker;
SELECT outcome FROM increment_usage(:a, 1, 'noted');
RESET SESSION AUTHORIZATION;
SELECT ran_as = (SELECT proowner::regrole::text FROM pg_proc WHERE proname = 'increment_usage') AS ran_as_owner FROM hostile.log;
DROP TRIGGER note ON usage_events;

-- O2. An object in the schema with one of our names makes CREATE EXTENSION fail, and nothing is left behind.
CREATE TABLE planted AS
SELECT format('CREATE TABLE hostile.%I ()', relname) AS command
  FROM pg_class
 WHERE oid IN (SELECT objid FROM ledger_members WHERE classid = 'pg_class'::regclass)
    OR oid IN ('usage_periods_prunable'::regclass, 'usage_events_period'::regclass)
UNION ALL
SELECT format('CREATE FUNCTION hostile.%I(%s) RETURNS text LANGUAGE sql AS ''SELECT current_user::text''', proname, oidvectortypes(proargtypes))
  FROM pg_proc WHERE oid IN (SELECT objid FROM ledger_members WHERE classid = 'pg_proc'::regclass);
GRANT SELECT ON planted TO worker;
CREATE FUNCTION install_after(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    PERFORM set_config('role', 'worker', true);
    EXECUTE command;
    PERFORM set_config('role', 'none', true);
    result := attempt('CREATE EXTENSION usage_ledger SCHEMA hostile');
    RAISE EXCEPTION USING ERRCODE = 'TRIED';
EXCEPTION WHEN SQLSTATE 'TRIED' THEN
    RETURN result;
END $$;
DROP EXTENSION usage_ledger;
SELECT attempt('CREATE EXTENSION usage_ledger SCHEMA hostile') AS without_name_clash;
SELECT install_after AS with_name_clash, count(*) FROM planted, install_after(command) GROUP BY 1 ORDER BY 1;
SELECT count(*) AS left_behind FROM pg_class WHERE relnamespace = 'hostile'::regnamespace AND relname LIKE 'usage%';

-- O3. Not protected: a role that may create in the schema can plant an overload that matches
-- a call better. Our functions never call it, nor does a caller that passes bigint.
SET SESSION AUTHORIZATION worker;
CREATE FUNCTION hostile.increment_usage(uuid, integer, text) RETURNS text LANGUAGE sql AS $$SELECT 'planted'$$;
CREATE FUNCTION hostile.current_usage(text) RETURNS text LANGUAGE sql AS $$SELECT 'planted'$$;
RESET SESSION AUTHORIZATION;
CREATE EXTENSION usage_ledger SCHEMA hostile;
SELECT hostile.increment_usage(:a, 1, 'k');
SELECT outcome FROM hostile.increment_usage(:a, 1::bigint, 'k');

-- O4. The schema's owner does not own our objects in it. Not protected: dropping the schema drops them.
ALTER SCHEMA hostile OWNER TO worker;
SET SESSION AUTHORIZATION worker;
SELECT command, attempt(command)
  FROM unnest(ARRAY[
           'ALTER TABLE hostile.usage_events DISABLE ROW LEVEL SECURITY', 'SELECT FROM hostile.usage_events',
           'DROP TABLE hostile.usage_events', 'ALTER FUNCTION hostile.current_usage(uuid) SECURITY INVOKER',
           'SELECT hostile.increment_usage(gen_random_uuid(), 1::bigint, ''k'')', 'DROP EXTENSION usage_ledger',
           'DROP SCHEMA hostile CASCADE']) AS command;
RESET SESSION AUTHORIZATION;
DROP EXTENSION usage_ledger;

-- O5. The schema's name is quoted, or refused if PostgreSQL cannot quote it safely.
SELECT name, attempt(format('CREATE SCHEMA %1$I; CREATE EXTENSION usage_ledger SCHEMA %1$I;'
                            'SELECT %1$I.increment_usage(gen_random_uuid(), 1, ''k''), %1$I.current_usage(gen_random_uuid());'
                            'SELECT %1$I.verify_usage()', name))
  FROM unnest(ARRAY['Usage Ledger', 'select', 'a;b', 'a%Ib', 'it''s', 'quo"ted', 'dol$lar', 'back\slash']) AS name;
CREATE EXTENSION usage_ledger;

------------------------------------------------------------------------------
-- Limits
------------------------------------------------------------------------------

-- L1. The size of a batch. (All other limits: errors.sql, void.sql, settle.sql, prune.sql.)
\set VERBOSITY terse
SELECT count(*) FROM increment_usage_batch(array_fill(:a::uuid, ARRAY[1000001]), array_fill(1::bigint, ARRAY[1000001]), array_fill('k'::text, ARRAY[1000001]));
\set VERBOSITY default

-- L2. A transaction takes a limited number of places in the server's lock table. Their lock
-- classes are out of reach for pg_advisory_lock.
CREATE FUNCTION locks_of(mode text) RETURNS TABLE (calls bigint, locks bigint, not_in_sql boolean) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('usage_ledger.settlement', mode, true);
    SELECT count(*) INTO calls FROM generate_series(1, 200) AS i, increment_usage(md5(mode || i)::uuid, 1, 'k');
    SELECT count(*), bool_and(objsubid > 2) INTO locks, not_in_sql
      FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
    RETURN NEXT;
END $$;
SELECT * FROM locks_of('immediate');
SELECT * FROM locks_of('adaptive');
SELECT * FROM locks_of('deferred');
SELECT settle_usage();
SELECT count(*) FROM verify_usage();

DROP FUNCTION locks_of, install_after, period_under, scenario_under, scenario, message, attempt;
DROP TABLE planted, messages, attempts;
DROP VIEW ledger_members, roles;
DROP SCHEMA hostile CASCADE;
DROP OWNED BY worker, biller, dba, monitor, stranger;
DROP ROLE worker, biller, dba, monitor, stranger;
DROP EXTENSION usage_ledger;
CREATE EXTENSION usage_ledger;
