"""A Prefect server where none is configured, which never outlives the command that needs it.

Prefect's own temporary server has no scheduler, so a schedule served from it never creates a run,
and it stays behind for ever when the process that started it is killed.
"""

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from remine.data.errors import StoreError

HOST = "127.0.0.1"
START_SECONDS = 180
STOP_SECONDS = 5


@dataclass(frozen=True, kw_only=True)
class Server:
    """A Prefect server. passing: whether it ends with some command, this one or another."""

    url: str
    passing: bool

    def answers(self) -> bool:
        """Whether it does now."""
        return not self.passing or _healthy(int(self.url.split(":")[2].split("/")[0]))


@contextmanager
def server(*, schedules: bool = True) -> Iterator[Server]:
    """The configured Prefect API, or a server that lives as long as this or another command.

    schedules: whether it must create runs, and show its pages; else it is a bare one for one run.
    """
    from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_API_PORT, temporary_settings

    if configured := PREFECT_API_URL.value():
        yield Server(url=configured, passing=False)
        return
    port = PREFECT_SERVER_API_PORT.value() if schedules else _free_port()
    url = f"http://{HOST}:{port}/api"
    os.environ["PREFECT_API_URL"] = url  # for the processes that run the cycles
    options = [] if schedules else ["--no-services", "--no-ui"]
    with _started(port, options), temporary_settings({PREFECT_API_URL: url}):
        yield Server(url=url, passing=True)


@contextmanager
def _started(port: int, options: list[str]) -> Iterator[None]:
    """A server while this lasts; one that answers already is taken as it is."""
    if _healthy(port):
        yield
        return
    command = [
        sys.executable,
        "-m",
        "remine.flows.orchestration.tether",
        "prefect",
        "server",
        "start",
        *options,
    ]
    process = subprocess.Popen(  # noqa: S603 - our own interpreter
        [*command, "--host", HOST, "--port", str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # Ctrl-C reaches a terminal's whole group: the server must outlive those who talk to it.
        start_new_session=True,
    )
    try:
        _wait(process, port)
        yield
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:  # a connection that nobody closes
        process.kill()
        process.wait()
    if process.stdin:
        process.stdin.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if _healthy(port):
            return
        if process.poll() is not None:
            break
        time.sleep(0.3)
    raise StoreError(
        f"Prefect's server does not start on {HOST}:{port}; see `prefect server start`, or set"
        " PREFECT_API_URL to a running one"
    )


def _healthy(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/api/health")
        return connection.getresponse().read() == b"true"
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
