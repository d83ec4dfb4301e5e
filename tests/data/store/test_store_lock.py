"""One writer at a time, also when the last one was killed."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from remine.data.errors import StoreError
from remine.data.store.store import Store

HOLD = """
import sys
from pathlib import Path
from remine.data.store.store import Store
with Store(Path(sys.argv[1])).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", create=True)


@contextmanager
def another_process(store: Store) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(store.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.fixture
def holder(store):
    with another_process(store) as process:
        yield process


def take(store: Store) -> None:
    with store.lock():
        pass


def test_second_process_is_refused_in_one_line(store, holder):
    with pytest.raises(StoreError) as error:
        take(store)
    expected = f"{store.root} is in use by process {holder.pid}: one cycle at a time"
    assert str(error.value) == expected
    # Reading goes on, and the holder is not disturbed.
    assert store.current() is None
    with pytest.raises(StoreError, match=f"process {holder.pid}"):
        take(store)


@pytest.mark.parametrize("end", ["kill", "finish"])
def test_lock_ends_with_its_holder(store, holder, end):
    holder.kill() if end == "kill" else holder.stdin.close()
    holder.wait()
    take(store)


def test_the_holder_that_is_named_is_the_present_one(store, holder):
    holder.kill()  # it cannot take its name away
    holder.wait()
    with another_process(store) as second, pytest.raises(StoreError) as error:
        take(store)
    expected = f"{store.root} is in use by process {second.pid}: one cycle at a time"
    assert str(error.value) == expected


def test_second_lock_in_one_process_is_refused(store):
    with store.lock(), pytest.raises(StoreError, match="is in use by process"):
        take(Store(store.root))
    take(store)


def test_lock_is_free_after_an_error(store):
    def fail() -> None:
        with store.lock():
            raise KeyError("in the cycle")

    with pytest.raises(KeyError):
        fail()
    take(store)


def test_taking_the_lock_clears_what_a_killed_run_left(store, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").touch()
    temporary = store.root / "tmp"
    (temporary / ".remine-x").mkdir()
    (temporary / ".remine-x/shard").touch()
    (temporary / "half.parquet").touch()
    (temporary / "link").symlink_to(tmp_path / "precious")
    take(store)
    assert not list(temporary.iterdir())
    assert (tmp_path / "precious/file").exists()


def test_a_refused_lock_clears_nothing(store, holder):
    (store.root / "tmp/half.parquet").touch()
    with pytest.raises(StoreError, match=f"process {holder.pid}"):
        take(store)
    assert (store.root / "tmp/half.parquet").exists()
