-- Runs the SQL of docs/operations.md as printed.
CREATE ROLE monitor;
\getenv source PG_ABS_SRCDIR
\getenv build PG_ABS_BUILDDIR
\set document :source '/../docs/operations.md'
\set queries :build '/results/operations_queries.sql'
\setenv DOCUMENT :document
\setenv QUERIES :queries
\! "$(dirname "$DOCUMENT")/../test/tools/snippets.sh" "$DOCUMENT" > "$QUERIES"
\i :queries
REVOKE ALL ON usage_ledger_stats FROM monitor;
REVOKE ALL ON FUNCTION usage_ledger_stats() FROM monitor;
DROP ROLE monitor;
