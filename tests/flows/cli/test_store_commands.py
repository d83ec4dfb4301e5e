"""`remine history`, `verify` and `gc`, called in this process, and the cycle that comes after."""

import pytest
from typer.testing import CliRunner

from remine.data.errors import InputError
from remine.data.store.gc import RetentionConfig, collect
from remine.data.store.store import Store
from remine.flows.cli.main import app
from remine.flows.query.snapshot import Snapshot


@pytest.fixture
def store(own_store):
    return Store(own_store)


@pytest.fixture
def call(store):
    def run(*arguments: object, code: int = 0) -> str:
        process = CliRunner().invoke(app, [*map(str, arguments), "--store", str(store.root)])
        assert process.exit_code == code, (process.output, process.exception)
        return process.stdout

    return run


def test_history_has_a_line_a_version(store, call):
    lines = [line for line in call("history").splitlines() if "of" in line]
    assert len(lines) == len(store.numbers())
    assert "newest, served" in lines[0]


def test_gc_tells_then_does_and_what_is_left_is_whole(store, call):
    numbers = store.numbers()
    before = sum(entry.bytes for entry in store.place.entries("objects").values())
    text = call("gc", "--keep", 1)
    assert f"version {numbers[-1]} stays: one of the last 1" in text
    assert "version 1 would be removed" in text
    assert text.endswith("would be removed: add --yes\n")
    assert store.numbers() == numbers
    process = call("gc", "--keep", 1, "--yes")
    numbers_removed = [line for line in process.splitlines() if line.endswith(" was removed")]
    assert numbers_removed == [f"version {number} was removed" for number in numbers[:-1]]
    after = sum(entry.bytes for entry in store.place.entries("objects").values())
    assert f"{before - after:,} bytes" in process
    assert store.numbers() == [numbers[-1]]
    assert "1 versions" in call("verify")
    assert call("search", "--id", 3, "-k", 2)
    assert call("report").endswith("report.html\n")  # its first round is gone
    assert call("index", "verify")


def test_gc_takes_its_settings_from_the_config_and_from_the_line(call):
    assert "would be removed" not in call("gc").replace("receipts would be removed", "")
    assert "version 1 would be removed" in call("gc", "--set", "gc.keep=1")
    with pytest.raises(AssertionError, match=r"gc\.keep is 0"):
        call("gc", "--keep", 0)


def test_a_snapshot_holds_its_version_until_it_goes(store):
    snapshot = Snapshot(store, store.version(1))
    assert store.place.versions_in_use() == {1}
    assert 1 in collect(store, RetentionConfig(keep=1)).reasons
    assert len(snapshot.inputs) > 0  # opened only now
    del snapshot
    assert store.place.versions_in_use() == set()
    collect(store, RetentionConfig(keep=1))
    with pytest.raises(InputError, match="no version 1 in"):
        store.version(1)


def test_verify_ends_with_1_and_names_the_file(store, call):
    index = store.version(1).artifacts["index"].files[0]
    path = store.path(index)
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    text = call("verify", code=1)
    assert f"damaged: {path} is corrupt (index of version 1): restore it from a backup" in text
    assert "1 damaged" in text
    assert "none damaged" in call("verify", "--version", store.numbers()[-1])


def test_there_is_no_store_of_comparisons_yet(store, call):
    with pytest.raises(AssertionError, match=f"no store at {store.root}-compare"):
        call("gc", "--compare")
