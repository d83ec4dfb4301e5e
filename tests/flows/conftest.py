"""A cycle small enough to run in seconds, on the real glyphs."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from remine.data.config import GlyphConfig
from remine.data.sources.glyphs import GlyphSource

SMALL = """
[run]
store = "store"
rounds = 2
# A few steps make nothing better, and the tests want trained models.
publish = "last"
patience = 0
[data]
source = "{source}"
unit_rows = 256
[encoder]
dimensions = 16
width = 8
[mining]
unit_anchors = 200
[train]
steps = 6
batch = 16
save_every = 2
"""

Remine = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def glyphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Parquet file of some glyphs, drawn once."""
    source = GlyphSource(GlyphConfig(characters=60, size=16))
    pictures = [picture for block in source.blocks(1000) for picture in block]
    path = tmp_path_factory.mktemp("glyphs") / "items.parquet"
    pq.write_table(source.metadata().append_column("image", pa.array(pictures)), path)
    return path


@pytest.fixture(scope="session")
def small_config(glyphs: Path) -> str:
    """The small cycle's settings."""
    return SMALL.format(source=glyphs)


@pytest.fixture
def config_file(tmp_path: Path, small_config: str) -> Path:
    """The small cycle's config, in a folder of its own."""
    path = tmp_path / "remine.toml"
    path.write_text(small_config)
    return path


@pytest.fixture(scope="session")
def remine(tmp_path_factory: pytest.TempPathFactory) -> Remine:
    """Runs the installed command with a Prefect of its own."""
    home = tmp_path_factory.mktemp("prefect")
    environment = {**os.environ, "PREFECT_HOME": str(home), "PREFECT_LOGGING_LEVEL": "WARNING"}
    environment.pop("PREFECT_API_URL", None)

    def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).parent / "remine"), *map(str, arguments)]
        return subprocess.run(
            command,
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def cycle_store(small_config: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a finished small cycle, by plain functions; to be read only."""
    from remine.flows.config.settings import load_config
    from remine.flows.cycle.cycle import prepared, run_cycle
    from remine.flows.jobs.console import Console
    from remine.flows.jobs.job import run_plain

    folder = tmp_path_factory.mktemp("cycled")
    (folder / "remine.toml").write_text(small_config)
    with prepared(load_config(folder / "remine.toml"), run_plain, Console(quiet=True)) as inputs:
        run_cycle(*inputs)
    return folder / "store"


@pytest.fixture(scope="session")
def keyed_store(glyphs: Path, small_config: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of the same cycle on the same data, whose ids are texts; to be read only."""
    from remine.flows.config.settings import load_config
    from remine.flows.cycle.cycle import prepared, run_cycle
    from remine.flows.jobs.console import Console
    from remine.flows.jobs.job import run_plain

    folder = tmp_path_factory.mktemp("keyed")
    table = pq.read_table(glyphs)
    keys = pa.array([key_of(number) for number in table["id"].to_pylist()])
    pq.write_table(
        table.set_column(table.column_names.index("id"), "id", keys), folder / "k.parquet"
    )
    config = small_config.replace(str(glyphs), str(folder / "k.parquet"))
    (folder / "remine.toml").write_text(config)
    with prepared(load_config(folder / "remine.toml"), run_plain, Console(quiet=True)) as inputs:
        run_cycle(*inputs)
    return folder / "store"


def key_of(number: int) -> str:
    """A text id with all that is hard to quote in an address, a table, a page or SQL."""
    return f"shop-{number % 3}/ü {number}?a=#1&b='\"<b>%2F"


@pytest.fixture(scope="session")
def keys() -> Callable[[int], str]:
    """Gives the text id of the item that has this number in the other store."""
    return key_of


@pytest.fixture
def own_store(cycle_store: Path, tmp_path: Path) -> Path:
    """A copy of that store, to write into."""
    return shutil.copytree(cycle_store, tmp_path / "store", symlinks=True)
