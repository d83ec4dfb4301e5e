"""Fuzzed requests to the server's app: no crash, no status 5xx, no change of stored files.

    TORTURE_REQUESTS=100000 TORTURE_SOCKET_REQUESTS=3000 python -m robustness.http_requests

Most go directly to the ASGI app, some as raw bytes, often not even HTTP, through a real socket.
A status 503, for too many requests or too long a wait, comes from the guard and is counted apart.
"""

import asyncio
import io
import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from robustness.fuzz import bomb
from robustness.kit import (
    Child,
    command,
    env_number,
    new_place,
    preload,
    print_table,
    seed_of,
    tree_of,
    workshop,
    write_items,
)

WILD: tuple[Any, ...] = (
    None, 0, 1, -1, 3, 10, 2**31, 2**63, 2**70, 0.5, 1e400, float("nan"), float("-inf"), True, "",
    "x", "a" * 3000, "\0", "\ud800", "é", "../../etc/passwd", "' OR 1=1 --", [], [1],
    [[]], {}, [0.1] * 16,
    [float("nan")] * 16, [1e39] * 16, ["a"], {"$": 1}, "test", "hard", "d_an", "<script>",
)  # fmt: skip
NAMES = (
    "id", "ids", "k", "text", "texts", "vector", "vectors", "recall", "labels", "label", "split",
    "splits", "group", "groups", "distinct", "explain", "itself", "round", "kind", "offset",
    "limit",
    "order", "sort", "anchor", "positive", "negative", "column", "bins", "random", "seed", "q",
    "size",
)  # fmt: skip
PATIENCE = 0.3
"""Seconds to wait for an answer through the socket before our side is closed."""

METHODS = ("GET", "GET", "GET", "POST", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "BREW", "get")


def main() -> None:
    """Fuzz the app and the socket; print the answers by status."""
    seed = seed_of("http")
    preload()
    with workshop() as folder:
        items = folder / "items.parquet"
        write_items(items)
        place = new_place(folder / "place", items).parent
        if (outcome := Child(command("run"), place).end()).code:
            raise AssertionError(outcome.text)
        before = tree_of(place / "store")
        direct = env_number("TORTURE_REQUESTS", 100_000)
        raw = env_number("TORTURE_SOCKET_REQUESTS", 3_000)
        with redirect_stderr(io.StringIO()) as errors:
            counts = asyncio.run(_all(place / "store", direct, raw, seed))
        if "Traceback" in errors.getvalue():
            raise AssertionError(errors.getvalue()[-3000:])
        if tree_of(place / "store") != before:
            raise AssertionError("stored files changed")
    for way, statuses in counts.items():
        print_table(
            f"{sum(statuses.values())} requests, {way}",
            ("answer", "times"),
            sorted(statuses.items()),
        )
    print("0 crashes, 0 answers of 5xx, 0 tracebacks, 0 stored files changed", flush=True)


async def _all(root: Path, direct: int, raw: int, seed: int) -> dict[str, Counter[str]]:
    from remine.data.store.store import Store
    from remine.flows.serving.app import make_app

    app = make_app(Store(root), hosts=frozenset({"localhost", "127.0.0.1"}))
    paths = _paths(app)
    async with app.router.lifespan_context(app):
        counts = {"into the app": await _direct(app, paths, direct, seed)}
    counts["through a socket"] = _socket(Store(root), paths, raw, seed)
    return counts


Paths = list[tuple[str, list[str]]]
"""Paths, each with its HTTP methods."""


def _paths(app: Any) -> Paths:
    operations = sorted(app.openapi()["paths"].items())
    paths = [(path, [method.upper() for method in methods]) for path, methods in operations]
    return paths + [(path, ["GET"]) for path in ("/", "/openapi.json", "/metrics", "/page/main.js")]


async def _direct(app: Any, paths: Paths, count: int, seed: int) -> Counter[str]:
    answers: Counter[str] = Counter()
    for case in range(count):
        draw = random.Random(seed * 1_000_003 + case)  # noqa: S311 - no secret
        scope, body = _request(paths, draw)
        status = await asyncio.wait_for(_ask(app, scope, body, draw), 120)
        if status >= 500 or status == 0:
            raise AssertionError(
                f"case {case}: {status}: {scope['method']} {scope['path']!r} "
                f"?{scope['query_string']!r} {body[:300]!r}"
            )
        answers[str(status)] += 1
    return answers


async def _ask(
    app: Callable[..., Awaitable[None]], scope: Any, body: bytes, draw: random.Random
) -> int:
    """Send one request, with its body in pieces; returns the status of the answer, 0 for none."""
    cuts = sorted(draw.randrange(len(body) + 1) for _ in range(draw.choice([0, 0, 2])))
    parts = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    messages = [
        {"type": "http.request", "body": part, "more_body": i + 1 < len(parts)}
        for i, part in enumerate(parts)
    ]
    status = 0

    async def receive() -> Any:
        if messages:
            return messages.pop(0)
        await asyncio.sleep(3600)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]

    await app(scope, receive, send)
    return status


def _request(paths: Paths, draw: random.Random) -> tuple[dict[str, Any], bytes]:
    path, methods = draw.choice(paths)
    method = draw.choice(METHODS if draw.random() < 0.2 else methods)
    while "{" in path:
        before, _, tail = path.partition("{")
        path = before + _text(draw.choice(WILD))[:200] + tail.partition("}")[2]
    if draw.random() < 0.1:
        path = "/" + "".join(chr(draw.choice([0, 37, 46, 47, 65, 233, 8232])) for _ in range(9))
    pairs = [f"{draw.choice(NAMES)}={_quoted(draw)}" for _ in range(draw.choice([0, 1, 1, 2, 4]))]
    kind, body = _body(draw)
    headers = [
        (b"host", draw.choice([b"localhost"] * 9 + [b"evil.example"])),
        (b"content-type", kind),
    ]
    if draw.random() < 0.9:
        headers.append((b"content-length", str(len(body)).encode()))
    if draw.random() < 0.1:
        headers.append(
            (
                draw.choice(
                    [
                        b"cookie",
                        b"authorization",
                        b"range",
                        b"if-none-match",
                        b"accept",
                        b"content-length",
                        b"content-encoding",
                    ]
                ),
                draw.randbytes(9),
            )
        )
    scope = {
        "type": "http", "http_version": "1.1", "asgi": {"version": "3.0"}, "scheme": "http",
        "method": method, "path": path, "raw_path": path.encode("utf-8", "replace"),
        "query_string": "&".join(pairs).encode("utf-8", "replace"), "root_path": "",
        "headers": headers, "client": ("127.0.0.1", 1), "server": ("localhost", 8080),
    }  # fmt: skip
    return scope, body


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _quoted(draw: random.Random) -> str:
    from urllib.parse import quote

    text = _text(draw.choice(WILD))[:500]
    return quote(text, errors="replace") if draw.random() < 0.8 else text.replace("\ud800", "?")


def _body(draw: random.Random) -> tuple[bytes, bytes]:
    """The type and bytes of a body: valid or invalid JSON, a form with a picture, .npy, noise."""
    form = draw.randrange(7)
    if form == 0:
        return b"application/json", b""
    if form <= 3:
        value: Any = {draw.choice(NAMES): draw.choice(WILD) for _ in range(draw.randint(0, 4))}
        if form == 3:
            value = draw.choice(WILD)
        raw = json.dumps(value).encode()
        if draw.random() < 0.2:
            raw = raw[: draw.randrange(len(raw) + 1)] + draw.randbytes(draw.randint(0, 3))
        if draw.random() < 0.02:
            raw = b"[" * 100_000
        return b"application/json", raw
    if form == 4:
        picture = draw.choice(
            [bomb(60_000), draw.randbytes(99), b"GIF89a" + draw.randbytes(30), b""]
        )
        name = draw.choice([b"file", b"file", b"image", b"\xff"])
        part = b'Content-Disposition: form-data; name="' + name + b'"; filename="../x.png"\r\n\r\n'
        raw = b"--b\r\n" + part + picture + draw.choice([b"\r\n--b--\r\n", b"", b"\r\n--c"])
        return draw.choice([b"multipart/form-data; boundary=b", b"multipart/form-data"]), raw
    if form == 5:
        header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (%b), }" % draw.choice(
            [b"1, 16", b"0, 16", b"9999999999, 16", b"-1,", b"16,", b"", b"1, 1, 16"]
        )
        head = header.ljust(117) + b"\n"
        raw = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head
        return b"application/octet-stream", raw + draw.randbytes(draw.choice([0, 64, 65]))
    return draw.choice([b"text/plain", b"", b"\xff/\xfe"]), draw.randbytes(draw.randint(0, 200))


def _socket(store: Any, paths: Paths, count: int, seed: int) -> Counter[str]:
    """Send raw bytes to a listening server, which must answer a valid request at the end."""
    import uvicorn

    from remine.flows.serving.app import make_app

    bound = socket.create_server(("127.0.0.1", 0), backlog=256)
    port = bound.getsockname()[1]
    app = make_app(store, hosts=frozenset({"localhost", "127.0.0.1"}))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", access_log=False))
    thread = threading.Thread(target=lambda: server.run(sockets=[bound]), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    answers: Counter[str] = Counter()
    for case in range(count):
        draw = random.Random(seed * 7_000_003 + case)  # noqa: S311 - no secret
        raw = _raw(paths, draw)
        status = _exchange(port, raw)
        if status.startswith("5"):
            raise AssertionError(f"socket case {case}: {status}: {raw[:300]!r}")
        answers[status] += 1
    if (
        _exchange(port, b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        != "200"
    ):
        raise AssertionError("the server no longer answers")
    server.should_exit = True
    thread.join(20)
    return answers


def _raw(paths: Paths, draw: random.Random) -> bytes:
    scope, body = _request(paths, draw)
    path = scope["path"].encode("utf-8", "replace").replace(b" ", b"%20")
    line = b" ".join([scope["method"].encode(), path + b"?" + scope["query_string"], b"HTTP/1.1"])
    headers = b"".join(k + b": " + v + b"\r\n" for k, v in scope["headers"])
    raw = line + b"\r\n" + headers + b"connection: close\r\n\r\n" + body
    fault = draw.randrange(6)
    if fault == 0:
        return draw.randbytes(draw.randint(1, 300)) + b"\r\n\r\n"
    if fault == 1:
        place = draw.randrange(len(raw))
        return raw[:place] + draw.randbytes(3) + raw[place:]
    if fault == 2:
        return raw[: draw.randrange(1, len(raw))]
    if fault == 3:
        return raw.replace(b"HTTP/1.1", draw.choice([b"HTTP/9.9", b"HTTP/0.9", b"", b"SPDY"]), 1)
    return raw


def _exchange(port: int, raw: bytes) -> str:
    """Send the bytes and close our side; returns the status, or the kind of failure."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as link:
        try:
            link.sendall(raw)
            link.settimeout(PATIENCE)
            try:
                head = link.recv(64)
            except TimeoutError:  # the server waits for the rest of an incomplete request
                link.settimeout(10)
                link.shutdown(socket.SHUT_WR)
                head = link.recv(64)
        except (ConnectionError, TimeoutError) as error:
            return type(error).__name__
    parts = head.split(b" ")
    return parts[1].decode(errors="replace")[:3] if len(parts) > 1 else "closed"


if __name__ == "__main__":
    main()
