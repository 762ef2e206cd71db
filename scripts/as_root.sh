#!/usr/bin/env bash
# Runs a command as root: directly, or through sudo.
set -euo pipefail
if [ "$(id -u)" -eq 0 ]; then
    exec "$@"
fi
exec sudo "$@"
