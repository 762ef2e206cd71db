-- Prints the contents of a ledger, in the same form on every version of PostgreSQL.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
\pset format unaligned
\pset tuples_only off
\pset footer off
SELECT extversion, extnamespace::regnamespace, extconfig::regclass[], extcondition FROM pg_extension WHERE extname = 'usage_ledger';
SELECT * FROM usage_accounts ORDER BY account_id;
SELECT * FROM usage_periods ORDER BY account_id, period_start;
SELECT * FROM usage_events ORDER BY account_id, idempotency_key COLLATE "C";
SELECT * FROM usage_pending AS p ORDER BY p;
SELECT account_id, period_start, count(*), sum(tokens), sum(reports), sum(chats) FROM usage_pending GROUP BY 1, 2 ORDER BY 1, 2;
SELECT * FROM usage_totals ORDER BY account_id, period_start;
SELECT * FROM usage_breakdown ORDER BY account_id, period_start, scope, model;
SELECT * FROM usage_breakdown_totals ORDER BY account_id, period_start, scope, model;
SELECT * FROM verify_usage();

-- Storage options, replica identity, indexes, row security, and the rights of roles other than the owner.
SELECT c.oid::regclass, c.relreplident, c.relrowsecurity, c.reloptions, i.indexrelid::regclass, pg_get_indexdef(i.indexrelid)
  FROM pg_class AS c LEFT JOIN pg_index AS i ON i.indrelid = c.oid
 WHERE c.relname LIKE 'usage\_%' AND c.relkind IN ('r', 'v')
 ORDER BY c.relname, i.indexrelid::regclass::text;
SELECT kind, name, a.grantee::regrole, a.privilege_type
  FROM (SELECT 'table' AS kind, relname AS name, relowner AS owner, relacl AS rights FROM pg_class WHERE relname LIKE 'usage\_%'
        UNION ALL
        SELECT 'function', proname, proowner, COALESCE(proacl, acldefault('f', proowner))
          FROM pg_proc WHERE oid IN (SELECT objid FROM pg_depend WHERE classid = 'pg_proc'::regclass AND deptype = 'e')
                         AND pronamespace = 'public'::regnamespace) AS object,
       aclexplode(object.rights) AS a
 WHERE a.grantee <> owner
 ORDER BY 1, 2, a.grantee::regrole::text, 4;
