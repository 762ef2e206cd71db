-- The proxy's views. They fetch all totals of every shard, in parallel.
CREATE FUNCTION billing.usage_totals_of_shards()
RETURNS TABLE (account_id uuid, period_start timestamptz, period_end timestamptz,
               tokens_used numeric, reports_used numeric, chats_used numeric,
               closed_at timestamptz, pruned_at timestamptz)
LANGUAGE plproxy AS $$
    CLUSTER 'usage_shards';
    RUN ON ALL;
    SELECT account_id, period_start, period_end, tokens_used, reports_used, chats_used,
           closed_at, pruned_at
      FROM billing.usage_totals;
$$;
CREATE VIEW billing.usage_totals AS SELECT * FROM billing.usage_totals_of_shards();

CREATE FUNCTION billing.usage_breakdown_of_shards()
RETURNS TABLE (account_id uuid, period_start timestamptz, scope text, model text,
               input_tokens numeric, cache_read_tokens numeric, cache_write_tokens numeric,
               output_tokens numeric, reasoning_tokens numeric, cost_nanos numeric, events numeric)
LANGUAGE plproxy AS $$
    CLUSTER 'usage_shards';
    RUN ON ALL;
    SELECT account_id, period_start, scope, model, input_tokens, cache_read_tokens,
           cache_write_tokens, output_tokens, reasoning_tokens, cost_nanos, events
      FROM billing.usage_breakdown_totals;
$$;
CREATE VIEW billing.usage_breakdown_totals AS SELECT * FROM billing.usage_breakdown_of_shards();

REVOKE ALL ON FUNCTION billing.usage_totals_of_shards, billing.usage_breakdown_of_shards FROM PUBLIC;
GRANT EXECUTE ON FUNCTION billing.usage_totals_of_shards, billing.usage_breakdown_of_shards TO biller;
GRANT SELECT ON billing.usage_totals, billing.usage_breakdown_totals TO biller;
