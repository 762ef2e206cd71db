#!/usr/bin/env bash
# Sends random queries to a ledger in a throwaway cluster, as a worker and then as a
# superuser. Fails if the server crashes or the worker damages the ledger.
#
#   test/tools/sqlsmith.sh [SECONDS]        (for each role; default: 300)
#
# Not part of the test suite; run it manually.
set -euo pipefail
cd "$(dirname "$0")/../.."
if [ -z "${PGHOST:-}" ]; then
    additional_packages=sqlsmith
    . scripts/prepare.sh
    build
    install_extension
    export CLUSTER_SETTINGS="track_functions = 'all'"
    exec scripts/with_cluster.sh test/tools/sqlsmith.sh "$@"
fi

sql() {
    psql -X -q -A -t -v ON_ERROR_STOP=1 "$@"
}
sql -c 'CREATE ROLE worker LOGIN'
for role in worker postgres; do
    sql -c "CREATE DATABASE smith_$role"
    # sqlsmith chooses at random among thousands of functions, and never one that returns a
    # record, so it would hardly ever call ours. Each gets a hundred plain wrapper functions.
    sql -d "smith_$role" <<'SQL' >/dev/null
CREATE EXTENSION usage_ledger;
GRANT EXECUTE ON FUNCTION increment_usage, increment_usage_batch, record_usage, record_usage_batch TO worker;
CREATE TABLE work AS
SELECT md5((i % 50)::text)::uuid AS account_id, i::bigint AS tokens, 'key ' || i AS key, i % 3 = 0 AS is_report,
       now() - i % 30 * interval '1 day' AS occurred_at
  FROM generate_series(1, 1000) AS i;
GRANT SELECT ON work TO worker;
SELECT count(*) FROM work, increment_usage(account_id, tokens, key, is_report, p_occurred_at => occurred_at);
SET usage_ledger.settlement = 'deferred';
SELECT count(*) FROM work, increment_usage(account_id, tokens, 'pending ' || key);
DO $$
DECLARE
    call text;
BEGIN
    FOREACH call IN ARRAY ARRAY[
        'SELECT tokens_used FROM public.increment_usage($1, $2, $3, $4, NOT $4, $5)',
        'SELECT sum(tokens_used) FROM public.increment_usage_batch(ARRAY[$1, $1], ARRAY[$2, $2 + 1], ARRAY[$3, ''k''], ARRAY[$4, NULL], NULL, ARRAY[$5, NULL])',
        'SELECT tokens_used FROM public.void_usage($1, $3, $3)',
        'SELECT tokens_used FROM public.credit_usage($1, $2, $3, $3)',
        'SELECT tokens_used FROM public.current_usage($1)',
        'SELECT tokens_used FROM public.close_usage_period($1, $5)',
        'SELECT tokens_used FROM public.end_usage_period($1, $5)',
        'SELECT tokens_used FROM public.open_usage_period($1, $5, $5 + interval ''1 hour'', $2)',
        'SELECT count(*) FROM public.set_usage_cycle($1, ''1 day'', $5)',
        'SELECT public.settle_usage($2::integer)',
        'SELECT public.prune_usage_events($5, $2::integer)',
        'SELECT public.erase_usage($1)',
        'SELECT count(*) FROM public.verify_usage($1)']
    LOOP
        FOR i IN 1 .. 100 LOOP
            EXECUTE format('CREATE FUNCTION %I(uuid, bigint, text, boolean, timestamptz) RETURNS bigint LANGUAGE sql AS %L',
                           substring(call FROM 'public.(\w+)') || i, call);
        END LOOP;
    END LOOP;
END $$;
SQL
    sql -d "smith_$role" -c 'SELECT pg_stat_reset()'
done
for role in worker postgres; do
    timeout "${1:-300}" sqlsmith --target="host=$PGHOST dbname=smith_$role user=$role" >/dev/null 2>&1 || [ $? -eq 124 ]
    echo "as $role: $(sql -c "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = 'smith_$role'")" \
        "transactions; calls that returned:" \
        "$(sql -d "smith_$role" -c "SELECT string_agg(funcname || ' ' || calls, ', ')
                                      FROM pg_stat_user_functions JOIN pg_proc ON oid = funcid WHERE prosecdef")"
done
echo "crashes: $(grep -c 'was terminated by signal' "$PGHOST/log" || true)"
[ "$(sql -d smith_worker -c 'SELECT count(*) FROM verify_usage()')" = 0 ]
! grep -q 'was terminated by signal' "$PGHOST/log"
