"""Redis as a contender: SET NX and HINCRBY in a Lua script, with every write synced to disk."""

import csv
import io
import os
import shutil
import subprocess
import time

SCRIPT = ("if redis.call('SET', 'key:' .. ARGV[1], ARGV[2], 'NX') then "
          "return redis.call('HINCRBY', 'account:' .. (tonumber(ARGV[1]) % tonumber(ARGV[3])), 'tokens', ARGV[2]) "
          "else return -1 end")


def is_installed():
    return shutil.which("redis-server") is not None and shutil.which("redis-benchmark") is not None


def run(directory, clients, account_count, seconds):
    """Starts a Redis server, measures for about the length of a turn, and stops it."""
    data = os.path.join(directory, "redis")
    os.makedirs(data, exist_ok=True)
    socket = os.path.join(data, "socket")
    server = subprocess.Popen(
        ["redis-server", "--port", "0", "--unixsocket", socket, "--dir", data, "--save", "",
         "--appendonly", "yes", "--appendfsync", "always"], stdout=subprocess.DEVNULL)
    try:
        while subprocess.run(["redis-cli", "-s", socket, "ping"], capture_output=True).returncode != 0:
            time.sleep(0.05)
        measure(socket, clients, account_count, 2000)
        calls_per_s = measure(socket, clients, account_count, 2000)["per_s"]
        return measure(socket, clients, account_count, max(2000, int(calls_per_s * seconds)))
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(data)


def measure(socket, clients, account_count, call_count):
    result = subprocess.run(
        ["redis-benchmark", "-s", socket, "-c", str(clients), "-n", str(call_count), "-r", "1000000000000",
         "--csv", "eval", SCRIPT, "0", "__rand_int__", "100", str(account_count)],
        check=True, capture_output=True, text=True)
    row = list(csv.DictReader(io.StringIO(result.stdout)))[-1]
    return {"per_s": float(row["rps"]), "p50_ms": float(row["p50_latency_ms"]),
            "p95_ms": float(row["p95_latency_ms"]), "p99_ms": float(row["p99_latency_ms"])}
