#!/usr/bin/env python3
"""Counts the server's instructions per call, with valgrind's callgrind.

    scripts/with_cluster.sh bench/instructions.py

usage_ledger is measured in each settlement mode, in a database of its own. Unlike times,
instructions are the same on a busy machine. They leave out the kernel, the round trip and
waiting. The server runs in single-user mode on a copy of the cluster's data directory.
The figure is the difference between two runs, one of which makes more calls.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import uuid

import bench

CALLS = 1000


def as_server(arguments, **options):
    """PostgreSQL refuses to run as root."""
    if os.getuid() == 0:
        arguments = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", *arguments]
    return subprocess.run(arguments, text=True, capture_output=True, check=True, **options)


def calls(statement, settlement, count, account_count):
    """Prepared calls, as workers make them. The first ones warm up: two for each account, 200 at most."""
    sql = " ".join(statement.replace(bench.ACCOUNT, "$1").format(key="$2").split()).rstrip(";")
    yield "SET plan_cache_mode = force_generic_plan"
    yield f"SET usage_ledger.settlement = '{settlement}'"
    yield f"PREPARE call (uuid, text) AS {sql}"
    for i in range(min(2 * account_count, 200) + count):
        account = uuid.UUID(hashlib.md5(f"account {i % account_count + 1}".encode()).hexdigest())
        yield f"EXECUTE call ('{account}', '{uuid.uuid4()}')"


def instructions(data, database, *call_arguments):
    postgres = os.path.join(subprocess.check_output(["pg_config", "--bindir"], text=True).strip(), "postgres")
    result = as_server(
        ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", postgres, "--single", "-D", data, database],
        input="\n".join(calls(*call_arguments)) + "\n", cwd=os.path.dirname(data))
    return int(re.search(r"Collected : (\d+)", result.stderr).group(1))


def contenders():
    """Yields (name, database, statement, settlement)."""
    for mode, database in bench.MODES.items():
        yield mode, database, bench.OURS, mode
    for name, statement in bench.HAND_WRITTEN.items():
        yield name, bench.DATABASE, statement, "immediate"


def main():
    cluster = os.path.join(os.environ["PGHOST"], "data")
    bench.Bench(None).prepare()
    as_server(["pg_ctl", "-D", cluster, "-m", "fast", "-w", "stop"], cwd="/")
    directory = tempfile.mkdtemp(prefix="usage_ledger_instructions.")
    try:
        if os.getuid() == 0:
            shutil.chown(directory, "postgres", "postgres")
        data = os.path.join(directory, "data")
        as_server(["cp", "-a", cluster, data], cwd="/")
        print(f"{'contender':<12}{'period known':>16}{'period looked up':>20}   instructions a call")
        for name, database, statement, settlement in contenders():
            figures = []
            for account_count in (50, bench.ACCOUNTS // 2):
                few, many = (instructions(data, database, statement, settlement, count, account_count)
                             for count in (0, CALLS))
                figures.append((many - few) // CALLS)
            print(f"{name:<12}{figures[0]:>16,}{figures[1]:>20,}", flush=True)
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    sys.exit(main())
