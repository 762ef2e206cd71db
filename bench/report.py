#!/usr/bin/env python3
"""Prints the tables and writes the charts of a results.csv:  report.py CSV DIRECTORY"""

import csv
import os
import shutil
import statistics
import subprocess
import sys

from peers import PEERS

HAND_WRITTEN = ("a", "b", "c")
# Said under the table, since its points use these words.
WORDS = """even: each call chooses one of 10,000 accounts at random. hot: all calls are to one account. zipf: a few of the
10,000 accounts get most calls. The number after the word is that of clients. per s, CPU and WAL bytes are of a call, in
batches and settlement of an event. Within the spread of its rounds, a ratio differs from 1 by chance. For Redis,
CPU is that of its server and WAL bytes are those of its append-only file. Instructions are those of the server's own code,
from instructions.csv in the same directory, which bench/instructions.py writes. books: what the store says against what clients were told."""


class Results:
    def __init__(self, path):
        with open(path) as file:
            self.rows = list(csv.DictReader(file))
        self.instructions = {}
        path = os.path.join(os.path.dirname(path), "instructions.csv")
        if os.path.exists(path):
            with open(path) as file:
                self.instructions = {row["contender"]: row for row in csv.DictReader(file)}
        self.clients = sorted({int(row["point"].split()[1]) for row in self.rows if row["section"] == "calls"})

    def values(self, section, point, contender, column="per_s"):
        """One value a round; empty if not measured."""
        return [float(row[column]) for row in self.rows
                if (row["section"], row["point"], row["contender"]) == (section, point, contender) and row[column]]

    def median(self, *which):
        values = self.values(*which)
        return statistics.median(values) if values else None

    def instructions_of(self, section, point, contender):
        """Instructions of a call. They do not depend on how many clients there are, and not on the run."""
        if section not in ("calls", "peers") or point.startswith("half"):
            return None
        row = self.instructions.get(contender)
        return float(row["few_accounts" if point.startswith("hot") else "many_accounts"]) if row else None

    def ratios(self, ours, others, best=max):
        """Ours divided by the best of the others, round by round. The best is the one with the best median.

        Each contender is a tuple of values()' arguments.
        """
        columns = [column for column in (self.values(*other) for other in others) if column]
        if not columns:
            return []
        return [own / other for own, other in zip(self.values(*ours), best(columns, key=statistics.median))]


def target_lines(results):
    """Yields (name, ratios or figures, target, whether more is better)."""
    def hand_written(point, column="per_s"):
        return [("calls", point, name, column) for name in HAND_WRITTEN]

    for workload in ("even", "hot"):
        for clients in results.clients:
            point = f"{workload} {clients}"
            ours = ("calls", point, "immediate")
            yield f"{point}: immediate / best hand-written", results.ratios(ours, hand_written(point)), 1.0, True
            if workload == "even":
                yield (f"{point}: CPU a call, immediate / lowest hand-written",
                       results.ratios((*ours, "cpu_us"), hand_written(point, "cpu_us"), min), 1.0, False)
    for clients, target in ((16, 4.0), (32, 5.0)):
        ours = ("calls", f"hot {clients}", "adaptive")
        yield f"hot {clients}: adaptive / best hand-written", results.ratios(ours, hand_written(f"hot {clients}")), target, True
        yield (f"hot {clients}: adaptive / adaptive on even accounts",
               results.ratios(ours, [("calls", f"even {clients}", "adaptive")]), 0.95, True)
    yield ("replays / fresh calls", results.ratios(("replays", "100 %", "immediate"), [("replays", "0 %", "immediate")]), 3.5, True)
    yield "WAL bytes a replay", results.values("replays", "100 %", "immediate", "wal_bytes"), 0.5, False
    for point in ("even 16", "hot 16"):
        yield (f"reservations, {point}: immediate / (d)",
               results.ratios(("reservations", point, "immediate"), [("reservations", point, "d")]), 1.0, True)
    yield ("reservations, 1,000 pending rows / none",
           results.ratios(("reservations", "pending rows", "1,000"), [("reservations", "pending rows", "none")]), 0.5, True)
    for point, mode, target in (("even 16", "immediate", 0.75), ("hot 16", "adaptive", 0.8), ("batches of 1,000", "immediate", 0.6)):
        yield (f"breakdown, {point}: {mode} with / without",
               results.ratios(("breakdown", point, f"{mode} breakdown"), [("breakdown", point, mode)]), target, True)
    for point in ("even 16", "hot 16"):
        yield (f"breakdown, {point}: immediate / (e)",
               results.ratios(("breakdown", point, "immediate breakdown"), [("breakdown", point, "e")]), 1.0, True)
    yield ("breakdown, settlement with / without",
           results.ratios(("settlement", "1,000,000 rows", "with breakdown"), [("settlement", "1,000,000 rows", "settle_usage")]), 0.5, True)
    wal = [results.values("bytes", "per event", name, "wal_bytes") for name in ("breakdown", "immediate")]
    yield "breakdown, WAL bytes an event more", [more - plain for more, plain in zip(*wal)], 300, False
    for kind, name, target in (("a call", "immediate", 540), ("a call with a breakdown", "breakdown", 800)):
        yield f"WAL bytes of {kind}", results.values("bytes", "per event", name, "wal_bytes"), target, False
    yield "first call of a session, ms", results.values("first call", "even 1", "immediate", "p50_ms"), 1.2, False
    yield "batches of 1,000: events/s", results.values("batches", "1000", "immediate"), 100000, True
    yield "batches of 1,000 / floor", results.ratios(("batches", "1000", "immediate"), [("batches", "1000", "floor")]), 0.5, True
    yield "batches of 1,000 / (c)", results.ratios(("batches", "1000", "immediate"), [("batches", "1000", "c")]), 1.0, True
    yield "settlement of 1,000,000 rows: rows/s", results.values("settlement", "1,000,000 rows", "settle_usage"), 400000, True
    sizes = {row["contender"] for row in results.rows if row["section"] == "growth"}
    empty, *grown = sorted(sizes, key=lambda size: int(size.replace(",", ""))) or [None]
    for size in grown:
        for point in dict.fromkeys(row["point"] for row in results.rows if row["section"] == "growth"):
            yield (f"{size} events in the ledger / none, {point}",
                   results.ratios(("growth", point, size), [("growth", point, empty)]), 0.85, True)
    points = list(dict.fromkeys(row["point"] for row in results.rows if row["section"] == "closes"))
    for smaller, point in zip(points, points[1:]):
        for step in ("close", "prune"):
            yield f"{step} of {point}: events/s / those of {smaller}", results.ratios(("closes", point, step), [("closes", smaller, step)]), 1.0, True
    for column in ("wal_bytes", "disk_bytes"):
        yield (f"{column.replace('_', ' ')} an event / (b)",
               results.ratios(("bytes", "per event", "immediate", column), [("bytes", "per event", "b", column)]), 1.0, False)


def table(results):
    lines = [("measure", "median", "spread", "target", "")]
    for name, figures, target, is_more_better in target_lines(results):
        if not figures:
            continue
        median = statistics.median(figures)
        number = (lambda value: f"{value:,.0f}") if max(figures) > 1000 else (lambda value: f"{value:.2f}")
        is_met = median >= target if is_more_better else median <= target
        lines.append((name, number(median), f"{number(min(figures))} to {number(max(figures))}",
                      ("≥ " if is_more_better else "≤ ") + (f"{target:,}"), "met" if is_met else "MISSED"))
    return layout(lines)


def medians(results):
    lines = [("section", "point", "contender", "per s", "spread", "p50 ms", "p95 ms", "p99 ms", "CPU µs", "WAL bytes", "disk bytes", "instructions", "books")]
    for key in dict.fromkeys((row["section"], row["point"], row["contender"]) for row in results.rows):
        columns = [results.median(*key, column) for column in
                   ("per_s", "p50_ms", "p95_ms", "p99_ms", "cpu_us", "wal_bytes", "disk_bytes")]
        columns.append(results.instructions_of(*key))
        rates = results.values(*key)
        spread = f"{min(rates):,.0f} to {max(rates):,.0f}" if len(rates) > 1 else ""
        per_s, *others = ("" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.2f}" for value in columns)
        lines.append((*key, per_s, spread, *others, books(results.values(*key, "books"))))
    return layout(lines)


def books(differences):
    """Compares what a store says with what its clients were told. A contender with wrong books has no speed worth comparing."""
    if not differences:
        return ""
    worst = max(differences, key=abs)
    return f"WRONG by {worst:+,.0f} tokens" if worst else "right"


def layout(lines):
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def charts(results, directory):
    if shutil.which("gnuplot") is None:
        print("gnuplot is not installed, so no charts are written", file=sys.stderr)
        return
    # Only of contenders that were measured: gnuplot refuses an empty chart.
    for workload, title in (("hot", "one hot account"), ("even", "10,000 accounts")):
        contenders = [name for name in ("immediate", "adaptive", "deferred", "a", "b", "c", "redis")
                      if any(results.median("calls", f"{workload} {clients}", name) for clients in results.clients)]
        data = "\n".join(f"{clients} " + " ".join(str(results.median("calls", f"{workload} {clients}", name) or "NaN")
                                                for name in contenders) for clients in results.clients)
        plots = ", ".join(f"$data using 1:{i + 2} title '{name if len(name) > 1 else f'hand-written ({name})'}' with linespoints pt 7 ps 0.5"
                          for i, name in enumerate(contenders))
        if contenders:
            gnuplot(os.path.join(directory, f"calls_{workload}.svg"), f"Calls a second, {title}", "clients", data,
                    f"set logscale x 2; set key outside right; plot {plots}")
    costs = {label: results.median(section, point, name, "cpu_us")
             for label, section, point, name in (
                 ("no function", "round trip", "8", "empty C function"), ("immediate", "calls", "even 8", "immediate"),
                 ("adaptive", "calls", "even 8", "adaptive"), ("deferred", "calls", "even 8", "deferred"),
                 ("hand-written (a)", "calls", "even 8", "a"), ("hand-written (b)", "calls", "even 8", "b"),
                 ("hand-written (c)", "calls", "even 8", "c"), ("replay", "replays", "100 %", "immediate"),
                 ("in a batch", "batches", "1000", "immediate"), ("settled", "settlement", "1,000,000 rows", "settle_usage"))}
    data = "\n".join(f'"{label}" {cost}' for label, cost in costs.items() if cost is not None)
    if data:
        gnuplot(os.path.join(directory, "cost.svg"), "Server CPU a call, 8 clients, 10,000 accounts (µs)", "", data,
                "unset key; set style fill solid 0.6; set boxwidth 0.7; set xtics rotate by -35; plot $data using 0:2:xtic(1) with boxes")


def gnuplot(path, title, x_label, data, commands):
    subprocess.run(["gnuplot"], check=True, text=True, input=(
        f"set terminal svg size 720,360 font 'sans,12' background 'white'\nset output '{path}'\n"
        f"set title '{title}'\nset xlabel '{x_label}'\nset yrange [0:*]\nset grid y\n$data << EOD\n{data}\nEOD\n{commands}\n"))


def write(path, directory):
    results = Results(path)
    print(medians(results))
    print()
    print(WORDS)
    measured = {row["contender"] for row in results.rows}
    for name, peer in PEERS.items():
        if name in measured:
            print(f"{name}: {peer.lacks}.")
    print()
    print(table(results))
    if results.clients:
        charts(results, directory)


if __name__ == "__main__":
    write(*sys.argv[1:])
