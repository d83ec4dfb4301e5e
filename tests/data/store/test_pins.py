"""Pins: which version is served, and what a damaged pin says."""

import pytest

from remine.data.errors import InputError, StoreError
from remine.data.store.pins import pin, pinned_version, served_version, unpin
from remine.data.store.records import Version
from remine.data.store.store import Store


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "store", create=True)
    parent = None
    for number in (1, 2, 3):
        version = Version(
            number=number, parent=parent, cycle=1, round=0, rounds=1, config={}, artifacts={}
        )
        store.publish(version)
        parent = version.digest
    return store


def test_the_newest_is_served_until_one_is_pinned(store):
    assert (served_version(store).number, pinned_version(store)) == (3, 0)
    assert pin(store, 2).number == 2
    assert (served_version(store).number, pinned_version(store)) == (2, 2)
    assert store.current().number == 3
    unpin(store)
    assert served_version(store).number == 3
    unpin(store)


def test_nothing_is_served_before_anything_is_published(tmp_path):
    assert served_version(Store(tmp_path / "new", create=True)) is None


def test_a_version_that_is_not_there_cannot_be_pinned(store):
    with pytest.raises(InputError, match="no version 4"):
        pin(store, 4)
    assert served_version(store).number == 3


def test_no_byte_of_a_pin_can_change_unseen(store):
    pin(store, 2)
    path = store.root / "PIN"
    content = path.read_bytes()
    for place in range(len(content)):
        for second in (content[place] ^ 1, content[place] ^ 16, ord("1")):
            damage = content[:place] + bytes([second]) + content[place + 1 :]
            path.write_bytes(damage)
            if damage != content:
                with pytest.raises(StoreError, match="PIN names no version"):
                    served_version(store)


@pytest.mark.parametrize("text", ["", "x", "-1", "0", "²", "2", "2\n"])
def test_a_damaged_pin_is_named(store, text):
    (store.root / "PIN").write_text(text)
    with pytest.raises(StoreError, match="PIN names no version"):
        served_version(store)
