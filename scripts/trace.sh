#!/usr/bin/env bash
# Shows what three ways of counting tokens lose and count twice. Builds the extension,
# starts a throwaway cluster and runs a trace of LLM requests on it.
#
#   scripts/trace.sh [OPTION]... [FILE]      (--help lists the options)
#
# Needs Debian or Ubuntu. Installs missing packages and leaves no server running.
set -euo pipefail

# The trace runs at the top of the tree, so a relative path is resolved first.
arguments=()
for argument in "$@"; do
    if [ -f "$argument" ]; then
        argument=$(realpath "$argument")
    fi
    arguments+=("$argument")
done

cd "$(dirname "$0")/.."
. scripts/prepare.sh
install_extension
scripts/with_cluster.sh --extension build/release/trace ${arguments[@]+"${arguments[@]}"}
