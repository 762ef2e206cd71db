#!/usr/bin/env bash
# Shows what four ways of counting tokens lose and count twice, and what was used of each
# model. Builds the extension, installs it, starts a throwaway cluster and runs a trace of
# LLM requests on it.
#
#   scripts/trace.sh [OPTION]... [FILE]      (--help lists the options)
#
# Needs Debian or Ubuntu. Installs missing packages and leaves no server running.
set -euo pipefail

caller=$PWD
cd "$(dirname "$0")/.."
. scripts/prepare.sh
build
install_extension
# FILE is relative to the caller's directory, so the trace runs there.
scripts/with_cluster.sh --extension env -C "$caller" "$PWD/build/release/trace" "$@"
