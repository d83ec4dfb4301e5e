"""A Prefect server for schedules, where none is configured.

Prefect's temporary server, good enough for one run, has no scheduler: a schedule served from it
never creates a run. So `remine schedule` starts a real one beside itself.
"""

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from data.errors import StoreError

HOST = "127.0.0.1"
START_SECONDS = 180


@contextmanager
def server() -> Iterator[str]:
    """The address of the configured Prefect API, or of a server that lives as long as this."""
    from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_API_PORT, temporary_settings

    if configured := PREFECT_API_URL.value():
        yield configured
        return
    port = PREFECT_SERVER_API_PORT.value()
    url = f"http://{HOST}:{port}/api"
    os.environ["PREFECT_API_URL"] = url  # for the processes that run the cycles
    with _started(port), temporary_settings({PREFECT_API_URL: url}):
        yield url


@contextmanager
def _started(port: int) -> Iterator[None]:
    """A server while this lasts; one that answers already is taken as it is."""
    if _healthy(port):
        yield
        return
    command = [sys.executable, "-m", "prefect", "server", "start"]
    process = subprocess.Popen(  # noqa: S603 - our own interpreter
        [*command, "--host", HOST, "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(process, port)
        yield
    finally:
        process.terminate()
        process.wait()


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
    except OSError:
        return False
    finally:
        connection.close()
