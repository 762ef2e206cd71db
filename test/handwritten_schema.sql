-- A common hand-written schema, with its holes. The migration in docs/migrating.md
-- starts from it.
CREATE TABLE usage_periods (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id uuid NOT NULL,
    period_start timestamptz NOT NULL,
    period_end timestamptz NOT NULL,
    tokens_used integer NOT NULL DEFAULT 0,
    reports_used integer NOT NULL DEFAULT 0,
    chats_used integer NOT NULL DEFAULT 0
);
CREATE TABLE usage_events (
    idempotency_key text PRIMARY KEY,
    account_id uuid NOT NULL,
    tokens integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE FUNCTION increment_usage(p_account_id uuid, p_tokens integer, p_is_report boolean, p_is_chat boolean)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE usage_periods
       SET tokens_used = tokens_used + p_tokens,
           reports_used = reports_used + p_is_report::integer, chats_used = chats_used + p_is_chat::integer
     WHERE account_id = p_account_id AND period_start <= now() AND period_end > now();
END $$;
CREATE FUNCTION increment_usage(p_account_id uuid, p_tokens integer, p_idempotency_key text)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM usage_events WHERE idempotency_key = p_idempotency_key) THEN
        RETURN;
    END IF;
    UPDATE usage_periods SET tokens_used = tokens_used + p_tokens
     WHERE account_id = p_account_id AND period_start <= now() AND period_end > now();
    INSERT INTO usage_events (idempotency_key, account_id, tokens) VALUES (p_idempotency_key, p_account_id, p_tokens);
END $$;
GRANT SELECT, INSERT, UPDATE ON usage_periods, usage_events TO worker;
