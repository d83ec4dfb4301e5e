"""The served version: opened whole before it is shown, swapped in one step, kept while in use."""

import asyncio
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from remine.data.errors import InputError, StoreError
from remine.data.items.lookup import PICTURES
from remine.data.store.pins import served_version
from remine.data.store.records import Version
from remine.data.store.store import Store
from remine.flows.query.snapshot import Snapshot, Wish
from remine.flows.query.triplets import Mined
from remine.flows.serving.counters import Counters

KEPT = 64


class Kept:
    """Results that are computed once, by what they follow from; the last 64."""

    def __init__(self) -> None:
        """Empty."""
        self._found: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """What `make` gave for `key`; one computes at a time; what is known comes at once."""
        found = self._found.get(key)
        if found is None:
            with self._lock:
                found = self._found.get(key)
                if found is None:
                    found = self._found[key] = make()
                    while len(self._found) > KEPT:
                        self._found.popitem(last=False)
        return found


class Served:
    """One version as requests see it; a request takes it once and keeps to it."""

    def __init__(self, store: Store, version: Version, kept: Kept, base: Path) -> None:
        """Open all that a request may need, so that none waits for it or finds it gone."""
        self.version, self.kept = version, kept
        self.snapshot = Snapshot(store, version, base)
        self.mined = Mined(store, version, threads=2)
        self.index = version.artifacts["index"].digest
        self.snapshot.encoder.eval()
        if self.snapshot.content in PICTURES:
            _ = self.snapshot.inputs[np.arange(1)]
        elif self.snapshot.content == "text":
            _ = self.snapshot.texts[0]
        self.snapshot.ask(self.snapshot.by_id(self.snapshot.known.ids[:1]), Wish(k=1))


class Holder:
    """Holds the served version and looks for another."""

    def __init__(self, store: Store, counters: Counters, base: Path = Path()) -> None:
        """Open the version that is served now; refuses where there is none.

        base: the folder of the config, where an encoder of the user's own lies.
        """
        self.store, self.counters, self.base = store, counters, base
        self.kept = Kept()
        version = served_version(store)
        if version is None:
            raise InputError(f"{store.root} has no published version yet")
        self.current = Served(store, version, self.kept, base)
        self.counters.version = version.number
        self.fault = ""
        self._refused = ""

    def refresh(self) -> bool:
        """Open another version where one is served now; whether it was taken over.

        One that cannot be opened is refused once, and the old one goes on being served.
        """
        try:
            version = served_version(self.store)
            if version is None or version.digest == self.current.version.digest:
                self.fault = "" if version else self.fault
                return False
            if version.digest == self._refused:
                return False
            opened = Served(self.store, version, self.kept, self.base)
        except (InputError, StoreError, OSError) as error:
            self._note(error)
            with suppress(InputError, StoreError, OSError):
                found = served_version(self.store)
                self._refused = found.digest if found else ""
            return False
        # One assignment: a request sees the old version or the new one, whole.
        self.current, self.fault, self._refused = opened, "", ""
        self.counters.version = version.number
        self.counters.changes += 1
        return True

    async def watch(self, every: float) -> None:
        """Look for another version again and again, in a thread."""
        while True:
            await asyncio.sleep(every)
            await asyncio.to_thread(self.refresh)

    def _note(self, error: Exception) -> None:
        if str(error) != self.fault:
            sys.stderr.write(f"remine: {error}\n")
            self.counters.faults += 1
        self.fault = str(error)
