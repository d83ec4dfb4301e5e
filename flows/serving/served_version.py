"""The served version: opened completely before it answers, replaced in one assignment."""

import asyncio
import copy
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from remine.data.errors import InputError, StoreError
from remine.data.items.inputs import PICTURES
from remine.data.store.pins import cycle_record, served_version
from remine.data.store.records import Version
from remine.data.store.store import Store
from remine.flows.query.snapshot import SearchOptions, Snapshot
from remine.flows.query.triplets import TripletTable
from remine.flows.serving.counters import Counters

CACHE_SIZE = 64


class ResultCache:
    """The last 64 results, by a key of all that they depend on; shared by versions."""

    def __init__(self) -> None:
        """Start empty."""
        self._results: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """The result for `key`, computed by `make` if it is new.

        One result is computed at a time; a cached one is returned without waiting.
        """
        # Read without the lock, so that a cached result never waits for one being computed.
        result = self._results.get(key)
        if result is None:
            with self._lock:
                # Another thread may have computed it while this one waited for the lock.
                result = self._results.get(key)
                if result is None:
                    result = self._results[key] = make()
                    while len(self._results) > CACHE_SIZE:
                        self._results.popitem(last=False)
        return result


class ServedVersion:
    """One version as a request sees it: a request takes it once and uses it to its end."""

    def __init__(self, store: Store, record: Version, cache: ResultCache, base: Path) -> None:
        """Open all that a request may need, so that none waits for it or finds it deleted.

        Raises:
            InputError, StoreError, OSError: If a part of the version cannot be read.
        """
        self.record, self.cache = record, cache
        self.snapshot = Snapshot(store, record, base)
        self.open_records(store)
        self.index_digest = record.artifacts["index"].digest
        # Parts are loaded at their first use: each is used once here.
        self.snapshot.encoder.eval()
        if self.snapshot.content in PICTURES:
            _ = self.snapshot.inputs[np.arange(1)]
        elif self.snapshot.content == "text":
            _ = self.snapshot.texts[0]
        _ = self.snapshot.item_contents.rows(np.arange(1))
        first = self.snapshot.numbers([self.snapshot.catalogue.id_at(0)])
        self.snapshot.search(self.snapshot.item_queries(first), SearchOptions(k=1))

    def open_records(self, store: Store) -> None:
        """Open the records of its cycle's rounds, which go on while it is served."""
        self.cycle = cycle_record(store, self.record)
        self.triplets = TripletTable(store, self.cycle, threads=2)

    @property
    def stamp(self) -> dict[str, Any]:
        """The fields of `VersionedAnswer`, which every answer of this version carries."""
        return {"version": self.record.number, "index": self.index_digest}


class Holder:
    """Holds the served version and replaces it when another one is served."""

    def __init__(self, store: Store, counters: Counters, base: Path = Path()) -> None:
        """Open the version that is served now.

        Args:
            store: The store.
            counters: Metrics to update.
            base: Folder of the configuration file, where a user-defined encoder is looked up.

        Raises:
            InputError: If the store has no published version.
        """
        self.store, self.counters, self.base = store, counters, base
        self.cache = ResultCache()
        record = served_version(store)
        if record is None:
            raise InputError(f"{store.root} has no published version yet")
        self.current = ServedVersion(store, record, self.cache, base)
        self.counters.version = record.number
        self.fault = ""
        self._faulty_digest = ""

    def refresh(self) -> bool:
        """Open the version that is served now if it is another one.

        A version that cannot be opened is tried once; the old one stays.

        Returns:
            Whether the version was replaced.
        """
        try:
            record = served_version(self.store)
            if record is None or record.digest == self.current.record.digest:
                self.fault = "" if record else self.fault
                self._refresh_records()
                return False
            if record.digest == self._faulty_digest:
                return False
            replacement = ServedVersion(self.store, record, self.cache, self.base)
        except (InputError, StoreError, OSError) as error:
            self._note_fault(error)
            with suppress(InputError, StoreError, OSError):
                faulty_record = served_version(self.store)
                self._faulty_digest = faulty_record.digest if faulty_record else ""
            return False
        # One assignment: a request sees either version, never a mix.
        # The fault goes first: who sees the new version must not see the fault of another one.
        self.fault, self._faulty_digest, self.current = "", "", replacement
        self.counters.version = record.number
        self.counters.changes += 1
        return True

    def _refresh_records(self) -> None:
        """Open the records of the rounds anew if the cycle of the served version went on."""
        if cycle_record(self.store, self.current.record).digest != self.current.cycle.digest:
            replacement = copy.copy(self.current)
            replacement.open_records(self.store)
            self.current = replacement

    async def watch(self, every: float) -> None:
        """Refresh every `every` seconds, in a thread."""
        while True:
            await asyncio.sleep(every)
            await asyncio.to_thread(self.refresh)

    def _note_fault(self, error: Exception) -> None:
        if str(error) != self.fault:
            sys.stderr.write(f"remine: {error}\n")
            self.counters.faults += 1
        self.fault = str(error)
