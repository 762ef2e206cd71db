#!/usr/bin/env bash
# Builds the Debian packages on this system, checks them, and installs them and all
# that this needs: for a system that is thrown away, such as debian/package.sh makes.
# The packages are left beside the tree, which is given to a user of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

# The tests make their own clusters; no other is wanted.
mkdir -p /etc/postgresql-common/createcluster.d
echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/usage-ledger-no-cluster.conf

apt-get update -q
apt-get install -q -y --no-install-recommends build-essential lintian autopkgtest postgresql-server-dev-all
pg_buildext updatecontrol # for the majors of this release
apt-get build-dep -q -y --no-install-recommends ./

id builder >/dev/null 2>&1 || useradd --create-home builder
chown -R builder: ..
as_builder() {
    setpriv --reuid=builder --regid=builder --init-groups env HOME=/home/builder USER=builder "$@"
}
as_builder dpkg-buildpackage --no-sign
as_builder lintian --info --fail-on=error,warning ../*.changes
autopkgtest --no-built-binaries --user=builder ../*.deb ./ -- null
