"""Work that outlives a request: one task at a time, with its progress, its result kept."""

import sys
import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

MAX_TASKS = 2
"""Tasks to keep: that of the served version, and that of the one before it."""

Progress = Callable[[int, int], None]
"""Called with the number of finished steps and the number of all steps."""


@dataclass(eq=False)
class LongTask:
    """The state of a task: its progress, and its result or that it failed."""

    steps_finished: int = 0
    steps: int = 0
    result: Any = None
    has_failed: bool = False


class LongTasks:
    """Runs tasks in one thread and keeps the last ones by key."""

    def __init__(self) -> None:
        """Start without tasks; the thread starts with the first one."""
        self._pool = ThreadPoolExecutor(1, "long-task")
        self._tasks: OrderedDict[Any, LongTask] = OrderedDict()
        self._lock = threading.Lock()
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the running task at its next report of progress, and wait for it."""
        self._is_closed = True
        self._pool.shutdown(wait=True, cancel_futures=True)

    def get(self, key: Any, make: Callable[[Progress], Any]) -> LongTask:
        """The task of `key`, started if it is new.

        A failed task is returned once and then forgotten, so that the next call starts it again.

        Args:
            key: All that the result depends on.
            make: Computes the result; it must report its progress, which is where it is stopped.
        """
        with self._lock:
            task = self._tasks.get(key)
            if task is not None and task.has_failed:
                del self._tasks[key]
            if task is None:
                task = self._tasks[key] = LongTask()
                # The oldest tasks are those of versions that are no longer served.
                while len(self._tasks) > MAX_TASKS:
                    self._tasks.popitem(last=False)
                self._pool.submit(self._run, key, task, make)
            return task

    def _run(self, key: Any, task: LongTask, make: Callable[[Progress], Any]) -> None:
        def report(steps_finished: int, steps: int) -> None:
            task.steps_finished, task.steps = steps_finished, steps
            # A task that was dropped from the list has no reader left.
            if self._is_closed or self._tasks.get(key) is not task:
                raise CancelledError

        try:
            report(0, 0)
            task.result = make(report)
        except CancelledError:
            task.has_failed = True
        except Exception:  # noqa: BLE001 - the request that asks next gets an error response
            traceback.print_exc(file=sys.stderr)
            task.has_failed = True
