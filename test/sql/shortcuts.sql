-- Single calls find and write their rows without the executor only where the ledger alone decides
-- about them. Whatever else has a say is heard.
\set VERBOSITY terse
\set a '''5c000000-0000-0000-0000-000000000001'''
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'first');

-- Rights and row security of the functions' owner,
BEGIN;
CREATE ROLE shortcuts_owner;
GRANT SELECT, INSERT, UPDATE ON usage_accounts, usage_periods, usage_events, usage_pending TO shortcuts_owner;
SELECT format('GRANT USAGE, CREATE ON SCHEMA %I TO shortcuts_owner', current_schema()) \gexec
ALTER FUNCTION increment_usage OWNER TO shortcuts_owner;
CREATE POLICY shortcuts_accounts ON usage_accounts TO shortcuts_owner USING (true);
CREATE POLICY shortcuts_read ON usage_periods FOR SELECT TO shortcuts_owner USING (true);
SAVEPOINT before;
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'row security of events');
ROLLBACK TO before;
CREATE POLICY shortcuts_events ON usage_events TO shortcuts_owner USING (true);
CREATE POLICY shortcuts_pending ON usage_pending TO shortcuts_owner USING (false);
SAVEPOINT before;
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'row security of periods');
ROLLBACK TO before;
CREATE POLICY shortcuts_update ON usage_periods FOR UPDATE TO shortcuts_owner USING (true);
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'second');
SET LOCAL usage_ledger.settlement = 'deferred';
SAVEPOINT before;
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'row security of pending rows');
ROLLBACK TO before;
RESET usage_ledger.settlement;
REVOKE UPDATE ON usage_periods FROM shortcuts_owner;
SAVEPOINT before;
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'no right to update');
ROLLBACK TO before;
REVOKE INSERT ON usage_events FROM shortcuts_owner;
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'no right to insert');
ROLLBACK;

-- a transaction that only reads,
BEGIN READ ONLY;
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'read only');
ROLLBACK;

-- triggers, rules and constraints, which a superuser can create in spite of the guard,
BEGIN;
SET LOCAL session_replication_role = replica;
CREATE FUNCTION shortcuts_tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE '% of %', TG_OP, TG_TABLE_NAME; RETURN NULL; END $$;
CREATE TRIGGER shortcuts_tell AFTER INSERT ON usage_events FOR EACH STATEMENT EXECUTE FUNCTION shortcuts_tell();
CREATE TRIGGER shortcuts_tell AFTER UPDATE ON usage_periods FOR EACH ROW EXECUTE FUNCTION shortcuts_tell();
CREATE TRIGGER shortcuts_tell AFTER INSERT ON usage_pending FOR EACH ROW EXECUTE FUNCTION shortcuts_tell();
SET LOCAL session_replication_role = origin;
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'triggers');
SET LOCAL usage_ledger.settlement = 'deferred';
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'triggers, deferred');
ROLLBACK;
BEGIN;
SET LOCAL session_replication_role = replica;
CREATE RULE shortcuts_tell AS ON INSERT TO usage_pending DO ALSO NOTIFY shortcuts;
ALTER TABLE usage_events ADD CONSTRAINT few_tokens CHECK (tokens < 100);
SET LOCAL session_replication_role = origin;
SELECT outcome, tokens_used FROM increment_usage(:a, 100, 'constraint');
ROLLBACK;

-- columns,
BEGIN;
SET LOCAL session_replication_role = replica;
ALTER TABLE usage_events ADD COLUMN noted text DEFAULT 'by default';
SET LOCAL session_replication_role = origin;
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'column');
SELECT noted FROM usage_events WHERE idempotency_key = 'column';
ROLLBACK;
-- and indexes, also where an update needs new entries.
BEGIN;
CREATE INDEX shortcuts_events ON usage_events (upper(idempotency_key)) WHERE tokens > 5;
CREATE INDEX shortcuts_periods ON usage_periods (tokens_used);
SELECT outcome, tokens_used FROM increment_usage(:a, 6, 'Index');
SET LOCAL enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT tokens FROM usage_events WHERE upper(idempotency_key) = 'INDEX' AND tokens > 5;
SELECT tokens FROM usage_events WHERE upper(idempotency_key) = 'INDEX' AND tokens > 5;
SELECT account_id FROM usage_periods WHERE tokens_used = 7;
ROLLBACK;
BEGIN;
SELECT max(tokens_used) FROM generate_series(1, 500) AS n, increment_usage(:a, 1, 'new page ' || n);
ROLLBACK;
SELECT outcome, tokens_used FROM increment_usage(:a, 1, 'last');
SELECT * FROM verify_usage();
