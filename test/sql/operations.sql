-- Runs the SQL of docs/operations.md as printed. The monitor of the README's grants can run
-- the queries that are meant for it.
SET client_min_messages = warning;
DROP EXTENSION usage_ledger;
CREATE SCHEMA billing;
CREATE EXTENSION usage_ledger SCHEMA billing;
SET search_path = billing, public;
CREATE ROLE worker;
CREATE ROLE biller;
CREATE ROLE dba;
CREATE ROLE monitor;
\getenv source PG_ABS_SRCDIR
\getenv build PG_ABS_BUILDDIR
\set readme :source '/../README.md'
\set document :source '/../docs/operations.md'
\set queries :build '/results/operations_queries.sql'
\setenv README :readme
\setenv DOCUMENT :document
\setenv QUERIES :queries
\! "$(dirname "$README")/test/tools/snippets.sh" "$README" 'Grants' > "$QUERIES"
\i :queries
\! "$(dirname "$DOCUMENT")/../test/tools/snippets.sh" "$DOCUMENT" > "$QUERIES"
\i :queries

SET usage_ledger.settlement = 'deferred';
SELECT outcome FROM increment_usage('00000000-0000-0000-0000-000000000001', 5, 'k');
SET ROLE monitor;
SELECT pending_rows, pending_age > interval '0' AS has_age FROM usage_ledger_stats;
RESET ROLE;
DROP EXTENSION usage_ledger;
DROP OWNED BY worker, biller, dba, monitor, restorer;
DROP ROLE worker, biller, dba, monitor, backup, restorer;
DROP SCHEMA billing;
RESET search_path;
CREATE EXTENSION usage_ledger;
