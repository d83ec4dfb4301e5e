"""Long work that no request waits for: one piece at a time, its progress told, its result kept."""

import sys
import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

KEPT = 2
"""Results at a time: the served version's, and that of the one before it."""


@dataclass(eq=False)
class Work:
    """A piece of work: so many of `total` done; its result, or that it failed."""

    done: int = 0
    total: int = 0
    result: Any = None
    failed: bool = False


class Study:
    """One thread, and what it found."""

    def __init__(self) -> None:
        """The thread starts with the first piece."""
        self._pool = ThreadPoolExecutor(1, "study")
        self._found: OrderedDict[Any, Work] = OrderedDict()
        self._lock = threading.Lock()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give up what still runs; it ends at its next word of progress."""
        self._closed = True
        self._pool.shutdown(wait=True, cancel_futures=True)

    def ask(self, key: Any, make: Callable[[Callable[[int, int], None]], Any]) -> Work:
        """The work of that key, begun if it is new. `make` is given a function to tell progress.

        One that failed is told and forgotten: who asks again has it tried again.
        """
        with self._lock:
            work = self._found.get(key)
            if work is not None and work.failed:
                del self._found[key]  # told now; who asks again has it tried again
            if work is None:
                work = self._found[key] = Work()
                # A version that is served no more is not worth finishing.
                while len(self._found) > KEPT:
                    self._found.popitem(last=False)
                self._pool.submit(self._run, key, work, make)
            return work

    def _run(self, key: Any, work: Work, make: Callable[[Callable[[int, int], None]], Any]) -> None:
        def told(done: int, total: int) -> None:
            work.done, work.total = done, total
            if self._closed or self._found.get(key) is not work:
                raise CancelledError

        try:
            told(0, 0)
            work.result = make(told)
        except CancelledError:
            work.failed = True
        except Exception:  # noqa: BLE001 - told to who asks; the server goes on
            traceback.print_exc(file=sys.stderr)
            work.failed = True
