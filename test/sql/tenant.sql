-- Runs the SQL of docs/tenants.md, in public. Each of them sees its
-- account and no other, by an index, also after a dump and restore.
SET timezone = 'UTC';
SET client_min_messages = warning;
DROP EXTENSION usage_ledger;
CREATE EXTENSION usage_ledger;
CREATE ROLE worker;
CREATE ROLE biller;
CREATE ROLE dba;
CREATE ROLE monitor;
CREATE ROLE acme;
CREATE ROLE authenticated;
\set acme '''7f0c64f2-3a0e-4b61-9f0b-0f6f2d1f9a11'''
\set other '''7f0c64f2-3a0e-4b61-9f0b-0f6f2d1f9a12'''
\set nobody '''7f0c64f2-3a0e-4b61-9f0b-0f6f2d1f9a13'''
\getenv source PG_ABS_SRCDIR
\getenv build PG_ABS_BUILDDIR
\set readme :source '/../README.md'
\set document :source '/../docs/tenants.md'
\set operations :source '/../docs/operations.md'
\set snippet :build '/results/tenant_snippet.sql'
\setenv README :readme
\setenv DOCUMENT :document
\setenv LEDGER_SCHEMA public
\setenv OPERATIONS :operations
\setenv SNIPPET :snippet
\set statements :build '/results/tenant_statements.sql'
\set missing :build '/results/tenant_missing.txt'
\set missing_later :build '/results/tenant_missing_later.txt'
\setenv MISSING :missing
\setenv MISSING_LATER :missing_later
\setenv SOURCE :DBNAME

-- Many accounts. Each of the two has a past period, a present one, and pending usage.
SELECT count(*) FROM increment_usage_batch(ARRAY(SELECT md5(i::text)::uuid FROM generate_series(1, 20000) AS i),
                                           array_fill(7::bigint, ARRAY[20000]), array_fill('k'::text, ARRAY[20000]));
SELECT count(*) FROM open_usage_period(:acme, '2020-01-01', '2020-02-01', 100);
SELECT count(*) FROM open_usage_period(:other, '2020-01-01', '2020-02-01', 200);
SELECT outcome FROM increment_usage(:acme, 10, 'k');
SELECT outcome FROM increment_usage(:other, 20, 'k');
SET usage_ledger.settlement = 'deferred';
SELECT outcome FROM increment_usage(:acme, 1, 'pending');
SELECT outcome FROM increment_usage(:other, 2, 'pending');
RESET usage_ledger.settlement;
VACUUM ANALYZE usage_accounts, usage_periods, usage_events, usage_pending;

\! "$(dirname "$README")/test/tools/snippets.sh" "$README" 'Grants' > "$SNIPPET"
\i :snippet
\! "$(dirname "$DOCUMENT")/../test/tools/snippets.sh" "$DOCUMENT" 'Show tenants their own usage' > "$SNIPPET"
\i :snippet
-- With the views alone, a tenant has no other right.
SET ROLE acme;
SELECT tokens_used AS of_acme FROM our_usage ORDER BY period_start;
\set VERBOSITY terse
SELECT * FROM usage_totals;
SELECT current_usage(:acme);
SELECT * FROM tenants;
\set VERBOSITY default
RESET ROLE;

\! "$(dirname "$DOCUMENT")/../test/tools/snippets.sh" "$DOCUMENT" 'Let tenants read the ledger' > "$SNIPPET"
\i :snippet

CREATE VIEW seen_by_role AS
SELECT (SELECT string_agg(concat_ws(' ', t.account_id = '7f0c64f2-3a0e-4b61-9f0b-0f6f2d1f9a11', t.tokens_used), ', ' ORDER BY t.period_start)
          FROM usage_totals AS t) AS totals,
       (SELECT count(*) FROM usage_periods) AS periods,
       (SELECT count(*) FROM usage_pending) AS pending,
       (current_usage('7f0c64f2-3a0e-4b61-9f0b-0f6f2d1f9a11')).tokens_used AS of_acme,
       (current_usage('7f0c64f2-3a0e-4b61-9f0b-0f6f2d1f9a12')).tokens_used AS of_other;
ALTER VIEW seen_by_role SET (security_invoker = true);
GRANT SELECT ON seen_by_role TO acme, authenticated;

-- A tenant with a role of its own.
SET ROLE acme;
SELECT * FROM seen_by_role;
SELECT tokens_used FROM our_usage ORDER BY period_start;
\set VERBOSITY terse
SELECT * FROM usage_events;
SELECT * FROM my_usage;
UPDATE usage_periods SET tokens_used = 0;
\set VERBOSITY default
RESET ROLE;

-- Tenants that share a role: each other, one without an account, none, and a gateway's
-- session after a request.
PREPARE seen AS SELECT (SELECT string_agg(tokens_used::text, ', ' ORDER BY period_start) FROM my_usage) AS my_usage, * FROM seen_by_role;
SET ROLE authenticated;
EXECUTE seen;
BEGIN;
SELECT set_config('request.jwt.claims', json_build_object('role', 'authenticated', 'sub', :acme)::text, true) IS NOT NULL AS is_set;
EXECUTE seen;
SELECT set_config('request.jwt.claims', json_build_object('sub', :other)::text, true) IS NOT NULL AS is_set;
EXECUTE seen;
SELECT set_config('request.jwt.claims', json_build_object('sub', :nobody)::text, true) IS NOT NULL AS is_set;
EXECUTE seen;
SELECT set_config('request.jwt.claims', '{"role": "anon"}', true) IS NOT NULL AS is_set;
EXECUTE seen;
COMMIT;
SELECT current_setting('request.jwt.claims') AS after_request;
EXECUTE seen;
-- A function of the tenant's own in a condition sees no row of another tenant.
CREATE FUNCTION pg_temp.tell(account_id uuid, tokens numeric) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS
    $$ BEGIN RAISE WARNING 'account % has %', account_id, tokens; RETURN true; END $$;
SELECT set_config('request.jwt.claims', json_build_object('sub', :acme)::text, false) IS NOT NULL AS is_set;
SELECT count(*) FROM usage_totals AS t WHERE pg_temp.tell(t.account_id, t.tokens_used);
SELECT count(*) FROM my_usage WHERE pg_temp.tell(NULL, tokens_used);
RESET ROLE;

-- Both views agree with usage_totals.
SELECT count(*) FROM usage_totals AS t FULL JOIN my_usage AS m ON m.period_start = t.period_start AND m.tokens_used = t.tokens_used
 WHERE t.account_id = :acme AND m.tokens_used IS NULL;

-- Every reader finds an account's periods by the primary key, among thousands.
CREATE FUNCTION scans(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    line text;
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
        IF line ~ '(Scan.*usage_|(Index Cond|[^n] Filter): .*account_id)' THEN
            RETURN NEXT regexp_replace(regexp_replace(line, '^[ ->]*', ''), '\$\d+|\(InitPlan \d+\)\.col\d+', 'CLAIM', 'g');
        END IF;
    END LOOP;
END $$;
SET ROLE acme;
SELECT scan FROM scans('SELECT * FROM usage_totals') AS scan ORDER BY scan COLLATE "C";
SELECT scan FROM scans('SELECT * FROM our_usage') AS scan ORDER BY scan COLLATE "C";
SET ROLE authenticated;
SELECT scan FROM scans('SELECT * FROM usage_totals') AS scan ORDER BY scan COLLATE "C";
SELECT scan FROM scans('SELECT * FROM my_usage') AS scan ORDER BY scan COLLATE "C";
SET ROLE biller;
SELECT scan FROM scans($$SELECT * FROM usage_totals WHERE account_id = '7f0c64f2-3a0e-4b61-9f0b-0f6f2d1f9a11'$$) AS scan ORDER BY scan COLLATE "C";
RESET ROLE;
RESET request.jwt.claims;

-- A dump has no policies. Nobody sees more than before, the views of one's own show the same,
-- and the statements that docs/operations.md prints bring the rest back.
\! "$(dirname "$OPERATIONS")/../test/tools/snippets.sh" "$OPERATIONS" 'Backup and restore' > "$SNIPPET"
\set ECHO none
\pset tuples_only on
\pset format unaligned
\o :statements
\i :snippet
\o
\pset tuples_only off
\pset format aligned
\set ECHO all
CREATE DATABASE usage_ledger_restored;
\! pg_dump -d "$SOURCE" | psql -X -q -v ON_ERROR_STOP=1 -d usage_ledger_restored > /dev/null
\c usage_ledger_restored
SET timezone = 'UTC';
SET ROLE acme;
SELECT * FROM seen_by_role;
SELECT tokens_used FROM our_usage ORDER BY period_start;
SET ROLE authenticated;
SELECT set_config('request.jwt.claims', json_build_object('sub', :other)::text, false) IS NOT NULL AS is_set;
SELECT * FROM seen_by_role;
SELECT tokens_used FROM my_usage ORDER BY period_start;
SET ROLE biller;
SELECT count(*) FROM usage_totals;
RESET ROLE;
-- The second query there lists the roles that see nothing.
\set ECHO none
\pset tuples_only on
\pset format unaligned
\o :missing
\i :snippet
\o
\i :statements
\o :missing_later
\i :snippet
\o
\pset tuples_only off
\pset format aligned
\set ECHO all
\! cat "$MISSING"
\! grep -c '^CREATE POLICY' "$MISSING_LATER"
\! grep '^[a-z]*|' "$MISSING_LATER"
SET ROLE acme;
SELECT * FROM seen_by_role;
SET ROLE authenticated;
SELECT * FROM seen_by_role;
SET ROLE biller;
SELECT count(*) FROM usage_totals;
SET ROLE monitor;
SELECT pending_rows FROM usage_ledger_stats;
RESET ROLE;
\getenv source SOURCE
\c :source
DROP DATABASE usage_ledger_restored;

SET client_min_messages = warning;
DROP VIEW seen_by_role, my_usage, our_usage;
DROP TABLE tenants;
DROP FUNCTION scans;
DROP EXTENSION usage_ledger;
DROP OWNED BY worker, biller, dba, monitor, acme, authenticated;
DROP ROLE worker, biller, dba, monitor, acme, authenticated;
CREATE EXTENSION usage_ledger;
