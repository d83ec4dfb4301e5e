"""Micro-batching: queries that arrive while the index is searched are merged into the next search.

FAISS compares many queries at once far faster than one after the other. An idle index is searched
at once: no request waits for others to arrive.
"""

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from remine.flows.query.snapshot import Answers, Queries, SearchOptions, Snapshot
from remine.flows.serving.counters import Counters
from remine.index.search_report import merge_reports

MAX_QUERIES = 512
"""Queries in one search: enough for full speed, and a large batch delays others only briefly."""


@dataclass(eq=False)
class _Part:
    """At most MAX_QUERIES queries of a request, and the future of their answers."""

    snapshot: Snapshot
    queries: Queries
    options: SearchOptions
    answers: "asyncio.Future[Answers]"

    def can_join(self, first: "_Part") -> bool:
        """Whether one search can answer both: the same version and the same options.

        `distinct` needs the content of each query, which merged queries do not carry, and an
        explanation counts the queries of one request.
        """
        return (
            self.snapshot is first.snapshot
            and self.options == first.options
            and not self.options.distinct
            and not self.options.explain
        )


class Batcher:
    """A queue of queries and the one thread that searches."""

    def __init__(self, counters: Counters) -> None:
        """Start with an empty queue; the thread starts with the first search."""
        # One thread, since OpenMP keeps a team of threads for each thread that calls it.
        self._pool = ThreadPoolExecutor(1, "search")
        self._queue: deque[_Part] = deque()
        self._task: asyncio.Task[None] | None = None
        self._counters = counters

    async def search(self, snapshot: Snapshot, queries: Queries, options: SearchOptions) -> Answers:
        """Return the neighbours of `queries` in `snapshot`."""
        loop = asyncio.get_running_loop()
        parts = [
            _Part(snapshot, _slice_queries(queries, start), options, loop.create_future())
            for start in range(0, len(queries), MAX_QUERIES)
        ]
        self._queue += parts
        # One task drains the queue and ends when it is empty.
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._run())
        try:
            answers = [await part.answers for part in parts]
        finally:
            # After a cancellation, parts that still wait are skipped.
            for part in parts:
                part.answers.cancel()
        return answers[0] if len(answers) == 1 else _concatenate_answers(answers)

    def close(self) -> None:
        """Shut the thread down without waiting for it."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._queue:
            batch = self._next_batch()
            if not batch:
                continue
            first = batch[0]
            queries = first.queries if len(batch) == 1 else _merge_queries(batch)
            self._counters.batches.add(len(queries))
            try:
                answers = await loop.run_in_executor(
                    self._pool, first.snapshot.search, queries, first.options
                )
            except Exception as error:  # noqa: BLE001 - raised again in each request
                for part in batch:
                    if not part.answers.done():
                        part.answers.set_exception(error)
                continue
            start = 0
            for part in batch:
                stop = start + len(part.queries)
                if not part.answers.done():
                    part.answers.set_result(_slice_answers(answers, start, stop))
                start = stop

    def _next_batch(self) -> list[_Part]:
        """Take the first part off the queue, and all that one search can answer with it."""
        batch: list[_Part] = []
        remaining_parts: deque[_Part] = deque()
        count = 0
        while self._queue:
            part = self._queue.popleft()
            if part.answers.done():  # cancelled with its request
                continue
            fits = not batch or (
                count + len(part.queries) <= MAX_QUERIES and part.can_join(batch[0])
            )
            if fits:
                batch.append(part)
                count += len(part.queries)
            else:
                remaining_parts.append(part)
        self._queue = remaining_parts
        return batch


def _slice_queries(queries: Queries, start: int) -> Queries:
    if len(queries) <= MAX_QUERIES:
        return queries
    part = slice(start, start + MAX_QUERIES)
    return Queries(
        vectors=queries.vectors[part],
        excluded_ids=queries.excluded_ids[part],
        rows=None if queries.rows is None else queries.rows[part],
        raw_contents=None if queries.raw_contents is None else queries.raw_contents[part],
    )


def _merge_queries(batch: list[_Part]) -> Queries:
    """Concatenate vectors; rows and contents are dropped, since only `distinct` reads them."""
    return Queries(
        vectors=np.concatenate([part.queries.vectors for part in batch]),
        excluded_ids=np.concatenate([part.queries.excluded_ids for part in batch]),
    )


def _slice_answers(answers: Answers, start: int, stop: int) -> Answers:
    return Answers(
        rows=answers.rows[start:stop],
        distances=answers.distances[start:stop],
        explanation=answers.explanation,
    )


def _concatenate_answers(parts: list[Answers]) -> Answers:
    return Answers(
        rows=np.concatenate([part.rows for part in parts]),
        distances=np.concatenate([part.distances for part in parts]),
        explanation=merge_reports([part.explanation for part in parts]),
    )
