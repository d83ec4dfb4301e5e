"""`remine serve`: the served version over HTTP."""

import os
import signal
import socket
from contextlib import nullcontext
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from remine.data.errors import InputError
from remine.flows.cli.options import ConfigOption, StoreOption, base_of, store_of

if TYPE_CHECKING:
    import uvicorn

GRACE = 5
"""Seconds that answers under way are given when the server is stopped."""


def serve(
    *,
    host: Annotated[
        str, typer.Option(help="Address to listen on; for other machines --host 0.0.0.0.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8080,
    token_file: Annotated[
        Path | None,
        typer.Option(help="A file with a token that requests must bring; or set REMINE_TOKEN."),
    ] = None,
    max_k: Annotated[int, typer.Option(help="Neighbours in one answer.")] = 1_000,
    max_batch: Annotated[int, typer.Option(help="Queries in one request.")] = 4_096,
    max_body: Annotated[int, typer.Option(help="Megabytes of one request.")] = 16,
    timeout: Annotated[float, typer.Option(help="Request timeout in seconds.")] = 30.0,
    config: ConfigOption = None,
    store: StoreOption = None,
) -> None:
    """Serve search and triplets over HTTP.

    With a page to explore them; moves to new versions by itself.
    """
    import uvicorn

    from remine.flows.serving.app import make_app
    from remine.flows.serving.limits import MEGABYTE, Limits, is_loopback
    from remine.index.search import multiply_from

    limits = Limits(
        k=max_k,
        batch=max_batch,
        body=max_body * MEGABYTE,
        seconds=timeout,
        token=_token(token_file),
    )
    if not 0 <= port < 65_536:
        raise InputError(f"--port is {port}; it must be 0 to 65535")
    local = is_loopback(host)
    hosts = frozenset({"localhost", "127.0.0.1", "::1", host.lower()}) if local else None
    app = make_app(store_of(store, config), limits, hosts=hosts, base=base_of(config))
    multiply_from(4, app.state.dimensions)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        bound = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise InputError(f"--host {host} --port {port}: {error.strerror or error}") from None
    # Else an answer's body waits 40 ms for the receipt of its head: asyncio does this by itself
    # only for sockets that it made.
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not local and not limits.token:
        typer.echo("every machine that reaches this one may ask: --token-file asks for more")
    name = f"[{host}]" if ":" in host else host
    typer.echo(f"serving version {app.state.version} at http://{name}:{bound.getsockname()[1]}/")
    settings = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=GRACE,
    )
    _run(uvicorn.Server(settings), bound)


def _run(server: "uvicorn.Server", bound: socket.socket) -> None:
    """Serve until a signal; then what is asked gets its answer, for GRACE seconds at most."""
    signals: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        signals.append(number)
        server.handle_exit(number, frame)  # a second Ctrl-C waits for nobody

    # uvicorn's own handling raises the signal once more at the end, past our last word.
    server.capture_signals = nullcontext  # type: ignore[method-assign, assignment]
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    server.run(sockets=[bound])
    if signals:
        typer.echo(f"stopped by {signal.Signals(signals[0]).name}")
    if signal.SIGINT in signals:
        raise typer.Exit(130)


def _token(path: Path | None) -> str:
    if path is None:
        return os.environ.get("REMINE_TOKEN", "")
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--token-file {path}: {error}") from None
    if not token:
        raise InputError(f"--token-file {path} is empty")
    return token
