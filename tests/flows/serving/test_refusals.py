"""Refused requests and limits of the HTTP server; no response repeats what was sent."""

import asyncio
import io
import json
import threading
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from starlette.testclient import TestClient

from remine.flows.query.snapshot import Snapshot
from remine.flows.serving.app import make_app
from remine.flows.serving.limits import Limits


def good(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()


MARK = "ZQ9X"


def routes_of(router):
    """Every route, also of the routers that FastAPI keeps as one entry."""
    for route in router.routes:
        yield from (
            routes_of(route.original_router) if hasattr(route, "original_router") else [route]
        )


def test_every_route_refuses_a_parameter_that_it_does_not_have(client):
    values = {"item": "3", "number": "0"}
    routes = [
        (method, route.path_format.format(**values))
        for route in routes_of(client.app)
        for method in route.methods - {"HEAD"}
    ]
    assert {path for _, path in routes} >= {"/search", "/items", "/health", "/", "/openapi.json"}
    for method, path in routes:
        answer = client.request(method, path, params={"labels": MARK})
        assert (path, answer.status_code) == (path, 422)
        assert answer.json()["detail"].startswith("no parameter labels here; known: ")
        assert answer.json()["fields"] == ["labels"]
        assert MARK not in answer.text
        assert MARK not in client.request(method, path, params={MARK: 1}).text


def test_an_unknown_parameter_is_answered_with_the_known_ones(client):
    answer = client.get("/labels", params={"contains": "a", "labels": "b"})
    detail = "no parameter labels here; known: contains, limit, offset"
    assert answer.json()["detail"] == detail
    # In the body of this route, not in its address.
    detail = client.post("/search?label=a", json={"id": 3}).json()["detail"]
    assert detail == "no parameter label here; known: none"


def test_a_parameter_is_given_once_unless_it_is_a_list(client):
    answer = client.get("/search?id=3&k=2&k=5")
    assert (answer.status_code, answer.json()["fields"]) == (422, ["k"])
    assert answer.json()["detail"] == "k is given 2 times; give it once"
    assert good(client.get("/search?id=3&split=train&split=val"))


def test_options_in_the_form_of_a_picture_are_refused(client, pictures):
    files = {"file": pictures[0]}
    assert good(client.post("/search/image", files=files))
    answer = client.post("/search/image", files=files, data={"k": "3"})
    assert answer.status_code == 422
    assert "options go in the address" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path", "extra", "status"),
    [
        ("POST", "/search", {"json": {"id": 3, MARK: 1}}, 422),
        ("POST", "/search", {"json": {"id": MARK}}, 422),
        ("POST", "/search", {"json": {"id": 3, "labels": [MARK]}}, 422),
        ("POST", "/search", {"json": {"id": 3, "splits": [MARK]}}, 422),
        ("POST", "/search", {"json": {"id": 3, "groups": [MARK]}}, 422),
        ("POST", "/search", {"json": {"id": 3, "text": MARK}}, 422),
        ("POST", "/search", {"json": {"text": MARK}}, 422),
        ("POST", "/search", {"json": {}}, 422),
        ("POST", "/search", {"json": {"id": 10**6}}, 404),
        ("POST", "/search", {"json": {"id": 2**63}}, 422),
        ("POST", "/search", {"json": {"id": 3, "k": 0}}, 422),
        ("POST", "/search", {"json": {"id": 3, "k": 1001}}, 422),
        ("POST", "/search", {"json": {"id": 3, "recall": 2}}, 422),
        ("POST", "/search", {"json": {"vector": [1.0]}}, 422),
        ("POST", "/search", {"json": {"vector": [0.0] * 16}}, 422),
        ("POST", "/search", {"json": {"vector": [1e300] * 16}}, 422),
        ("POST", "/search", {"content": b'{"vector": [NaN, 1]}'}, 422),
        ("POST", "/search", {"content": b'{"text": "\\ud800"}'}, 422),
        ("POST", "/search", {"content": b"\xff\xfe" + MARK.encode()}, 422),
        ("POST", "/search", {"content": b"[" * 200_000}, 422),
        ("POST", "/search", {"data": {"id": MARK}}, 415),
        ("POST", "/search/batch", {"json": {"vectors": [[1.0], [1.0, 2.0]]}}, 422),
        ("POST", "/search/batch", {"json": {"ids": [1] * 4097}}, 422),
        ("POST", "/search/batch", {"json": {"ids": [1] * 4000, "k": 999}}, 422),
        ("POST", "/search/npy", {"content": MARK.encode()}, 422),
        ("POST", "/search/image", {"files": {"file": MARK.encode()}}, 422),
        ("POST", "/search/image", {"data": {"file": MARK}}, 422),
        ("GET", f"/search?id={MARK}", {}, 422),
        ("GET", "/search?id=" + "9" * 5000, {}, 422),
        ("GET", "/search", {}, 422),
        ("GET", "/search?id=3&recall=nan", {}, 422),
        ("GET", f"/{MARK}", {}, 404),
        ("GET", f"/items/{MARK}", {}, 422),
        ("GET", "/items/999999", {}, 404),
        ("GET", "/items/999999/thumbnail", {}, 404),
        ("GET", f"/items?label={MARK}", {}, 422),
        ("GET", f"/triplets?sort={MARK}", {}, 422),
        ("GET", "/triplets?descending=true", {}, 422),
        ("GET", "/triplets?d_ap_min=inf", {}, 422),
        ("GET", "/triplets?round=7", {}, 404),
        ("GET", "/rounds/2", {}, 404),
        ("GET", "/compare?first=0&second=9", {}, 404),
        ("GET", "/map?items=0", {}, 422),
        ("GET", "/suspects?margin=nan", {}, 422),
        ("GET", f"/suspects?reason={MARK}", {}, 422),
        ("GET", "/triplets.csv?round=7", {}, 404),
        ("GET", f"/triplets.csv?sort={MARK}", {}, 422),
        ("GET", f"/items?id={MARK}", {}, 422),
        ("DELETE", "/search", {}, 405),
    ],
)
def test_bad_requests_are_refused_without_an_echo(client, method, path, extra, status):
    answer = client.request(method, path, **extra)
    assert answer.status_code == status, answer.text
    assert MARK not in answer.text
    assert set(answer.json()) == {"detail", "fields"}
    assert "\n" not in answer.text


def npy(shape, descr="<f4", body=b"", fortran="False"):
    header = f"{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}".encode()
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body


@pytest.mark.parametrize(
    "content",
    [
        npy((10**12, 16)),
        npy((2, 16), body=b"\0" * 127),
        npy((1, 16), "|O", b"\0" * 128),
        npy((1, 16), "<i8", b"\0" * 128),
        npy((16,), body=b"\0" * 64),
        npy((0, 16)),
        npy((-1, -16), body=b"\0" * 64),
        npy((1, 16), body=b"\0" * 64, fortran="True"),
        npy((1, 16), body=np.full(16, np.nan, "<f4").tobytes()),
        npy("__import__('os')", body=b"\0" * 64),
        b"\x93NUMPY\x09\x00",
        b"",
    ],
)
def test_an_npy_header_is_checked_against_the_length(client, content):
    assert client.post("/search/npy", content=content).status_code == 422


def test_the_size_of_a_picture_is_checked_before_decoding(client, pictures):
    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, "PNG")
    assert len(buffer.getvalue()) < 100_000
    answer = client.post("/search/image", files={"file": buffer.getvalue()})
    assert answer.status_code == 422
    assert "400000000 pixels; at most 16000000" in answer.json()["detail"]
    for cut in range(1, len(pictures[5]), 17):
        answer = client.post("/search/image", files={"file": pictures[5][:cut]})
        assert answer.status_code in (200, 422)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
FIELDS = (
    "id",
    "ids",
    "text",
    "texts",
    "vector",
    "vectors",
    "k",
    "recall",
    "labels",
    "splits",
    "groups",
    "itself",
    "distinct",
    "explain",
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    path=st.sampled_from(["/search", "/search/batch"]),
    body=json_values | st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=4),
)
def test_no_body_causes_an_internal_error(client, path, body):
    content = json.dumps(body).encode()
    answer = client.post(path, content=content, headers={"content-type": "application/json"})
    assert answer.status_code < 500
    json.loads(answer.text, parse_constant=lambda name: pytest.fail(f"{name} in an answer"))


def test_the_size_of_a_body_is_limited(store):
    with TestClient(make_app(store, Limits(body=1000))) as client:
        assert client.post("/search", content=b" " * 1001).status_code == 413

        def parts():
            for _ in range(20):
                yield b" " * 100

        assert client.post("/search", content=parts()).status_code == 413
        good(client.post("/search", content=b'{"id": 3}' + b" " * 900))


def test_a_slow_request_times_out(store, monkeypatch):
    search = Snapshot.search

    def slow(self, queries, options):
        if options.k == 77:
            time.sleep(1.0)
        return search(self, queries, options)

    monkeypatch.setattr(Snapshot, "search", slow)
    with TestClient(make_app(store, Limits(seconds=0.2, waiting=2))) as client:
        answer = client.get("/search", params={"id": 3, "k": 77})
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        time.sleep(1.0)
        good(client.get("/search", params={"id": 3}))


def test_too_many_waiting_requests_are_refused(store, monkeypatch):
    search, inside, out = Snapshot.search, threading.Event(), threading.Event()

    def blocked(self, queries, options):
        if options.k == 77:
            inside.set()
            out.wait(10)
        return search(self, queries, options)

    monkeypatch.setattr(Snapshot, "search", blocked)
    with TestClient(make_app(store, Limits(waiting=1))) as client:
        responses = []
        thread = threading.Thread(
            target=lambda: responses.append(client.get("/search", params={"id": 3, "k": 77}))
        )
        thread.start()
        assert inside.wait(10)
        assert client.get("/health").status_code == 429
        out.set()
        thread.join()
        good(responses[0])
        good(client.get("/health"))


def test_a_token_is_required(store):
    with TestClient(make_app(store, Limits(token="s3cret"))) as client:
        for headers in (
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": "Basic s3cret"},
            {"authorization": b"Bearer \xff\xfe"},
            {"cookie": "remine_token=wrong"},
            {"cookie": "=;=\x01"},
        ):
            answer = client.get("/index", headers=headers)
            assert answer.status_code == 401
            assert "s3cret" not in answer.text
        good(client.get("/index", headers={"authorization": "Bearer s3cret"}))
        good(client.get("/index", headers={"cookie": "a=b; remine_token=s3cret"}))
        good(client.get("/health"))


def test_other_host_names_are_refused(store):
    app = make_app(store, hosts=frozenset({"localhost", "127.0.0.1", "::1"}))
    with TestClient(app) as client:
        for host, status in [
            ("localhost:8080", 200),
            ("127.0.0.1", 200),
            ("[::1]:8080", 200),
            ("evil.example", 421),
            ("localhost.evil.example:8080", 421),
            ("", 421),
        ]:
            assert client.get("/health", headers={"host": host}).status_code == status


def test_an_incomplete_body_is_a_client_error(store, capsys):
    app = make_app(store)
    sent = []

    async def broken():
        pieces = [{"type": "http.request", "body": b"\x93NUMPY", "more_body": True}]

        async def receive():
            return pieces.pop() if pieces else {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        scope = {
            "type": "http", "http_version": "1.1", "asgi": {"version": "3.0"}, "scheme": "http",
            "method": "POST", "path": "/search/npy", "raw_path": b"/search/npy",
            "query_string": b"", "root_path": "", "server": ("testserver", 80), "client": None,
            "headers": [(b"content-type", b"application/octet-stream"), (b"host", b"testserver")],
        }  # fmt: skip
        async with app.router.lifespan_context(app):
            await app(scope, receive, send)

    asyncio.run(broken())
    assert sent[0]["status"] == 400
    assert "Traceback" not in capsys.readouterr().err
