#!/usr/bin/env bash
# Runs the programs of docs/clients.md, each in a database of its own, and compares what
# they print and what they leave there.
#
#   scripts/with_cluster.sh test/clients/test.sh [REGEX]      (selects clients by name)
#
# Programs and npm packages go to build/clients. A client whose packages are missing is
# skipped, and the last line says how many were. Prisma takes 350 MB of packages, so it
# only runs after `npm install --no-save prisma@7.10.0 @prisma/client@7.10.0
# @prisma/adapter-pg@7.10.0` in build/clients.
set -euo pipefail
cd "$(dirname "$0")/../.."
. test/clients/common.sh
page=$tree/docs/clients.md
wanted=${1:-.}
account=7f0c64f2-3a0e-4b61-9f0b-0f6f2d1f9a11

snippet() {
    test/tools/snippets.sh "$page" "$@"
}

# A database with the page's installation, where the account has used 2^53 + 1 tokens.
make_template() {
    createdb template
    { snippet 'Common to all'
      echo "SELECT FROM billing.open_usage_period('$account', date_trunc('day', now()),
                date_trunc('day', now()) + interval '1 month', 9007199254740993);"
    } | PGDATABASE=template PGTZ=UTC psql -X -q -v ON_ERROR_STOP=1 >/dev/null
}

tokens_and_reports() {
    psql -X -At -d "$1" -c "SELECT string_agg(tokens_used::text, ' ') FROM billing.usage_totals" \
        -c 'SELECT count(*) FROM reports'
}

expected() {
    case $1 in
    kept*) printf '%s\n' 9007199254740993 2 ;;
    supabase-js) snippet 'Common to all' text; printf '%s\n' 9007199254791093 0 ;; # inserts no report
    *) snippet 'Common to all' text; printf '%s\n' 9007199254791093 1 ;;
    esac
}

# What a program prints when it runs again: its first call is a replay.
expected_again() {
    expected "$1" | sed 's/^applied .*/replayed 9007199254791093/'
}

# run NAME FILE LANGUAGE HEADING CHECK COMMAND...: extracts a program and runs it twice, if
# the check says that its packages are there.
run() {
    local name=$1 file=$2 language=$3 heading=$4 check=$5 database expectation status=0
    shift 5
    [[ $name =~ $wanted ]] || return 0
    ! is_missing "$name" "$check" || return 0
    database=${name//[^a-z0-9]/_}
    createdb -T template "$database"
    mkdir -p "build/clients/$(dirname "$file")"
    snippet "$heading" "$language" >"build/clients/$file"
    for expectation in expected expected_again; do
        (cd build/clients && PGDATABASE=$database PGUSER=worker "$@") >build/clients/output 2>build/clients/errors || status=$?
        { cat build/clients/output; tokens_and_reports "$database"; } |
            diff <("$expectation" "$name") - || status=1
        [ "$status" = 0 ] || break # the errors of this run are shown
    done
    [ "$status" = 0 ] || cat build/clients/errors
    result "$status" "$name"
}

# JavaScript: run_js NAME HEADING PACKAGE
run_js() {
    run "$1" "$1.mjs" js "$2" "[ -d node_modules/$3 ]" node "$1.mjs"
}

# With the Python that Debian's packages are for.
run_python() {
    run "$1" "$1_program.py" python "$2" "/usr/bin/python3 -c 'import $3'" /usr/bin/python3 "$1_program.py"
}

supabase() {
    cp "$tree"/test/clients/*.ts "$tree/test/clients/tsconfig.json" "$tree/examples/report-worker/test/postgrest.ts" .
    node_modules/.bin/tsc >&2 || return
    node dist/with_postgrest.js
}

prisma() {
    printf 'generator client {\n  provider = "prisma-client-js"\n}\ndatasource db {\n  provider = "postgresql"\n}\n' >schema.prisma
    # An engine that generate does not run, but would download.
    PRISMA_SCHEMA_ENGINE_BINARY=/bin/true node_modules/.bin/prisma generate --schema schema.prisma >&2 || return
    node prisma.mjs
}

# Debian's Go packages are sources in a GOPATH.
go_run() {
    GO111MODULE=off GOPATH=$PWD/go:/usr/share/gocode GOCACHE=$PWD/go/cache go run "$1"
}

# The statements are prepared, which finds the functions and checks the casts.
other_calls() {
    local status=0
    snippet 'The other calls' | awk '/^SELECT/ { print "PREPARE call_" ++count " AS" } { print }' |
        psql -X -q -v ON_ERROR_STOP=1 -d template || status=$?
    result "$status" other-calls
}

# The expected key is that of the same ids in examples/report-worker/test/event-key.test.ts.
python_key() {
    local status=0
    { test/tools/snippets.sh docs/keys.md 'Idempotency keys' python
      echo "assert event_key('run 1', 'a:b', '!*()~\'é') == \"run%201:a%3Ab:!*()~'%C3%A9\""
      echo "for ids in ((), ('',), ('a', None), ('None',)):"
      printf '    %s\n' 'try: event_key(*ids)' 'except TypeError: continue' 'raise AssertionError(ids)'
    } | /usr/bin/python3 - || status=$?
    result "$status" python-key
}

install_npm_packages
make_template
other_calls
python_key
keeping='Keep the business row'

run_js node-postgres 'node-postgres' pg
run_js postgres.js 'postgres.js' postgres
run supabase-js supabase.ts ts 'supabase-js' '[ -d node_modules/@supabase ]' supabase
run prisma prisma.mjs js 'Prisma' '[ -x node_modules/.bin/prisma ]' prisma
run_js drizzle 'Drizzle' drizzle-orm
run_js kysely 'Kysely' kysely
run_js knex 'Knex' knex
run_js sequelize 'Sequelize' sequelize
run_js typeorm 'TypeORM' typeorm
run_python psycopg3 'psycopg 3' psycopg
run_python psycopg2 'psycopg 2' psycopg2
run_python asyncpg 'asyncpg' asyncpg
run_python sqlalchemy 'SQLAlchemy' sqlalchemy,psycopg2
run_python django 'Django' django,psycopg2
run jdbc Worker.java java 'JDBC' 'javac --version && [ -e /usr/share/java/postgresql.jar ]' \
    python3 "$tree/test/clients/relay.py" java -cp /usr/share/java/postgresql.jar Worker.java
run lib-pq pq/main.go go 'lib/pq' 'go version && [ -d /usr/share/gocode/src/github.com/lib/pq ]' go_run pq/main.go
run pgx pgx/main.go go 'pgx' 'go version && [ -d /usr/share/gocode/src/github.com/jackc/pgx/v4 ]' go_run pgx/main.go
run ruby worker.rb ruby 'pg' 'ruby -e "require %q(pg)"' ruby worker.rb
run php worker.php php 'PDO' 'php -m | grep -qx pdo_pgsql' php worker.php

# A counted key, for the programs that meet a conflict.
psql -X -q -d template -c "SELECT FROM billing.increment_usage('$account', 0, 'run-43:generate-report')" >/dev/null
run_js kept-node-postgres "$keeping" pg
run_python kept-psycopg3 "$keeping" psycopg
run kept-php kept.php php "$keeping" 'php -m | grep -qx pdo_pgsql' php kept.php

finish
