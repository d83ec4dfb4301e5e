"""Micro-batching: what waits while the index is searched is asked together in the next search.

FAISS compares many queries at a time far faster than one after the other. Nobody waits for company:
an idle index is searched at once.
"""

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from remine.flows.query.snapshot import Answers, Queries, Snapshot, Wish
from remine.flows.serving.counters import Counters

TOGETHER = 512
"""Queries in one search: enough for full speed, and nobody waits long behind a large batch."""


@dataclass(eq=False)
class _Waiting:
    snapshot: Snapshot
    queries: Queries
    wish: Wish
    done: "asyncio.Future[Answers]"

    def joins(self, other: "_Waiting") -> bool:
        """Whether one search may answer both: of one version, with one wish."""
        return (
            self.snapshot is other.snapshot and self.wish == other.wish and not self.wish.distinct
        )


class Batcher:
    """One thread that searches, and a line of questions before it."""

    def __init__(self, counters: Counters) -> None:
        """The thread starts with the first question."""
        # One thread: OpenMP keeps a team for each thread that calls it.
        self._pool = ThreadPoolExecutor(1, "search")
        self._line: deque[_Waiting] = deque()
        self._task: asyncio.Task[None] | None = None
        self._counters = counters

    async def ask(self, snapshot: Snapshot, queries: Queries, wish: Wish) -> Answers:
        """The answers to `queries`, from `snapshot` alone."""
        loop = asyncio.get_running_loop()
        parts = [
            _Waiting(snapshot, _slice(queries, start), wish, loop.create_future())
            for start in range(0, len(queries), TOGETHER)
        ]
        self._line += parts
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._run())
        try:
            found = [await part.done for part in parts]
        finally:
            for part in parts:
                part.done.cancel()  # given up: what still waits is not searched for
        return found[0] if len(found) == 1 else _joined(found)

    def close(self) -> None:
        """Let the thread go."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._line:
            batch = self._next()
            if not batch:
                continue
            queries = batch[0].queries if len(batch) == 1 else _merged(batch)
            self._counters.batches.add(len(queries))
            try:
                answers = await loop.run_in_executor(
                    self._pool, batch[0].snapshot.ask, queries, batch[0].wish
                )
            except Exception as error:  # noqa: BLE001 - handed to each who asked
                for part in batch:
                    if not part.done.done():
                        part.done.set_exception(error)
                continue
            start = 0
            for part in batch:
                stop = start + len(part.queries)
                if not part.done.done():
                    part.done.set_result(_part(answers, start, stop))
                start = stop

    def _next(self) -> list[_Waiting]:
        """The first in line, and all that one search can answer with it."""
        batch: list[_Waiting] = []
        left: deque[_Waiting] = deque()
        rows = 0
        while self._line:
            part = self._line.popleft()
            if part.done.done():
                continue
            if not batch or (rows + len(part.queries) <= TOGETHER and part.joins(batch[0])):
                batch.append(part)
                rows += len(part.queries)
            else:
                left.append(part)
        self._line = left
        return batch


def _slice(queries: Queries, start: int) -> Queries:
    if len(queries) <= TOGETHER:
        return queries
    part = slice(start, start + TOGETHER)
    return Queries(
        vectors=queries.vectors[part],
        without=queries.without[part],
        rows=None if queries.rows is None else queries.rows[part],
        raw=None if queries.raw is None else queries.raw[part],
    )


def _merged(batch: list[_Waiting]) -> Queries:
    """Vectors one below the other; rows and raw are of no use without `distinct`."""
    return Queries(
        vectors=np.concatenate([part.queries.vectors for part in batch]),
        without=np.concatenate([part.queries.without for part in batch]),
    )


def _part(answers: Answers, start: int, stop: int) -> Answers:
    return Answers(
        rows=answers.rows[start:stop], distances=answers.distances[start:stop], told=answers.told
    )


def _joined(parts: list[Answers]) -> Answers:
    return Answers(
        rows=np.concatenate([part.rows for part in parts]),
        distances=np.concatenate([part.distances for part in parts]),
        told=parts[0].told,
    )
