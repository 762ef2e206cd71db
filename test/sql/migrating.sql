-- Runs the migration of docs/migrating.md from a hand-written schema, as printed: the
-- queries before it, each on a problem that it must find; the migration; an import of events.
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
INSERT INTO usage_events VALUES ('old job', :a, 90, now() - interval '30 days'), (repeat('k', 300), :a, 1, '2026-01-02Z');

\setenv DOCUMENT :document
\setenv MIGRATION :migration

-- What depends on the old tables.
CREATE ROLE tenant;
CREATE TABLE accounts (account_id uuid PRIMARY KEY, name text);
INSERT INTO accounts VALUES (:a, 'Acme'), (:b, 'Bolt');
CREATE VIEW usage_dashboard AS SELECT name, tokens_used FROM usage_periods JOIN accounts USING (account_id);
CREATE TABLE invoices (usage_period_id bigint CONSTRAINT invoices_of_period REFERENCES usage_periods (id));
ALTER TABLE usage_periods ADD CONSTRAINT periods_of_account FOREIGN KEY (account_id) REFERENCES accounts;
ALTER TABLE usage_periods ENABLE ROW LEVEL SECURITY;
CREATE POLICY workers ON usage_periods TO worker USING (true);
CREATE POLICY own ON usage_periods FOR SELECT TO tenant USING (account_id = current_setting('app.account')::uuid);
GRANT SELECT ON usage_periods TO tenant;
CREATE TRIGGER audit BEFORE UPDATE ON usage_periods FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
SET client_min_messages = error; -- or it warns of wal_level
CREATE PUBLICATION usage_changes FOR TABLE usage_events;
SET client_min_messages = warning;
CREATE FUNCTION latest_period() RETURNS usage_periods LANGUAGE sql BEGIN ATOMIC SELECT * FROM usage_periods LIMIT 1; END;
CREATE FUNCTION key_count() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT count(*) FROM usage_events); END';
CREATE TABLE usage_events_2020 () INHERITS (usage_events);
\setenv HEADING 'Dependents'
\! "$(dirname "$DOCUMENT")/../test/tools/snippets.sh" "$DOCUMENT" "$HEADING" > "$MIGRATION"
\i :migration
DROP TABLE invoices, usage_events_2020;
DROP FUNCTION latest_period();

-- Periods and keys that the migration cannot take.
BEGIN;
ALTER TABLE usage_periods ALTER period_end DROP NOT NULL;
ALTER TABLE usage_events DROP CONSTRAINT usage_events_pkey;
INSERT INTO accounts SELECT ('60000000-0000-0000-0001-00000000000' || n)::uuid FROM generate_series(1, 7) AS n;
INSERT INTO usage_periods (account_id, period_start, period_end, tokens_used) VALUES
    ('60000000-0000-0000-0001-000000000001', '2026-01-01Z', '2026-02-01Z', 1),
    ('60000000-0000-0000-0001-000000000001', '2026-01-31Z', '2026-03-01Z', 1),
    ('60000000-0000-0000-0001-000000000002', '2026-01-01Z', '2026-01-01 00:00:00.0005Z', 1),
    ('60000000-0000-0000-0001-000000000003', '2026-02-01Z', '2026-01-01Z', 1),
    ('60000000-0000-0000-0001-000000000004', '2026-01-01Z', NULL, 1),
    ('60000000-0000-0000-0001-000000000005', '2026-01-01Z', 'infinity', 1),
    ('60000000-0000-0000-0001-000000000006', '2026-01-01Z', '2026-02-01Z', -1);
INSERT INTO usage_events VALUES
    ('', :a, 1, '2026-01-01Z'), (repeat('k', 256), :a, 1, '2026-01-03Z'), ('endless', :a, 1, '-infinity'),
    ('twice', :a, 1, '2026-01-01Z'), ('twice', :a, 1, '2026-01-02Z'), ('opening:2026', :b, 1, '2026-01-01Z');
\setenv HEADING 'Periods'
\! "$(dirname "$DOCUMENT")/../test/tools/snippets.sh" "$DOCUMENT" "$HEADING" > "$MIGRATION"
\i :migration
\setenv HEADING 'Keys'
\! "$(dirname "$DOCUMENT")/../test/tools/snippets.sh" "$DOCUMENT" "$HEADING" > "$MIGRATION"
\i :migration
ROLLBACK;
\setenv HEADING 'The migration'
\! "$(dirname "$DOCUMENT")/../test/tools/snippets.sh" "$DOCUMENT" "$HEADING" > "$MIGRATION"
-- The warning that CREATE EXTENSION gives would name the file of the snippet.
SET client_min_messages = error;
\i :migration
SET client_min_messages = warning;
\setenv HEADING 'After the migration'
\! "$(dirname "$DOCUMENT")/../test/tools/snippets.sh" "$DOCUMENT" "$HEADING" > "$MIGRATION"
\i :migration

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

-- Each role sees the accounts that it saw before, of the types that they had.
SELECT pg_typeof(tokens_used), pg_typeof(reports_used), pg_typeof(chats_used) FROM usage_periods LIMIT 1;
SET app.account = '60000000-0000-0000-0000-000000000002';
SET ROLE tenant;
SELECT account_id, tokens_used FROM usage_periods;
SELECT count(*) FROM billing.usage_totals;
RESET ROLE;
-- No role writes to the totals, and each gets an error that says what to do.
SET ROLE worker;
UPDATE usage_periods SET tokens_used = tokens_used + 1 WHERE account_id = :a;
UPDATE usage_periods SET tokens_used = tokens_used + 1 WHERE account_id IS NULL;
INSERT INTO usage_periods VALUES (:nowhere, now(), now(), 0, 0, 0);
SELECT tokens_used FROM usage_periods WHERE account_id = :a FOR UPDATE;
RESET ROLE;
DELETE FROM usage_periods;
-- The old view is frozen, and the query of dependents shows it until it is created again.
SELECT sum(d.tokens_used) < (SELECT sum(tokens_used) FROM usage_periods WHERE account_id <> :nowhere) AS is_frozen FROM usage_dashboard AS d;
\setenv HEADING Dependents
\! "$(dirname "$DOCUMENT")/../test/tools/snippets.sh" "$DOCUMENT" "$HEADING" | sed 's/public\.usage_periods/&_before/; s/public\.usage_events/&_before/' > "$MIGRATION"
\i :migration
CREATE OR REPLACE VIEW usage_dashboard AS SELECT name, tokens_used FROM usage_periods JOIN accounts USING (account_id);
SELECT sum(d.tokens_used) < (SELECT sum(tokens_used) FROM usage_periods WHERE account_id <> :nowhere) AS is_frozen FROM usage_dashboard AS d;

-- An import of history, by the role that the document makes. Its events are up to nine years
-- old, in an account that is known and one that is not.
\setenv HEADING 'The importing role'
\! "$(dirname "$DOCUMENT")/../test/tools/snippets.sh" "$DOCUMENT" "$HEADING" > "$MIGRATION"
\i :migration
\set c '''60000000-0000-0000-0000-000000000004''::uuid'
INSERT INTO usage_import (account_id, tokens, idempotency_key, is_report, is_chat, occurred_at)
SELECT CASE WHEN n % 2 = 0 THEN :nowhere ELSE :c END, n, 'history ' || n, n % 3 = 0, NULL,
       now() - interval '1 minute' - n * interval '31 hours'
  FROM generate_series(1, 2500) AS n;
-- One of each kind that is refused.
INSERT INTO usage_import (account_id, tokens, idempotency_key, occurred_at) VALUES
    (:c, 1, '', now()), (NULL, 1, 'no account', now()), (:c, 1, 'too old', now() - interval '11 years'), (:c, 5, 'history 1', now());
SET ROLE importer;
\setenv HEADING 'The import'
\! "$(dirname "$DOCUMENT")/../test/tools/snippets.sh" "$DOCUMENT" "$HEADING" > "$MIGRATION"
\o /dev/null
\set ECHO none
\i :migration
\o
\set ECHO all
SELECT outcome, count(*), sum(tokens) FROM public.usage_import GROUP BY outcome ORDER BY outcome;
SHOW usage_ledger.max_event_age;
RESET ROLE;
RESET usage_ledger.max_event_age;
RESET usage_ledger.settlement;
SELECT idempotency_key, outcome, regexp_replace(detail, ':\s.*', '') AS detail FROM usage_import WHERE outcome <> 'queued' ORDER BY position;
-- Each event is in the period of its time, and those periods can be closed.
SELECT count(*) FROM billing.usage_events AS e JOIN billing.usage_periods AS p USING (account_id, period_start)
 WHERE idempotency_key LIKE 'history %' AND occurred_at >= p.period_start AND occurred_at < p.period_end;
SELECT sum(tokens_used) FROM billing.usage_totals WHERE account_id = :c;
SELECT billing.settle_usage() > 0 AS has_settled;
SELECT count(*) > 100 AS are_closed, count(*) FILTER (WHERE closed.closed_at IS NULL) AS open
  FROM billing.usage_totals AS t, billing.close_usage_period(t.account_id, t.period_start) AS closed
 WHERE t.account_id = :c AND t.period_end <= now();
SELECT * FROM billing.verify_usage();
-- No other role can set it, nor can this one afterwards.
SET ROLE worker;
SET usage_ledger.max_event_age = '3650d';
RESET ROLE;
\setenv HEADING 'After the import'
\! "$(dirname "$DOCUMENT")/../test/tools/snippets.sh" "$DOCUMENT" "$HEADING" > "$MIGRATION"
\i :migration

DROP VIEW usage_dashboard;
DROP PUBLICATION usage_changes;
DROP FUNCTION key_count();
DROP VIEW usage_periods;
DROP TABLE usage_periods_before, usage_events_before, accounts;
DROP FUNCTION refuse_usage_write();
DROP FUNCTION increment_usage(uuid, integer, text), increment_usage(uuid, integer, boolean, boolean);
DROP EXTENSION usage_ledger;
DROP SCHEMA billing;
DROP OWNED BY worker, tenant;
DROP ROLE worker, tenant;
CREATE EXTENSION usage_ledger;
