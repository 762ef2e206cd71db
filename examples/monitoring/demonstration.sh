#!/usr/bin/env bash
# Makes docs/usage_by_day_and_model.svg: counts a published trace, runs the query of
# docs/breakdown.md, and plots its rows.
#
#   scripts/with_cluster.sh --extension examples/monitoring/demonstration.sh TRACE.csv
#
# TRACE.csv has the columns of the Azure LLM inference trace 2023: TIMESTAMP, ContextTokens,
# GeneratedTokens. That trace is an hour long and has no models. So the hour is stretched to the
# days of October, and long prompts count for one model and short ones for two others.
set -euo pipefail
trace=$(realpath "$1")
cd "$(dirname "$0")/../.."

psql -X -q -v ON_ERROR_STOP=1 >/dev/null <<SQL
SET timezone = 'UTC';
SET usage_ledger.max_event_age = '20000d';
CREATE TEMPORARY TABLE trace (at timestamp, input bigint, output bigint, line integer GENERATED ALWAYS AS IDENTITY);
\\copy trace (at, input, output) FROM '$trace' (FORMAT csv, HEADER)
SELECT count(*)
  FROM (SELECT min(at) AS first, max(at) + interval '1 second' AS last FROM trace) AS span,
       LATERAL (SELECT array_agg('7f0c64f2-3a0e-4b61-9f0b-0f6f2d1f9a11'::uuid ORDER BY line) AS accounts,
                       array_agg('request-' || line ORDER BY line) AS keys,
                       array_agg(CASE WHEN input > 2000 THEN 'long-context' WHEN output > 100 THEN 'chat' ELSE 'small' END ORDER BY line) AS models,
                       array_agg(input ORDER BY line) AS inputs, array_agg(output ORDER BY line) AS outputs,
                       array_agg(timestamptz '2026-10-01Z' + interval '31 days'
                                 * (extract(epoch FROM at - first) / extract(epoch FROM last - first)) ORDER BY line) AS times
                  FROM trace) AS events,
       billing.record_usage_batch(accounts, keys, p_models => models, p_input_tokens => inputs,
                                  p_output_tokens => outputs, p_occurred_at => times)
 WHERE outcome = 'applied';
SQL
test/tools/snippets.sh docs/breakdown.md 'By day and model' | psql -X --csv |
    examples/monitoring/plot_usage.py 'Tokens by day and model, October 2026' > docs/usage_by_day_and_model.svg
