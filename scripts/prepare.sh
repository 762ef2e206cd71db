# prepare.sh: what trace.sh and test.sh do first; sourced by them, in the tree.
#
# Installs what is missing (Debian and Ubuntu packages), says so, and builds
# everything. PG_CONFIG chooses among several
# PostgreSQL installations; by default it is the newest one that is supported.

# Runs a command as root: directly, or through sudo.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

# Prints the pg_config of the newest supported server that is installed.
installed_pg_config() {
    local candidate
    for candidate in $(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -rV); do
        if [ -x "$candidate/postgres" ] && [ -x "$candidate/pg_config" ] &&
            [ "$("$candidate/pg_config" --version | grep -o '[0-9]*' | head -n 1)" -ge 15 ]; then
            echo "$candidate/pg_config"
            return
        fi
    done
}

# Prints the major version that the system's package "postgresql" stands for.
packaged_major() {
    apt-cache depends postgresql | sed -n 's/.*Depends: postgresql-\([0-9]*\)$/\1/p' | head -n 1
}

is_installed() {
    dpkg-query -W -f '${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed
}

install_missing_packages() {
    local major packages=() package
    if [ -z "${PG_CONFIG:-}" ]; then
        PG_CONFIG=$(installed_pg_config)
    fi
    if ! command -v apt-get >/dev/null; then
        echo "No apt-get here: nothing is installed, all that is needed must be there." >&2
        : "${PG_CONFIG:=pg_config}"
        return
    fi
    if [ -n "$PG_CONFIG" ]; then
        major=$("$PG_CONFIG" --version | grep -o '[0-9]*' | head -n 1)
    else
        [ -n "$(packaged_major)" ] || as_root apt-get update -q
        major=$(packaged_major)
        if [ "${major:-0}" -lt 15 ]; then
            echo "This system's PostgreSQL is ${major:-unknown}; usage_ledger needs 15 or later." >&2
            exit 1
        fi
        PG_CONFIG=/usr/lib/postgresql/$major/bin/pg_config
    fi

    for package in "postgresql-$major" "postgresql-server-dev-$major" libpq-dev \
        libgtest-dev libipc-run-perl g++ make cmake pkg-config ${additional_packages:-}; do
        if ! is_installed "$package"; then
            packages+=("$package")
        fi
    done
    if [ ${#packages[@]} -gt 0 ]; then
        as_root apt-get update -q
    fi
    # Not packaged for every version; the test that needs it is skipped then.
    package=postgresql-$major-plproxy
    if ! is_installed "$package" && apt-cache show "$package" >/dev/null 2>&1; then
        [ ${#packages[@]} -gt 0 ] || as_root apt-get update -q
        packages+=("$package")
    fi
    if [ ${#packages[@]} -eq 0 ]; then
        return
    fi

    echo "Installing Debian packages: ${packages[*]}"
    # Debian starts a server as soon as one is installed; none is wanted here.
    local no_cluster=/etc/postgresql-common/createcluster.d/usage-ledger-no-cluster.conf
    as_root mkdir -p "${no_cluster%/*}"
    echo 'create_main_cluster = false' | as_root tee "$no_cluster" >/dev/null
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "${packages[@]}"
    as_root rm "$no_cluster"
}

build() {
    mkdir -p build
    if ! { cmake --preset release -D PG_CONFIG="$PG_CONFIG" &&
        cmake --build --preset release -j "$(nproc)"; } >build/log 2>&1; then
        cat build/log >&2
        exit 1
    fi
}

install_missing_packages
export PG_CONFIG
echo "Building for $("$PG_CONFIG" --version)"
build
