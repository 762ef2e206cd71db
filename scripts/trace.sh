#!/usr/bin/env bash
# Shows what three ways of counting tokens lose and count twice: builds the
# extension, starts a throwaway cluster, and runs a trace of LLM requests there.
#
#   scripts/trace.sh [OPTION]... [FILE]      (options: scripts/trace.sh --help)
#
# Needs Debian or Ubuntu, installs what is missing, leaves no server behind.
set -euo pipefail

# The trace runs in the tree, so a file is named from there.
arguments=()
for argument in "$@"; do
    if [ -f "$argument" ]; then
        argument=$(realpath "$argument")
    fi
    arguments+=("$argument")
done

cd "$(dirname "$0")/.."
. scripts/prepare.sh
echo "Installing the extension into $("$PG_CONFIG" --sharedir)/extension and $("$PG_CONFIG" --pkglibdir)"
as_root make -s -f Makefile.pgxs PG_CONFIG="$PG_CONFIG" install >/dev/null
scripts/with_cluster.sh --extension build/release/trace ${arguments[@]+"${arguments[@]}"}
