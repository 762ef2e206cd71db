-- Runs the README's SQL as printed, from top to bottom, and checks the totals that the
-- README promises. Other results depend on the day, so they are not shown. (threats.sql
-- runs the grants.)
SET client_min_messages = warning;
DROP EXTENSION usage_ledger;
CREATE ROLE worker;
CREATE TABLE reports (id integer PRIMARY KEY, title text);

\getenv source PG_ABS_SRCDIR
\getenv build PG_ABS_BUILDDIR
\set document :source '/../README.md'
\set snippet :build '/results/readme_snippet.sql'
\setenv DOCUMENT :document
\setenv SNIPPET :snippet

\! "$(dirname "$DOCUMENT")/test/tools/snippets.sh" "$DOCUMENT" 'Getting started' > "$SNIPPET"
\o /dev/null
\i :snippet
\o
\! "$(dirname "$DOCUMENT")/test/tools/snippets.sh" "$DOCUMENT" 'usage_ledger' > "$SNIPPET"
\o /dev/null
\i :snippet
\o
\! "$(dirname "$DOCUMENT")/test/tools/snippets.sh" "$DOCUMENT" "The worker's call" > "$SNIPPET"
\o /dev/null
\i :snippet
\o
-- The second call was a retry of the first; the third was an event of its own.
SELECT account_id, tokens_used, reports_used, chats_used FROM usage_totals;
TABLE reports;

\! "$(dirname "$DOCUMENT")/test/tools/snippets.sh" "$DOCUMENT" 'Limits' > "$SNIPPET"
\o /dev/null
\i :snippet
\o
-- The reservation has ended with the count.
SELECT token_limit, tokens_used, tokens_held, tokens_remaining FROM usage_balances;

\! "$(dirname "$DOCUMENT")/test/tools/snippets.sh" "$DOCUMENT" 'Hot accounts: settlement' > "$SNIPPET"
\i :snippet
SELECT rolconfig FROM pg_roles WHERE rolname = 'worker';

\! "$(dirname "$DOCUMENT")/test/tools/snippets.sh" "$DOCUMENT" 'Periods' > "$SNIPPET"
\o /dev/null
\i :snippet
\o
SELECT account_id, period_length, time_zone FROM usage_accounts WHERE account_id = 'a3b1f3c8-52d7-4c0e-9a44-6d1c2f0b7e55';
SELECT tokens_used, reports_used, chats_used FROM usage_totals WHERE account_id = 'a3b1f3c8-52d7-4c0e-9a44-6d1c2f0b7e55';

SELECT count(*) FROM open_usage_period('7f0c64f2-3a0e-4b61-9f0b-0f6f2d1f9a11', '2026-10-01Z', '2026-11-01Z', 1000);
\! "$(dirname "$DOCUMENT")/test/tools/snippets.sh" "$DOCUMENT" 'Billing' > "$SNIPPET"
\o /dev/null
\i :snippet
\o
-- October is closed for both accounts, and one of the events is voided.
SELECT account_id, tokens_used, closed_at IS NOT NULL AS is_closed FROM usage_totals ORDER BY account_id, period_start;
SELECT idempotency_key, void_reason FROM usage_events WHERE voided_at IS NOT NULL;

\! "$(dirname "$DOCUMENT")/test/tools/snippets.sh" "$DOCUMENT" 'Dimensions of your own' > "$SNIPPET"
\i :snippet
INSERT INTO event_regions
SELECT account_id, idempotency_key, 'eu' FROM usage_events WHERE account_id = '7f0c64f2-3a0e-4b61-9f0b-0f6f2d1f9a11' AND period_start = '2026-10-01Z';
-- The same query again, now with a row to show.
\! sed -n '/^SELECT/,$p' "$SNIPPET" > "$SNIPPET.query"
\set query :build '/results/readme_snippet.sql.query'
\i :query
DROP TABLE event_regions;

\! "$(dirname "$DOCUMENT")/test/tools/snippets.sh" "$DOCUMENT" 'How long keys are remembered' > "$SNIPPET"
\i :snippet
\! "$(dirname "$DOCUMENT")/test/tools/snippets.sh" "$DOCUMENT" 'Breakdown' > "$SNIPPET"
\set ECHO none
\i :snippet
\set ECHO all
SELECT events FROM usage_breakdown_totals WHERE scope = 'research' OR scope >= 'research/' AND scope < 'research0';
SELECT * FROM verify_usage();
DROP EXTENSION usage_ledger;
DROP TABLE reports;
DROP ROLE worker;
CREATE EXTENSION usage_ledger;
