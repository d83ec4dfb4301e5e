"""A configured Prefect server that is not there is one line."""

import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from typer.testing import CliRunner

from remine.data.errors import StoreError
from remine.flows.cli.main import app
from remine.flows.jobs.environment import set_environment
from remine.flows.orchestration.prefect_server import server


@pytest.fixture
def configured():
    """Names a server as PREFECT_API_URL does."""
    set_environment()
    from prefect.settings import PREFECT_API_URL, temporary_settings

    def name(url):
        return temporary_settings({PREFECT_API_URL: url})

    return name


@pytest.fixture
def closed_url():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # bound, and never listening
        yield f"http://127.0.0.1:{probe.getsockname()[1]}/api"


def test_a_server_that_does_not_answer_is_one_line(configured, closed_url, config_file):
    with configured(closed_url):
        for command in (["schedule", "--every", "6h"], ["run"]):
            result = CliRunner().invoke(app, [*command, "--config", str(config_file)])
            assert isinstance(result.exception, StoreError), result.output
            message = str(result.exception)
            assert message.startswith(f"the Prefect server at {closed_url} does not answer")
            assert "unset PREFECT_API_URL" in message
            assert "\n" not in message


@pytest.mark.parametrize("url", ["prefect", "http://", "htp://127.0.0.1/api"])
def test_an_address_that_is_none_is_one_line(configured, url):
    with configured(url), pytest.raises(StoreError, match="does not answer"), server():
        pass


def test_a_server_that_asks_for_a_key_counts_as_reachable(configured):
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(401)

        def log_message(self, *_args):
            pass

    with HTTPServer(("127.0.0.1", 0), Refusing) as refusing:
        thread = threading.Thread(target=refusing.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{refusing.server_port}/api"
            with configured(url), server() as opened:
                assert (opened.url, opened.is_temporary) == (url, False)
        finally:
            refusing.shutdown()
            thread.join()
