"""Finished rows of an unfinished unit: they count as progress, and outlive the process."""

import time
from contextvars import ContextVar

import numpy as np
import pytest

from remine.data.store.records import Artifact
from remine.data.store.store import Store
from remine.flows.jobs import partial_rows
from remine.flows.jobs.job import run_job, run_plain
from remine.flows.jobs.partial_rows import PartialRows, rows_in_progress

CONTEXT = ContextVar("CONTEXT", default="")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", create=True)


def test_rows_are_saved_now_and_then_and_found_again(store, monkeypatch):
    rows = np.arange(20, dtype=np.float32).reshape(10, 2)
    partial = PartialRows(store, "unit")
    partial.keep([rows[:4]])
    assert rows_in_progress(store, "unit") == 4
    assert PartialRows(store, "unit").load() is None  # the last save is not old yet
    monkeypatch.setattr(partial_rows, "SECONDS", 0.0)
    partial.keep([rows[:4], rows[4:7]])
    partial.keep([rows[:4], rows[4:7], rows[7:9]])
    partial_rows._counts.clear()  # another process
    assert rows_in_progress(store, "unit") == 9
    np.testing.assert_array_equal(PartialRows(store, "unit").load(), rows[:9])
    folder = store.root / "work" / "unit"
    assert [path.name for path in folder.iterdir()] == ["000000000009.npy"]
    (folder / "000000000009.npy").write_bytes(b"cut off")
    assert PartialRows(store, "unit").load() is None
    partial.clear()
    assert not folder.exists()
    assert rows_in_progress(store, "unit") == 0


def test_progress_moves_within_a_unit(store):
    calls = []

    class Slow:
        def key(self, unit):
            return f"slow-{unit[0]}"

        def open(self, store):
            def work(unit):
                partial = PartialRows(store, self.key(unit))
                for count in range(1, 4):
                    partial.keep([np.zeros((count, 2), np.float32)])
                    deadline = time.monotonic() + 20
                    while (count, 5) not in calls and time.monotonic() < deadline:
                        time.sleep(0.02)
                partial.clear()
                file = store.put_bytes(b"x", name="x", rows=5)
                return Artifact(kind="x", files=(file,))

            return work

    def progress(count, total):
        contexts.add(CONTEXT.get())
        calls.append((count, total))

    contexts = set()
    CONTEXT.set("run")
    run_job(store, Slow(), [(0, 0, 5)], run_plain, progress)
    assert contexts == {"run"}  # Prefect finds its logger by it
    assert {(1, 5), (2, 5), (3, 5)} <= set(calls)
    assert calls[-1] == (5, 5)
