"""The lock of a store in a bucket: a lease that lives, is taken over when its holder does not."""

import os
import socket
import subprocess
import sys
import time

import pytest

from remine.data.errors import LostLockError, StoreBusyError, StoreError
from remine.data.store import lease
from remine.data.store.store import Store


@pytest.fixture
def store(s3):
    return Store(s3, create=True)


@pytest.fixture
def quick(monkeypatch):
    """Leases of two seconds and a half."""
    monkeypatch.setattr(lease, "SECONDS", 2.5)


HOLD = """
import sys
from remine.data.store import lease
from remine.data.store.store import Store
lease.SECONDS = 2.5
with Store(sys.argv[1]).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(store: Store) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, store.address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    return process


def take(store: Store) -> None:
    with store.lock():
        pass


@pytest.mark.usefixtures("quick")
def test_a_living_holder_keeps_the_lock_past_its_time_and_gives_it_back(store):
    with holder(store) as process:
        end = time.monotonic() + 3
        while time.monotonic() < end:
            with pytest.raises(StoreBusyError, match=f"in use by process {process.pid} on"):
                take(Store(store.address))
            time.sleep(0.3)
        process.stdin.close()
        process.wait()
    start = time.monotonic()
    take(store)
    assert time.monotonic() - start < 0.7  # it need not be watched


@pytest.mark.usefixtures("quick")
def test_a_killed_holder_is_followed_when_its_time_is_past(store):
    with holder(store) as process:
        process.kill()
        process.wait()
    with pytest.raises(StoreBusyError):
        take(Store(store.address))
    time.sleep(2.6)
    take(Store(store.address))
    take(Store(store.address))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("jump", [-3600, 3600])
def test_a_clock_that_jumps_takes_no_lock_from_the_living(store, jump, monkeypatch):
    with holder(store) as process:
        real = time.time
        monkeypatch.setattr(lease.time, "time", lambda: real() + jump)
        with pytest.raises(StoreBusyError, match=f"process {process.pid}"):
            take(Store(store.address))
        process.stdin.close()


def test_a_holder_that_slept_through_its_lease_publishes_nothing(store, make_version, monkeypatch):
    monkeypatch.setattr(lease, "SECONDS", 0.6)
    version = make_version(store, 1)
    frozen = Store(store.address)
    with frozen.lock():
        holder = frozen.place._lease
        monkeypatch.setattr(holder, "_body", lambda _seconds: 1 / 0)  # it cannot renew
        time.sleep(0.8)
        with Store(store.address).lock():
            with pytest.raises(LostLockError, match="taken over by another run"):
                frozen.publish(version)
            with pytest.raises(StoreBusyError):
                take(Store(store.address))
    assert store.current() is None
    take(Store(store.address))


def test_of_two_that_take_over_one_gets_it(store, monkeypatch):
    dead = lease.json.dumps({"holder": "process 1 on x", "token": "x", "until": 1.0}).encode()
    store.place.put("lock", dead)
    second, slept = Store(store.address).lock(), []

    def meanwhile(_seconds: float) -> None:
        slept.append(1)
        if len(slept) == 1:  # the first one watches: a second one comes and is quicker
            second.__enter__()

    monkeypatch.setattr(lease.time, "sleep", meanwhile)
    with pytest.raises(StoreBusyError, match=f"in use by process {os.getpid()} on"):
        take(store)
    assert len(slept) == 2
    second.__exit__(None, None, None)
    take(store)


def test_a_lock_that_is_none_is_named(store):
    store.place.put("lock", b"[]")
    for look in (take, Store.lock_holder):
        with pytest.raises(StoreError, match="/lock is not a lock; remove it"):
            look(store)


def test_who_holds_the_lock_is_told_and_nothing_is_taken(store):
    second = Store(store.address)
    assert second.lock_holder() is None  # nobody ever has
    with store.lock():
        before, etag = second.place.get("lock")
        assert second.lock_holder() == f"process {os.getpid()} on {socket.gethostname()}"
        assert second.place.get("lock") == (before, etag)
    assert second.lock_holder() is None
    # A killed one, past its time.
    store.place.put("lock", before.replace(b'"until": ', b'"until": 1.0, "until_then": '))
    assert second.lock_holder() is None


def test_a_lock_that_is_given_back_early_is_free_at_once(store):
    with store.lock():
        with pytest.raises(StoreBusyError):
            take(Store(store.address))
        store.release_lock()
        take(Store(store.address))
    store.release_lock()  # nothing is held any more
