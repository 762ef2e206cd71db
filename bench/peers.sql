-- What users of other designs would run to count an event, in statements of our own. What each leaves
-- undone is in peers.py. All keys are text and all counters start with a row for each account.

-- Two-sided ledger as in pgledger: lock both accounts in order, move the balance, insert a transfer and two entries.
CREATE TABLE double_entry_accounts (id uuid PRIMARY KEY, balance numeric NOT NULL DEFAULT 0, version bigint NOT NULL DEFAULT 0,
                                    updated_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE double_entry_transfers (id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
                                     from_account uuid NOT NULL REFERENCES double_entry_accounts, to_account uuid NOT NULL REFERENCES double_entry_accounts,
                                     amount numeric NOT NULL CHECK (amount > 0), created_at timestamptz NOT NULL DEFAULT now(), metadata jsonb);
CREATE INDEX ON double_entry_transfers (from_account);
CREATE INDEX ON double_entry_transfers (to_account);
CREATE INDEX ON double_entry_transfers (created_at);
CREATE TABLE double_entry_entries (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), account uuid NOT NULL REFERENCES double_entry_accounts,
                                   transfer uuid NOT NULL REFERENCES double_entry_transfers, amount numeric NOT NULL,
                                   balance_after numeric NOT NULL, version bigint NOT NULL, created_at timestamptz NOT NULL DEFAULT now());
CREATE INDEX ON double_entry_entries (account);
CREATE INDEX ON double_entry_entries (transfer);
INSERT INTO double_entry_accounts SELECT account_id FROM usage_accounts;
INSERT INTO double_entry_accounts VALUES (md5('revenue')::uuid);

CREATE FUNCTION double_entry_count(p_account uuid, p_tokens bigint, p_key text) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE
    v_revenue CONSTANT uuid := md5('revenue')::uuid;
    v_transfer uuid;
    v_payer double_entry_accounts;
    v_payee double_entry_accounts;
BEGIN
    PERFORM 1 FROM double_entry_accounts WHERE id IN (p_account, v_revenue) ORDER BY id FOR UPDATE;
    UPDATE double_entry_accounts SET balance = balance - p_tokens, version = version + 1, updated_at = now()
     WHERE id = p_account RETURNING * INTO v_payer;
    UPDATE double_entry_accounts SET balance = balance + p_tokens, version = version + 1, updated_at = now()
     WHERE id = v_revenue RETURNING * INTO v_payee;
    INSERT INTO double_entry_transfers (from_account, to_account, amount, metadata)
    VALUES (p_account, v_revenue, p_tokens, jsonb_build_object('key', p_key)) RETURNING id INTO v_transfer;
    INSERT INTO double_entry_entries (account, transfer, amount, balance_after, version)
    VALUES (p_account, v_transfer, -p_tokens, v_payer.balance, v_payer.version),
           (v_revenue, v_transfer, p_tokens, v_payee.balance, v_payee.version);
    RETURN -v_payer.balance;
END $$;

-- A gateway's spend update as in LiteLLM: a log row, which a retry does not repeat; then key, user and team, which it does.
CREATE TABLE spend_log (request_id text PRIMARY KEY, key_id uuid NOT NULL, user_id uuid NOT NULL, team_id integer NOT NULL,
                        tokens bigint NOT NULL, spend double precision NOT NULL, started_at timestamptz NOT NULL DEFAULT now(), metadata jsonb NOT NULL DEFAULT '{}');
CREATE INDEX ON spend_log (started_at);
CREATE TABLE spend_keys (id uuid PRIMARY KEY, user_id uuid NOT NULL, team_id integer NOT NULL, spend double precision NOT NULL DEFAULT 0);
CREATE TABLE spend_users (id uuid PRIMARY KEY, spend double precision NOT NULL DEFAULT 0);
CREATE TABLE spend_teams (id integer PRIMARY KEY, spend double precision NOT NULL DEFAULT 0);
INSERT INTO spend_teams SELECT generate_series(0, 99);
INSERT INTO spend_users SELECT account_id FROM usage_accounts;
INSERT INTO spend_keys SELECT account_id, account_id, row_number() OVER () % 100 FROM usage_accounts;

CREATE FUNCTION spend_count(p_account uuid, p_tokens bigint, p_key text) RETURNS double precision LANGUAGE plpgsql AS $$
DECLARE
    v_user uuid;
    v_team integer;
    v_spend double precision;
BEGIN
    SELECT user_id, team_id INTO v_user, v_team FROM spend_keys WHERE id = p_account;
    INSERT INTO spend_log (request_id, key_id, user_id, team_id, tokens, spend)
    VALUES (p_key, p_account, v_user, v_team, p_tokens, p_tokens) ON CONFLICT DO NOTHING;
    UPDATE spend_keys SET spend = spend + p_tokens WHERE id = p_account RETURNING spend INTO v_spend;
    UPDATE spend_users SET spend = spend + p_tokens WHERE id = v_user;
    UPDATE spend_teams SET spend = spend + p_tokens WHERE id = v_team;
    RETURN v_spend;
END $$;

-- Two-sided ledger as in Formance's: volumes of both sides, the transaction under a unique reference, two moves, a log.
-- Its own tables also have triggers, which keep a history and a chain of hashes.
CREATE TABLE volumes (account text PRIMARY KEY, input numeric NOT NULL, output numeric NOT NULL);
CREATE TABLE volume_transactions (id bigserial PRIMARY KEY, reference text NOT NULL UNIQUE, postings jsonb NOT NULL, created_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE volume_moves (id bigserial PRIMARY KEY, transaction_id bigint NOT NULL, account text NOT NULL, is_source boolean NOT NULL,
                           amount numeric NOT NULL, input_after numeric NOT NULL, output_after numeric NOT NULL, created_at timestamptz NOT NULL DEFAULT now());
CREATE INDEX ON volume_moves (account, created_at);
CREATE INDEX ON volume_moves (transaction_id);
CREATE TABLE volume_log (id bigserial PRIMARY KEY, idempotency_key text UNIQUE, data jsonb NOT NULL, created_at timestamptz NOT NULL DEFAULT now());
INSERT INTO volumes SELECT account_id, 0, 0 FROM usage_accounts;
INSERT INTO volumes VALUES ('world', 0, 0);

CREATE FUNCTION volume_count(p_account uuid, p_tokens bigint, p_key text) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE
    v_transaction bigint;
    v_input numeric;
    v_postings CONSTANT jsonb := jsonb_build_array(jsonb_build_object('source', 'world', 'destination', p_account, 'amount', p_tokens));
BEGIN
    PERFORM 1 FROM volume_log WHERE idempotency_key = p_key;
    IF FOUND THEN
        RETURN (SELECT input FROM volumes WHERE account = p_account::text);
    END IF;
    INSERT INTO volumes AS v VALUES (p_account::text, p_tokens, 0)
    ON CONFLICT (account) DO UPDATE SET input = v.input + excluded.input RETURNING input INTO v_input;
    INSERT INTO volume_transactions (reference, postings) VALUES (p_key, v_postings) RETURNING id INTO v_transaction;
    INSERT INTO volume_moves (transaction_id, account, is_source, amount, input_after, output_after)
    VALUES (v_transaction, p_account::text, false, p_tokens, v_input, 0);
    WITH world AS (
        INSERT INTO volumes AS v VALUES ('world', 0, p_tokens)
        ON CONFLICT (account) DO UPDATE SET output = v.output + excluded.output RETURNING input, output)
    INSERT INTO volume_moves (transaction_id, account, is_source, amount, input_after, output_after)
    SELECT v_transaction, 'world', true, p_tokens, input, output FROM world;
    INSERT INTO volume_log (idempotency_key, data) VALUES (p_key, v_postings);
    RETURN v_input;
END $$;

-- An events table as in Lago: a unique transaction of a subscription, and no counter. Its own has more indexes, one of them GIN.
CREATE TABLE billing_events (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), organization_id uuid NOT NULL, subscription_id text NOT NULL,
                             transaction_id text NOT NULL, code text NOT NULL, properties jsonb NOT NULL, occurred_at timestamptz NOT NULL DEFAULT now(),
                             UNIQUE (organization_id, subscription_id, transaction_id));
CREATE INDEX ON billing_events (subscription_id, code, occurred_at);

-- A queue as in pgmq: a call only sends. One consumer inserts the keys, adds up and deletes.
CREATE TABLE queue (id bigserial PRIMARY KEY, visible_at timestamptz NOT NULL DEFAULT now(), message jsonb NOT NULL);
CREATE INDEX ON queue (visible_at);
CREATE TABLE queue_events (account_id uuid, key text, tokens bigint NOT NULL, PRIMARY KEY (account_id, key));
CREATE TABLE queue_counters (account_id uuid PRIMARY KEY, tokens bigint NOT NULL DEFAULT 0) WITH (fillfactor = 50);
INSERT INTO queue_counters SELECT account_id FROM usage_accounts;

CREATE FUNCTION queue_consume() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    WITH taken AS (
        DELETE FROM queue WHERE id IN (SELECT id FROM queue WHERE visible_at <= now() ORDER BY id LIMIT 10000 FOR UPDATE SKIP LOCKED)
        RETURNING message),
    event AS (
        INSERT INTO queue_events SELECT (message ->> 'account')::uuid, message ->> 'key', (message ->> 'tokens')::bigint FROM taken
        ON CONFLICT DO NOTHING RETURNING account_id, tokens)
    UPDATE queue_counters AS c SET tokens = c.tokens + e.tokens
      FROM (SELECT account_id, sum(tokens) AS tokens FROM event GROUP BY 1) AS e WHERE e.account_id = c.account_id;
    RETURN (SELECT count(*) FROM (SELECT FROM queue LIMIT 1) AS rest);
END $$;

-- An append-only table with a roll-up: it adds up the events of transactions that have ended since the last one.
CREATE TABLE rolled_events (account_id uuid, key text, tokens bigint NOT NULL, transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
                            PRIMARY KEY (account_id, key));
CREATE INDEX ON rolled_events (transaction);
CREATE TABLE rolled_counters (account_id uuid PRIMARY KEY, tokens bigint NOT NULL DEFAULT 0) WITH (fillfactor = 50);
CREATE TABLE rolled_until (transaction xid8 NOT NULL);
INSERT INTO rolled_until VALUES (pg_snapshot_xmin(pg_current_snapshot()));
INSERT INTO rolled_counters SELECT account_id FROM usage_accounts;

CREATE FUNCTION roll_up() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_from xid8;
    v_until xid8;
BEGIN
    SELECT transaction INTO v_from FROM rolled_until FOR UPDATE;
    v_until := pg_snapshot_xmin(pg_current_snapshot());
    UPDATE rolled_counters AS c SET tokens = c.tokens + e.tokens
      FROM (SELECT account_id, sum(tokens) AS tokens FROM rolled_events
             WHERE transaction >= v_from AND transaction < v_until GROUP BY 1) AS e WHERE e.account_id = c.account_id;
    UPDATE rolled_until SET transaction = v_until;
    RETURN (SELECT count(*) FROM rolled_events WHERE transaction >= v_until);
END $$;

-- No counter at all: only the key's insert.
CREATE TABLE bare_events (account_id uuid, key text, tokens bigint NOT NULL, PRIMARY KEY (account_id, key));
