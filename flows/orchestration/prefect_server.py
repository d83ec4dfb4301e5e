"""The configured Prefect server, or a temporary one that ends with the command that started it.

Prefect's own temporary server does not fit: it has no scheduler, so a schedule served from it never
creates a run, and it keeps running if the process that started it is killed.
"""

import http.client
import os
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from remine.data.errors import StoreError, first_line

HOST = "127.0.0.1"
START_SECONDS = 180
REACH_SECONDS = 10
STOP_SECONDS = 5


@dataclass(frozen=True, kw_only=True)
class Server:
    """A Prefect server: the URL of its API, and whether it ends with this or another command."""

    url: str
    is_temporary: bool

    def is_alive(self) -> bool:
        """Whether a temporary server answers; a configured one may restart, so it always counts."""
        return not self.is_temporary or _is_healthy(int(self.url.split(":")[2].split("/")[0]))


@contextmanager
def server(*, schedules: bool = True) -> Iterator[Server]:
    """The configured Prefect server, or a temporary one, as a context manager.

    Args:
        schedules: Whether a temporary server needs the scheduler and the pages. Without them it is
            smaller, and good for one run.

    Raises:
        StoreError: If the temporary server does not start, or the configured one does not answer.

    """
    from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_API_PORT, temporary_settings

    if configured_url := PREFECT_API_URL.value():
        _check_reachable(configured_url)
        yield Server(url=configured_url, is_temporary=False)
        return
    port = PREFECT_SERVER_API_PORT.value() if schedules else _free_port()
    url = f"http://{HOST}:{port}/api"
    options = [] if schedules else ["--no-services", "--no-ui"]
    with (
        _environment_variable("PREFECT_API_URL", url),
        _running_server(port, options),
        temporary_settings({PREFECT_API_URL: url}),
    ):
        yield Server(url=url, is_temporary=True)


def _check_reachable(url: str) -> None:
    """Refuse a configured server that does not answer: Prefect would retry, then raise a traceback.

    Any answer counts, since a server may want a key. Proxies are used as Prefect uses them.
    """
    try:
        # The address is the user's own setting, read by Prefect from then on.
        with urllib.request.urlopen(f"{url}/health", timeout=REACH_SECONDS):  # noqa: S310
            return
    except urllib.error.HTTPError:
        return
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLError):
            return  # it answers; Prefect has settings of its own for certificates
        raise StoreError(
            f"the Prefect server at {url} does not answer ({first_line(Exception(reason))}): start"
            " it, or unset PREFECT_API_URL (also in Prefect's profile) for one that ends with the"
            " command"
        ) from None


@contextmanager
def _environment_variable(name: str, value: str) -> Iterator[None]:
    """Set a variable for the child processes that run the cycles; unset again at the end."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def _running_server(port: int, options: list[str]) -> Iterator[None]:
    """Keep a server running on `port`; one that answers there already is used as it is.

    That is the server of another schedule on this machine, so that its pages show both.
    """
    if _is_healthy(port):
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
        # Ctrl-C reaches every process of the terminal's group, but the runs still report their
        # end to the server: it has to stop last.
        start_new_session=True,
    )
    try:
        _wait_until_healthy(process, port)
        yield
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stop the server, by force after STOP_SECONDS."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:  # a connection is still open
        process.kill()
        process.wait()
    if process.stdin:
        process.stdin.close()


def _free_port() -> int:
    """A port that is free now; another program may still take it before the server does."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _wait_until_healthy(process: subprocess.Popen[bytes], port: int) -> None:
    """Wait until the server answers.

    Raises:
        StoreError: If it ends, or takes longer than START_SECONDS.

    """
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if _is_healthy(port):
            return
        if process.poll() is not None:
            break
        time.sleep(0.3)
    raise StoreError(
        f"the Prefect server does not start on {HOST}:{port}; see `prefect server start`, or set"
        " PREFECT_API_URL to a running server"
    )


def _is_healthy(port: int) -> bool:
    """Whether a Prefect server answers on `port`, and not some other program."""
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/api/health")
        return connection.getresponse().read() == b"true"
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
