"""The HTTP server: answers beside the snapshot's own, limits, refusals, and changes of version."""

import csv
import dataclasses
import io
import json
import threading
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from starlette.testclient import TestClient

from data.pins import pin, unpin
from data.store import Store
from data.types import SPLITS
from flows.mined import Mined, TripletQuery
from flows.serving.app import make_app
from flows.serving.limits import Limits
from flows.snapshot import Filter, Snapshot, Wish
from flows.suspects import find_suspects
from mining.suspects import SuspectConfig


@pytest.fixture(scope="module")
def store(cycled):
    return Store(cycled)


@pytest.fixture(scope="module")
def snapshot(store):
    return Snapshot(store, store.current())


@pytest.fixture(scope="module")
def client(store):
    with TestClient(make_app(store)) as client:
        yield client


@pytest.fixture(scope="module")
def pictures(glyphs):
    return pq.read_table(glyphs)["image"].to_pylist()


def good(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()


def wanted(snapshot, item, **wish):
    """(id, distance) of an item's neighbours, from the snapshot itself."""
    answers = snapshot.ask(snapshot.by_id(np.array([item])), Wish(**wish))
    rows = answers.rows[0][answers.rows[0] >= 0]
    return list(zip(snapshot.known.ids[rows].tolist(), answers.distances[0].tolist(), strict=False))


def pairs(found):
    return [(one["id"], one["distance"]) for one in found["neighbours"]]


# Answers --------------------------------------------------------------------------------------


def test_search_by_id_by_address_and_body(client, snapshot):
    for found in (
        good(client.get("/search", params={"id": 3, "k": 4})),
        good(client.post("/search", json={"id": 3, "k": 4})),
    ):
        assert pairs(found) == wanted(snapshot, 3, k=4)
        assert found["version"] == 3
        assert found["index"] == snapshot.version.artifacts["index"].digest
        assert found["query"]["id"] == 3
        for one in found["neighbours"]:
            row = int(np.searchsorted(snapshot.known.ids, one["id"]))
            assert one["label"] == snapshot.label_of(row)
            assert one["split"] == SPLITS[snapshot.known.splits[row]]
            assert one["group"] == snapshot.group_of(row)


def test_filters_itself_distinct_and_explain(client, snapshot):
    among = Filter(splits=("test",))
    found = good(client.post("/search", json={"id": 3, "k": 5, "splits": ["test"]}))
    assert pairs(found) == wanted(snapshot, 3, k=5, among=among)
    again = client.get("/search", params={"id": 3, "k": 5, "split": "test", "explain": True})
    assert pairs(good(again)) == pairs(found)
    assert good(again)["explain"]["kept"] == (snapshot.known.splits == 2).sum()
    itself = good(client.get("/search", params={"id": 3, "k": 2, "itself": True}))
    assert itself["neighbours"][0]["id"] == 3
    distinct = good(client.post("/search", json={"id": 3, "k": 30, "distinct": True}))
    assert pairs(distinct) == wanted(snapshot, 3, k=30, distinct=True)


def test_vectors_pictures_and_batches_agree(client, snapshot, pictures):
    ids = [3, 500, 41]
    vectors = snapshot.searcher.vectors(np.array(ids))
    buffer = io.BytesIO()
    np.save(buffer, vectors)
    batch = good(client.post("/search/batch", json={"vectors": vectors.tolist(), "k": 3}))
    npy = good(client.post("/search/npy", params={"k": 3}, content=buffer.getvalue()))
    assert npy["ids"] == batch["ids"]
    assert [row[0] for row in batch["ids"]] == ids
    by_id = good(client.post("/search/batch", json={"ids": ids, "k": 2}))
    assert by_id["ids"] == [
        [i for i in row if i != q] for row, q in zip(batch["ids"], ids, strict=True)
    ]
    for place, item in enumerate(ids):
        one = good(client.post("/search", json={"vector": vectors[place].tolist(), "k": 3}))
        assert [i for i, _ in pairs(one)] == batch["ids"][place]
        file = {"file": ("a.png", pictures[item], "image/png")}
        shown = good(client.post("/search/image", params={"k": 1}, files=file))
        assert shown["neighbours"][0]["distance"] == pytest.approx(0, abs=1e-5)


def test_fewer_neighbours_than_wished(client, snapshot):
    label = snapshot.label_of(100)
    body = {"ids": [3, int(snapshot.known.ids[100])], "k": 500, "labels": [label]}
    found = good(client.post("/search/batch", json=body))
    count = int((snapshot.known.label_codes == snapshot.known.label_codes[100]).sum())
    same = snapshot.known.label_codes[3] == snapshot.known.label_codes[100]
    assert [len(row) for row in found["ids"]] == [count - int(same), count - 1]
    assert [len(row) for row in found["distances"]] == [len(row) for row in found["ids"]]


def test_items_labels_and_thumbnails(client, snapshot):
    known = snapshot.known
    page = good(client.get("/items", params={"split": "test", "offset": 3, "limit": 4}))
    rows = np.flatnonzero(known.splits == 2)
    assert page["total"] == len(rows)
    assert [one["id"] for one in page["items"]] == known.ids[rows[3:7]].tolist()
    mixed = [
        good(client.get("/items", params={"seed": 1, "offset": o, "limit": 500}))["items"]
        for o in (0, 500)
    ]
    assert sorted(one["id"] for part in mixed for one in part) == known.ids.tolist()
    assert [one["id"] for one in mixed[0][:50]] != known.ids[:50].tolist()
    labels = good(client.get("/labels", params={"contains": "greek small"}))
    fits = [label for label in known.labels if "GREEK SMALL" in label]
    assert [one["label"] for one in labels["labels"]] == fits[:50]
    code = known.labels.index(fits[0])
    assert labels["labels"][0]["items"] == (known.label_codes == code).sum()
    answer = client.get("/items/5/thumbnail")
    pixels = np.asarray(Image.open(io.BytesIO(answer.content)))
    np.testing.assert_array_equal(pixels, snapshot.inputs[np.array([5])][0, 0])
    tag = answer.headers["etag"]
    assert client.get("/items/5/thumbnail", headers={"if-none-match": tag}).status_code == 304
    one = good(client.get("/items/5"))
    assert one["item"]["label"] == snapshot.label_of(5)
    assert one["roles"]["anchor"] > 0


def test_triplets_and_rounds(client, store):
    mined = Mined(store, store.current())
    query = {"round": 0, "kind": ["hard"], "d_an_max": 0.05, "sort": "margin", "limit": 7}
    found = good(client.get("/triplets", params={**query, "offset": 7}))
    own = TripletQuery(
        round=0,
        kinds=("hard",),
        d_an=dataclasses.replace(TripletQuery().d_an, high=0.05),
        sort="margin",
        offset=7,
        limit=7,
    )
    assert found["triplets"] == mined.page(own)
    assert found["total"] == mined.count(own)
    last = good(client.get("/triplets"))
    assert (last["round"], last["total"]) == (1, mined.count(TripletQuery()))
    rounds = good(client.get("/rounds"))["rounds"]
    assert [row["round"] for row in rounds] == [0, 1, 2]
    assert rounds[1]["mined"]["triplets"] == last["total"]
    assert rounds[2]["mined"] is None
    one = good(client.get("/rounds/1"))
    assert one["rows"] == last["total"]
    hard = one["histograms"]["d_an"]["counts"]["hard"]
    assert sum(hard) == one["kinds"]["hard"]["rows"]
    both = good(client.get("/compare", params={"first": 0, "second": 1}))
    assert both["kinds"]["hard"]["second"] == one["kinds"]["hard"]["rows"]


def test_the_map_keeps_the_widest_directions(client, snapshot):
    found = good(client.get("/map", params={"items": 400}))
    assert len(found["ids"]) == len(set(found["ids"])) == 400
    whole = good(client.get("/map", params={"items": 5000}))
    assert len(whole["ids"]) == len(snapshot.known.ids)
    vectors = snapshot.searcher.vectors(np.array(whole["ids"])).astype(np.float64)
    values = np.linalg.eigvalsh(np.cov(vectors.T))[::-1]
    assert whole["explained"] == pytest.approx(values[:2].sum() / values.sum())
    points = np.stack([whole["x"], whole["y"]])
    spread = np.var(points, axis=1)
    assert spread[0] / spread[1] == pytest.approx(values[0] / values[1], rel=1e-3)
    labels = [whole["labels"][place] for place in whole["label"]]
    rows = np.searchsorted(snapshot.known.ids, whole["ids"])
    assert labels == [snapshot.label_of(row) for row in rows]


def test_what_a_round_is_made_of_is_computed_once(store, monkeypatch):
    import flows.serving.triplet_routes as routes

    calls = []
    for name in ("stats", "_plane"):
        made = getattr(routes, name)
        monkeypatch.setattr(
            routes, name, lambda *a, made=made, name=name: calls.append(name) or made(*a)
        )
    with TestClient(make_app(store)) as client:
        for _ in range(3):
            good(client.get("/rounds/0"))
            good(client.get("/map"))
    assert sorted(calls) == ["_plane", "stats"]


def test_state(client, store):
    index = good(client.get("/index"))
    card = store.current().artifacts["index"].card
    assert {key: index[key] for key in ("factory", "recall", "curve")} == {
        key: card[key] for key in ("factory", "recall", "curve")
    }
    versions = good(client.get("/versions"))
    assert [row["version"] for row in versions["versions"]] == [3, 2, 1]
    assert good(client.get("/health")) == {"status": "ok", "version": 3, "detail": ""}
    text = client.get("/metrics").text
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    values = dict(line.rsplit(" ", 1) for line in lines)
    assert values["remine_version"] == "3"
    buckets = [int(v) for k, v in values.items() if k.startswith("remine_search_queries_bucket")]
    assert buckets == sorted(buckets)
    assert str(buckets[-1]) == values["remine_search_queries_count"]


def test_nothing_is_loaded_from_elsewhere(client):
    for path in ("/docs", "/redoc"):
        assert client.get(path).status_code == 404
    assert "http" not in json.dumps(client.get("/openapi.json").json()).replace("HTTP", "")
    assert "default-src 'self'" in client.get("/health").headers["content-security-policy"]


def test_items_by_id(client, snapshot):
    found = good(client.get("/items", params={"id": [500, 3, 10**9, 3]}))
    assert [one["id"] for one in found["items"]] == [3, 500]
    split = SPLITS[snapshot.known.splits[np.searchsorted(snapshot.known.ids, 3)]]
    other = next(name for name in SPLITS if name != split)
    assert good(client.get("/items", params={"id": 3, "split": other}))["total"] == 0


def suspects(client, **params):
    until = time.monotonic() + 30
    while (found := good(client.get("/suspects", params=params)))["state"] == "working":
        assert time.monotonic() < until
        time.sleep(0.05)
    return found


def test_suspects_are_those_of_the_command(client, snapshot):
    wanted = find_suspects(snapshot, SuspectConfig(margin=0.1), lambda *_: None).suspects
    found = suspects(client, margin=0.1, limit=100)
    assert found["total"] == len(wanted) > 0
    rows = list(wanted.head(100).itertuples(index=False))
    assert [one["item"]["id"] for one in found["suspects"]] == [row.id for row in rows]
    assert [one["suspected_label"] for one in found["suspects"]] == [
        row.suspected_label for row in rows
    ]
    assert sum(found["counts"].values()) == found["total"]
    page = suspects(client, margin=0.1, offset=2, limit=3)
    assert page["suspects"] == found["suspects"][2:5]
    label = rows[0].label
    fits = (wanted["label"] == label) | (wanted["suspected_label"] == label)
    assert suspects(client, margin=0.1, label=label)["total"] == fits.sum()
    assert suspects(client, margin=4, reason="mislabelled")["total"] == 0


def test_a_search_for_suspects_holds_nothing_up_and_ends_with_the_server(store, monkeypatch):
    import flows.serving.suspect_routes as routes

    calls, seen = [], threading.Event()

    def endless(snapshot, _config, told):
        calls.append(snapshot)
        while True:
            told(1, 2)
            seen.set()
            time.sleep(0.01)

    monkeypatch.setattr(routes, "find_suspects", endless)
    with TestClient(make_app(store)) as client:
        assert good(client.get("/suspects"))["state"] == "working"
        assert seen.wait(10)
        assert good(client.get("/suspects"))["done"] == 1
        good(client.get("/search", params={"id": 3}))
    assert len(calls) == 1


def test_a_failed_search_for_suspects_is_told_and_tried_again(store, monkeypatch, capsys):
    import flows.serving.suspect_routes as routes

    def broken(*_):
        raise ValueError("no")

    monkeypatch.setattr(routes, "find_suspects", broken)
    with TestClient(make_app(store)) as client:
        until = time.monotonic() + 10
        while (answer := client.get("/suspects")).status_code == 200:
            assert time.monotonic() < until
        assert answer.status_code == 503
        monkeypatch.undo()
        client.get("/suspects")  # one that failed before it was asked for again is told twice
        assert suspects(client)["state"] == "done"
    assert "ValueError: no" in capsys.readouterr().err


def test_more_items_than_may_be_are_not_searched_for_suspects(client, monkeypatch):
    import flows.serving.suspect_routes as routes

    monkeypatch.setattr(routes, "MOST", 10)
    assert client.get("/suspects").status_code == 422


def test_triplets_as_csv(client, store, monkeypatch):
    import flows.serving.triplet_routes as routes

    mined = Mined(store, store.current())
    query = TripletQuery(round=0, kinds=("hard",), sort="d_an", limit=700)
    wanted = mined.page(query)
    monkeypatch.setattr(routes, "MAX_LIMIT", 300)
    monkeypatch.setattr(routes, "EXPORTED", 600)
    answer = client.get("/triplets.csv", params={"round": 0, "kind": "hard", "sort": "d_an"})
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == 600
    assert [int(row["negative_id"]) for row in rows] == [row["negative_id"] for row in wanted[:600]]
    assert [row["anchor_label"] for row in rows] == [row["anchor_label"] for row in wanted[:600]]


# Refusals -------------------------------------------------------------------------------------

MARK = "ZQ9X"


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
def test_an_npy_file_is_held_against_its_length(client, content):
    assert client.post("/search/npy", content=content).status_code == 422


def test_a_picture_is_measured_before_it_is_decoded(client, pictures):
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
def test_no_body_is_a_fault_of_ours(client, path, body):
    content = json.dumps(body).encode()
    answer = client.post(path, content=content, headers={"content-type": "application/json"})
    assert answer.status_code < 500
    json.loads(answer.text, parse_constant=lambda name: pytest.fail(f"{name} in an answer"))


def test_bodies_and_requests_at_a_time_are_bounded(store):
    with TestClient(make_app(store, Limits(body=1000))) as client:
        assert client.post("/search", content=b" " * 1001).status_code == 413

        def parts():
            for _ in range(20):
                yield b" " * 100

        assert client.post("/search", content=parts()).status_code == 413
        good(client.post("/search", content=b'{"id": 3}' + b" " * 900))


def test_a_slow_answer_is_given_up(store, monkeypatch):
    ask = Snapshot.ask

    def slow(self, queries, wish):
        if wish.k == 77:
            time.sleep(1.0)
        return ask(self, queries, wish)

    monkeypatch.setattr(Snapshot, "ask", slow)
    with TestClient(make_app(store, Limits(seconds=0.2, waiting=2))) as client:
        answer = client.get("/search", params={"id": 3, "k": 77})
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        time.sleep(1.0)
        good(client.get("/search", params={"id": 3}))


def test_more_than_may_wait_are_turned_away(store, monkeypatch):
    ask, inside, out = Snapshot.ask, threading.Event(), threading.Event()

    def held(self, queries, wish):
        if wish.k == 77:
            inside.set()
            out.wait(10)
        return ask(self, queries, wish)

    monkeypatch.setattr(Snapshot, "ask", held)
    with TestClient(make_app(store, Limits(waiting=1))) as client:
        found = []
        thread = threading.Thread(
            target=lambda: found.append(client.get("/search", params={"id": 3, "k": 77}))
        )
        thread.start()
        assert inside.wait(10)
        assert client.get("/health").status_code == 429
        out.set()
        thread.join()
        good(found[0])
        good(client.get("/health"))


def test_a_token_is_asked_for(store):
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


def test_only_its_own_name_is_answered_to(store):
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


# Versions -------------------------------------------------------------------------------------


def republished(store, number):
    """The artifacts of version `number` as the newest version."""
    current = store.current()
    version = dataclasses.replace(
        store.version(number), number=current.number + 1, parent=current.digest
    )
    store.publish(version)
    return version


def test_versions_change_under_load_without_a_failed_or_mixed_answer(own_store):
    store = Store(own_store)
    asked = [3, 41, 500]
    truth = {}
    for number in (1, 2, 3):
        old = Snapshot(store, store.version(number))
        truth[old.version.artifacts["index"].digest] = {
            item: wanted(old, item, k=5) for item in asked
        }
    assert len({json.dumps(value) for value in truth.values()}) == 3
    faults, seen, stop = [], [], threading.Event()
    with TestClient(make_app(store, every=0.02)) as client:

        def load(place):
            while not stop.is_set():
                item = asked[place % 3]
                answer = client.get("/search", params={"id": item, "k": 5})
                found = answer.json()
                if answer.status_code != 200:
                    faults.append(found)
                    continue
                right = truth[found["index"]][item]
                ids = [one["id"] for one in found["neighbours"]]
                near = [one["distance"] for one in found["neighbours"]]
                if ids != [i for i, _ in right] or not np.allclose(near, [d for _, d in right]):
                    faults.append(found)
                if answer.headers["x-remine-version"] != str(found["version"]):
                    faults.append(found)
                seen.append(found["version"])

        threads = [threading.Thread(target=load, args=(place,)) for place in range(6)]
        for thread in threads:
            thread.start()
        for change in range(8):
            version = republished(store, change % 3 + 1)
            until = time.monotonic() + 20
            while seen[-1:] != [version.number] and time.monotonic() < until:
                time.sleep(0.01)
        stop.set()
        for thread in threads:
            thread.join()
    assert faults == []
    assert set(range(4, 12)) <= set(seen)


def waits_for(client, version, field="version"):
    until = time.monotonic() + 20
    while (found := client.get("/health").json())[field] != version:
        assert time.monotonic() < until, found
        time.sleep(0.02)
    return found


def test_a_pin_is_followed(own_store):
    store = Store(own_store)
    with TestClient(make_app(store, every=0.02)) as client:
        pin(store, 1)
        waits_for(client, 1)
        assert client.get("/versions").json()["pinned"] == 1
        unpin(store)
        waits_for(client, 3)


def test_a_version_that_cannot_be_opened_is_not_served(own_store):
    store = Store(own_store)
    with TestClient(make_app(store, every=0.02)) as client:
        index = store.version(1).artifacts["index"].files[0]
        path = own_store / index.object
        path.chmod(0o644)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        republished(store, 1)
        found = waits_for(client, "degraded", "status")
        assert found["version"] == 3
        assert str(own_store) not in json.dumps(found)
        good(client.get("/search", params={"id": 3}))
        assert "remine_version_faults_total 1" in client.get("/metrics").text
        republished(store, 2)
        assert waits_for(client, 5)["status"] == "ok"
