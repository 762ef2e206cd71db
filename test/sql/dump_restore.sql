-- A dump and restore keeps everything: accounts, totals and keys.
SET timezone = 'UTC';
\set a '''77777777-0000-0000-0000-000000000001'''
SELECT period_length FROM set_usage_cycle(:a, '7 days', NULL, 'Europe/Berlin');
SELECT outcome, tokens_used FROM increment_usage(:a, 50000, 'kept', true);
SELECT tokens_used FROM open_usage_period(:a, '2020-01-01', '2020-02-01', 123, 4, 5);
INSERT INTO usage_pending SELECT account_id, period_start, 0, 0, 0 FROM usage_periods WHERE account_id = :a;
SELECT md5(string_agg(r, E'\n' ORDER BY r COLLATE "C")) AS digest
  FROM (SELECT a::text AS r FROM usage_accounts AS a UNION ALL SELECT p::text FROM usage_periods AS p
        UNION ALL SELECT e::text FROM usage_events AS e UNION ALL SELECT q::text FROM usage_pending AS q) AS rows \gset before_

CREATE DATABASE usage_ledger_restored;
\setenv SOURCE :DBNAME
\! pg_dump -d "$SOURCE" | psql -X -q -v ON_ERROR_STOP=1 -d usage_ledger_restored > /dev/null
\c usage_ledger_restored
SET timezone = 'UTC';
SELECT md5(string_agg(r, E'\n' ORDER BY r COLLATE "C")) = :'before_digest' AS same_rows
  FROM (SELECT a::text AS r FROM usage_accounts AS a UNION ALL SELECT p::text FROM usage_periods AS p
        UNION ALL SELECT e::text FROM usage_events AS e UNION ALL SELECT q::text FROM usage_pending AS q) AS rows;
SELECT outcome, tokens_used FROM increment_usage(:a, 50000, 'kept', true);
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'new');
SELECT count(*) FROM verify_usage();
SELECT relname, relrowsecurity FROM pg_class WHERE relname LIKE 'usage\_%' AND relkind = 'r' ORDER BY 1;
\getenv source SOURCE
\c :source
DROP DATABASE usage_ledger_restored;
DELETE FROM usage_pending WHERE account_id = :a;
