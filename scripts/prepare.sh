# prepare.sh: sourced at the top of the tree by scripts that need our packages.
#
# Installs missing Debian or Ubuntu packages, and says so. A script names further packages
# in additional_packages, and in optional_packages those that not every release has.
# PG_CONFIG chooses the PostgreSQL installation; the default is the newest supported one.
# Scripts then call build and install_extension as they need them.

# Runs a command as root, through sudo if necessary.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

# Prints the pg_config of the newest supported server installed here.
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

# Prints the major version that the package "postgresql" depends on.
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
        echo "There is no apt-get, so no missing package can be installed." >&2
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
        libgtest-dev libcsv-dev nlohmann-json3-dev libipc-run-perl g++ make cmake pkg-config \
        ${additional_packages:-}; do
        if ! is_installed "$package"; then
            packages+=("$package")
        fi
    done
    if [ ${#packages[@]} -gt 0 ]; then
        as_root apt-get update -q
    fi
    # Not packaged for every version. Without them, the tests that need them are skipped.
    for package in "postgresql-$major-plproxy" ${optional_packages:-}; do
        if ! is_installed "$package" && apt-cache show "$package" >/dev/null 2>&1; then
            [ ${#packages[@]} -gt 0 ] || as_root apt-get update -q
            packages+=("$package")
        fi
    done
    if [ ${#packages[@]} -eq 0 ]; then
        return
    fi

    echo "Installing Debian packages: ${packages[*]}"
    # Debian starts a server when its package is installed. None is wanted here.
    local no_cluster=/etc/postgresql-common/createcluster.d/usage-ledger-no-cluster.conf
    as_root mkdir -p "${no_cluster%/*}"
    echo 'create_main_cluster = false' | as_root tee "$no_cluster" >/dev/null
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "${packages[@]}"
    as_root rm "$no_cluster"
}

build() {
    echo "Building for $("$PG_CONFIG" --version)"
    mkdir -p build
    if ! { cmake --preset release -D PG_CONFIG="$PG_CONFIG" &&
        cmake --build --preset release -j "$(nproc)"; } >build/log 2>&1; then
        cat build/log >&2
        exit 1
    fi
}

install_extension() {
    echo "Installing the extension into $("$PG_CONFIG" --sharedir)/extension and $("$PG_CONFIG" --pkglibdir)"
    as_root make -s -f Makefile.pgxs PG_CONFIG="$PG_CONFIG" install >/dev/null
}

install_missing_packages
export PG_CONFIG
