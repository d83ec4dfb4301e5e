"""A whole cycle on an S3 server, and what reads it."""

import gc
import json
import os
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from remine.data.errors import StoreError
from remine.data.store.store import Store
from remine.flows.cli.main import app
from remine.flows.config.settings import load_config
from remine.flows.cycle.cycle import finished_without_page, prepared, run_cycle
from remine.flows.cycle.refresh import NOTHING, decide
from remine.flows.jobs.beam import beam_execute
from remine.flows.jobs.console import Console
from remine.flows.jobs.job import run_plain
from remine.flows.report.cycle_page import write_report


def run(config, execute=run_plain):
    with prepared(config, execute, Console(quiet=True)) as (run_, items, inputs):
        assert finished_without_page(run_, items) is None
        version = run_cycle(run_, items, inputs)
        write_report(run_.store, version)
        return version


@pytest.fixture
def on_s3(s3, config_file):
    """The small cycle's settings, with the store in a bucket."""
    text = config_file.read_text().replace('store = "store"', f'store = "{s3}"')
    config_file.write_text(text.replace("rounds = 2", "rounds = 1"))
    return config_file


@pytest.fixture
def call(on_s3):
    def run_(*arguments: object, code: int = 0) -> str:
        process = CliRunner().invoke(app, [*map(str, arguments), "--config", str(on_s3)])
        assert process.exit_code == code, (process.output, process.exception)
        return process.stdout

    return run_


def test_a_cycle_its_search_its_server_and_its_keeping(on_s3, call, tmp_path, monkeypatch):
    from starlette.testclient import TestClient

    from remine.flows.serving.app import make_app

    config = load_config(on_s3)
    version = run(config, beam_execute("FnApiRunner", ()))
    store = Store(config.store)
    assert (version.number, version.finished) == (2, True)
    assert "lock       free" in call("status")
    with store.lock():
        assert f"lock       held by process {os.getpid()} on" in call("status")
    assert (store.root / "latest/report.html").stat().st_size > 10_000

    # The same bytes as in a folder.
    local = replace(config, run=replace(config.run, store=str(tmp_path / "local")))
    assert run(local).digest == version.digest

    # Another machine: nothing of it lies there yet.
    monkeypatch.setenv("REMINE_CACHE", str(tmp_path / "other"))
    result = json.loads(call("search", "--id", 3, "-k", 2, "--json"))
    assert len(result[0]) == 2
    # The page is on the machine that ran the cycle, which is no reason for another one.
    assert decide(config).action == NOTHING
    with TestClient(make_app(Store(config.store))) as client:
        assert client.get("/search", params={"id": 3, "k": 2}).status_code == 200
        assert store.place.versions_in_use() == {2}

    del client
    gc.collect()
    # The next cycle, killed nowhere, on that machine; then what is old goes.
    assert run(config).number == 4
    assert "4 versions" in call("verify")
    assert "version 1 would be removed" in call("gc", "--keep", 1)
    call("gc", "--keep", 1, "--yes")
    assert "1 versions" in call("verify")
    assert "newest, served" in call("history")
    assert json.loads(call("search", "--id", 3, "-k", 2, "--json"))

    index = Store(config.store).current().artifacts["index"].files[0]
    store.place.put(index.object, b"damaged")
    assert f"{index.object} is corrupt (index of version 4)" in call("verify", code=1)
    monkeypatch.setenv("REMINE_CACHE", str(tmp_path / "third"))
    with pytest.raises(StoreError, match="is corrupt"):
        Store(config.store).path(index)
