"""The examples in the docstrings of the public API run, in a folder with the store of 0.1."""

import doctest
import importlib
import tarfile
from pathlib import Path

import pytest

ARCHIVE = Path(__file__).parent / "flows" / "cycle" / "store_0_1.tar.xz"
MODULES = {
    "remine.mining.miner": 8,
    "remine.flows.api.store_version": 6,
    "remine.flows.api.actions": 3,
}
"""Modules with examples, and how many there are: one that is lost is noticed."""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    (tmp_path / "runs").mkdir()
    (tmp_path / "store").rename(tmp_path / "runs" / "products")
    config = (tmp_path / "remine.toml").read_text()
    (tmp_path / "products.toml").write_text(config.replace('"store"', '"runs/products"'))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("module", "count"), MODULES.items())
def test_examples(module, count):
    result = doctest.testmod(importlib.import_module(module))
    assert (result.failed, result.attempted) == (0, count)
