#!/usr/bin/env python3
"""Runs a command with a TCP port that leads to the unix socket of the PG* variables.

    relay.py COMMAND [ARGUMENT...]

JDBC knows no unix sockets. JDBC_URL has the port.
"""

import asyncio
import os
import sys


async def copy(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def connect(reader, writer):
    server = await asyncio.open_unix_connection(f"{os.environ['PGHOST']}/.s.PGSQL.{os.environ['PGPORT']}")
    await asyncio.gather(copy(reader, server[1]), copy(server[0], writer))


async def main():
    server = await asyncio.start_server(connect, '127.0.0.1', 0)
    port = server.sockets[0].getsockname()[1]
    os.environ['JDBC_URL'] = (f"jdbc:postgresql://127.0.0.1:{port}/{os.environ['PGDATABASE']}"
                              f"?user={os.environ['PGUSER']}")
    command = await asyncio.create_subprocess_exec(*sys.argv[1:])
    return await command.wait()


sys.exit(asyncio.run(main()))
