#!/usr/bin/env bash
# Builds, checks and installs the Debian packages on this system. It also installs
# everything that takes and changes the owner of the tree, so use it only on a throwaway
# system such as the one that debian/package.sh creates. The packages are written to the
# tree's parent directory.
set -euo pipefail
cd "$(dirname "$0")/.."
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

# The tests create their own clusters, so Debian's default cluster is not wanted.
mkdir -p /etc/postgresql-common/createcluster.d
echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/usage-ledger-no-cluster.conf

apt-get update -q
apt-get install -q -y --no-install-recommends build-essential lintian autopkgtest postgresql-server-dev-all
pg_buildext updatecontrol # for the major versions of this release
apt-get build-dep -q -y --no-install-recommends ./

id builder >/dev/null 2>&1 || useradd --create-home builder
chown -R builder: ..
as_builder() {
    setpriv --reuid=builder --regid=builder --init-groups env HOME=/home/builder USER=builder "$@"
}
as_builder dpkg-buildpackage --no-sign
as_builder lintian --info --fail-on=error,warning ../*.changes
autopkgtest --no-built-binaries --user=builder ../*.deb ./ -- null
