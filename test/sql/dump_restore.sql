-- A dump and restore keeps everything: accounts, totals and keys.
SET timezone = 'UTC';
\set a '''77777777-0000-0000-0000-000000000001'''
\set b '''77777777-0000-0000-0000-000000000002'''
SELECT period_length FROM set_usage_cycle(:a, '7 days', NULL, 'Europe/Berlin');
SELECT outcome, tokens_used FROM increment_usage(:a, 50000, 'kept', true);
SELECT tokens_used FROM open_usage_period(:a, '2020-01-01', '2020-02-01', 123, 4, 5);
INSERT INTO usage_pending SELECT account_id, period_start, 0, 0, 0 FROM usage_periods WHERE account_id = :a;
SELECT outcome FROM record_usage(:a, 'broken down', 'model', 'team/user', 1, 2, 3, 4, 5, -6);
SET usage_ledger.settlement = 'deferred';
SELECT outcome FROM record_usage(:a, 'broken down, pending', E'back\\slash', 'team/user', 1);
RESET usage_ledger.settlement;
SELECT count(*) FROM set_usage_limit(:a, 60000);
SELECT outcome, tokens_remaining FROM reserve_usage(:a, 4000, 'held');
SELECT md5(string_agg(r, E'\n' ORDER BY r COLLATE "C")) AS digest
  FROM (SELECT a::text AS r FROM usage_accounts AS a UNION ALL SELECT p::text FROM usage_periods AS p
        UNION ALL SELECT e::text FROM usage_events AS e UNION ALL SELECT q::text FROM usage_pending AS q
        UNION ALL SELECT b::text FROM usage_breakdown AS b
        UNION ALL SELECT l::text FROM usage_limits AS l UNION ALL SELECT h::text FROM usage_holds AS h) AS rows \gset before_

CREATE DATABASE usage_ledger_restored;
\setenv SOURCE :DBNAME
\! pg_dump -d "$SOURCE" | psql -X -q -v ON_ERROR_STOP=1 -d usage_ledger_restored > /dev/null
\c usage_ledger_restored
SET timezone = 'UTC';
SELECT md5(string_agg(r, E'\n' ORDER BY r COLLATE "C")) = :'before_digest' AS same_rows
  FROM (SELECT a::text AS r FROM usage_accounts AS a UNION ALL SELECT p::text FROM usage_periods AS p
        UNION ALL SELECT e::text FROM usage_events AS e UNION ALL SELECT q::text FROM usage_pending AS q
        UNION ALL SELECT b::text FROM usage_breakdown AS b
        UNION ALL SELECT l::text FROM usage_limits AS l UNION ALL SELECT h::text FROM usage_holds AS h) AS rows;
SELECT outcome, tokens_used FROM increment_usage(:a, 50000, 'kept', true);
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'new');
SELECT outcome FROM record_usage(:a, 'broken down, pending', E'back\\slash', 'team/user', 1);
SELECT outcome, tokens_remaining FROM reserve_usage(:a, 6000, 'too much');
SELECT outcome, tokens_remaining FROM reserve_usage(:a, 4000, 'held');
SELECT settle_usage() > 0 AS settled;
SELECT scope, model, input_tokens, cost_nanos, events FROM usage_breakdown ORDER BY 1, 2;
SELECT count(*) FROM verify_usage();
SELECT relname, relrowsecurity FROM pg_class WHERE relname LIKE 'usage\_%' AND relkind = 'r' ORDER BY 1;
\getenv source SOURCE
\c :source
DROP DATABASE usage_ledger_restored;
DELETE FROM usage_pending WHERE account_id = :a;

-- Keys of the longest kind, counted in a database of another encoding and restored into UTF8,
-- where they take more bytes than a new key may. Retries and voids find them.
CREATE DATABASE usage_ledger_latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0;
CREATE DATABASE usage_ledger_win1252 ENCODING 'WIN1252' LOCALE 'C' TEMPLATE template0;
CREATE DATABASE usage_ledger_restored ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0;
\c usage_ledger_latin1
CREATE EXTENSION usage_ledger;
SELECT outcome, tokens_used FROM increment_usage(:a, 10, repeat(U&'\00fc', 128));
SELECT outcome, tokens_used FROM increment_usage(:a, 10, repeat(U&'\00fc', 255));
SELECT outcome, tokens_used FROM void_usage(:a, repeat(U&'\00fc', 255), repeat(U&'\00fc', 501));
SELECT outcome FROM record_usage(:a, 'names', repeat(U&'\00fc', 255), repeat(U&'\00fc', 255), 7);
\c usage_ledger_win1252
CREATE EXTENSION usage_ledger;
SELECT outcome, tokens_used FROM increment_usage(:b, 10, repeat(U&'\20ac', 255));
\! pg_dump -d usage_ledger_latin1 | psql -X -q -v ON_ERROR_STOP=1 -d usage_ledger_restored > /dev/null
\! pg_dump -d usage_ledger_win1252 --data-only | psql -X -q -v ON_ERROR_STOP=1 -d usage_ledger_restored > /dev/null
\c usage_ledger_restored
SELECT count(*), max(octet_length(idempotency_key)) FROM usage_events;
SELECT outcome, tokens_used FROM increment_usage(:a, 10, repeat(U&'\00fc', 128));
SELECT outcome, tokens_used FROM increment_usage(:b, 10, repeat(U&'\20ac', 255));
SELECT outcome, tokens_used FROM increment_usage_batch(ARRAY[:a, :a, :a]::uuid[], '{10,11,-1}', ARRAY[repeat(U&'\00fc', 255), repeat(U&'\00fc', 128), repeat(U&'\00fc', 128)]);
SELECT outcome, tokens_used FROM void_usage(:a, repeat(U&'\00fc', 128), 'restored');
SELECT outcome, tokens_used FROM void_usage(:a, repeat(U&'\00fc', 128), 'restored');
SELECT outcome, tokens_used FROM void_usage(:a, repeat(U&'\00fc', 255), repeat(U&'\00fc', 501));
SELECT outcome, tokens_used FROM record_usage(:a, 'names', repeat(U&'\00fc', 255), repeat(U&'\00fc', 255), 7);
SELECT outcome FROM record_usage_batch(ARRAY[:a]::uuid[], '{names}', ARRAY[repeat(U&'\00fc', 255)], ARRAY[repeat(U&'\00fc', 255)], '{7}');
SELECT outcome, tokens_used FROM void_usage(:a, 'names', 'restored');
\set VERBOSITY sqlstate
SELECT record_usage(:a, 'new names', repeat(U&'\00fc', 255), repeat(U&'\00fc', 255), 7);
SELECT increment_usage(:a, 11, repeat(U&'\00fc', 255));
SELECT increment_usage(:a, -1, repeat(U&'\00fc', 255));
-- A new event needs a key within the limit.
SELECT increment_usage(:a, 10, repeat(U&'\00fc', 129));
SELECT increment_usage(:a, 10, repeat('k', 765));
SELECT increment_usage(:a, 10, repeat('k', 766));
SELECT void_usage(:a, repeat(U&'\00fc', 129), 'unknown');
\set VERBOSITY default
SELECT outcome, detail FROM increment_usage_batch(ARRAY[:a, :a]::uuid[], '{10,10}', ARRAY[repeat('k', 256), repeat('k', 256)]);
SELECT count(*) FROM verify_usage();
\c :source
DROP DATABASE usage_ledger_restored;
DROP DATABASE usage_ledger_latin1;
DROP DATABASE usage_ledger_win1252;
