#!/usr/bin/env python3
"""Counts the server's instructions per call, with valgrind's callgrind.

    scripts/with_cluster.sh bench/instructions.py [--output DIRECTORY] [CONTENDER]...    (default: all)

usage_ledger is measured in each settlement mode, in a database of its own. Unlike times,
instructions are the same on a busy machine. They leave out the kernel, the round trip and
waiting. The server runs in single-user mode on a copy of the cluster's data directory.
The figure is the difference between two runs, one of which makes more calls. A session
remembers the periods of 50 accounts, and has to look up those of 5,000.

"batch" and what it is compared with are of an event in a batch of 1,000, for 50 accounts
and for 1,000: "arguments" only makes the arrays, "floor" is an INSERT ... SELECT of the
same events, and "statement" also adds them up. "reserve" and "(d) reserve" are
reservations without the count that follows. With --output, the figures go to
instructions.csv, from which report.py puts them next to the rates.
"""

import argparse
import csv
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
EVENTS = 1000  # of a batch
BATCHES = 4
ITEMS = f"FROM generate_series(1, {EVENTS}) AS i"
ACCOUNT_OF_ITEM = "md5('account ' || i % {account_count} + 1)::uuid"
# A statement is sent with an account and a key, of which a batch uses only the key, as the beginning of its keys.
ARGUMENTS = f"""ARRAY(SELECT {ACCOUNT_OF_ITEM} {ITEMS}), array_fill({bench.TOKENS}::bigint, ARRAY[{EVENTS}]), ARRAY(SELECT md5({{key}} || i) {ITEMS})"""
BY_HAND = {"account": ACCOUNT_OF_ITEM, "tokens": bench.TOKENS, "key": "md5({key} || i)", "items": ITEMS}


def as_server(arguments, **options):
    """PostgreSQL refuses to run as root."""
    if os.getuid() == 0:
        arguments = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", *arguments]
    return subprocess.run(arguments, text=True, capture_output=True, check=True, **options)


def calls(statement, settlement, count, account_count, warm_up):
    """Prepared calls, as workers make them. The first ones warm up."""
    sql = " ".join(statement.replace(bench.ACCOUNT, "$1").format(key="$2", account_count=account_count).split()).rstrip(";")
    yield "SET plan_cache_mode = force_generic_plan"
    yield f"SET usage_ledger.settlement = '{settlement}'"
    yield f"PREPARE call (uuid, text) AS {sql}"
    for i in range(warm_up + count):
        account = uuid.UUID(hashlib.md5(f"account {i % account_count + 1}".encode()).hexdigest())
        yield f"EXECUTE call ('{account}', '{uuid.uuid4()}')"


def instructions(data, database, *call_arguments):
    postgres = os.path.join(subprocess.check_output(["pg_config", "--bindir"], text=True).strip(), "postgres")
    result = as_server(
        ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", postgres, "--single", "-D", data, database],
        input="\n".join(calls(*call_arguments)) + "\n", cwd=os.path.dirname(data))
    if "ERROR:" in result.stderr:  # a call that fails is cheap
        raise RuntimeError(result.stderr)
    return int(re.search(r"Collected : (\d+)", result.stderr).group(1))


def contenders():
    """Yields (name, database, statement, settlement, events of a call)."""
    for mode, database in bench.MODES.items():
        yield mode, database, bench.OURS, mode, 1
    for name, statement in bench.HAND_WRITTEN.items():
        yield name, bench.DATABASE, statement, "immediate", 1
    of_batch = {"batch": f"SELECT count(*) FROM increment_usage_batch({ARGUMENTS}) WHERE {bench.ACCOUNT} IS NOT NULL",
                "arguments": f"SELECT num_nulls({ARGUMENTS}) WHERE {bench.ACCOUNT} IS NOT NULL",
                "floor": bench.BATCH_FLOOR.format(**BY_HAND), "statement": bench.BATCH_STATEMENT.format(**BY_HAND)}
    for name, statement in of_batch.items():
        yield name, bench.MODES["immediate"] if name == "batch" else bench.DATABASE, statement, "immediate", EVENTS
    for name, database, function in (("reserve", bench.MODES["immediate"], "reserve_usage"), ("(d) reserve", bench.DATABASE, "d_reserve")):
        yield name, database, f"SELECT outcome FROM {function}({bench.ACCOUNT}, {bench.TOKENS}, {{key}})", "immediate", 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", help="directory for instructions.csv")
    parser.add_argument("contenders", nargs="*")
    options = parser.parse_args()

    rows = []
    cluster = os.path.join(os.environ["PGHOST"], "data")
    bench.Bench(None).prepare()
    bench.psql(bench.FLOOR_TABLE)
    for name in bench.HAND_WRITTEN:  # to an empty table the planner prefers to read all of it
        bench.psql(f"INSERT INTO {name}_events SELECT * FROM usage_events; ANALYZE {name}_events")
    bench.psql(f"SELECT count(set_usage_limit(account_id, {bench.OUT_OF_REACH})) FROM usage_accounts", bench.MODES["immediate"])
    as_server(["pg_ctl", "-D", cluster, "-m", "fast", "-w", "stop"], cwd="/")
    directory = tempfile.mkdtemp(prefix="usage_ledger_instructions.")
    try:
        if os.getuid() == 0:
            shutil.chown(directory, "postgres", "postgres")
        data = os.path.join(directory, "data")
        as_server(["cp", "-a", cluster, data], cwd="/")
        print(f"{'contender':<12}{'period known':>16}{'period looked up':>20}   instructions a call")
        for name, database, statement, settlement, events in contenders():
            if options.contenders and name not in options.contenders:
                continue
            figures = []
            for account_count in (50, bench.ACCOUNTS // 2):
                count, warm_up = (CALLS, min(2 * account_count, 200)) if events == 1 else (BATCHES, 2)
                few, many = (instructions(data, database, statement, settlement, calls, account_count, warm_up) for calls in (0, count))
                figures.append((many - few) // (count * events))
            print(f"{name:<12}{figures[0]:>16,}{figures[1]:>20,}", flush=True)
            rows.append((name, *figures))
    finally:
        shutil.rmtree(directory)
    if options.output:
        with open(os.path.join(options.output, "instructions.csv"), "w", newline="") as file:
            csv.writer(file).writerows([("contender", "few_accounts", "many_accounts"), *rows])


if __name__ == "__main__":
    sys.exit(main())
