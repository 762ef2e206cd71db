-- Run on a shard, this prints the SQL that creates the proxy's functions: those of the ledger
-- that are not batches, with their parameters, their defaults and the grants that they have there.
--
--   psql -XAt -d service=usage_shard_0 -f functions.sql | psql -X -v ON_ERROR_STOP=1 -d proxy
--
-- A call for one account runs on the account's shard. So does one whose account is NULL, so that
-- the ledger refuses it with its own error. All others run on all shards, in parallel.
WITH functions AS (
    SELECT p.proname, p.proacl, p.pronamespace::regnamespace AS schema,
           pg_get_function_arguments(p.oid) AS arguments,
           pg_get_function_result(p.oid) AS result,
           p.proargnames[1] = 'p_account_id' AND p.proname <> 'verify_usage' AS is_for_one_account,
           -- A row type of the ledger becomes the columns of the row.
           (SELECT string_agg(format('OUT %I %s', attname, format_type(atttypid, atttypmod)), ', ' ORDER BY attnum)
              FROM pg_attribute
             WHERE attrelid = t.typrelid AND attnum > 0 AND NOT attisdropped) AS columns
      FROM pg_extension AS e
      JOIN pg_depend AS d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
      JOIN pg_proc AS p ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
      JOIN pg_type AS t ON t.oid = p.prorettype
     WHERE e.extname = 'usage_ledger' AND p.proname NOT LIKE '%\_batch' AND p.proname NOT LIKE 'usage\_ledger%')
SELECT format(E'CREATE FUNCTION %s.%I(%s)%s LANGUAGE plproxy AS $$\n'
               '    CLUSTER ''usage_shards'';\n    RUN ON %s;\n$$;\n',
              schema, proname, concat_ws(', ', arguments, columns),
              CASE WHEN columns IS NOT NULL OR result = 'record' THEN ''
                   WHEN is_for_one_account OR result LIKE 'TABLE%' THEN ' RETURNS ' || result
                   ELSE ' RETURNS SETOF ' || result END,
              CASE WHEN is_for_one_account THEN 'hashtext(coalesce(p_account_id::text, ''''))' ELSE 'ALL' END) ||
       format(E'REVOKE ALL ON FUNCTION %s.%I FROM PUBLIC;\n', schema, proname) ||
       COALESCE((SELECT string_agg(format(E'GRANT EXECUTE ON FUNCTION %s.%I TO %s;\n',
                                          schema, proname, grantee::regrole), ''
                                   ORDER BY grantee::regrole::text)
                   FROM aclexplode(proacl)
                  WHERE grantee <> grantor), '')
  FROM functions
 ORDER BY proname;
