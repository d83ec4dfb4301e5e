"""What tests of several packages share."""

import secrets
import shutil
from collections.abc import Iterator

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line on what this machine could not test, and how to get it."""
    skips = len(terminalreporter.stats.get("skipped", ()))
    without_browser = not any(map(shutil.which, ("chromium", "chromium-browser", "chrome")))
    if skips or without_browser:
        remedy = "; pages in a browser are not tested: `apt-get install chromium`"
        terminalreporter.write_line(f"skipped: {skips}{remedy if without_browser else ''}")


@pytest.fixture(scope="session")
def as_set():
    """What was mined, without distances and in no order."""

    def rows(triplets) -> set[tuple[int, ...]]:
        columns = (triplets.anchor_id, triplets.positive_id, triplets.negative_id, triplets.kind)
        return set(zip(*(column.tolist() for column in columns), strict=True))

    return rows


@pytest.fixture(scope="session")
def as_bytes():
    """Every bit of what was mined."""
    return lambda triplets: [column.tobytes() for column in triplets.columns().values()]


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The URL of an S3 server of this process, on loopback."""
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server, tmp_path, monkeypatch) -> str:
    """The URL of a prefix for one store, with all that a client needs in the environment."""
    settings = {
        "AWS_ENDPOINT_URL_S3": s3_server,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "REMINE_CACHE": str(tmp_path / "cache"),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    from remine.data.store.bucket import client

    client.cache_clear()
    bucket = f"b{secrets.token_hex(6)}"
    client(s3_server).create_bucket(Bucket=bucket)
    return f"s3://{bucket}/some/where"
