# common.sh: sourced at the top of the tree by the tests of clients and of migrations.
tree=$PWD
passed=0 failed=0 skipped=0

# Installs the npm packages into build/clients, if there is npm with Node.js 20 or later.
install_npm_packages() {
    mkdir -p build/clients
    if ! command -v npm >/dev/null || ! node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)'; then
        return
    fi
    if ! cmp -s test/clients/package-lock.json build/clients/package-lock.json; then
        cp test/clients/package*.json build/clients
        (cd build/clients && npm ci --no-audit --no-fund --loglevel=error) ||
            { rm build/clients/package-lock.json; return 1; }
    fi
}

# Counts and shows the result of a test: result STATUS NAME
result() {
    if [ "$1" = 0 ]; then
        passed=$((passed + 1))
        echo "ok      $2"
    else
        failed=$((failed + 1))
        echo "FAILED  $2"
    fi
}

# Counts a test as skipped if CHECK fails in build/clients: is_missing NAME CHECK
is_missing() {
    ! (cd build/clients && eval "$2") >/dev/null 2>&1 || return 1
    skipped=$((skipped + 1))
    echo "skipped $1: its packages are missing"
}

finish() {
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" = 0 ]
}
