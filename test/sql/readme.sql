-- Runs the SQL of the README and of docs/quick_start.md, docs/periods.md and docs/keys.md as
-- printed, by the roles of its grants, and checks the totals that they promise. Other results
-- depend on the day, so they are not shown.
SET client_min_messages = warning;
DROP EXTENSION usage_ledger;
CREATE ROLE worker;
CREATE ROLE biller;
CREATE ROLE dba;
CREATE ROLE monitor;
CREATE TABLE reports (id integer PRIMARY KEY, title text);

\getenv source PG_ABS_SRCDIR
\getenv build PG_ABS_BUILDDIR
\set tree :source '/..'
\set snippet :build '/results/readme_snippet.sql'
\setenv TREE :tree
\setenv SNIPPET :snippet

\! cd "$TREE" && test/tools/snippets.sh docs/quick_start.md 'Installation' > "$SNIPPET"
\i :snippet
DROP EXTENSION usage_ledger;
DROP SCHEMA billing;
\! cd "$TREE" && test/tools/snippets.sh README.md 'Getting started' > "$SNIPPET"
\o /dev/null
\i :snippet
\o
-- The grants, as printed.
\! cd "$TREE" && test/tools/snippets.sh README.md 'Grants' > "$SNIPPET"
\i :snippet
GRANT SELECT, INSERT ON reports TO worker;

-- From here on, each call is made by the role that it is for.
SET ROLE worker;
\! cd "$TREE" && test/tools/snippets.sh README.md 'usage_ledger' > "$SNIPPET"
\o /dev/null
\i :snippet
\o
\! cd "$TREE" && test/tools/snippets.sh README.md "The worker's call" > "$SNIPPET"
\o /dev/null
\i :snippet
\o
RESET ROLE;
-- The second call was a retry of the first; the third was an event of its own.
SELECT account_id, tokens_used, reports_used, chats_used FROM billing.usage_totals;
TABLE reports;

\! cd "$TREE" && test/tools/snippets.sh README.md 'Limits' | sed '/as the worker/,$d' > "$SNIPPET"
SET ROLE biller;
\i :snippet
\! cd "$TREE" && test/tools/snippets.sh README.md 'Limits' | sed -n '/as the worker/,$p' > "$SNIPPET"
SET ROLE worker;
\o /dev/null
\i :snippet
\o
RESET ROLE;
-- The reservation has ended with the count.
SELECT token_limit, tokens_used, tokens_held, tokens_remaining FROM billing.usage_balances;

\! cd "$TREE" && test/tools/snippets.sh README.md 'Settlement' > "$SNIPPET"
\i :snippet
SELECT rolconfig FROM pg_roles WHERE rolname = 'worker';

\! cd "$TREE" && test/tools/snippets.sh docs/periods.md 'Periods' > "$SNIPPET"
\o /dev/null
\i :snippet
\o
SELECT account_id, period_length, time_zone FROM billing.usage_accounts WHERE account_id = 'a3b1f3c8-52d7-4c0e-9a44-6d1c2f0b7e55';
SELECT tokens_used, reports_used, chats_used FROM billing.usage_totals WHERE account_id = 'a3b1f3c8-52d7-4c0e-9a44-6d1c2f0b7e55';

SELECT count(*) FROM billing.open_usage_period('7f0c64f2-3a0e-4b61-9f0b-0f6f2d1f9a11', '2026-10-01Z', '2026-11-01Z', 1000);
\! cd "$TREE" && test/tools/snippets.sh README.md 'Billing' | sed '/as the DBA/,$d' > "$SNIPPET"
SET ROLE biller;
\o /dev/null
\i :snippet
\! cd "$TREE" && test/tools/snippets.sh README.md 'Billing' | sed -n '/as the DBA/,$p' > "$SNIPPET"
SET ROLE dba;
\i :snippet
\o
RESET ROLE;
-- October is closed for both accounts, and one of the events is voided.
SELECT account_id, tokens_used, closed_at IS NOT NULL AS is_closed FROM billing.usage_totals ORDER BY account_id, period_start;
SELECT idempotency_key, void_reason FROM billing.usage_events WHERE voided_at IS NOT NULL;

\! cd "$TREE" && test/tools/snippets.sh docs/periods.md 'Dimensions of your own' > "$SNIPPET"
\i :snippet
INSERT INTO event_regions
SELECT account_id, idempotency_key, 'eu' FROM billing.usage_events WHERE account_id = '7f0c64f2-3a0e-4b61-9f0b-0f6f2d1f9a11' AND period_start = '2026-10-01Z';
-- The same query again, now with a row to show.
\! sed -n '/^SELECT/,$p' "$SNIPPET" > "$SNIPPET.query"
\set query :build '/results/readme_snippet.sql.query'
\i :query
DROP TABLE event_regions;

\! cd "$TREE" && test/tools/snippets.sh docs/keys.md 'How long keys are remembered' > "$SNIPPET"
\i :snippet
\! cd "$TREE" && test/tools/snippets.sh README.md 'Breakdown' | sed '/^$/,$d' > "$SNIPPET"
SET ROLE worker;
\i :snippet
\! cd "$TREE" && test/tools/snippets.sh README.md 'Breakdown' | sed '1,/^$/d' > "$SNIPPET"
SET ROLE biller;
\i :snippet
SELECT sum(events) AS events FROM billing.usage_breakdown_totals;
SELECT * FROM billing.verify_usage();
RESET ROLE;
DROP EXTENSION usage_ledger;
DROP OWNED BY worker, biller, dba, monitor;
DROP SCHEMA billing;
DROP TABLE reports;
DROP ROLE worker, biller, dba, monitor;
CREATE EXTENSION usage_ledger;
