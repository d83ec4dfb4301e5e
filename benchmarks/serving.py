"""The server compared with bare FAISS on the same index, and version changes under load."""

import argparse
import asyncio
import io
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.common import seconds, show
from benchmarks.vectors import clustered
from remine.data.faiss_library import faiss
from remine.data.store.records import Version
from remine.data.store.store import Store
from remine.flows.config.settings import load_config
from remine.flows.cycle.cycle import prepared
from remine.flows.jobs.console import Console
from remine.flows.jobs.job import run_plain
from remine.flows.query.snapshot import Snapshot
from remine.flows.stages.embed import embed
from remine.flows.stages.encoder import first_checkpoint
from remine.flows.stages.index import build

K, CLIENTS, BATCH = 10, 32, 1024


def publish(folder: Path, n: int, dimensions: int) -> Version:
    """The vectors in `folder`, embedded in so many dimensions, as the next version."""
    config = load_config(
        None,
        [
            f'run.store="{folder / "store"}"',
            f'data.source="{folder / "items.npy"}"',
            f'data.labels="{folder / "labels.npy"}"',
            f"encoder.dimensions={dimensions}",
        ],
    )
    with prepared(config, run_plain, Console(quiet=True)) as (run, items, inputs):
        checkpoint = first_checkpoint(run, items, inputs)
        embeddings = embed(run, checkpoint, items, inputs)
        current = run.store.current()
        version = Version(
            number=current.number + 1 if current else 1,
            parent=current.digest if current else None,
            cycle=1,
            round=0,
            rounds=1,
            config={"items": n},
            artifacts={
                "items": items,
                "inputs": inputs,
                "checkpoint": checkpoint,
                "embeddings": embeddings,
                "index": build(run, embeddings),
            },
        )
        run.store.publish(version)
    return version


@contextmanager
def serving(root: Path) -> Iterator[int]:
    """`remine serve` in a process of its own; its port."""
    remine = Path(sys.executable).parent / "remine"
    command = [remine, "serve", "--store", root, "--port", "0"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout
        line = process.stdout.readline()
        port = re.search(r":(\d+)/", line)
        assert port, line
        try:
            yield int(port[1])
        finally:
            process.terminate()


class Client:
    """One connection that is kept; small, so that it measures the server and not itself."""

    def __init__(self, port: int) -> None:
        """Connect with `open`."""
        self.port = port

    async def open(self) -> "Client":
        """Connect."""
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        return self

    async def post(self, path: str, body: bytes, kind: str = "application/json") -> bytes:
        """The body of the answer; fails on any status but 200."""
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\n"
        self.writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        headers = await self.reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", headers)
        assert length
        answer = await self.reader.readexactly(int(length[1]))
        if b" 200 " not in headers.split(b"\r\n", 1)[0]:
            raise RuntimeError(answer.decode())
        return answer


async def latencies(port: int, bodies: list[bytes], clients: int) -> list[float]:
    """Seconds of each request, `clients` at a time."""
    timings: list[float] = []
    pending = iter(bodies)

    async def ask(client: Client) -> None:
        for body in pending:
            start = time.perf_counter()
            await client.post("/search", body)
            timings.append(time.perf_counter() - start)

    await asyncio.gather(*[ask(await Client(port).open()) for _ in range(clients)])
    return timings


def single(port: int, index: faiss.Index, queries: np.ndarray, rounds: int) -> list[list[object]]:
    """One query at a time: FAISS and HTTP in turns; then 32 clients at once."""
    bodies = [json.dumps({"vector": q.tolist(), "k": K}).encode() for q in queries]
    asyncio.run(latencies(port, bodies[:200], 4))
    faiss_seconds, http_seconds, medians, shares = [], [], [], []
    size = len(queries) // rounds
    for turn in range(rounds):
        part = slice(turn * size, (turn + 1) * size)
        faiss_seconds += [seconds(lambda q=q: index.search(q[None], K)) for q in queries[part]]
        http_seconds += asyncio.run(latencies(port, bodies[part], 1))
        load_latencies = asyncio.run(latencies(port, bodies * 2, CLIENTS))
        medians.append(statistics.median(load_latencies))
        shares.append(float(np.quantile(load_latencies, 0.99)) / medians[-1])
    faiss_median, http_median = statistics.median(faiss_seconds), statistics.median(http_seconds)
    return [
        ["FAISS, one query", f"{faiss_median * 1e3:.2f} ms", ""],
        [
            "HTTP, one client, p50",
            f"{http_median * 1e3:.2f} ms",
            f"{(http_median - faiss_median) * 1e3:+.2f} ms",
        ],
        [
            f"HTTP, {CLIENTS} clients, p50",
            f"{statistics.median(medians) * 1e3:.2f} ms",
            f"p99 = {statistics.median(shares):.2f} x p50",
        ],
    ]


def batched(port: int, index: faiss.Index, queries: np.ndarray, rounds: int) -> list[list[object]]:
    """1,024 queries in a request, as .npy and as JSON, beside FAISS on the same queries."""
    buffer = io.BytesIO()
    np.save(buffer, queries)
    npy = buffer.getvalue()
    text = json.dumps({"vectors": queries.tolist(), "k": K}).encode()

    async def run(work: Callable[[Client], Awaitable[bytes]]) -> None:
        await work(await Client(port).open())

    sides: dict[str, Callable[[], object]] = {
        "FAISS": lambda: index.search(queries, K),
        "HTTP, .npy": lambda: asyncio.run(
            run(lambda c: c.post(f"/search/npy?k={K}", npy, "application/octet-stream"))
        ),
        "HTTP, JSON": lambda: asyncio.run(run(lambda c: c.post("/search/batch", text))),
    }
    timings: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, work in sides.items():
            timings[name].append(seconds(work))
    rows: list[list[object]] = []
    for name, values in timings.items():
        share = statistics.median(b / v for b, v in zip(timings["FAISS"], values, strict=True))
        rate = len(queries) / statistics.median(values)
        rows.append([f"{name}, {len(queries)} queries", f"{rate:,.0f} a second", f"{share:.2f}"])
    return rows


def changes(port: int, store: Store, versions: list[Version], count: int) -> list[list[object]]:
    """Answers while `count` versions are published, each checked against its own version."""
    ids = list(range(0, 2_000, 100))
    truth = {}
    for version in versions:
        snapshot = Snapshot(store, version)
        neighbours, _ = snapshot.searcher.search(snapshot.searcher.vectors(np.array(ids)), K)
        truth[version.artifacts["index"].digest] = dict(
            zip(ids, neighbours.ids.tolist(), strict=True)
        )
    tally = {"answers": 0, "failed": 0, "mixed": 0, "changes": 0}
    answered_versions: list[int] = []

    async def ask(client: Client, place: int) -> None:
        while tally["changes"] < count:
            item = ids[place % len(ids)]
            place += 1
            body = json.dumps({"id": item, "k": K, "itself": True}).encode()
            tally["answers"] += 1
            try:
                answer = json.loads(await client.post("/search", body))
            except (RuntimeError, OSError, asyncio.IncompleteReadError):
                tally["failed"] += 1
                client = await Client(port).open()
                continue
            # A query in a batch rounds otherwise than alone: neighbours as near may change places.
            answer_ids, true_ids = (
                [n["id"] for n in answer["neighbours"]],
                truth[answer["index"]][item],
            )
            tally["mixed"] += len(set(answer_ids) & set(true_ids)) < K - 1
            answered_versions.append(answer["version"])

    async def publisher() -> None:
        for change in range(count):
            current = store.current()
            assert current
            version = replace(
                versions[change % len(versions)], number=current.number + 1, parent=current.digest
            )
            await asyncio.to_thread(store.publish, version)
            while answered_versions[-1:] != [version.number]:  # noqa: ASYNC110 - a benchmark may poll
                await asyncio.sleep(0.01)
            tally["changes"] += 1

    async def run() -> None:
        clients = [await Client(port).open() for _ in range(8)]
        await asyncio.gather(publisher(), *[ask(c, 3 * p) for p, c in enumerate(clients)])

    asyncio.run(run())
    return [[name, f"{value:,}", ""] for name, value in tally.items()]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        vectors, labels = clustered(arguments.items, 128, 0)
        np.save(folder / "items.npy", vectors)
        np.save(folder / "labels.npy", labels)
        versions = [publish(folder, arguments.items, d) for d in (64, 128)]
        store = Store(folder / "store")
        path = store.path(versions[1].artifacts["index"].files[0])
        index = faiss.read_index(str(path))
        rng = np.random.default_rng(1)
        noise = rng.normal(0, 0.05, (BATCH, 128))
        queries = vectors[rng.choice(arguments.items, BATCH, replace=False)] + noise
        queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
        rows: list[list[object]] = [["", "", "beside FAISS"]]
        with serving(store.root) as port:
            rows += single(port, index, queries[:500], arguments.rounds)
            rows += batched(port, index, queries, arguments.rounds)
            rows += changes(port, store, versions, 20)
    show(f"serving: {arguments.items:,} x 128, k = {K}, Flat", rows)


if __name__ == "__main__":
    main()
