"""PgBouncer in transaction mode, in front of the benchmark's server."""

import contextlib
import os
import shutil
import subprocess
import time

PORT = "6432"
PROGRAM = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"


def is_installed():
    return os.path.exists(PROGRAM)


@contextlib.contextmanager
def running(directory, modes, pool_size):
    """Listens on a socket in the directory. modes: the settlement mode by database."""
    path = os.path.join(directory, "pgbouncer.ini")
    server = f"host={os.environ['PGHOST']} port={os.environ['PGPORT']} user={os.environ['PGUSER']}"
    with open(path, "w") as file:
        file.write("[databases]\n")
        for database, mode in modes.items():
            file.write(f"{database} = {server} dbname={database} connect_query='SET usage_ledger.settlement = {mode}'\n")
        file.write(f"[pgbouncer]\nlisten_addr =\nlisten_port = {PORT}\nunix_socket_dir = {directory}\nauth_type = any\n"
                   f"pool_mode = transaction\ndefault_pool_size = {pool_size}\nignore_startup_parameters = options, extra_float_digits\n"
                   "logfile =\npidfile =\n")
    arguments = [PROGRAM, "-q", path]
    if os.getuid() == 0:  # PgBouncer refuses to run as root
        for name in (directory, path):
            shutil.chown(name, "postgres", "postgres")
        arguments = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", *arguments]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not os.path.exists(os.path.join(directory, f".s.PGSQL.{PORT}")):
            if process.poll() is not None:
                raise RuntimeError(f"pgbouncer ended with {process.returncode}")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()
