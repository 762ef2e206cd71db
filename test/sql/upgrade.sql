-- ALTER EXTENSION UPDATE from every older version comes to the catalog of a fresh
-- install, object by object, and keeps what was counted and granted.
SET client_min_messages = warning;
DROP EXTENSION usage_ledger;
CREATE ROLE usage_upgrader;
-- A platform that grants on everything by default.
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO usage_upgrader;
ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO usage_upgrader;

-- Every member of the extension, and what hangs on it, as text without identifiers.
CREATE VIEW members AS
SELECT d.classid, d.objid
  FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
 WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'usage_ledger';
CREATE VIEW catalog AS
SELECT 'extension' AS kind, e.extname::text AS name,
       concat_ws(' ', e.extversion, e.extrelocatable, e.extnamespace::regnamespace, d.t) AS definition
  FROM pg_extension AS e,
       LATERAL (SELECT string_agg(concat_ws(':', t::regclass, c), ',' ORDER BY t::regclass::text) AS t FROM unnest(e.extconfig, e.extcondition) AS u (t, c)) AS d
 WHERE e.extname = 'usage_ledger'
UNION ALL
SELECT 'member', pg_describe_object(classid, objid, 0), obj_description(objid, classid::regclass::name) FROM members
UNION ALL
SELECT 'relation', c.oid::regclass::text,
       concat_ws(' ', c.relkind, c.relpersistence, c.relreplident, c.relrowsecurity, c.relforcerowsecurity, c.reloptions, c.relowner::regrole, c.relacl,
                 CASE c.relkind WHEN 'v' THEN pg_get_viewdef(c.oid) END)
  FROM members AS m JOIN pg_class AS c ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
UNION ALL
SELECT 'column', concat_ws('.', a.attrelid::regclass, a.attname),
       concat_ws(' ', a.attnum, format_type(a.atttypid, a.atttypmod), NULLIF(a.attcollation, 0)::regcollation, a.attnotnull, a.attstorage, a.attacl, pg_get_expr(f.adbin, f.adrelid), col_description(a.attrelid, a.attnum))
  FROM members AS m JOIN pg_attribute AS a ON m.classid = 'pg_class'::regclass AND m.objid = a.attrelid
  LEFT JOIN pg_attrdef AS f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
 WHERE a.attnum > 0
UNION ALL
SELECT 'constraint', concat_ws('.', k.conrelid::regclass, k.conname), pg_get_constraintdef(k.oid)
  FROM members AS m JOIN pg_constraint AS k ON m.classid = 'pg_class'::regclass AND m.objid = k.conrelid
UNION ALL
SELECT 'index', i.indexrelid::regclass::text, concat_ws(' ', pg_get_indexdef(i.indexrelid), c.reloptions, i.indisvalid)
  FROM members AS m JOIN pg_index AS i ON m.classid = 'pg_class'::regclass AND m.objid = i.indrelid JOIN pg_class AS c ON c.oid = i.indexrelid
UNION ALL
SELECT 'policy or trigger', concat_ws('.', m.objid::regclass, p.polname, t.tgname), pg_get_triggerdef(t.oid)
  FROM members AS m LEFT JOIN pg_policy AS p ON p.polrelid = m.objid LEFT JOIN pg_trigger AS t ON t.tgrelid = m.objid
 WHERE m.classid = 'pg_class'::regclass AND (p.oid IS NOT NULL OR t.oid IS NOT NULL)
UNION ALL
SELECT 'function', p.oid::regprocedure::text, concat_ws(' ', pg_get_functiondef(p.oid), p.proowner::regrole, p.proacl, p.prosecdef, p.provolatile, p.proparallel, p.procost, p.prorows, p.probin)
  FROM members AS m JOIN pg_proc AS p ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid;

CREATE EXTENSION usage_ledger;
CREATE TABLE fresh AS SELECT * FROM catalog;
DROP EXTENSION usage_ledger;
SELECT DISTINCT kind FROM fresh ORDER BY 1;

-- The update that CREATE EXTENSION and ALTER EXTENSION offer is the newest.
SELECT default_version FROM pg_available_extensions WHERE name = 'usage_ledger';
CREATE TABLE older AS
SELECT version FROM pg_available_extension_versions
 WHERE name = 'usage_ledger' AND version <> (SELECT default_version FROM pg_available_extensions WHERE name = 'usage_ledger');
SELECT version FROM older ORDER BY 1;
-- An upgrade script that has no install script to start from would go untested.
SELECT source FROM pg_extension_update_paths('usage_ledger')
 WHERE target = (SELECT default_version FROM pg_available_extensions WHERE name = 'usage_ledger') AND path IS NOT NULL
EXCEPT SELECT version FROM older;

CREATE TABLE upgraded (from_version text, kind text, name text, definition text, difference text);
CREATE FUNCTION upgrade_from(older_version text, OUT from_version text, OUT replayed text, OUT totals text, OUT grants_kept boolean, OUT violations bigint)
LANGUAGE plpgsql AS $$
BEGIN
    from_version := older_version;
    EXECUTE format('CREATE EXTENSION usage_ledger VERSION %L', older_version);
    GRANT EXECUTE ON FUNCTION increment_usage TO usage_upgrader;
    PERFORM increment_usage('40000000-0000-0000-0000-000000000001', 100, 'before', true);
    PERFORM set_config('usage_ledger.settlement', 'deferred', true);
    PERFORM increment_usage('40000000-0000-0000-0000-000000000001', 20, 'pending');
    PERFORM set_config('usage_ledger.settlement', 'immediate', true);
    ALTER EXTENSION usage_ledger UPDATE;
    SELECT outcome INTO replayed FROM increment_usage('40000000-0000-0000-0000-000000000001', 100, 'before', true);
    SELECT concat_ws(' ', tokens_used, reports_used) INTO totals FROM current_usage('40000000-0000-0000-0000-000000000001');
    SELECT count(*) INTO violations FROM verify_usage();
    grants_kept := has_function_privilege('usage_upgrader', 'increment_usage(uuid, bigint, text, boolean, boolean, timestamptz)', 'EXECUTE');
    REVOKE EXECUTE ON FUNCTION increment_usage FROM usage_upgrader;
    INSERT INTO upgraded
    SELECT older_version, c.*, 'only after an upgrade' FROM (SELECT * FROM catalog EXCEPT SELECT * FROM fresh) AS c
    UNION ALL
    SELECT older_version, c.*, 'only when fresh' FROM (SELECT * FROM fresh EXCEPT SELECT * FROM catalog) AS c;
    DROP EXTENSION usage_ledger;
END $$;
SELECT u.* FROM (SELECT version FROM older ORDER BY 1) AS o, upgrade_from(o.version) AS u;
SELECT * FROM upgraded ORDER BY 1, 2, 3, 5;

DROP FUNCTION upgrade_from;
DROP TABLE upgraded, older, fresh;
DROP VIEW catalog, members;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM usage_upgrader;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS FROM usage_upgrader;
DROP ROLE usage_upgrader;
CREATE EXTENSION usage_ledger;
