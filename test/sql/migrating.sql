-- Runs the migration of docs/migrating.md from a hand-written schema, as printed.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;
DROP EXTENSION usage_ledger;
CREATE ROLE worker;

\getenv source PG_ABS_SRCDIR
\getenv build PG_ABS_BUILDDIR
\set handwritten_schema :source '/handwritten_schema.sql'
\set document :source '/../docs/migrating.md'
\set migration :build '/results/migrating_snippet.sql'
\i :handwritten_schema

\set a '''60000000-0000-0000-0000-000000000001''::uuid'
\set b '''60000000-0000-0000-0000-000000000002''::uuid'
\set nowhere '''60000000-0000-0000-0000-000000000003''::uuid'
-- One account has a past and a present period, with a cycle of its own. The other has calendar months.
INSERT INTO usage_periods (account_id, period_start, period_end, tokens_used, reports_used)
SELECT :a, now() - interval '40 days', now() - interval '10 days', 7000, 3 UNION ALL
SELECT :a, now() - interval '10 days', now() + interval '20 days', 0, 0 UNION ALL
SELECT :b, date_trunc('month', now()), date_trunc('month', now()) + interval '1 month', 0, 0;
SELECT increment_usage(:a, 500, 'job-1');
SELECT increment_usage(:a, 20, true, false);
SELECT increment_usage(:b, 40, 'job-2');
SELECT increment_usage(:nowhere, 60, 'job-3');
-- A lost update: the counter is less than the sum of the events.
UPDATE usage_periods SET tokens_used = tokens_used - 15 WHERE account_id = :b;
INSERT INTO usage_events VALUES ('old job', :a, 90, now() - interval '30 days'), (repeat('k', 300), :a, 1, now());

\setenv DOCUMENT :document
\setenv MIGRATION :migration
\! "$(dirname "$DOCUMENT")/../test/tools/snippets.sh" "$DOCUMENT" > "$MIGRATION"
-- The warning that CREATE EXTENSION gives would name the file of the snippet.
SET client_min_messages = error;
\i :migration
SET client_min_messages = warning;

-- Totals are unchanged, the old keys are known, and callers still use the old name.
SELECT account_id, tokens_used, reports_used, chats_used FROM usage_periods ORDER BY account_id, period_start;
SET ROLE worker;
SELECT increment_usage(:a, 500, 'job-1');
SELECT increment_usage(:b, 40, 'job-2');
SELECT increment_usage(:a, 90, 'old job');
SELECT increment_usage(:b, 1000, 'job-4');
SELECT increment_usage(:b, 1000, 'job-4');
SELECT increment_usage(:a, 3, false, true);
SELECT increment_usage(:a, 3, false, true);
\set VERBOSITY terse
SELECT increment_usage(:a, 501, 'job-1');
\set VERBOSITY default
-- This key was lost before the migration. Its usage is counted now.
SELECT increment_usage(:nowhere, 60, 'job-3');
-- The new function.
SELECT outcome, tokens_used FROM billing.increment_usage(:a, 500, 'job-1');
SELECT account_id, tokens_used, reports_used, chats_used FROM usage_periods ORDER BY account_id, period_start;
RESET ROLE;
SELECT * FROM billing.verify_usage();
-- The cycle continues from the last period that was carried over.
SELECT period_anchor = p.period_start AS continues FROM billing.usage_accounts JOIN usage_periods AS p USING (account_id) WHERE account_id = :a ORDER BY p.period_start DESC LIMIT 1;
SELECT count(*) FROM billing.usage_events AS e JOIN billing.usage_periods AS p USING (account_id, period_start) WHERE void_reason IS NOT NULL AND e.occurred_at >= p.period_start AND e.occurred_at < p.period_end;

DROP VIEW usage_periods;
DROP TABLE usage_periods_before, usage_events_before;
DROP FUNCTION increment_usage(uuid, integer, text), increment_usage(uuid, integer, boolean, boolean);
DROP EXTENSION usage_ledger;
DROP SCHEMA billing;
DROP OWNED BY worker;
DROP ROLE worker;
CREATE EXTENSION usage_ledger;
