"""The write lock and the registered readers of an object store, which has no flock.

The lock is an object that names its holder and is renewed while it is held. It changes hands only
by conditional puts: it is created if it does not exist (If-None-Match), and taken over by replacing
exactly the object that was read (If-Match). A process takes the lock over only if it has expired by
the clock of this process and, because clocks differ and jump, was also not renewed while this
process waited for longer than the interval between renewals.
"""

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol, Self

from remine.data.errors import LostLockError, StoreBusyError, StoreError
from remine.data.store.place import Entry

SECONDS = 60.0
"""How long the lock is valid after a renewal; it is renewed three times in that time."""
READER_SECONDS = 900.0
"""The same for the registration of a reader."""
NAME = "lock"


class Puts(Protocol):
    """The methods of a place that a lease needs; `get` and `put` are not part of `Place`."""

    address: str

    def create(self, name: str, content: bytes) -> bytes:
        """See `remine.data.store.place.Place`."""

    def get(self, name: str) -> tuple[bytes, str]:
        """The bytes and the ETag of an object."""

    def put(self, name: str, content: bytes, **condition: str) -> str:
        """Put an object under a condition; returns its ETag."""

    def write(self, name: str, content: bytes) -> None:
        """See `remine.data.store.place.Place`."""

    def remove(self, *names: str) -> None:
        """See `remine.data.store.place.Place`."""

    def entries(self, folder: str) -> dict[str, Entry]:
        """See `remine.data.store.place.Place`."""


class Lease:
    """The write lock of a bucket, as a context manager."""

    def __init__(self, place: Puts) -> None:
        """The lock is taken on entering the context."""
        self.place, self.token = place, secrets.token_hex(8)
        self.etag, self.good_until, self.is_lost = "", 0.0, False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> Self:
        # Taken before the request: the lock must not seem valid here for longer than to others.
        before, content = time.monotonic(), self._body(SECONDS)
        if self.place.create(NAME, content) != content:
            self._take_over()
        else:
            self.etag = _read_lock(self.place)[1]
            self.good_until = before + SECONDS
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.release()

    def release(self) -> None:
        """End the renewal, and let the lock expire now."""
        self._stop.set()
        self._thread.join()
        with suppress(Exception):  # otherwise it expires
            self.place.put(NAME, self._body(0), IfMatch=self.etag)

    def check(self) -> None:
        """Raise LostLockError if another process may hold the lock by now."""
        if self.is_lost or time.monotonic() > self.good_until:
            raise LostLockError(
                f"{self.place.address} was taken over by another run while this one could not"
                " renew its lock"
            )

    def _take_over(self) -> None:
        holder, etag = _read_lock(self.place)
        if holder["until"] > time.time():
            self._refuse(holder)
        if holder["until"] > 0:
            # A living holder renews every SECONDS / 3, which makes the If-Match below fail.
            time.sleep(SECONDS / 2)
        before, content = time.monotonic(), self._body(SECONDS)
        with suppress(Exception):  # the outcome is read back below
            self.place.put(NAME, content, IfMatch=etag)
        holder, self.etag = _read_lock(self.place)
        if holder["token"] != self.token:
            self._refuse(holder)
        self.good_until = before + SECONDS

    def _refuse(self, holder: dict[str, Any]) -> None:
        raise StoreBusyError(
            f"{self.place.address} is in use by {holder['holder']}: one cycle at a time"
        )

    def _renew(self) -> None:
        while not self._stop.wait(SECONDS / 3):
            before = time.monotonic()
            with suppress(Exception):  # tried again before the lock expires; check() notices
                # A failed put may still have taken effect, so the lock is read back in any case.
                with suppress(Exception):
                    self.place.put(NAME, self._body(SECONDS), IfMatch=self.etag)
                holder, etag = _read_lock(self.place)
                if holder["token"] != self.token:
                    self.is_lost = True
                    return
                if etag != self.etag:
                    self.etag, self.good_until = etag, before + SECONDS

    def _body(self, seconds: float) -> bytes:
        until = time.time() + seconds if seconds else 0
        holder = f"process {os.getpid()} on {socket.gethostname()}"
        return json.dumps({"holder": holder, "token": self.token, "until": until}).encode()


def lock_holder(place: Puts) -> str | None:
    """The process that holds the lock, or None if it has expired by this machine's clock."""
    try:
        lock = _read_lock(place)[0]
    except FileNotFoundError:
        return None
    return str(lock["holder"]) if lock["until"] > time.time() else None


def _read_lock(place: Puts) -> tuple[dict[str, Any], str]:
    """The fields of the lock (holder, token, until) and its ETag."""
    content, etag = place.get(NAME)
    try:
        fields: dict[str, Any] = json.loads(content)
        lock = {
            "holder": str(fields["holder"]),
            "token": str(fields["token"]),
            "until": float(fields["until"]),
        }
    except (ValueError, KeyError, TypeError):
        raise StoreError(f"{place.address}/{NAME} is not a lock; remove it") from None
    return lock, etag


class ReaderLease:
    """The registration of a reader: an object that is rewritten until it is released."""

    def __init__(self, place: Puts, number: int) -> None:
        """Register a reader; without permission to write, nothing is registered."""
        self.place, self.name = place, f"readers/{number:08d}-{secrets.token_hex(8)}"
        self._stop = threading.Event()
        self.release: Callable[[], None] = lambda: None
        with suppress(StoreError, OSError):
            place.write(self.name, b"{}")
            threading.Thread(target=self._renew, daemon=True).start()
            self.release = self._release

    def _renew(self) -> None:
        while not self._stop.wait(READER_SECONDS / 3):
            with suppress(StoreError, OSError):
                self.place.write(self.name, b"{}")

    def _release(self) -> None:
        self._stop.set()
        with suppress(StoreError, OSError):
            self.place.remove(self.name)


def versions_in_use(place: Puts) -> set[int]:
    """The versions whose readers renewed their registration within READER_SECONDS.

    The times are the server's and are compared with this machine's clock. READER_SECONDS is three
    renewals, so clocks that differ by a few minutes do no harm.
    """
    numbers: set[int] = set()
    for name, entry in place.entries("readers").items():
        number = name.partition("-")[0]
        if number.isdigit() and entry.time > time.time() - READER_SECONDS:
            numbers.add(int(number))
    return numbers
