-- Ways in which a competent engineer counts usage in hand-written SQL: (a) to (c), (d)
-- under a limit, and (e) with a breakdown. Each has its own tables, with the columns, indexes and storage parameters
-- of usage_periods and usage_events.
--
-- None of them opens a period, detects a conflict, or answers a retry from the period in
-- which the event was counted. So their task is easier.

DO $do$
DECLARE
    name text;
    parameters text;
BEGIN
    FOREACH name IN ARRAY '{a,b,c,d,e}'::text[] LOOP
        EXECUTE format('CREATE TABLE %s_periods (LIKE usage_periods INCLUDING ALL)', name);
        EXECUTE format('CREATE TABLE %s_events (LIKE usage_events INCLUDING ALL)', name);
        -- They close no periods.
        EXECUTE format('DROP INDEX %s_events_account_id_period_start_idx', name);
        SELECT array_to_string(reloptions, ', ') INTO parameters FROM pg_class WHERE oid = 'usage_periods'::regclass;
        EXECUTE format('ALTER TABLE %s_periods SET (%s)', name, parameters);
        SELECT array_to_string(reloptions, ', ') INTO parameters FROM pg_class WHERE oid = 'usage_events'::regclass;
        EXECUTE format('ALTER TABLE %s_events SET (%s)', name, parameters);
    END LOOP;
END
$do$;

-- (a) Check that the key is new, lock the counter, add, insert the key.
CREATE FUNCTION a_increment(p_account_id uuid, p_tokens bigint, p_key text)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_start timestamptz;
    v_used bigint;
BEGIN
    IF EXISTS (SELECT FROM a_events WHERE account_id = p_account_id AND idempotency_key = p_key) THEN
        SELECT tokens_used INTO v_used FROM a_periods
         WHERE account_id = p_account_id AND period_start <= now() AND period_end > now();
        RETURN v_used;
    END IF;
    SELECT period_start INTO v_start FROM a_periods
     WHERE account_id = p_account_id AND period_start <= now() AND period_end > now() FOR UPDATE;
    UPDATE a_periods SET tokens_used = tokens_used + p_tokens
     WHERE account_id = p_account_id AND period_start = v_start
    RETURNING tokens_used INTO v_used;
    INSERT INTO a_events (account_id, period_start, occurred_at, tokens, reports, chats, idempotency_key)
    VALUES (p_account_id, v_start, now(), p_tokens, 0, 0, p_key);
    RETURN v_used;
END $$;

-- (b) Insert the key; if it was new, add.
CREATE FUNCTION b_increment(p_account_id uuid, p_tokens bigint, p_key text)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_start timestamptz;
    v_used bigint;
BEGIN
    SELECT period_start, tokens_used INTO v_start, v_used FROM b_periods
     WHERE account_id = p_account_id AND period_start <= now() AND period_end > now();
    INSERT INTO b_events (account_id, period_start, occurred_at, tokens, reports, chats, idempotency_key)
    VALUES (p_account_id, v_start, now(), p_tokens, 0, 0, p_key)
    ON CONFLICT DO NOTHING;
    IF FOUND THEN
        UPDATE b_periods SET tokens_used = tokens_used + p_tokens
         WHERE account_id = p_account_id AND period_start = v_start
        RETURNING tokens_used INTO v_used;
    END IF;
    RETURN v_used;
END $$;

-- (c) is one statement, sent by the client: see bench.py.

-- (d) keeps to a limit: lock the limit, add up what is used and held, insert a hold. To count is
-- (b), which also gives the hold back. Holds do not expire, so its task is easier too.
CREATE TABLE d_limits (account_id uuid PRIMARY KEY, token_limit bigint NOT NULL, tokens_held bigint NOT NULL DEFAULT 0) WITH (fillfactor = 50);
CREATE TABLE d_holds (account_id uuid, idempotency_key text, tokens bigint NOT NULL, PRIMARY KEY (account_id, idempotency_key));

CREATE FUNCTION d_reserve(p_account_id uuid, p_tokens bigint, p_key text, OUT outcome text)
LANGUAGE plpgsql AS $$
DECLARE
    v_limit bigint;
    v_held bigint;
    v_used bigint;
BEGIN
    SELECT token_limit, tokens_held INTO v_limit, v_held FROM d_limits WHERE account_id = p_account_id FOR UPDATE;
    SELECT tokens_used INTO v_used FROM d_periods
     WHERE account_id = p_account_id AND period_start <= now() AND period_end > now();
    IF v_used + v_held + p_tokens > v_limit THEN
        outcome := 'limit_reached';
        RETURN;
    END IF;
    INSERT INTO d_holds VALUES (p_account_id, p_key, p_tokens) ON CONFLICT DO NOTHING;
    IF FOUND THEN
        UPDATE d_limits SET tokens_held = tokens_held + p_tokens WHERE account_id = p_account_id;
    END IF;
    outcome := 'reserved';
END $$;

CREATE FUNCTION d_increment(p_account_id uuid, p_tokens bigint, p_key text)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_start timestamptz;
    v_used bigint;
    v_held bigint;
BEGIN
    PERFORM 1 FROM d_limits WHERE account_id = p_account_id FOR UPDATE;
    SELECT period_start, tokens_used INTO v_start, v_used FROM d_periods
     WHERE account_id = p_account_id AND period_start <= now() AND period_end > now();
    INSERT INTO d_events (account_id, period_start, occurred_at, tokens, reports, chats, idempotency_key)
    VALUES (p_account_id, v_start, now(), p_tokens, 0, 0, p_key)
    ON CONFLICT DO NOTHING;
    IF FOUND THEN
        DELETE FROM d_holds WHERE account_id = p_account_id AND idempotency_key = p_key RETURNING tokens INTO v_held;
        UPDATE d_limits SET tokens_held = tokens_held - COALESCE(v_held, 0) WHERE account_id = p_account_id;
        UPDATE d_periods SET tokens_used = tokens_used + p_tokens
         WHERE account_id = p_account_id AND period_start = v_start
        RETURNING tokens_used INTO v_used;
    END IF;
    RETURN v_used;
END $$;

-- (e) keeps a breakdown: (b), which also adds to the row of the model and the team. It has no
-- limit on their number, and no other way to count the tokens than their sum.
ALTER TABLE e_events DROP COLUMN breakdown, ADD COLUMN scope text NOT NULL, ADD COLUMN model text NOT NULL,
    ADD COLUMN input_tokens bigint NOT NULL, ADD COLUMN cache_read_tokens bigint NOT NULL, ADD COLUMN cache_write_tokens bigint NOT NULL,
    ADD COLUMN output_tokens bigint NOT NULL, ADD COLUMN reasoning_tokens bigint NOT NULL, ADD COLUMN cost_nanos bigint NOT NULL;
CREATE TABLE e_breakdown (LIKE usage_breakdown INCLUDING ALL) WITH (fillfactor = 50);

CREATE FUNCTION e_record(p_account_id uuid, p_key text, p_model text, p_scope text, p_input bigint, p_cache_read bigint,
                         p_cache_write bigint, p_output bigint, p_reasoning bigint, p_cost bigint)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_tokens bigint := p_input + p_cache_read + p_cache_write + p_output + p_reasoning;
    v_start timestamptz;
    v_used bigint;
BEGIN
    SELECT period_start, tokens_used INTO v_start, v_used FROM e_periods
     WHERE account_id = p_account_id AND period_start <= now() AND period_end > now();
    INSERT INTO e_events (account_id, period_start, occurred_at, tokens, reports, chats, idempotency_key, scope, model, input_tokens,
                          cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cost_nanos)
    VALUES (p_account_id, v_start, now(), v_tokens, 0, 0, p_key, p_scope, p_model, p_input,
            p_cache_read, p_cache_write, p_output, p_reasoning, p_cost)
    ON CONFLICT DO NOTHING;
    IF FOUND THEN
        UPDATE e_periods SET tokens_used = tokens_used + v_tokens
         WHERE account_id = p_account_id AND period_start = v_start
        RETURNING tokens_used INTO v_used;
        INSERT INTO e_breakdown AS b (account_id, period_start, scope, model, input_tokens, cache_read_tokens, cache_write_tokens,
                                      output_tokens, reasoning_tokens, cost_nanos, events)
        VALUES (p_account_id, v_start, p_scope, p_model, p_input, p_cache_read, p_cache_write, p_output, p_reasoning, p_cost, 1)
        ON CONFLICT (account_id, period_start, scope, model) DO UPDATE
           SET input_tokens = b.input_tokens + excluded.input_tokens, cache_read_tokens = b.cache_read_tokens + excluded.cache_read_tokens,
               cache_write_tokens = b.cache_write_tokens + excluded.cache_write_tokens, output_tokens = b.output_tokens + excluded.output_tokens,
               reasoning_tokens = b.reasoning_tokens + excluded.reasoning_tokens, cost_nanos = b.cost_nanos + excluded.cost_nanos,
               events = b.events + excluded.events;
    END IF;
    RETURN v_used;
END $$;
