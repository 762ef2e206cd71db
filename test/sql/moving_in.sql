-- The migration of docs/moving_in.md from the usual hand-written schema, as printed there.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;
DROP EXTENSION usage_ledger;
CREATE ROLE worker;

\getenv source PG_ABS_SRCDIR
\getenv build PG_ABS_BUILDDIR
\set handwritten_schema :source '/handwritten_schema.sql'
\set document :source '/../docs/moving_in.md'
\set migration :build '/results/moving_in_migration.sql'
\i :handwritten_schema

\set a '''60000000-0000-0000-0000-000000000001''::uuid'
\set b '''60000000-0000-0000-0000-000000000002''::uuid'
\set nowhere '''60000000-0000-0000-0000-000000000003''::uuid'
-- An account that pays from the 15th, with a past period and the present one; one with calendar months.
INSERT INTO usage_periods (account_id, period_start, period_end, tokens_used, reports_used)
SELECT :a, now() - interval '40 days', now() - interval '10 days', 7000, 3 UNION ALL
SELECT :a, now() - interval '10 days', now() + interval '20 days', 0, 0 UNION ALL
SELECT :b, date_trunc('month', now()), date_trunc('month', now()) + interval '1 month', 0, 0;
SELECT increment_usage(:a, 500, 'job-1');
SELECT increment_usage(:a, 20, true, false);
SELECT increment_usage(:b, 40, 'job-2');
SELECT increment_usage(:nowhere, 60, 'job-3');
-- What a lost update has left: the counter says less than the events.
UPDATE usage_periods SET tokens_used = tokens_used - 15 WHERE account_id = :b;
INSERT INTO usage_events VALUES ('old job', :a, 90, now() - interval '30 days'), (repeat('k', 300), :a, 1, now());

\setenv DOCUMENT :document
\setenv MIGRATION :migration
\! "$(dirname "$DOCUMENT")/../scripts/snippets.sh" "$DOCUMENT" > "$MIGRATION"
\i :migration

-- Totals are what they were, and the old keys are known; callers go on under the old name.
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
-- Burnt before the move, and counted at last.
SELECT increment_usage(:nowhere, 60, 'job-3');
-- By the new one, the way it is meant.
SELECT outcome, tokens_used FROM billing.increment_usage(:a, 500, 'job-1');
SELECT account_id, tokens_used, reports_used, chats_used FROM usage_periods ORDER BY account_id, period_start;
RESET ROLE;
SELECT * FROM billing.verify_usage();
-- The cycle goes on where the carried period ends.
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
