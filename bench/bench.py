#!/usr/bin/env python3
"""Compares usage_ledger with hand-written SQL.

scripts/bench.sh runs it on a throwaway cluster. Contenders take turns of equal length, so
that other load on the machine affects all of them. The report shows medians over the
rounds; ratios are taken within a round.
"""

import argparse
import collections
import contextlib
import csv
import glob
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import redis_contender
import pooler
import report
from peers import PEERS, sql_of_sources

ACCOUNTS = 10000
TOKENS = 100
DATABASE = "bench"

NEW_KEY = "gen_random_uuid()::text"
ACCOUNT = "md5('account ' || :n)::uuid"
OURS = f"SELECT increment_usage({ACCOUNT}, {TOKENS}, {{key}});"
HAND_WRITTEN = {
    "a": f"SELECT a_increment({ACCOUNT}, {TOKENS}, {{key}});",
    "b": f"SELECT b_increment({ACCOUNT}, {TOKENS}, {{key}});",
    "c": f"""
        WITH period AS MATERIALIZED (
            SELECT account_id, period_start FROM c_periods
             WHERE account_id = {ACCOUNT} AND period_start <= now() AND period_end > now()),
        event AS (
            INSERT INTO c_events (account_id, period_start, occurred_at, tokens, reports, chats, idempotency_key)
            SELECT account_id, period_start, now(), {TOKENS}, 0, 0, {{key}} FROM period
            ON CONFLICT DO NOTHING RETURNING account_id, period_start, tokens)
        UPDATE c_periods AS p SET tokens_used = p.tokens_used + event.tokens FROM event
         WHERE p.account_id = event.account_id AND p.period_start = event.period_start
        RETURNING p.tokens_used;""".replace("\n", " "),
}
# A worker reserves, works and counts: a transaction for each of the two calls.
KEY = "'run ' || :k"
RESERVATION = f"""\\set k random(1, 9000000000000000000)
SELECT outcome = 'reserved' AS has_room FROM {{reserve}}({ACCOUNT}, {TOKENS}, {KEY}) \\gset
\\if :has_room
SELECT {{count}}({ACCOUNT}, {TOKENS}, {KEY});
\\endif"""
OUT_OF_REACH = 10**15  # tokens
# Accounts whose usage is not the sum of their events, and how far above its limit the highest one is.
BOOKS = """
    SELECT count(*) FILTER (WHERE b.tokens_used <> COALESCE(e.tokens, 0)), max(b.tokens_used + b.tokens_held - b.token_limit)
      FROM {balances} AS b
      LEFT JOIN (SELECT account_id, sum(tokens) AS tokens FROM {events} GROUP BY 1) AS e USING (account_id)"""
# Each model uses its own numbers of tokens, so that usage of one cannot pass for that of another:
# input, cache read, cache write, output, reasoning; then the cost.
USAGE_OF_MODEL = {"small": (100, 0, 0, 20, 0, 41000), "large": (30, 300, 7, 50, 11, 930000), "deep": (200, 50, 0, 13, 400, 7000)}
TEAMS = 2
RECORD = f"SELECT {{function}}({ACCOUNT}, {{key}}, '{{model}}', 'team ' || :t, {{usage}});"
BREAKDOWN_BOOKS = """
    SELECT model, sum(input_tokens), sum(cache_read_tokens), sum(cache_write_tokens), sum(output_tokens),
           sum(reasoning_tokens), sum(cost_nanos), sum(events)
      FROM {breakdown} GROUP BY model"""
# Of a batch: one statement that inserts the events, and one that also adds them up.
BATCH_FLOOR = """INSERT INTO floor_events (account_id, period_start, occurred_at, tokens, reports, chats, idempotency_key)
    SELECT {account}, now(), now(), {tokens}, 0, 0, {key} {items}"""
BATCH_STATEMENT = """
    WITH event AS (
        INSERT INTO c_events (account_id, period_start, occurred_at, tokens, reports, chats, idempotency_key)
        SELECT p.account_id, p.period_start, now(), {tokens}, 0, 0, i.key
          FROM (SELECT {account} AS account_id, {key} AS key {items}) AS i
          JOIN c_periods AS p ON p.account_id = i.account_id AND p.period_start <= now() AND p.period_end > now()
        ON CONFLICT DO NOTHING RETURNING account_id, period_start, tokens)
    UPDATE c_periods AS p SET tokens_used = p.tokens_used + e.tokens
      FROM (SELECT account_id, period_start, sum(tokens) AS tokens FROM event GROUP BY 1, 2) AS e
     WHERE p.account_id = e.account_id AND p.period_start = e.period_start"""
FLOOR_TABLE = "CREATE TABLE floor_events (LIKE usage_events INCLUDING DEFAULTS, PRIMARY KEY (account_id, idempotency_key))"
# What a store says it has counted: the tokens of its counters and those of its events.
TOTAL = "SELECT COALESCE(sum({}), 0) FROM {}"
STORES = {"usage": (TOTAL.format("tokens_used", "usage_totals"), TOTAL.format("tokens", "usage_events")),
          "settled": (TOTAL.format("tokens_used", "usage_periods"),),
          "counters": (TOTAL.format("tokens_used", "usage_totals"),),
          "floor": (TOTAL.format("tokens", "floor_events"),),
          **{name: (TOTAL.format("tokens_used", f"{name}_periods"), TOTAL.format("tokens", f"{name}_events"))
             for name in (*HAND_WRITTEN, "d", "e")},
          **{name: tuple(filter(None, (peer.counters, peer.events))) for name, peer in PEERS.items()}}
# Each contender has its own tables, so each of our modes has its own database.
MODES = {mode: f"{DATABASE}_{mode}" for mode in ("immediate", "adaptive", "deferred")}
CHOICE = {
    "hot": "\\set n 1",
    "even": f"\\set n random(1, {ACCOUNTS})",
    "zipf": f"\\set n random_zipfian(1, {ACCOUNTS}, 1.1)",
}
# The keys of the last one begin with the time, so that new ones go to the end of the index.
RANDOM_KEY = "\n\\set k random(1, 9000000000000000000)"
ORDERED_KEY = "to_char(clock_timestamp(), 'YYYYMMDDHH24MISSUS') || gen_random_uuid()"
PEER_WORKLOADS = {  # choice of account, key, clients, calls for each key
    "even 8": (CHOICE["even"], NEW_KEY, 8, 1), "hot 16": (CHOICE["hot"], NEW_KEY, 16, 1),
    "half retries": (CHOICE["even"] + RANDOM_KEY, KEY, 8, 2), "time-ordered keys": (CHOICE["even"], ORDERED_KEY, 8, 1)}


def psql(sql, database=DATABASE):
    result = subprocess.run(
        ["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", sql],
        check=True, capture_output=True, text=True)
    return result.stdout.strip()


@contextlib.contextmanager
def folding(peer):
    """Runs the background session of a peer that has one, and lets it finish."""
    if not peer.fold:
        yield
        return
    session = subprocess.Popen(["psql", "-XqAt", "-d", DATABASE], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    session.stdin.write(f"{peer.fold}\n\\watch {peer.interval_s}\n")
    session.stdin.flush()
    try:
        yield
    finally:
        session.terminate()
        session.wait()
        while psql(peer.fold) != "0":
            pass


def progress(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


class Server:
    """What the server has used since it started."""

    def __init__(self):
        with open(os.path.join(os.environ["PGHOST"], "data", "postmaster.pid")) as file:
            self.postmaster = int(file.readline())

    def cpu_s(self):
        """CPU time of the server's processes, including those that have ended."""
        ticks = 0
        for path in glob.glob("/proc/[0-9]*/stat"):
            try:
                with open(path) as file:
                    fields = file.read().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            pid = int(path.split("/")[2])
            if pid == self.postmaster:
                ticks += sum(map(int, fields[11:15]))
            elif int(fields[1]) == self.postmaster:
                ticks += sum(map(int, fields[11:13]))
        return ticks / os.sysconf("SC_CLK_TCK")

    @staticmethod
    def wal_bytes():
        return int(psql("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')"))


class Bench:
    def __init__(self, options):
        self.options = options
        self.server = Server()
        self.rows = []
        self.calls_made = collections.Counter()  # by script: the calls that clients got an answer to
        self.books_of = {}  # by script: (its store, the tokens that the answer to a call says were counted)
        self.directory = tempfile.mkdtemp(prefix="usage_ledger_bench.")

    def script(self, name, text, store=None, tokens=TOKENS):
        """Without a store, or with tokens=None, a turn of the script is not compared with the books."""
        path = os.path.join(self.directory, name + ".sql")
        self.books_of[path] = (store, tokens)
        with open(path, "w") as file:
            file.write(text + "\n")
        return path

    def ours(self, scripts, clients, mode):
        return self.pgbench(scripts, clients, MODES[mode], mode)

    def pgbench(self, scripts, clients, database=DATABASE, settlement="immediate", background=contextlib.nullcontext(), options=()):
        """Runs scripts for a turn; returns rate, latencies, and CPU and WAL per call."""
        log = os.path.join(self.directory, "log")
        environment = dict(os.environ, PGOPTIONS=f"-c usage_ledger.settlement={settlement}")
        arguments = [argument for script in scripts for argument in ("-f", script)]
        paths = [script.rpartition("@")[0] or script for script in scripts]
        store, counted, told = self.books_of[paths[0]][0], None, 0
        if store and all(self.books_of[path][1] is not None for path in paths):
            counted = self.counted(store, database)
        cpu_s, wal_bytes, started = self.server.cpu_s(), self.server.wal_bytes(), time.time()
        with background:
            subprocess.run(
                ["pgbench", "-n", "-M", "prepared", "-c", str(clients), "-j", "2", "-T",
                 str(self.options.seconds), "-l", "--log-prefix", log, *options, *arguments, database],
                check=True, capture_output=True, env=environment)
            elapsed_s = time.time() - started
        wal_bytes = self.server.wal_bytes() - wal_bytes
        cpu_s = self.server.cpu_s() - cpu_s
        if settlement != "immediate":
            psql("SELECT settle_usage(10000000)", database)
        latencies_us = []
        for path in glob.glob(log + ".*"):
            with open(path) as file:
                for line in file:
                    fields = line.split()
                    latencies_us.append(int(fields[2]))
                    script = paths[int(fields[3])]
                    self.calls_made[script] += 1
                    told += self.books_of[script][1] or 0
            os.remove(path)
        measured = self.of_latencies(latencies_us, min(elapsed_s, self.options.seconds))
        measured.update(cpu_us=cpu_s * 1e6 / len(latencies_us), wal_bytes=wal_bytes / len(latencies_us))
        if counted is not None:
            measured["books"] = self.difference(store, database, counted, told)
        return measured

    @staticmethod
    def of_latencies(latencies_us, elapsed_s):
        latencies_us.sort()
        count = len(latencies_us)
        percentile_ms = lambda p: latencies_us[min(count - 1, int(count * p))] / 1000
        return {"per_s": count / elapsed_s, "p50_ms": percentile_ms(0.50), "p95_ms": percentile_ms(0.95), "p99_ms": percentile_ms(0.99)}

    def redis(self, clients, account_count):
        latencies_us, measured = redis_contender.run(
            self.directory, clients, lambda: random.randint(1, account_count), TOKENS, self.options.seconds)
        return {**self.of_latencies(latencies_us, self.options.seconds), **measured}

    @staticmethod
    def counted(store, database):
        return [int(psql(sql, database) or 0) for sql in STORES[store]]

    def difference(self, store, database, before, told):
        """The tokens by which a store's counters or its events, whichever is further off, differ from what clients were told."""
        return max((now - then - told for now, then in zip(self.counted(store, database), before)), key=abs)

    def record(self, section, point, contender, round_number, measured):
        self.rows.append(dict(section=section, point=point, contender=contender, round=round_number,
                              **{key: round(value, 3) for key, value in measured.items()}))

    def rounds(self, section, point, contenders):
        """Lets contenders (name: function) take turns, in a different order each round."""
        names = [name for name in contenders if name in (self.options.contenders or contenders)]
        for round_number in range(self.options.rounds):
            for name in names[round_number % len(names):] + names[:round_number % len(names)]:
                self.record(section, point, name, round_number, contenders[name]())
        medians = {name: statistics.median(row["per_s"] for row in self.rows
                                           if row["section"] == section and row["point"] == point
                                           and row["contender"] == name) for name in names}
        for name in names:
            wrong = [row["books"] for row in self.rows if (row["section"], row["point"], row["contender"]) == (section, point, name)
                     and row.get("books")]
            if wrong:
                progress(f"{section}, {point}: the books of {name} are WRONG by {max(wrong, key=abs):+,} tokens")
        progress(f"{section}, {point}: " + ", ".join(f"{name} {value:,.0f}/s" for name, value in medians.items()))

    # ---- sections ----

    def prepare(self):
        progress("creating accounts")
        for database in MODES.values():
            self.create(database)
        self.create(DATABASE)
        subprocess.run(["psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-d", DATABASE, "-f",
                        os.path.join(os.path.dirname(__file__), "contenders.sql")], check=True)
        for name in (*HAND_WRITTEN, "d", "e"):
            psql(f"INSERT INTO {name}_periods SELECT * FROM usage_periods")
        psql(f"INSERT INTO d_limits SELECT account_id, {OUT_OF_REACH} FROM usage_accounts")
        self.settle_down()

    @staticmethod
    def create_ledger(database):
        psql(f"CREATE DATABASE {database}", "postgres")
        psql("CREATE EXTENSION usage_ledger", database)

    def create(self, database):
        """Creates a database with a ledger in which every account has a period."""
        self.create_ledger(database)
        psql(f"SELECT count(increment_usage(md5('account ' || n)::uuid, 0, 'open')) FROM generate_series(1, {ACCOUNTS}) AS n", database)

    def settle_down(self):
        for database in (DATABASE, *MODES.values()):
            psql("VACUUM ANALYZE", database)
        psql("CHECKPOINT")

    def calls(self):
        """One call a transaction, by distribution of accounts and number of clients."""
        for workload, choice in CHOICE.items():
            if workload not in self.options.workloads:
                continue
            ours = self.script("ours_" + workload, choice + "\n" + OURS.format(key=NEW_KEY), "usage")
            hand_written = {name: self.script(f"{name}_{workload}", choice + "\n" + sql.format(key=NEW_KEY), name)
                            for name, sql in HAND_WRITTEN.items()}
            for clients in self.options.clients:
                if workload == "zipf" and clients not in (8, 32):
                    continue
                contenders = {mode: lambda mode=mode: self.ours([ours], clients, mode) for mode in MODES}
                for name, path in hand_written.items():
                    contenders[name] = lambda path=path: self.pgbench([path], clients)
                if redis_contender.is_installed() and workload != "zipf":
                    contenders["redis"] = lambda: self.redis(clients, 1 if workload == "hot" else ACCOUNTS)
                self.rounds("calls", f"{workload} {clients}", contenders)

    def peers(self):
        """Other designs: see peers.py. In half of the calls of "half retries", a client repeats the call that it made just before."""
        subprocess.run(["psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-d", DATABASE, "-f",
                        os.path.join(os.path.dirname(__file__), "peers.sql")], check=True)
        peers = {name: peer for name, peer in PEERS.items() if self.options.sources or not peer.sources}
        for peer in peers.values():
            if peer.sources:
                psql(sql_of_sources(peer, self.options.sources))
        self.settle_down()
        statements = {**{mode: OURS for mode in MODES}, "b": HAND_WRITTEN["b"],
                      **{name: " ".join(peer.call.format(account=ACCOUNT, tokens=TOKENS, key="{key}").split()) for name, peer in peers.items()}}
        for point, (choice, key, clients, calls) in PEER_WORKLOADS.items():
            turns = {}
            for name, statement in statements.items():
                path = self.script(f"{name} {point}", choice + "\n" + "\n".join([statement.format(key=key)] * calls),
                                   "usage" if name in MODES else name)
                def turn(name=name, path=path):
                    if name in MODES:
                        return self.of_events(self.ours([path], clients, name), calls)
                    background = folding(PEERS[name]) if name in PEERS else contextlib.nullcontext()
                    return self.of_events(self.pgbench([path], clients, background=background), calls)
                turns[name] = turn
            self.rounds("peers", point, turns)

    def round_trip(self):
        """The cost of a call that does nothing."""
        empty = self.script("empty", CHOICE["even"] + f"\nSELECT uuid_send({ACCOUNT});")
        for clients in self.options.clients:
            self.rounds("round trip", str(clients), {"empty C function": lambda: self.pgbench([empty], clients)})

    def first_call(self):
        """The first call of a session. Its latency is without the connection, the rate and the CPU are with it."""
        turns = {}
        for name, sql in {**{mode: OURS for mode in MODES}, **HAND_WRITTEN, "empty C function": f"SELECT uuid_send({ACCOUNT});"}.items():
            store = "usage" if name in MODES else name if name in HAND_WRITTEN else None
            path = self.script("first_" + name, CHOICE["even"] + "\n" + sql.format(key=NEW_KEY), store)
            turns[name] = lambda name=name, path=path: self.pgbench(
                [path], 1, MODES.get(name, DATABASE), name if name in MODES else "immediate", options=["--connect"])
        self.rounds("first call", "even 1", turns)

    def pooler(self):
        """32 connections to PgBouncer in transaction mode, which has 8 connections to the server."""
        if not pooler.is_installed():
            progress("PgBouncer is not installed, so nothing is measured behind it")
            return
        modes = {**{database: mode for mode, database in MODES.items()}, DATABASE: "immediate"}
        for workload in ("even", "hot"):
            turns = {}
            for name, sql in {**{mode: OURS for mode in MODES}, **HAND_WRITTEN}.items():
                path = self.script(f"pooled_{name}_{workload}", CHOICE[workload] + "\n" + sql.format(key=NEW_KEY), "usage" if name in MODES else name)
                turns[name] = lambda name=name, path=path: self.pgbench(
                    [path], 32, MODES.get(name, DATABASE), name if name in MODES else "immediate",
                    options=["-M", "extended", "-h", self.directory, "-p", pooler.PORT])
            with pooler.running(self.directory, modes, 8):
                self.rounds("pooler", f"{workload} 32", turns)

    def timed(self, sql, database, count=None):
        """Runs a statement that answers with a number. Returns it, and the figures of each of count things: by default, of as many."""
        started, cpu_s, wal_bytes = time.time(), self.server.cpu_s(), self.server.wal_bytes()
        answer = int(psql(sql, database))
        elapsed_s = time.time() - started
        count = count or answer
        return answer, {"per_s": count / elapsed_s, "cpu_us": (self.server.cpu_s() - cpu_s) * 1e6 / count,
                        "wal_bytes": (self.server.wal_bytes() - wal_bytes) / count}

    def month(self):
        """A month of events: counted late in batches, then every account's period closed, then its events pruned."""
        database, accounts, batches = "bench_month", 1000, 100
        self.create_ledger(database)
        begin = "(date_trunc('month', now() AT TIME ZONE 'UTC') - interval '1 month') AT TIME ZONE 'UTC'"
        told = batches * accounts * TOKENS
        steps = {
            "count": (f"""SET usage_ledger.max_event_age = '100d';
                SELECT count(*) FILTER (WHERE outcome = 'applied') FROM generate_series(1, {batches}) AS batch, increment_usage_batch(
                ARRAY(SELECT md5('account ' || n)::uuid FROM generate_series(1, {accounts}) AS n), array_fill({TOKENS}::bigint, ARRAY[{accounts}]),
                ARRAY(SELECT 'event ' || batch || ' of ' || n FROM generate_series(1, {accounts}) AS n),
                p_occurred_at => ARRAY(SELECT {begin} + batch * interval '6 hours' FROM generate_series(1, {accounts})))""", told),
            "close": ("SELECT count(close_usage_period(account_id, period_start)) FROM usage_periods", told),
            "prune": (f"SELECT prune_usage_events(now() + interval '1 day', {batches * accounts})", 0)}
        for step, (sql, events) in steps.items():
            count, measured = self.timed(sql, database)
            left = psql(STORES["usage"][1], database)
            counted = int(psql(STORES["settled"][0], database))
            self.record("month", step, "immediate", 0, {**measured, "books": counted - told or int(left) - events})
            progress(f"month, {step}: {count:,} at {measured['per_s']:,.0f}/s")

    def closes(self):
        """Closing and pruning an account's period of some number of events, in a ledger of 24 periods, of which half were pruned and their pages filled again."""
        database, accounts, months = "bench_closes", 1000, 24
        self.create_ledger(database)

        def count_events(account, number_of_events, month, key):
            """Counts events of a month, 1 being the last one, in batches of 1,000. An expression of i gives the account of each."""
            psql(f"""SET usage_ledger.max_event_age = '1000d';
                SELECT count(*) FROM generate_series(0, {number_of_events // 1000 - 1}) AS batch, increment_usage_batch(
                ARRAY(SELECT {account} FROM generate_series(1, 1000) AS i), array_fill({TOKENS}::bigint, ARRAY[1000]),
                ARRAY(SELECT '{key} ' || batch * 1000 + i FROM generate_series(1, 1000) AS i),
                p_occurred_at => array_fill(date_trunc('month', now(), 'UTC') - {month} * interval '1 month', ARRAY[1000]))""", database)

        for month in range(months, 0, -1):
            count_events("md5('account ' || i)::uuid", 100 * accounts, month, f"month {month}, event")
            if month == months // 2 + 1:
                psql("SELECT count(close_usage_period(account_id, period_start)) FROM usage_periods", database)
                while psql("SELECT prune_usage_events('infinity', 1000000)", database) != "0":
                    pass
                psql("VACUUM usage_events, usage_periods", database)
        for size in self.options.closes:
            for round_number in range(self.options.rounds):
                account = f"md5('account of {size}, {round_number}')::uuid"
                count_events(account, size, 1, "event")
                psql("CHECKPOINT", "postgres")
                steps = {
                    "close": f"""SELECT sum(c.tokens_used) - {size * TOKENS} FROM usage_periods AS p, close_usage_period(p.account_id, p.period_start) AS c
                                  WHERE p.account_id = {account}""",
                    "prune": f"SELECT prune_usage_events('infinity', {size}) - {size}"}
                for step, sql in steps.items():
                    difference, measured = self.timed(sql, database, size)
                    self.record("closes", f"{size:,} events", step, round_number, {**measured, "books": difference})
            progress(f"closes, {size:,} events: done")

    def replays(self):
        """Calls of which some or all are retries of events counted earlier."""
        key_count = 100000
        for database in (DATABASE, MODES["immediate"]):
            psql(f"""SELECT count(*) FROM generate_series(1, {key_count}) AS k,
                     increment_usage(md5('account ' || (k % {ACCOUNTS} + 1))::uuid, {TOKENS}, 'old ' || k)""", database)
        for name in HAND_WRITTEN:
            psql(f"""INSERT INTO {name}_events SELECT * FROM usage_events WHERE idempotency_key LIKE 'old %'""")
        self.settle_down()
        old = f"\\set k random(1, {key_count})\n\\set n :k % {ACCOUNTS} + 1\n"
        statements = {"immediate": OURS, **HAND_WRITTEN}
        store = lambda name: "usage" if name in MODES else name
        scripts = {name: (self.script("fresh_" + name, CHOICE["even"] + "\n" + sql.format(key=NEW_KEY), store(name)),
                          self.script("old_" + name, old + sql.format(key="'old ' || :k"), store(name), 0))
                   for name, sql in statements.items()}
        for percent in (0, 10, 90, 100):
            contenders = {}
            for name, (fresh, replay) in scripts.items():
                mix = [f"{path}@{weight}" for path, weight in ((fresh, 100 - percent), (replay, percent)) if weight]
                contenders[name] = lambda mix=mix, database=MODES.get(name, DATABASE): self.pgbench(mix, 8, database)
            self.rounds("replays", f"{percent} %", contenders)

    def reservations(self):
        """Pairs of a reservation and a count. The books of every contender are checked."""
        def contender(database, mode, limits, books, **functions):
            def pairs(workload, tokens=TOKENS):
                path = self.script(f"pairs_{functions['reserve']}_{workload}", CHOICE[workload] + "\n" + RESERVATION.format(**functions),
                                   books["events"].partition("_")[0], tokens)
                return self.pgbench([path], 16, database, mode)
            return pairs, lambda left: psql(limits.format(left=left), database), lambda: psql(BOOKS.format(**books), database)

        contenders = {mode: contender(
            database, mode, "SELECT count(set_usage_limit(account_id, tokens_used::bigint + {left})) FROM usage_totals",
            dict(balances="usage_balances", events="usage_events"), reserve="reserve_usage", count="increment_usage")
            for mode, database in MODES.items()}
        contenders["d"] = contender(
            DATABASE, "immediate", "UPDATE d_limits AS l SET token_limit = tokens_used + {left} FROM d_periods AS p WHERE p.account_id = l.account_id",
            dict(balances="(d_limits JOIN d_periods USING (account_id))", events="d_events"), reserve="d_reserve", count="d_increment")
        for _, leave, _ in contenders.values():
            leave(OUT_OF_REACH)
        self.settle_down()
        for workload in ("even", "hot"):
            self.rounds("reservations", f"{workload} 16", {name: lambda pairs=pairs: pairs(workload) for name, (pairs, _, _) in contenders.items()})
        for name, (pairs, leave, books) in contenders.items():
            leave(100 * TOKENS)  # the hot account fills up
            pairs("hot", None)  # a pair may count nothing
            unsound, above = books().split("|")
            self.record("reservations", "limit", name, 0, {"books": max(int(unsound), abs(int(above)))})
            progress(f"{name}: {unsound} accounts do not add up, and the highest is {int(above):+,} tokens from its limit")
            leave(OUT_OF_REACH)
        self.reservations_beside_pending()

    def reservations_beside_pending(self):
        """Reservations of an account that has pending rows, and of one that has none."""
        database = MODES["immediate"]  # no worker settles there
        psql(f"""SET usage_ledger.settlement = deferred;
                 SELECT count(increment_usage(md5('account 2')::uuid, {TOKENS}, 'pending ' || n)) FROM generate_series(1, 1000) AS n""", database)
        scripts = {name: self.script(f"reserve_{n}", f"\\set n {n}\nSELECT reserve_usage({ACCOUNT}, {TOKENS}, 'long work');", "usage", 0)
                   for n, name in ((2, "1,000"), (3, "none"))}
        self.rounds("reservations", "pending rows", {name: lambda path=path: self.pgbench([path], 1, database) for name, path in scripts.items()})
        psql("SELECT settle_usage(10000000)", database)

    def breakdown(self):
        """Calls and batches with a breakdown, and plain ones. What is counted must be what clients were told."""
        contenders = {"e": (DATABASE, "immediate", "e_record", "e_breakdown")}
        contenders.update({f"{mode} breakdown": (database, mode, "record_usage", "usage_breakdown_totals") for mode, database in MODES.items()})
        self.fill_breakdowns()
        for point in ("even 16", "hot 16", "batches of 1,000"):
            plain = self.plain_batch() if point.startswith("batches") else self.script(
                "plain_" + point, CHOICE[point.split()[0]] + "\n" + OURS.format(key=NEW_KEY), "usage")
            clients, events = (2, 1000) if point.startswith("batches") else (16, 1)
            turns = {mode: lambda mode=mode: self.ours([plain], clients, mode) for mode in MODES}
            for name, (database, mode, function, totals) in contenders.items():
                if events == 1:
                    scripts = {self.script(f"{name}_{point}_{model}", f"{CHOICE[point.split()[0]]}\n\\set t random(1, {TEAMS})\n" + RECORD.format(
                        function=function, key=NEW_KEY, model=model, usage=", ".join(map(str, usage))), "e" if name == "e" else "usage", sum(usage[:-1])): {model: 1}
                        for model, usage in USAGE_OF_MODEL.items()}
                elif function == "record_usage":
                    scripts = {self.breakdown_batch(name): {model: events // 4 * share for model, share in zip(USAGE_OF_MODEL, (1, 1, 2))}}
                else:
                    continue
                turns[name] = lambda scripts=scripts, database=database, mode=mode, totals=totals, name=name: self.checked_turn(
                    name, scripts, clients, database, mode, totals)
            self.rounds("breakdown", point, {name: lambda turn=turn: self.of_events(turn(), events) for name, turn in turns.items()})
        for database in MODES.values():
            if psql("SELECT count(*) FROM verify_usage()", database) != "0":
                sys.exit(f"{database}: verify_usage has rows")

    def fill_breakdowns(self):
        """Makes the rows of all pairs, as in a period that has begun a while ago."""
        if psql("SELECT count(*) FROM e_breakdown") != "0":
            return
        pairs = f"""generate_series(1, {ACCOUNTS}) AS n, generate_series(1, {TEAMS}) AS t,
                    unnest('{{{",".join(USAGE_OF_MODEL)}}}'::text[]) AS m"""
        for database in (DATABASE, *MODES.values()):
            psql(f"SELECT count(record_usage(md5('account ' || n)::uuid, 'pair ' || t || m, m, 'team ' || t)) FROM {pairs}", database)
        psql("INSERT INTO e_breakdown SELECT * FROM usage_breakdown")
        self.settle_down()

    def plain_batch(self):
        items = "FROM generate_series(1, 1000) AS i"
        return self.script("plain_batch", f"""SELECT count(*) FROM increment_usage_batch(
            ARRAY(SELECT md5('account ' || (:client_id * {ACCOUNTS // 2} + i))::uuid {items}), array_fill({TOKENS}::bigint, ARRAY[1000]),
            ARRAY(SELECT {NEW_KEY} {items}));""".replace("\n", " "), "usage", 1000 * TOKENS)

    def breakdown_batch(self, name):
        """The last model has two events of four, the others have one each."""
        items = "FROM generate_series(1, 1000) AS i"
        models = [model for model, share in zip(USAGE_OF_MODEL, (1, 1, 2)) for _ in range(share)]
        by_model = lambda values, type: f"ARRAY(SELECT ('{{{','.join(map(str, values))}}}'::{type}[])[i % 4 + 1] {items})"
        amounts = [by_model([USAGE_OF_MODEL[model][i] for model in models], "bigint") for i in range(6)]
        return self.script(f"batch {name}", f"""SELECT count(*) FROM record_usage_batch(
            ARRAY(SELECT md5('account ' || (:client_id * {ACCOUNTS // 2} + i))::uuid {items}), ARRAY(SELECT {NEW_KEY} {items}),
            {by_model(models, "text")}, ARRAY(SELECT 'team ' || i % {TEAMS} + 1 {items}), {", ".join(amounts)});""".replace("\n", " "),
            "usage", 1000 // 4 * sum(sum(USAGE_OF_MODEL[model][:-1]) for model in models))

    def checked_turn(self, name, scripts, clients, database, mode, totals):
        """Scripts: how many events of each model a call of each script counts."""
        def books():
            rows = (line.split("|") for line in psql(BREAKDOWN_BOOKS.format(breakdown=totals), database).splitlines())
            return {model: [int(figure) for figure in figures] for model, *figures in rows}

        before, told = books(), collections.Counter(self.calls_made)
        measured = self.pgbench(list(scripts), clients, database, mode)
        told = self.calls_made - told
        for model, figures in books().items():
            events = sum(told[script] * counted.get(model, 0) for script, counted in scripts.items())
            expected = [figure + events * used for figure, used in zip(before[model], (*USAGE_OF_MODEL[model], 1))]
            if figures != expected:
                progress(f"{name}, {model}: clients were told of {expected}, but the books have {figures}")
                measured["books"] = measured["books"] or sum(figures) - sum(expected) or 1
        return measured

    @staticmethod
    def of_events(measured, count):
        """The figures of an event, from those of a call that counts several."""
        return {key: value * count if key == "per_s" else value / count if key in ("cpu_us", "wal_bytes") else value
                for key, value in measured.items()}

    def batches(self):
        """Two clients, each with its own accounts. The unit is an event, not a call. (c) is one statement that inserts and adds up."""
        psql(FLOOR_TABLE)
        for size in (10, 100, 1000, 10000):
            items = f"FROM generate_series(1, {size}) AS i"
            account = f"md5('account ' || (:client_id * {ACCOUNTS // 2} + i % {min(size, 1000)} + 1))::uuid"
            batch = self.script(f"batch_{size}", f"""SELECT count(*) FROM increment_usage_batch(
                ARRAY(SELECT {account} {items}), array_fill({TOKENS}::bigint, ARRAY[{size}]),
                ARRAY(SELECT {NEW_KEY} {items}));""".replace("\n", " "), "usage", size * TOKENS)
            by_hand = {name: self.script(f"{name}_{size}", sql.format(account=account, tokens=TOKENS, key=NEW_KEY, items=items).replace("\n", " ") + ";",
                                         store, size * TOKENS)
                       for name, sql, store in (("floor", BATCH_FLOOR, "floor"), ("c", BATCH_STATEMENT, "c"))}
            for database in MODES.values():  # all start empty
                psql("TRUNCATE usage_events", database)
            psql("TRUNCATE floor_events, c_events")
            self.settle_down()
            contenders = {mode: lambda mode=mode: self.of_events(self.ours([batch], 2, mode), size) for mode in MODES}
            for name, path in by_hand.items():
                contenders[name] = lambda path=path: self.of_events(self.pgbench([path], 2), size)
            self.rounds("batches", str(size), contenders)

    def settlement(self):
        """One call that settles a large backlog."""
        row_count = 1000000
        def settle(breakdown):
            psql(f"""INSERT INTO usage_pending SELECT account_id, period_start, 1, 0, 0, now(), {breakdown}
                     FROM generate_series(1, {row_count}) AS n
                     JOIN (SELECT row_number() OVER () - 1 AS i, * FROM usage_periods) AS p ON p.i = hashint4(n) & 8191""")
            counted = self.counted("settled", DATABASE)
            started, cpu_s, wal_bytes = time.time(), self.server.cpu_s(), self.server.wal_bytes()
            settled = int(psql(f"SELECT settle_usage({row_count})"))
            elapsed_s = time.time() - started
            psql("VACUUM usage_pending")
            return {"per_s": settled / elapsed_s, "cpu_us": (self.server.cpu_s() - cpu_s) * 1e6 / row_count,
                    "wal_bytes": (self.server.wal_bytes() - wal_bytes) / row_count,
                    "books": self.difference("settled", DATABASE, counted, settled)}
        psql("ALTER SYSTEM SET usage_ledger.settle_databases = ''", "postgres")
        psql("SELECT pg_reload_conf()", "postgres")
        time.sleep(2)
        self.fill_breakdowns()
        models = ",".join(USAGE_OF_MODEL)
        breakdown = f"""concat_ws(E'\\t', 'team ' || n % {TEAMS} + 1, ('{{{models}}}'::text[])[n % 3 + 1], 1, 0, 0, 0, 0, 0, 1)"""
        self.rounds("settlement", "1,000,000 rows", {"settle_usage": lambda: settle("NULL"), "with breakdown": lambda: settle(breakdown)})

    def bytes_per_event(self):
        """WAL and disk bytes an event; the same events in the same order for both contenders."""
        for setting in ("full_page_writes", "autovacuum"):  # other writes must not be counted
            psql(f"ALTER SYSTEM SET {setting} = off", "postgres")
        psql("SELECT pg_reload_conf()", "postgres")
        while psql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'autovacuum worker'") != "0":
            time.sleep(1)
        count = 100000
        self.fill_breakdowns()
        plain = f"SELECT {{function}}({ACCOUNT}, {TOKENS}, md5('event ' || :i));"
        record = f"\\set t :i % {TEAMS} + 1\n" + RECORD.format(function="record_usage", key="md5('event ' || :i)", model="large",
                                                            usage=", ".join(map(str, USAGE_OF_MODEL["large"])))
        for name, call, prefix in (("immediate", plain.format(function="increment_usage"), "usage"),
                                   ("b", plain.format(function="b_increment"), "b"), ("breakdown", record, "usage")):
            events = f"{prefix}_events"
            psql(f"TRUNCATE {events}")
            psql(f"VACUUM FULL {prefix}_periods")  # earlier sections must not affect the result
            counted = self.counted(prefix, DATABASE)
            wal_bytes = self.server.wal_bytes()
            calls = self.script("count_" + name, f"\\set i :i + 1\n\\set n :i % {ACCOUNTS} + 1\n{call}")
            subprocess.run(["pgbench", "-n", "-M", "prepared", "-D", "i=0", "-t", str(count), "-f", calls, DATABASE],
                           check=True, capture_output=True,
                           env=dict(os.environ, PGOPTIONS="-c synchronous_commit=off"))
            self.record("bytes", "per event", name, 0, {
                "wal_bytes": (self.server.wal_bytes() - wal_bytes) / count,
                "books": self.difference(prefix, DATABASE, counted, count * (sum(USAGE_OF_MODEL["large"][:-1]) if name == "breakdown" else TOKENS)),
                "disk_bytes": int(psql(f"SELECT pg_total_relation_size('{events}')")) / count})
        psql("ALTER SYSTEM RESET ALL", "postgres")
        psql("SELECT pg_reload_conf()", "postgres")

    def growth(self):
        """Calls to ledgers of different sizes, with keys of both kinds."""
        for keys in self.options.growth_keys:
            self.growth_with_keys(keys)

    def growth_with_keys(self, keys):
        key_of_call, key_of_event = {
            "random": (NEW_KEY, NEW_KEY),
            "time-ordered": (ORDERED_KEY, "to_char('2026-01-01Z'::timestamptz + n * interval '10 ms', 'YYYYMMDDHH24MISSUS') || gen_random_uuid()")}[keys]
        ours = self.script("growth", CHOICE["even"] + "\n" + OURS.format(key=key_of_call), "counters")
        databases = {}
        for size in self.options.growth:
            database = f"bench_{size}_{keys}".replace("-", "_")
            progress(f"loading {size:,} events with {keys} keys")
            self.create(database)
            if size > 0:
                psql("ALTER EVENT TRIGGER usage_ledger_guard DISABLE; ALTER TABLE usage_events DROP CONSTRAINT usage_events_pkey", database)
                psql(f"""INSERT INTO usage_events (account_id, period_start, occurred_at, tokens, reports, chats, idempotency_key)
                         SELECT md5('account ' || (n % {ACCOUNTS} + 1))::uuid, '2026-01-01Z', '2026-01-01Z', 1, 0, 0, {key_of_event}
                           FROM generate_series(1, {size}) AS n""", database)
                psql("SET maintenance_work_mem = '1GB'; ALTER TABLE usage_events ADD PRIMARY KEY (account_id, idempotency_key);"
                     "ALTER EVENT TRIGGER usage_ledger_guard ENABLE", database)
            psql("VACUUM ANALYZE", database)
            psql("CREATE EXTENSION pg_prewarm", database)
            databases[size] = database
        psql("CHECKPOINT", "postgres")
        calls = {f"{size:,}": lambda database=database: self.pgbench([ours], 8, database)
                 for size, database in databases.items()}
        for database in databases.values():  # the last one loaded has pushed the others out of memory
            psql("SELECT pg_prewarm('usage_events_pkey', 'read')", database)
        # The first write to a page after a checkpoint puts the whole page into the WAL.
        self.rounds("growth", f"{keys} keys, after a checkpoint", calls)
        for size, database in databases.items():
            if size > 0:
                progress(f"warming up {size:,} events")
                psql(f"""SELECT count(*) FROM generate_series(1, {max(1, size // 25000)}) AS batch, increment_usage_batch(
                             ARRAY(SELECT md5('account ' || (i * 10 + batch % 10 + 1))::uuid FROM generate_series(0, {ACCOUNTS // 10 - 1}) AS i),
                             array_fill(1::bigint, ARRAY[{ACCOUNTS // 10}]),
                             ARRAY(SELECT {key_of_call} FROM generate_series(1, {ACCOUNTS // 10}) WHERE batch > 0))""", database)
        self.rounds("growth", f"{keys} keys, between checkpoints", calls)
        for database in databases.values():
            psql(f"DROP DATABASE {database}", "postgres")

    def run(self):
        sections = {"calls": self.calls, "round trip": self.round_trip, "first call": self.first_call, "pooler": self.pooler,
                    "month": self.month, "closes": self.closes, "replays": self.replays, "peers": self.peers,
                    "reservations": self.reservations, "breakdown": self.breakdown, "batches": self.batches, "settlement": self.settlement,
                    "bytes": self.bytes_per_event, "growth": self.growth}
        self.prepare()
        try:
            for name, section in sections.items():
                if not self.options.sections or name in self.options.sections:
                    section()
        finally:
            shutil.rmtree(self.directory)


def main():
    names = lambda text: text.split(",")
    numbers = lambda text: [int(number) for number in text.split(",") if number]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender at each point")
    parser.add_argument("--seconds", type=int, default=2, help="length of a turn")
    parser.add_argument("--clients", type=numbers, default=[1, 8, 16, 32])
    parser.add_argument("--growth", type=numbers, default=[0, 1000000], help="numbers of events in the ledger")
    parser.add_argument("--growth-keys", type=names, default=["random", "time-ordered"], help="keys of those events")
    parser.add_argument("--closes", type=numbers, default=[1000, 100000], help="numbers of events in a period that is closed")
    parser.add_argument("--sections", type=names, default=[], help="only these, separated by commas (default: all)")
    parser.add_argument("--workloads", type=names, default=["even", "hot"], help="only these in the section calls: " + ", ".join(CHOICE))
    parser.add_argument("--sources", help="a directory with checkouts named pgledger, pgmq and lago-api, whose own SQL is then measured too")
    parser.add_argument("--contenders", type=names, default=[], help="only these, such as immediate,a,b,c")
    parser.add_argument("--output", default="bench/results", help="directory for results.csv and the charts")
    options = parser.parse_args()

    bench = Bench(options)
    bench.run()
    os.makedirs(options.output, exist_ok=True)
    path = os.path.join(options.output, "results.csv")
    fields = ["section", "point", "contender", "round", "per_s", "p50_ms", "p95_ms", "p99_ms", "cpu_us", "wal_bytes", "disk_bytes", "books"]
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, fields)
        writer.writeheader()
        writer.writerows(bench.rows)
    report.write(path, options.output)
    if any(row.get("books") for row in bench.rows if row["contender"].split()[0] in MODES):
        sys.exit("the books of usage_ledger are wrong")


if __name__ == "__main__":
    main()
