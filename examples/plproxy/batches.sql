-- The proxy's batches. PL/Proxy splits the arrays by account, and each shard counts its part. One
-- more array, which has the caller's item numbers, is split with the others.
CREATE FUNCTION billing.increment_usage_batch_of_shards(
    p_items integer[], p_account_ids uuid[], p_tokens bigint[], p_idempotency_keys text[],
    p_is_report boolean[], p_is_chat boolean[], p_occurred_at timestamptz[])
RETURNS TABLE (item integer, outcome text, tokens_used bigint,
               period_start timestamptz, period_end timestamptz, detail text, sqlstate text)
LANGUAGE plproxy AS $$
    CLUSTER 'usage_shards';
    SPLIT ALL;
    RUN ON hashtext(coalesce(p_account_ids::text, ''));
    SELECT (p_items)[b.item] AS item, b.outcome, b.tokens_used, b.period_start, b.period_end, b.detail, b.sqlstate
      FROM billing.increment_usage_batch(p_account_ids, p_tokens, p_idempotency_keys,
                                         p_is_report, p_is_chat, p_occurred_at) AS b;
$$;

-- An omitted array becomes an array of NULLs, because PL/Proxy cannot split a NULL.
CREATE FUNCTION billing.increment_usage_batch(
    p_account_ids uuid[], p_tokens bigint[], p_idempotency_keys text[],
    p_is_report boolean[] DEFAULT NULL, p_is_chat boolean[] DEFAULT NULL,
    p_occurred_at timestamptz[] DEFAULT NULL)
RETURNS TABLE (item integer, outcome text, tokens_used bigint,
               period_start timestamptz, period_end timestamptz, detail text, sqlstate text)
LANGUAGE sql AS $$
    SELECT *
      FROM billing.increment_usage_batch_of_shards(
               ARRAY(SELECT generate_series(1, cardinality(p_account_ids))),
               p_account_ids, p_tokens, p_idempotency_keys,
               coalesce(p_is_report, array_fill(NULL::boolean, ARRAY[cardinality(p_account_ids)])),
               coalesce(p_is_chat, array_fill(NULL::boolean, ARRAY[cardinality(p_account_ids)])),
               coalesce(p_occurred_at, array_fill(NULL::timestamptz, ARRAY[cardinality(p_account_ids)])))
     ORDER BY 1
$$;

CREATE FUNCTION billing.record_usage_batch_of_shards(
    p_items integer[], p_account_ids uuid[], p_idempotency_keys text[], p_models text[], p_scopes text[],
    p_input_tokens bigint[], p_cache_read_tokens bigint[], p_cache_write_tokens bigint[],
    p_output_tokens bigint[], p_reasoning_tokens bigint[], p_cost_nanos bigint[],
    p_is_report boolean[], p_is_chat boolean[], p_occurred_at timestamptz[])
RETURNS TABLE (item integer, outcome text, tokens_used bigint,
               period_start timestamptz, period_end timestamptz, detail text, sqlstate text)
LANGUAGE plproxy AS $$
    CLUSTER 'usage_shards';
    SPLIT ALL;
    RUN ON hashtext(coalesce(p_account_ids::text, ''));
    SELECT (p_items)[b.item] AS item, b.outcome, b.tokens_used, b.period_start, b.period_end, b.detail, b.sqlstate
      FROM billing.record_usage_batch(p_account_ids, p_idempotency_keys, p_models, p_scopes,
                                      p_input_tokens, p_cache_read_tokens, p_cache_write_tokens,
                                      p_output_tokens, p_reasoning_tokens, p_cost_nanos,
                                      p_is_report, p_is_chat, p_occurred_at) AS b;
$$;

CREATE FUNCTION billing.record_usage_batch(
    p_account_ids uuid[], p_idempotency_keys text[],
    p_models text[] DEFAULT NULL, p_scopes text[] DEFAULT NULL,
    p_input_tokens bigint[] DEFAULT NULL, p_cache_read_tokens bigint[] DEFAULT NULL,
    p_cache_write_tokens bigint[] DEFAULT NULL, p_output_tokens bigint[] DEFAULT NULL,
    p_reasoning_tokens bigint[] DEFAULT NULL, p_cost_nanos bigint[] DEFAULT NULL,
    p_is_report boolean[] DEFAULT NULL, p_is_chat boolean[] DEFAULT NULL,
    p_occurred_at timestamptz[] DEFAULT NULL)
RETURNS TABLE (item integer, outcome text, tokens_used bigint,
               period_start timestamptz, period_end timestamptz, detail text, sqlstate text)
LANGUAGE sql AS $$
    SELECT b.*
      FROM (SELECT array_fill(''::text, size) AS names, array_fill(0::bigint, size) AS zeros,
                   array_fill(false, size) AS flags, array_fill(NULL::timestamptz, size) AS times
              FROM (SELECT ARRAY[cardinality(p_account_ids)] AS size) AS s) AS d
     CROSS JOIN LATERAL billing.record_usage_batch_of_shards(
               ARRAY(SELECT generate_series(1, cardinality(p_account_ids))),
               p_account_ids, p_idempotency_keys,
               coalesce(p_models, d.names), coalesce(p_scopes, d.names),
               coalesce(p_input_tokens, d.zeros), coalesce(p_cache_read_tokens, d.zeros),
               coalesce(p_cache_write_tokens, d.zeros), coalesce(p_output_tokens, d.zeros),
               coalesce(p_reasoning_tokens, d.zeros), coalesce(p_cost_nanos, d.zeros),
               coalesce(p_is_report, d.flags), coalesce(p_is_chat, d.flags),
               coalesce(p_occurred_at, d.times)) AS b
     ORDER BY 1
$$;

REVOKE ALL ON FUNCTION billing.increment_usage_batch, billing.increment_usage_batch_of_shards,
                       billing.record_usage_batch, billing.record_usage_batch_of_shards FROM PUBLIC;
GRANT EXECUTE ON FUNCTION billing.increment_usage_batch, billing.increment_usage_batch_of_shards,
                          billing.record_usage_batch, billing.record_usage_batch_of_shards TO worker;
