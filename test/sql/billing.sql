-- A biller runs the queries of docs/billing.md as printed.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;
DROP EXTENSION usage_ledger;
CREATE SCHEMA billing;
CREATE EXTENSION usage_ledger SCHEMA billing;
SET search_path = billing, public;
SET usage_ledger.max_event_age = '20000d';
\set a '''7f0c64f2-3a0e-4b61-9f0b-0f6f2d1f9a11'''
\set b '''50000000-0000-0000-0000-000000000002'''
\set c '''50000000-0000-0000-0000-000000000003'''
SELECT outcome FROM increment_usage(:a, 50000, 'run-42:generate-report', true, p_occurred_at => '2026-10-05Z');
SELECT outcome FROM increment_usage(:a, 700, 'run-42:chat', false, true, p_occurred_at => '2026-10-05 12:00Z');
SET usage_ledger.settlement = 'deferred';
SELECT outcome FROM increment_usage(:a, 30, 'run-43:chat', false, true, p_occurred_at => '2026-10-06Z');
RESET usage_ledger.settlement;
SELECT outcome FROM increment_usage(:b, 8000, 'run-44', p_occurred_at => '2026-10-07Z');
SELECT outcome FROM increment_usage(:b, 9000, 'run-44 again', p_occurred_at => '2026-10-07Z');
SELECT outcome FROM void_usage(:b, 'run-44 again', 'counted under two keys');
SELECT tokens_used FROM close_usage_period(:b, '2026-10-01Z');
-- All events were recorded in time, except for one that came a day and a half late.
UPDATE usage_events SET recorded_at = occurred_at;
UPDATE usage_events SET recorded_at = '2026-11-02 12:00Z' WHERE idempotency_key = 'run-43:chat';
-- This period runs for another ten days.
SELECT tokens_used FROM open_usage_period(:c, date_trunc('second', now()) - interval '5 days', date_trunc('second', now()) + interval '9 days 12 hours', 12345);

-- A credit of October, as credit_usage gives it in the current period.
INSERT INTO usage_events SELECT :a, '2026-10-01Z', '2026-10-20Z', '2026-10-20Z', -500, 0, 0, 'credit:invoice-1017', NULL, 'counted twice in September';
UPDATE usage_periods SET tokens_used = tokens_used - 500 WHERE account_id = :a AND period_start = '2026-10-01Z';

CREATE ROLE biller;
GRANT CREATE ON SCHEMA public TO biller;
GRANT USAGE ON SCHEMA billing TO biller;
GRANT SELECT ON usage_totals, usage_periods, usage_pending, usage_events TO biller;
GRANT EXECUTE ON FUNCTION close_usage_period TO biller;
CREATE POLICY biller ON usage_periods FOR SELECT TO biller USING (true);
CREATE POLICY biller ON usage_pending FOR SELECT TO biller USING (true);
CREATE POLICY biller ON usage_events FOR SELECT TO biller USING (true);
SET ROLE biller;
\getenv source PG_ABS_SRCDIR
\getenv build PG_ABS_BUILDDIR
\set document :source '/../docs/billing.md'
\set queries :build '/results/billing_queries.sql'
\setenv DOCUMENT :document
\setenv QUERIES :queries
\! "$(dirname "$DOCUMENT")/../test/tools/snippets.sh" "$DOCUMENT" > "$QUERIES"
\i :queries
RESET ROLE;
SELECT * FROM verify_usage();
DROP EXTENSION usage_ledger;
DROP OWNED BY biller;
DROP ROLE biller;
DROP SCHEMA billing;
RESET search_path;
CREATE EXTENSION usage_ledger;
