-- The call as a REST gateway issues it: named arguments from a JSON body, in a LATERAL
-- subquery, under SET LOCAL ROLE. It returns one JSON object.
CREATE ROLE usage_service;
GRANT EXECUTE ON FUNCTION increment_usage TO usage_service;

\set body '{"p_account_id": "88888888-0000-0000-0000-000000000001", "p_tokens": 50000, "p_idempotency_key": "run-1:step-1", "p_is_report": true}'
PREPARE rpc (json) AS
WITH payload AS (SELECT $1 AS json_data)
SELECT pg_catalog.row_to_json(call) AS body
  FROM (SELECT rpc.*
          FROM (SELECT * FROM payload, LATERAL pg_catalog.json_to_record(payload.json_data)
                    AS _(p_account_id uuid, p_tokens bigint, p_idempotency_key text, p_is_report boolean)) AS arguments,
               LATERAL public.increment_usage(
                   p_account_id => arguments.p_account_id,
                   p_tokens => arguments.p_tokens,
                   p_idempotency_key => arguments.p_idempotency_key,
                   p_is_report => arguments.p_is_report) AS rpc) AS call;

BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
SELECT set_config('search_path', '"public", "extensions"', true), set_config('role', 'usage_service', true),
       set_config('request.jwt.claims', '{"role":"usage_service"}', true) \gset
EXECUTE rpc(:'body') \gset
SELECT :'body'::json ->> 'outcome' AS outcome, :'body'::json ->> 'tokens_used' AS tokens_used,
       (SELECT string_agg(k, ', ') FROM json_object_keys(:'body'::json) AS k) AS keys;
COMMIT;

-- The retry.
\set body '{"p_account_id": "88888888-0000-0000-0000-000000000001", "p_tokens": 50000, "p_idempotency_key": "run-1:step-1", "p_is_report": true}'
BEGIN;
SET LOCAL ROLE usage_service;
EXECUTE rpc(:'body') \gset
SELECT :'body'::json ->> 'outcome' AS outcome, :'body'::json ->> 'tokens_used' AS tokens_used;
COMMIT;

-- The same key with another amount is an error with a SQLSTATE, and the transaction has failed.
\set body '{"p_account_id": "88888888-0000-0000-0000-000000000001", "p_tokens": 1, "p_idempotency_key": "run-1:step-1", "p_is_report": true}'
\set VERBOSITY sqlstate
BEGIN;
SET LOCAL ROLE usage_service;
EXECUTE rpc(:'body');
ROLLBACK;
\set VERBOSITY default

-- The call in the select list, with positional arguments, and its row expanded.
SELECT outcome, tokens_used FROM (SELECT (increment_usage('88888888-0000-0000-0000-000000000001', 5, 'scalar')).*) AS expanded;
SELECT (r).outcome, (r).tokens_used FROM (SELECT increment_usage('88888888-0000-0000-0000-000000000001', 5, 'scalar 2') AS r OFFSET 0) AS s;

DROP OWNED BY usage_service;
DROP ROLE usage_service;
