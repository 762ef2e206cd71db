#!/usr/bin/env bash
# Builds the Debian packages in a root of their own, one package for each major
# version of PostgreSQL that the release has, and checks them there: lintian, and the
# autopkgtest on the installed packages. This system only gets debootstrap.
#
#   scripts/package.sh [RELEASE [ROOT]]
#
# RELEASE is a name that debootstrap knows, by default this system's; bookworm has
# PostgreSQL 15, trixie 17. The root is kept, and used again, if ROOT names a folder
# for it. The packages are left in build/packages/RELEASE.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$(id -u)" -ne 0 ]; then
    exec scripts/as_root.sh "$PWD/scripts/package.sh" "$@"
fi

release=${1:-$(. /etc/os-release && echo "$VERSION_CODENAME")}
if [ $# -ge 2 ]; then
    root=$2
    mkdir -p "$root"
else
    root=$(mktemp -d "${TMPDIR:-/tmp}/usage_ledger_root.XXXXXX")
    chmod 755 "$root" # not only root works there
    trap 'rm -rf --one-file-system "$root"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
fi
root=$(realpath "$root")

if ! command -v debootstrap >/dev/null; then
    echo "Installing Debian packages: debootstrap"
    apt-get update -q
    apt-get install -q -y --no-install-recommends debootstrap
fi
if [ ! -e "$root/usage_ledger_root" ]; then
    echo "Making a root of $release"
    debootstrap --variant=minbase "$release" "$root" >/dev/null # says what failed on stderr
    echo "$release" >"$root/usage_ledger_root"
elif [ "$(cat "$root/usage_ledger_root")" != "$release" ]; then
    echo "$root is not a root of $release" >&2
    exit 1
fi
cp /etc/resolv.conf "$root/etc/resolv.conf"

# What git knows, as it stands here.
rm -rf "$root/build"
mkdir -p "$root/build/usage-ledger"
git ls-files -z | tar --null --files-from=- --create | tar --extract --directory="$root/build/usage-ledger"

# The root's mounts and processes end with this command, however it ends.
unshare --mount --pid --fork --kill-child bash -euc '
    mount -t proc proc "$0/proc"
    mount --rbind /dev "$0/dev"
    exec chroot "$0" env --unset=TMPDIR HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        /build/usage-ledger/scripts/package_here.sh' "$root"

rm -rf "build/packages/$release"
mkdir -p "build/packages/$release"
find "$root/build" -maxdepth 1 -type f -exec cp -t "build/packages/$release" {} +
ls "build/packages/$release"
