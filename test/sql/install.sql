-- What CREATE EXTENSION installs and where; nobody but the owner has a right on it.

-- A platform that grants on everything in a schema by default.
CREATE ROLE usage_anon;
CREATE SCHEMA platform;
GRANT USAGE ON SCHEMA platform TO usage_anon;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO usage_anon;
ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO usage_anon;
CREATE EXTENSION usage_ledger SCHEMA platform;
SELECT relname, has_table_privilege('usage_anon', oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER') AS anon_may
  FROM pg_class WHERE relnamespace = 'platform'::regnamespace AND relkind IN ('r', 'v') ORDER BY 1;
SELECT proname, has_function_privilege('usage_anon', oid, 'EXECUTE') AS anon_may
  FROM pg_proc WHERE pronamespace = 'platform'::regnamespace ORDER BY 1;
DROP EXTENSION usage_ledger;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM usage_anon;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS FROM usage_anon;
DROP SCHEMA platform;

-- A schema whose name needs quoting.
CREATE SCHEMA "Usage Ledger";
CREATE EXTENSION usage_ledger SCHEMA "Usage Ledger";
SELECT outcome, tokens_used FROM "Usage Ledger".increment_usage(gen_random_uuid(), 7, 'k');
SELECT count(*) FROM "Usage Ledger".verify_usage();
DROP EXTENSION usage_ledger;
DROP SCHEMA "Usage Ledger";

-- A name that is taken is an error, not a replacement.
CREATE VIEW usage_totals AS SELECT 1 AS planted;
\set SHOW_CONTEXT never
CREATE EXTENSION usage_ledger;
DROP VIEW usage_totals;

-- Functions that a call could reach instead of ours, and tables and views that a query could:
-- an older overload in the same schema matches an integer better. Schemas count that come
-- before or after ours in some search path, and all kinds of functions.
CREATE FUNCTION increment_usage(p_account_id uuid, p_tokens integer, p_idempotency_key text DEFAULT NULL) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint';
CREATE SCHEMA "Older app";
CREATE PROCEDURE "Older app".settle_usage() LANGUAGE sql AS '';
CREATE AGGREGATE "Older app".current_usage(integer) (SFUNC = int4pl, STYPE = integer);
CREATE TABLE "Older app".usage_periods (account_id uuid, tokens_used integer);
CREATE VIEW "Older app".usage_totals AS SELECT 1 AS tokens_used;
-- These are not reached by such a name.
CREATE INDEX usage_events ON "Older app".usage_periods (account_id);
CREATE FUNCTION "Older app".increment_usages() RETURNS integer LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION pg_temp.void_usage() RETURNS integer LANGUAGE sql AS 'SELECT 1';
CREATE SCHEMA newer_app;
CREATE EXTENSION usage_ledger SCHEMA newer_app;
DROP EXTENSION usage_ledger;
SET search_path = "Older app", public;
CREATE EXTENSION usage_ledger SCHEMA public;
DROP EXTENSION usage_ledger;
RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA "Older app", newer_app CASCADE;
RESET client_min_messages;
CREATE EXTENSION usage_ledger;
-- What the warning is about.
SELECT increment_usage('00000000-0000-0000-0000-000000000001', 50000, 'run-42');
SELECT outcome FROM increment_usage('00000000-0000-0000-0000-000000000001', 50000::bigint, 'run-42');
DROP EXTENSION usage_ledger;
DROP FUNCTION increment_usage(uuid, integer, text);

-- The default.
CREATE EXTENSION usage_ledger;
SELECT extversion, extrelocatable FROM pg_extension WHERE extname = 'usage_ledger';
SELECT pg_describe_object(classid, objid, 0) COLLATE "C" AS member
  FROM pg_depend
 WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
   AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'usage_ledger')
   AND classid IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_event_trigger'::regclass)
 ORDER BY 1;

SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS not_null
  FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
 WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v') AND a.attnum > 0
 ORDER BY c.relname, a.attnum;

-- Every table leads with the account, every unique key contains it, and each can be replicated.
SELECT c.relname, c.relrowsecurity, c.relreplident, pg_get_constraintdef(k.oid) AS key, c.reloptions
  FROM pg_class AS c LEFT JOIN pg_constraint AS k ON k.conrelid = c.oid AND k.contype = 'p'
 WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' ORDER BY 1;
-- Views are read with the rights and policies of their reader.
SELECT relname, reloptions FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'v' ORDER BY 1;
SELECT count(*) AS sequences FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'S';

-- All tables are dumped.
SELECT array_agg(unnest::regclass ORDER BY 1) AS dumped
  FROM pg_extension, unnest(extconfig) WHERE extname = 'usage_ledger';

-- PUBLIC has no right on anything, and every function has a comment.
SELECT count(*) AS public_rights
  FROM (SELECT relacl AS acl FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v')
        UNION ALL
        SELECT COALESCE(proacl, acldefault('f', proowner)) FROM pg_proc
         WHERE pronamespace = 'public'::regnamespace) AS o,
       aclexplode(o.acl) AS a WHERE a.grantee = 0;
SELECT proname, prosecdef, provolatile, proparallel, obj_description(oid, 'pg_proc') IS NOT NULL AS documented,
       pg_get_function_arguments(oid) AS arguments
  FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1;
-- Each comment explains every argument of its function, in lines that fit a page.
SELECT proname, argument AS not_explained
  FROM pg_proc, unnest(proargnames[1:pronargs]) AS argument
 WHERE pronamespace = 'public'::regnamespace AND obj_description(oid, 'pg_proc') !~ ('\n  ' || argument || ' ');
SELECT proname, line AS too_long
  FROM pg_proc, regexp_split_to_table(obj_description(oid, 'pg_proc'), '\n') AS line
 WHERE pronamespace = 'public'::regnamespace AND length(line) > 90;
-- So does that of each column, in lines that leave room for the rest of \d+.
SELECT attrelid::regclass AS relation, attname, line AS missing_or_too_long
  FROM pg_class AS c
  JOIN pg_attribute AS a ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped
 CROSS JOIN regexp_split_to_table(COALESCE(col_description(c.oid, attnum), ''), '\n') AS line
 WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v') AND length(line) NOT BETWEEN 1 AND 56;

-- Keys are ordered by their bytes, whatever the system's libraries are.
SELECT attrelid::regclass AS table, attname, attcollation::regcollation
  FROM pg_attribute WHERE attrelid::regclass IN ('usage_events'::regclass, 'usage_events_pkey'::regclass) AND attcollation <> 0
 ORDER BY attrelid::regclass::text, attnum;

-- Every index is a B-tree: a BRIN index of events would lose rows while it is summarized.
SELECT indexrelid::regclass AS index, pg_get_indexdef(indexrelid) AS definition
  FROM pg_index WHERE indrelid IN ('usage_accounts'::regclass, 'usage_periods'::regclass, 'usage_events'::regclass, 'usage_pending'::regclass)
 ORDER BY indexrelid::regclass::text COLLATE "C";

-- Settings and their defaults. Everyone may set one of them.
SELECT name, setting, unit, context, min_val, max_val, enumvals FROM pg_settings WHERE name LIKE 'usage_ledger.%' ORDER BY name COLLATE "C";
SET usage_ledger.unknown_account = 'ignore';
SET usage_ledger.no_such_setting = 'on';
SET ROLE usage_anon;
SET usage_ledger.unknown_account = 'reject';
SET usage_ledger.max_event_age = '100d';
RESET ROLE;
DROP ROLE usage_anon;
