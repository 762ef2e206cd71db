#!/usr/bin/env bash
# Runs examples/migrations with their tools: up, a call, down (refused while there is an
# account, then done), and up again. A tool that is missing is skipped.
#
#   scripts/with_cluster.sh test/clients/migrations.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
. test/clients/common.sh
examples=$tree/examples/migrations
account=7f0c64f2-3a0e-4b61-9f0b-0f6f2d1f9a11

query() {
    psql -X -At -v ON_ERROR_STOP=1 "$@"
}

# Fails unless the two texts are equal.
is() {
    [ "$1" = "$2" ] || { echo "got '$1', expected '$2'"; return 1; }
}

# The settings that a migration of database NAME has made: settings NAME
settings() {
    query -d "$1" -c "SELECT setting FROM pg_db_role_setting, unnest(setconfig) AS setting WHERE setting LIKE 'usage_ledger.%'"
}

# migrate NAME up|down: in database NAME
migrate() {
    case $1 in
    dbmate)
        node_modules/@dbmate/linux-x64/bin/dbmate --url "postgres://$PGUSER@/$1?socket=$PGHOST" --no-dump-schema \
            --migrations-dir "$examples/dbmate" "$2" ;;
    node-pg-migrate)
        DATABASE_URL="postgres://$PGUSER@/$1?host=$PGHOST" node_modules/.bin/node-pg-migrate "$2" \
            --migrations-dir "$examples/node-pg-migrate" ;;
    rails)
        ruby -W0 -e '
            require "active_record"
            ActiveRecord::Migrator.migrations_paths = [ARGV[1]]
            base = ActiveRecord::Base
            base.establish_connection(adapter: "postgresql", database: ARGV[0], host: ENV["PGHOST"])
            owner = base.connection_pool.respond_to?(:migration_context) ? base.connection_pool : base.connection
            ARGV[2] == "up" ? owner.migration_context.up : owner.migration_context.rollback(1)' \
            "$1" "$examples/rails" "$2" ;;
    alembic)
        PYTHONDONTWRITEBYTECODE=1 PGDATABASE=$1 /usr/bin/alembic -c "$examples/alembic/alembic.ini" \
            $([ "$2" = up ] && echo upgrade head || echo downgrade base) ;;
    esac
}

round() {
    migrate "$1" up &&
        is "$(query -d "$1" -U worker -c "SELECT outcome FROM billing.increment_usage('$account', 5, 'a')")" applied &&
        is "$(settings "$1")" usage_ledger.settlement=immediate || return
    if migrate "$1" down; then
        echo "down has dropped a ledger with an account"
        return 1
    fi
    is "$(query -d "$1" -c 'SELECT tokens_used FROM billing.usage_totals')" 5 &&
        query -d "$1" -c "SELECT billing.erase_usage('$account')" &&
        migrate "$1" down &&
        is "$(query -d "$1" -c "SELECT count(*) FROM pg_namespace WHERE nspname = 'billing'")" 0 &&
        is "$(settings "$1")" '' &&
        migrate "$1" up &&
        query -d "$1" -c 'ALTER ROLE worker RESET usage_ledger.settlement' &&
        { [ "$1" != alembic ] || proposes_nothing; }
}

# Fails if Alembic's autogenerate would change the ledger.
proposes_nothing() {
    rm -rf autogenerate
    cp -r "$examples/alembic" autogenerate
    printf '%s\n' 'revision = "second"' 'down_revision = "usage_ledger"' 'def upgrade():' '    ${upgrades}' \
        >autogenerate/script.py.mako
    PYTHONDONTWRITEBYTECODE=1 PGDATABASE=alembic /usr/bin/alembic -c autogenerate/alembic.ini \
        revision --autogenerate --rev-id second || return
    is "$(grep 'op\.' autogenerate/versions/second*.py)" ''
}

try() {
    local status=0
    ! is_missing "$1" "$2" || return 0
    createdb "$1"
    (cd build/clients && round "$1") >build/clients/output 2>&1 || status=$?
    [ "$status" = 0 ] || cat build/clients/output
    result "$status" "$1"
}

install_npm_packages
query -q -c 'CREATE ROLE worker LOGIN'
try dbmate 'node_modules/@dbmate/linux-x64/bin/dbmate --version'
try node-pg-migrate '[ -d node_modules/node-pg-migrate ]'
try rails 'ruby -W0 -e "require %q(active_record)"'
try alembic '/usr/bin/alembic --version'
finish
