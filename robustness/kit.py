"""Helpers of the robustness tests: a tiny cycle, children that run it, checks of a store.

A child is a fork of a process that has imported everything, so it starts in milliseconds. That
process must not have searched with FAISS, after which a fork is unsafe. A child runs the real
command line without Prefect, which takes seconds to start.
"""

import contextlib
import ctypes
import hashlib
import mmap
import os
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console as RichConsole
from rich.table import Table

import remine.flows.cli.main
from remine.data.store.records import Artifact, Version
from remine.data.store.store import Store
from remine.mining import mine

TINY = """
[run]
store = "store"
rounds = 2
[data]
source = "items.parquet"
unit_rows = 64
[mining]
unit_anchors = 64
[train]
steps = 6
batch = 16
save_every = 2
"""

TRACE_CODE = 70
"""The exit code of a child that ended with a traceback."""


def env_number(name: str, default: int) -> int:
    """An integer from an environment variable, which sets the length of a run."""
    return int(os.environ.get(name, default))


def seed_of(name: str) -> int:
    """The seed of a script, TORTURE_SEED; printed so that the run can be repeated."""
    seed = env_number("TORTURE_SEED", 0)
    print(f"{name}: TORTURE_SEED={seed}", flush=True)
    return seed


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A plain table of counts."""
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*map(str, row))
    RichConsole(width=None if sys.stdout.isatty() else 110).print(table)
    sys.stdout.flush()


# The tiny cycle ---------------------------------------------------------------------------------


def write_items(path: Path, classes: int = 24, per_class: int = 8, seed: int = 0) -> None:
    """Write a Parquet file of (classes * per_class, 16) clustered vectors with labels."""
    draw = np.random.default_rng(seed)
    centres = draw.normal(size=(classes, 16))
    vectors = np.repeat(centres, per_class, axis=0) + 0.7 * draw.normal(
        size=(classes * per_class, 16)
    )
    labels = [f"class {code}" for code in np.repeat(np.arange(classes), per_class)]
    flat = pa.array(vectors.astype(np.float32).ravel())
    table = pa.table({"label": labels, "vector": pa.FixedSizeListArray.from_arrays(flat, 16)})
    pq.write_table(table, path)


def new_place(folder: Path, items: Path, text: str = TINY) -> Path:
    """Make a folder with a config and items; returns the path of the config."""
    folder.mkdir(parents=True)
    shutil.copyfile(items, folder / "items.parquet")
    (folder / "remine.toml").write_text(text)
    return folder / "remine.toml"


@contextmanager
def workshop() -> Iterator[Path]:
    """A temporary folder, removed at the end."""
    with tempfile.TemporaryDirectory(prefix="remine-torture-") as name:
        yield Path(name)


# Children ---------------------------------------------------------------------------------------


class Marks:
    """The stage that a child is in, in shared memory: its number, start time and name."""

    def __init__(self) -> None:
        """Make the shared memory; call before the fork."""
        self._shared = mmap.mmap(-1, 4096)

    def enter(self, name: str) -> None:
        """Called by the child at the start of a stage."""
        count = self.count + 1
        body = name.encode()[:200]
        # The count is written last: a new count means that time and name are complete.
        self._shared[16 : 20 + len(body)] = struct.pack("<i", len(body)) + body
        self._shared[8:16] = struct.pack("<d", time.monotonic())
        self._shared[0:8] = struct.pack("<q", count)

    @property
    def count(self) -> int:
        """The number of stages that have started."""
        return int(struct.unpack("<q", self._shared[0:8])[0])

    @property
    def started(self) -> float:
        """The start of the last one, in seconds of the monotonic clock."""
        return float(struct.unpack("<d", self._shared[8:16])[0])

    @property
    def name(self) -> str:
        """The name of the last one."""
        (length,) = struct.unpack("<i", self._shared[16:20])
        return self._shared[20 : 20 + length].decode()


def marked(marks: Marks | None) -> Callable[..., None]:
    """`remine run` without Prefect, which reports the stage that it is in."""

    def enter(name: str) -> None:
        if marks:
            marks.enter(name)

    def call(stage: Callable[..., Artifact], *args: Any) -> Artifact:
        enter(stage.__name__)
        artifact = stage(*args)
        enter("between")
        return artifact

    def run(path: Path | None, changes: list[str], **_: object) -> None:
        import remine.flows.cycle.cycle as cycle_module
        from remine.flows.config.settings import find_config, load_config
        from remine.flows.jobs.console import Console
        from remine.flows.jobs.job import run_plain
        from remine.flows.report.cycle_page import write_report

        publish = cycle_module._publish  # noqa: SLF001 - only to know that a kill fell into it

        def noted(*args: Any) -> Version:
            enter("publish")
            version = publish(*args)
            enter("between")
            return version

        cycle_module._publish = noted  # noqa: SLF001
        enter("prepare")
        config = load_config(find_config(path), changes)
        with cycle_module.prepared(config, run_plain, Console()) as (cycle, items, inputs):
            version = cycle_module.finished_without_page(cycle, items)
            version = version or cycle_module.run_cycle(cycle, items, inputs, call)
            enter("report")
            write_report(cycle.store, version)

    return run


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The exit code of a child (negative: a signal), and its standard output and error."""

    code: int
    text: str

    @property
    def last(self) -> str:
        """The last line of its output."""
        lines = self.text.strip().splitlines()
        return lines[-1] if lines else ""

    @property
    def crashed(self) -> bool:
        """Whether it ended by a signal or with a traceback."""
        return self.code < 0 or self.code == TRACE_CODE or "Traceback (most" in self.text


class Child:
    """A fork of this process that runs `work` with its output in a file."""

    def __init__(self, work: Callable[[], object], cwd: Path | None = None) -> None:
        """Start it."""
        self._out = tempfile.TemporaryFile()  # noqa: SIM115 - closed when it was read
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            self._become(work, cwd)

    def _become(self, work: Callable[[], object], cwd: Path | None) -> None:
        code = TRACE_CODE
        try:
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: die with the parent
            os.dup2(self._out.fileno(), 1)
            os.dup2(self._out.fileno(), 2)
            if cwd:
                os.chdir(cwd)
            work()
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        except BaseException:  # noqa: BLE001 - print what Python itself would print
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def kill(self) -> None:
        """`kill -9`."""
        os.kill(self.pid, signal.SIGKILL)

    def running(self) -> bool:
        """Whether it has not ended."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def end(self, seconds: float = 300) -> Outcome:
        """Wait for the child to end; after `seconds` it is killed and counts as crashed."""
        deadline = time.monotonic() + seconds
        while self.running():
            if time.monotonic() > deadline:
                self.kill()
                break
            time.sleep(0.002)
        _, status = os.waitpid(self.pid, 0)
        self._out.seek(0)
        text = self._out.read().decode(errors="replace")
        self._out.close()
        return Outcome(code=os.waitstatus_to_exitcode(status), text=text)


def command(*arguments: object, marks: Marks | None = None) -> Callable[[], None]:
    """A function that runs the command line with these arguments, `run` without Prefect."""

    def work() -> None:
        sys.argv = ["remine", *map(str, arguments)]
        remine.flows.cli.commands.run.run_one_cycle = marked(marks)
        remine.flows.cli.main.main()

    return work


def run_command(*arguments: object, cwd: Path, seconds: float = 300) -> Outcome:
    """Run a command in a child and wait for its end."""
    return Child(command(*arguments), cwd).end(seconds)


def preload() -> None:
    """Import and compile everything that children need, before the first fork."""
    import matplotlib.pyplot as plt  # noqa: F401
    import torch

    from remine.data.faiss_library import faiss  # noqa: F401

    torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])  # imports much at its first use
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(64, 8)).astype(np.float32)
    mine(vectors, np.repeat(np.arange(8), 8))


# Checks of a store -----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class StoreState:
    """The digest of the newest version and the names of all objects; equal for equal stores."""

    version: str
    objects: frozenset[str]


def verified_state(root: Path) -> StoreState:
    """Verify all objects and manifests of a store; returns its state.

    Raises:
        AssertionError: An object does not match its hash, or temporary files are left.
    """
    store = Store(root)
    version = store.current()
    if version is None:
        return StoreState(version="", objects=frozenset())
    for old in store.versions():
        for artifact in old.artifacts.values():
            store.paths(artifact)
    names = set()
    for path in (root / "objects").iterdir():
        if hashlib.sha256(path.read_bytes()).hexdigest() != path.stem:
            raise AssertionError(f"{path} is not what its name says")
        names.add(path.name)
    leftovers = list((root / "tmp").iterdir()) + list(root.parent.glob(".remine-*"))
    if leftovers:
        raise AssertionError(f"left behind: {leftovers}")
    return StoreState(version=version.digest, objects=frozenset(names))


def tree_of(root: Path) -> dict[str, str]:
    """The hash of every published file and manifest, none of which may ever change."""
    folders = ("objects", "versions")
    paths = [path for name in folders for path in (root / name).iterdir()]
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths
    }


def verified_version(root: Path) -> int:
    """Verify every file of the current version; returns its number, 0 without a store."""
    if not (root / "FORMAT").exists():
        return 0
    store = Store(root)
    version = store.current()
    if version is None:
        return 0
    for artifact in version.artifacts.values():
        store.paths(artifact)
    return version.number
