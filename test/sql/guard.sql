-- What a dump and restore would lose or stumble over is refused when it is made.
DROP EXTENSION usage_ledger;
CREATE SCHEMA billing;
CREATE EXTENSION usage_ledger SCHEMA billing;
SET search_path = billing, public;
CREATE SCHEMA elsewhere;
CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
\set a '''55555555-0000-0000-0000-000000000001'''
SELECT outcome, tokens_used FROM increment_usage(:a, 10, 'k');

-- Columns and constraints, alone or among changes that are allowed.
ALTER TABLE usage_events ADD COLUMN model text;
\set VERBOSITY sqlstate
ALTER TABLE billing.usage_events ADD COLUMN IF NOT EXISTS model text;
ALTER TABLE IF EXISTS ONLY usage_periods SET (fillfactor = 40), ADD plan text;
ALTER TABLE usage_pending DROP COLUMN recorded_at;
ALTER TABLE usage_events ALTER COLUMN reports TYPE bigint;
ALTER TABLE usage_events ALTER COLUMN reports SET DEFAULT 0;
ALTER TABLE usage_events ALTER COLUMN void_reason SET NOT NULL;
ALTER TABLE usage_accounts ADD CHECK (time_zone = 'UTC');
ALTER TABLE usage_events ADD FOREIGN KEY (account_id) REFERENCES usage_accounts;
ALTER TABLE usage_events DROP CONSTRAINT usage_events_pkey;
ALTER TABLE usage_events SET UNLOGGED;
CREATE TABLE public.parent ();
ALTER TABLE usage_events INHERIT public.parent;
ALTER TABLE usage_events RENAME COLUMN tokens TO token_count;
ALTER TABLE usage_events RENAME tokens TO token_count;
ALTER VIEW usage_totals RENAME COLUMN tokens_used TO token_count;
CREATE UNIQUE INDEX ON usage_events (account_id, occurred_at);
CREATE OR REPLACE VIEW usage_totals AS SELECT t.*, 1 AS plan FROM usage_totals AS t;
DO $$ BEGIN EXECUTE 'ALTER TABLE billing.usage_events ADD COLUMN model text'; END $$;

-- Triggers and rules.
\set VERBOSITY default
CREATE TRIGGER note BEFORE INSERT ON usage_events FOR EACH ROW EXECUTE FUNCTION public.note();
\set VERBOSITY sqlstate
CREATE CONSTRAINT TRIGGER note AFTER UPDATE ON usage_periods FOR EACH ROW EXECUTE FUNCTION public.note();
CREATE TRIGGER note INSTEAD OF UPDATE ON usage_totals FOR EACH ROW EXECUTE FUNCTION public.note();
CREATE RULE note AS ON INSERT TO usage_events DO ALSO NOTHING;

-- Other names and schemas, of tables, views and functions.
\set VERBOSITY default
ALTER TABLE usage_events SET SCHEMA elsewhere;
\set VERBOSITY sqlstate
ALTER TABLE usage_pending SET SCHEMA elsewhere;
ALTER VIEW usage_totals SET SCHEMA elsewhere;
ALTER TABLE usage_totals SET SCHEMA elsewhere;
ALTER FUNCTION increment_usage SET SCHEMA elsewhere;
ALTER ROUTINE void_usage(uuid, text, text) SET SCHEMA elsewhere;
ALTER TABLE usage_events RENAME TO events;
ALTER VIEW usage_ledger_stats RENAME TO stats;
ALTER FUNCTION verify_usage(uuid) RENAME TO verify;
\set VERBOSITY default

-- How rows are stored, replicated and protected may change. So may the schema's name.
ALTER TABLE usage_events SET (fillfactor = 90), ALTER COLUMN tokens SET STATISTICS 100, REPLICA IDENTITY DEFAULT;
ALTER TABLE usage_events DISABLE TRIGGER ALL;
ALTER TABLE usage_events ENABLE TRIGGER ALL;
ALTER TABLE usage_events FORCE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY;
CREATE INDEX event_times ON usage_events (occurred_at);
CREATE POLICY own ON usage_events FOR SELECT USING (true);
ALTER POLICY own ON usage_events RENAME TO everybody;
DROP POLICY everybody ON usage_events;
DROP INDEX event_times;
ALTER SCHEMA billing RENAME TO ledger;
SET search_path = ledger, public;
SELECT outcome, tokens_used FROM increment_usage(:a, 10, 'k');
-- Tables that are not the ledger's.
ALTER TABLE public.parent ADD COLUMN a integer;
ALTER TABLE public.parent RENAME COLUMN a TO b;
ALTER TABLE public.parent RENAME TO usage_event;
ALTER TABLE public.usage_event SET SCHEMA elsewhere;
CREATE TRIGGER note BEFORE INSERT ON elsewhere.usage_event FOR EACH ROW EXECUTE FUNCTION public.note();
CREATE TABLE elsewhere.usage_events (account_id uuid);
ALTER TABLE elsewhere.usage_events ADD COLUMN model text;
DROP TABLE elsewhere.usage_event, elsewhere.usage_events;

-- A column of a row type keeps the extension from being dropped, instead of being dropped with it.
CREATE TABLE public.invoices AS SELECT p AS period FROM usage_periods AS p;
CREATE TABLE public.reports (id integer, totals usage_totals[]);
CREATE VIEW public.report AS SELECT * FROM usage_totals;
DROP EXTENSION usage_ledger;
DROP EXTENSION IF EXISTS plpgsql_check, usage_ledger CASCADE;
ALTER TABLE public.invoices ALTER COLUMN period TYPE jsonb USING to_jsonb(period);
ALTER TABLE public.reports ALTER COLUMN totals TYPE jsonb USING to_jsonb(totals);
-- A view has no rows of its own.
SET client_min_messages = warning;
DROP EXTENSION usage_ledger CASCADE;
SELECT period ->> 'tokens_used' AS tokens_used FROM public.invoices;
DROP TABLE public.invoices, public.reports;
DROP FUNCTION public.note;
DROP SCHEMA elsewhere, ledger;
RESET search_path;
CREATE EXTENSION usage_ledger;
