"""One writer of an object store at a time, and who reads which version, without flock.

The lock is an object that names its holder and is renewed while it is held. It changes hands by
conditional puts only: made where there is none (If-None-Match), taken over by replacing exactly
what was seen (If-Match). It is taken over when its time is past by the taker's clock and, since
clocks differ and jump, when it also did not change while the taker watched for longer than a
living holder lets pass between renewals.
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
"""How long a lease is good for; it is renewed three times in that time."""
READER_SECONDS = 900.0
NAME = "lock"


class Puts(Protocol):
    """What a lease needs of a place."""

    address: str

    def create(self, name: str, content: bytes) -> bytes:
        """As data.store.place.Place."""

    def get(self, name: str) -> tuple[bytes, str]:
        """An object's bytes and ETag."""

    def put(self, name: str, content: bytes, **condition: str) -> str:
        """One put under a condition; its ETag."""

    def write(self, name: str, content: bytes) -> None:
        """As data.store.place.Place."""

    def remove(self, *names: str) -> None:
        """As data.store.place.Place."""

    def entries(self, folder: str) -> dict[str, Entry]:
        """As data.store.place.Place."""


class Lease:
    """The lock of a bucket, held from `with` to its end."""

    def __init__(self, place: Puts) -> None:
        """Takes nothing yet."""
        self.place, self.token = place, secrets.token_hex(8)
        self.etag, self.good_until, self.lost = "", 0.0, False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> Self:
        before, content = time.monotonic(), self._body(SECONDS)
        if self.place.create(NAME, content) != content:
            self._take_over()
        else:
            self.etag = _seen(self.place)[1]
            self.good_until = before + SECONDS
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join()
        with suppress(Exception):  # it runs out by itself
            self.place.put(NAME, self._body(0), IfMatch=self.etag)

    def check(self) -> None:
        """LostLockError where somebody else may hold the lock by now."""
        if self.lost or time.monotonic() > self.good_until:
            raise LostLockError(
                f"{self.place.address} was taken over by another run while this one could not"
                " renew its lock"
            )

    def _take_over(self) -> None:
        holder, etag = _seen(self.place)
        if holder["until"] > time.time():
            self._refuse(holder)
        if holder["until"] > 0:
            # A living holder renews within a third of that, and then If-Match fails below.
            time.sleep(SECONDS / 2)
        before, content = time.monotonic(), self._body(SECONDS)
        with suppress(Exception):  # whatever came of it is read back
            self.place.put(NAME, content, IfMatch=etag)
        holder, self.etag = _seen(self.place)
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
            with suppress(Exception):  # tried again before the lease runs out; check() knows
                with suppress(Exception):
                    self.place.put(NAME, self._body(SECONDS), IfMatch=self.etag)
                holder, etag = _seen(self.place)
                if holder["token"] != self.token:
                    self.lost = True
                    return
                if etag != self.etag:
                    self.etag, self.good_until = etag, before + SECONDS

    def _body(self, seconds: float) -> bytes:
        until = time.time() + seconds if seconds else 0
        holder = f"process {os.getpid()} on {socket.gethostname()}"
        return json.dumps({"holder": holder, "token": self.token, "until": until}).encode()


def holder(place: Puts) -> str | None:
    """Who holds the lock, while its time is not past by this machine's clock."""
    try:
        seen = _seen(place)[0]
    except FileNotFoundError:
        return None
    return str(seen["holder"]) if seen["until"] > time.time() else None


def _seen(place: Puts) -> tuple[dict[str, Any], str]:
    """Who took the lock last, and the ETag of that."""
    content, etag = place.get(NAME)
    try:
        lock: dict[str, Any] = json.loads(content)
        known = {
            "holder": str(lock["holder"]),
            "token": str(lock["token"]),
            "until": float(lock["until"]),
        }
    except (ValueError, KeyError, TypeError):
        raise StoreError(f"{place.address}/{NAME} is no lock; remove it") from None
    return known, etag


class ReaderLease:
    """That a version is read: an object, written again and again until it is released."""

    def __init__(self, place: Puts, number: int) -> None:
        """Register; where nothing may be written, nothing is held."""
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


def living(place: Puts) -> set[int]:
    """The versions whose readers wrote lately; by this machine's clock, so minutes off is fine."""
    found: set[int] = set()
    for name, entry in place.entries("readers").items():
        number = name.partition("-")[0]
        if number.isdigit() and entry.time > time.time() - READER_SECONDS:
            found.add(int(number))
    return found
