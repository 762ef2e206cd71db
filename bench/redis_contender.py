"""Redis as a contender: SET NX and HINCRBY in a Lua script, with every write synced to disk.

Each connection sends a fresh key and waits for the reply before it sends the next. (redis-benchmark
is no such client: a range above 2^31 - 1 overflows its -r, and nearly every call has the same key.)
"""

import os
import selectors
import shutil
import socket
import subprocess
import time
import uuid

ACCOUNT = "account:"
SCRIPT = (f"if redis.call('SET', 'key:' .. ARGV[1], ARGV[2], 'NX') then "
          f"return redis.call('HINCRBY', '{ACCOUNT}' .. ARGV[3], 'tokens', ARGV[2]) else return -1 end")


def is_installed():
    return shutil.which("redis-server") is not None


def run(directory, clients, choose_account, tokens, seconds):
    """Starts a Redis server, measures a turn, compares its counters with the replies, and stops it."""
    data = os.path.join(directory, "redis")
    os.makedirs(data)
    path = os.path.join(data, "socket")
    server = subprocess.Popen(
        ["redis-server", "--port", "0", "--unixsocket", path, "--dir", data, "--save", "",
         "--appendonly", "yes", "--appendfsync", "always"], stdout=subprocess.DEVNULL)
    try:
        while not os.path.exists(path):
            time.sleep(0.05)
        connections = [Connection(path) for _ in range(clients)]
        script = connections[0].ask("SCRIPT", "LOAD", SCRIPT)
        cpu_s, size = server_cpu_s(server.pid), written_bytes(data)
        latencies_us, told = measure(connections, script, choose_account, tokens, seconds)
        cpu_s, size = server_cpu_s(server.pid) - cpu_s, written_bytes(data) - size
        counted = sum(int(connections[0].ask("HGET", key, "tokens")) for key in connections[0].ask("KEYS", ACCOUNT + "*"))
        return latencies_us, {"cpu_us": cpu_s * 1e6 / len(latencies_us), "wal_bytes": size / len(latencies_us),
                              "books": counted - told}
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(data)


def measure(connections, script, choose_account, tokens, seconds):
    """Returns the latencies, and the tokens that replies said were counted."""
    latencies_us, told = [], 0
    sent_at = {}
    with selectors.DefaultSelector() as selector:
        def send(connection):
            sent_at[connection] = time.perf_counter()
            connection.send("EVALSHA", script, "0", str(uuid.uuid4()), str(tokens), str(choose_account()))

        for connection in connections:
            selector.register(connection, selectors.EVENT_READ)
            send(connection)
        end = time.perf_counter() + seconds
        waiting = len(connections)
        while waiting:
            for key, _ in selector.select():
                reply, now = key.fileobj.receive(), time.perf_counter()
                latencies_us.append(int((now - sent_at[key.fileobj]) * 1e6))
                if reply != -1:
                    told += tokens
                if now < end:
                    send(key.fileobj)
                else:
                    waiting -= 1
    return latencies_us, told


class Connection:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.file = self.socket.makefile("rb")

    def fileno(self):
        return self.socket.fileno()

    def send(self, *words):
        self.socket.sendall(b"".join([b"*%d\r\n" % len(words), *(b"$%d\r\n%b\r\n" % (len(word), word.encode()) for word in words)]))

    def receive(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:].strip()
        if kind == b"*":
            return [self.receive() for _ in range(int(rest))]
        if kind == b"$":
            return self.file.read(int(rest) + 2)[:-2].decode()
        if kind == b"-":
            raise RuntimeError(rest.decode())
        return int(rest) if kind == b":" else rest.decode()

    def ask(self, *words):
        self.send(*words)
        return self.receive()


def server_cpu_s(pid):
    with open(f"/proc/{pid}/stat") as file:
        return sum(map(int, file.read().rpartition(")")[2].split()[11:13])) / os.sysconf("SC_CLK_TCK")


def written_bytes(data):
    return sum(os.path.getsize(os.path.join(path, name)) for path, _, names in os.walk(data) for name in names if name.endswith(".aof"))
