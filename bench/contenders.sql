-- Ways in which a competent engineer counts usage in hand-written SQL: (a) to (c), and (d)
-- under a limit. Each has its own tables, with the columns, indexes and storage parameters
-- of usage_periods and usage_events.
--
-- None of them opens a period, detects a conflict, or answers a retry from the period in
-- which the event was counted. So their task is easier.

DO $do$
DECLARE
    name text;
    parameters text;
BEGIN
    FOREACH name IN ARRAY '{a,b,c,d}'::text[] LOOP
        EXECUTE format('CREATE TABLE %s_periods (LIKE usage_periods INCLUDING ALL)', name);
        EXECUTE format('CREATE TABLE %s_events (LIKE usage_events INCLUDING ALL)', name);
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
