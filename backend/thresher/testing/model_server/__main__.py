"""``python -m thresher.testing.model_server``."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence

from thresher.testing.model_server.http import Connection
from thresher.testing.model_server.options import Options, parse_options
from thresher.testing.model_server.service import ModelService

BACKLOG = 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until SIGTERM or SIGINT (0), or says why it cannot (2)."""
    options = parse_options(arguments)
    try:
        asyncio.run(_serve(options))
    except OSError as error:
        sys.stderr.write(f"Cannot listen on {options.host} port {options.port}: {error.strerror or error}.\n")
        return 2
    return 0


async def _serve(options: Options) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if options.until_stdin_closes:
        loop.add_reader(sys.stdin.fileno(), _stop_at_end, sys.stdin.fileno(), stop)
    connections: set[Connection] = set()
    service = ModelService(options, loop)
    server = await loop.create_server(
        lambda: Connection(service, connections), options.host, options.port, backlog=BACKLOG
    )
    _announce(options, server.sockets[0].getsockname()[1])
    await stop.wait()
    server.close()
    for connection in tuple(connections):
        connection.abort()
    await server.wait_closed()


def _stop_at_end(descriptor: int, stop: asyncio.Event) -> None:
    if not os.read(descriptor, 4096):
        stop.set()


def _announce(options: Options, port: int) -> None:
    host = f"[{options.host}]" if ":" in options.host else options.host
    address = f"http://{host}:{port}"
    ready = {"base_url": f"{address}/v1", "address": address, "port": port, "pid": os.getpid()}
    line = json.dumps(ready) if options.json else f"Model server at {address}/v1"
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
