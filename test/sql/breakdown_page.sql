-- Runs the SQL of docs/breakdown.md as printed: the calls as the owner, and the queries of
-- billing as a biller.
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO';
DROP EXTENSION usage_ledger;
CREATE SCHEMA billing;
CREATE EXTENSION usage_ledger SCHEMA billing;
SET search_path = billing, public;
SET usage_ledger.max_event_age = '20000d';
CREATE ROLE biller;
CREATE ROLE acme;
\getenv source PG_ABS_SRCDIR
\getenv build PG_ABS_BUILDDIR
\set document :source '/../docs/breakdown.md'
\set snippet :build '/results/breakdown_snippet.sql'
\setenv DOCUMENT :document
\setenv SNIPPET :snippet

\! "$(dirname "$DOCUMENT")/../test/tools/snippets.sh" "$DOCUMENT" 'Breakdown' > "$SNIPPET"
\i :snippet
SELECT outcome FROM record_usage('7f0c64f2-3a0e-4b61-9f0b-0f6f2d1f9a11', 'run-45', 'gpt-5', 'research', 1);
SELECT outcome FROM record_usage('7f0c64f2-3a0e-4b61-9f0b-0f6f2d1f9a11', 'run-46', 'gpt-5', 'research-2', 1);
\! "$(dirname "$DOCUMENT")/../test/tools/snippets.sh" "$DOCUMENT" 'Scopes and models' > "$SNIPPET"
\i :snippet

SELECT erase_usage('7f0c64f2-3a0e-4b61-9f0b-0f6f2d1f9a11');

-- October: three models and teams, one event pending, and usage of other functions.
\set a '''7f0c64f2-3a0e-4b61-9f0b-0f6f2d1f9a11'''
\set b '''50000000-0000-0000-0000-000000000002'''
SELECT outcome FROM record_usage_batch(ARRAY[:a, :a, :a, :a, :b]::uuid[], '{o1,o2,o3,o4,o1}', '{gpt-5,gpt-5,claude-sonnet-5,local,gpt-5}',
       '{research/ann,research/bob,sales/cem,sales/cem,""}', '{1000000,7,3,500,20}', '{2000000,0,1000,0,0}', '{0,0,400,0,0}', '{300000,11,0,0,0}',
       '{40000,0,0,0,0}', '{4900000000,118750,1809000,0,25000}', p_occurred_at => array_fill('2026-10-05Z'::timestamptz, '{5}'));
SET usage_ledger.settlement = 'deferred';
SELECT outcome FROM record_usage(:a, 'o5', 'claude-sonnet-5', 'sales/cem', 1, p_cost_nanos => 3000, p_occurred_at => '2026-10-06Z');
RESET usage_ledger.settlement;
SELECT outcome FROM increment_usage(:a, 900, 'plain', p_occurred_at => '2026-10-07Z');
-- The cap is reached: two new pairs share a row.
SET usage_ledger.max_breakdowns = 4;
SELECT outcome FROM record_usage(:a, 'o6', 'm6', 'ops/6', 6, p_cost_nanos => 6, p_occurred_at => '2026-10-08Z');
SELECT outcome FROM record_usage(:a, 'o7', 'm7', 'ops/7', 7, p_cost_nanos => 7, p_occurred_at => '2026-10-08Z');
RESET usage_ledger.max_breakdowns;
\! "$(dirname "$DOCUMENT")/../test/tools/snippets.sh" "$DOCUMENT" 'More pairs than fit' > "$SNIPPET"
\i :snippet
SELECT tokens_used FROM close_usage_period(:a, '2026-10-01Z');

\! "$(dirname "$DOCUMENT")/../test/tools/snippets.sh" "$DOCUMENT" 'A table of prices' > "$SNIPPET"
\i :snippet
GRANT USAGE ON SCHEMA billing TO biller;
GRANT SELECT ON usage_totals, usage_periods, usage_pending, usage_events, usage_breakdown, usage_breakdown_totals TO biller;
CREATE POLICY biller ON usage_periods FOR SELECT TO biller USING (true);
CREATE POLICY biller ON usage_pending FOR SELECT TO biller USING (true);
CREATE POLICY biller ON usage_breakdown FOR SELECT TO biller USING (true);
CREATE POLICY biller ON usage_events FOR SELECT TO biller USING (true);
SET ROLE biller;
\! "$(dirname "$DOCUMENT")/../test/tools/snippets.sh" "$DOCUMENT" 'Per model and team' > "$SNIPPET"
\i :snippet
\! "$(dirname "$DOCUMENT")/../test/tools/snippets.sh" "$DOCUMENT" 'By day and model' > "$SNIPPET"
\i :snippet
\! "$(dirname "$DOCUMENT")/../test/tools/snippets.sh" "$DOCUMENT" 'Without a breakdown' > "$SNIPPET"
\i :snippet
\! "$(dirname "$DOCUMENT")/../test/tools/snippets.sh" "$DOCUMENT" 'Top spenders' > "$SNIPPET"
\i :snippet
\! "$(dirname "$DOCUMENT")/../test/tools/snippets.sh" "$DOCUMENT" 'Priced by the table' > "$SNIPPET"
\i :snippet
\pset format csv
\! "$(dirname "$DOCUMENT")/../test/tools/snippets.sh" "$DOCUMENT" 'Export for FinOps' > "$SNIPPET"
\i :snippet
\pset format aligned
RESET ROLE;

-- A tenant sees its own rows, what is pending included.
GRANT USAGE ON SCHEMA billing TO acme;
GRANT SELECT ON usage_pending TO acme;
CREATE POLICY acme ON usage_pending FOR SELECT TO acme USING (account_id = '7f0c64f2-3a0e-4b61-9f0b-0f6f2d1f9a11');
\! "$(dirname "$DOCUMENT")/../test/tools/snippets.sh" "$DOCUMENT" 'Show tenants their own breakdown' > "$SNIPPET"
\i :snippet
SET usage_ledger.settlement = 'deferred';
SELECT outcome FROM record_usage(:a, 'late', 'gpt-5', 'research', 5, p_occurred_at => '2026-09-05Z');
SELECT outcome FROM record_usage(:b, 'late', 'gpt-5', '', 5, p_occurred_at => '2026-09-05Z');
RESET usage_ledger.settlement;
SET ROLE acme;
SELECT account_id, scope, sum(input_tokens) AS input, sum(events) AS events FROM usage_breakdown_totals GROUP BY 1, 2 ORDER BY 1, 2;
RESET ROLE;

SELECT * FROM verify_usage();
DROP OWNED BY biller, acme;
DROP ROLE biller, acme;
DROP TABLE model_prices;
DROP EXTENSION usage_ledger;
DROP SCHEMA billing;
RESET search_path;
CREATE EXTENSION usage_ledger;
