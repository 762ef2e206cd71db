-- Runs the SQL of docs/limits.md as printed.
SET client_min_messages = warning;
SET timezone = 'UTC';
DROP EXTENSION usage_ledger;
CREATE SCHEMA billing;
CREATE EXTENSION usage_ledger SCHEMA billing;
SET search_path = billing, public;
CREATE ROLE acme;
\getenv source PG_ABS_SRCDIR
\getenv build PG_ABS_BUILDDIR
\set document :source '/../docs/limits.md'
\set snippet :build '/results/limits_snippet.sql'
\setenv DOCUMENT :document
\setenv SNIPPET :snippet

\! "$(dirname "$DOCUMENT")/../test/tools/snippets.sh" "$DOCUMENT" 'Limits' > "$SNIPPET"
\i :snippet
\! "$(dirname "$DOCUMENT")/../test/tools/snippets.sh" "$DOCUMENT" 'Reserve, work, count' > "$SNIPPET"
\o /dev/null
\i :snippet
\o
-- The count has ended the hold. (The answer of the reservation has a time.)
SELECT tokens, tokens_used, tokens_held, tokens_remaining FROM usage_balances JOIN usage_holds USING (account_id);
\! "$(dirname "$DOCUMENT")/../test/tools/snippets.sh" "$DOCUMENT" 'Streams' > "$SNIPPET"
\i :snippet
SELECT idempotency_key, tokens FROM usage_holds ORDER BY idempotency_key;
SELECT tokens_used, tokens_held, tokens_remaining FROM usage_balances;
\! "$(dirname "$DOCUMENT")/../test/tools/snippets.sh" "$DOCUMENT" 'Limits by scope' > "$SNIPPET"
\i :snippet
SELECT scope, token_limit, tokens_used, tokens_remaining FROM usage_balances ORDER BY scope;
-- Another account is close to its limit, and a third is not.
SELECT token_limit FROM set_usage_limit(md5('close')::uuid, 100) UNION ALL SELECT token_limit FROM set_usage_limit(md5('far')::uuid, 100);
SELECT outcome FROM increment_usage(md5('close')::uuid, 50, 'k');
SELECT outcome FROM reserve_usage(md5('close')::uuid, 30, 'l');
SELECT outcome FROM increment_usage(md5('far')::uuid, 79, 'k');
\! "$(dirname "$DOCUMENT")/../test/tools/snippets.sh" "$DOCUMENT" 'Soft limits and alerts' > "$SNIPPET"
\i :snippet

-- A tenant sees its own row.
GRANT USAGE ON SCHEMA billing TO acme;
GRANT SELECT ON usage_totals, usage_periods, usage_pending TO acme;
CREATE POLICY acme ON usage_periods FOR SELECT TO acme USING (account_id = '7f0c64f2-3a0e-4b61-9f0b-0f6f2d1f9a11');
CREATE POLICY acme ON usage_pending FOR SELECT TO acme USING (account_id = '7f0c64f2-3a0e-4b61-9f0b-0f6f2d1f9a11');
\! "$(dirname "$DOCUMENT")/../test/tools/snippets.sh" "$(dirname "$DOCUMENT")/breakdown.md" 'Show tenants their own breakdown' > "$SNIPPET"
\i :snippet
\! "$(dirname "$DOCUMENT")/../test/tools/snippets.sh" "$DOCUMENT" 'Show tenants what is left' > "$SNIPPET"
\i :snippet
SET ROLE acme;
SELECT account_id, token_limit, tokens_used, tokens_held, tokens_remaining FROM usage_balances;
SELECT count(*) FROM usage_holds;
RESET ROLE;
DROP OWNED BY acme;
DROP ROLE acme;
DROP EXTENSION usage_ledger;
DROP SCHEMA billing;
RESET search_path;
CREATE EXTENSION usage_ledger;
