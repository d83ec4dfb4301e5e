"""Answers of the HTTP server, compared with those of the snapshot and the commands."""

import csv
import dataclasses
import io
import json
import threading
import time

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from remine.data.types import SPLITS
from remine.flows.query.snapshot import Filter
from remine.flows.query.suspects import find_suspects
from remine.flows.query.triplets import TripletQuery, TripletTable
from remine.flows.serving.app import make_app
from remine.mining.suspects import SuspectConfig


def good(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()


def pairs(content):
    return [(one["id"], one["distance"]) for one in content["neighbours"]]


def test_search_by_id_by_address_and_body(client, snapshot, expected_pairs):
    for content in (
        good(client.get("/search", params={"id": 3, "k": 4})),
        good(client.post("/search", json={"id": 3, "k": 4})),
    ):
        assert pairs(content) == expected_pairs(snapshot, 3, k=4)
        assert content["version"] == 3
        assert content["index"] == snapshot.version.artifacts["index"].digest
        assert content["query"]["id"] == 3
        for one in content["neighbours"]:
            row = int(np.searchsorted(snapshot.catalogue.ids, one["id"]))
            assert one["label"] == snapshot.label_of(row)
            assert one["split"] == SPLITS[snapshot.catalogue.splits[row]]
            assert one["group"] == snapshot.group_of(row)


def test_filters_itself_distinct_and_explain(client, snapshot, expected_pairs):
    item_filter = Filter(splits=("test",))
    content = good(client.post("/search", json={"id": 3, "k": 5, "splits": ["test"]}))
    assert pairs(content) == expected_pairs(snapshot, 3, k=5, item_filter=item_filter)
    repetition = client.get("/search", params={"id": 3, "k": 5, "split": "test", "explain": True})
    assert pairs(good(repetition)) == pairs(content)
    assert good(repetition)["explain"]["kept"] == (snapshot.catalogue.splits == 2).sum()
    itself = good(client.get("/search", params={"id": 3, "k": 2, "itself": True}))
    assert itself["neighbours"][0]["id"] == 3
    distinct = good(client.post("/search", json={"id": 3, "k": 30, "distinct": True}))
    assert pairs(distinct) == expected_pairs(snapshot, 3, k=30, distinct=True)


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
        page_text = good(client.post("/search/image", params={"k": 1}, files=file))
        assert page_text["neighbours"][0]["distance"] == pytest.approx(0, abs=1e-5)


def test_fewer_neighbours_than_k(client, snapshot):
    label = snapshot.label_of(100)
    body = {"ids": [3, int(snapshot.catalogue.ids[100])], "k": 500, "labels": [label]}
    content = good(client.post("/search/batch", json=body))
    count = int((snapshot.catalogue.label_codes == snapshot.catalogue.label_codes[100]).sum())
    matches = snapshot.catalogue.label_codes[3] == snapshot.catalogue.label_codes[100]
    assert [len(row) for row in content["ids"]] == [count - int(matches), count - 1]
    assert [len(row) for row in content["distances"]] == [len(row) for row in content["ids"]]


def test_items_labels_and_thumbnails(client, snapshot):
    catalogue = snapshot.catalogue
    page = good(client.get("/items", params={"split": "test", "offset": 3, "limit": 4}))
    rows = np.flatnonzero(catalogue.splits == 2)
    assert page["total"] == len(rows)
    assert [one["id"] for one in page["items"]] == catalogue.ids[rows[3:7]].tolist()
    mixture = [
        good(client.get("/items", params={"seed": 1, "offset": o, "limit": 500}))["items"]
        for o in (0, 500)
    ]
    assert sorted(one["id"] for part in mixture for one in part) == catalogue.ids.tolist()
    assert [one["id"] for one in mixture[0][:50]] != catalogue.ids[:50].tolist()
    labels = good(client.get("/labels", params={"contains": "greek small"}))
    fits = [label for label in catalogue.labels if "GREEK SMALL" in label]
    assert [one["label"] for one in labels["labels"]] == fits[:50]
    code = catalogue.labels.index(fits[0])
    assert labels["labels"][0]["items"] == (catalogue.label_codes == code).sum()
    answer = client.get("/items/5/thumbnail")
    pixels = np.asarray(Image.open(io.BytesIO(answer.content)))
    np.testing.assert_array_equal(pixels, snapshot.inputs[np.array([5])][0, 0])
    tag = answer.headers["etag"]
    assert client.get("/items/5/thumbnail", headers={"if-none-match": tag}).status_code == 304
    one = good(client.get("/items/5"))
    assert one["item"]["label"] == snapshot.label_of(5)
    assert one["roles"]["anchor"] > 0


def test_triplets_and_rounds(client, store):
    triplets = TripletTable(store, store.current())
    query = {"round": 0, "kind": ["hard"], "d_an_max": 0.05, "sort": "margin", "limit": 7}
    content = good(client.get("/triplets", params={**query, "offset": 7}))
    own_query = TripletQuery(
        round=0,
        kinds=("hard",),
        d_an=dataclasses.replace(TripletQuery().d_an, high=0.05),
        sort="margin",
        offset=7,
        limit=7,
    )
    assert content["triplets"] == triplets.page(own_query)
    assert content["total"] == triplets.count(own_query)
    last = good(client.get("/triplets"))
    assert (last["round"], last["total"]) == (1, triplets.count(TripletQuery()))
    rounds = good(client.get("/rounds"))["rounds"]
    assert [row["round"] for row in rounds] == [0, 1, 2]
    assert rounds[1]["mined"]["triplets"] == last["total"]
    assert rounds[2]["mined"] is None
    one = good(client.get("/rounds/1"))
    assert one["rows"] == last["total"]
    hard = one["histograms"]["d_an"]["counts"]["hard"]
    assert sum(hard) == one["kinds"]["hard"]["rows"]
    pair = good(client.get("/compare", params={"first": 0, "second": 1}))
    assert pair["kinds"]["hard"]["second"] == one["kinds"]["hard"]["rows"]


def test_the_map_shows_the_principal_axes(client, snapshot):
    content = good(client.get("/map", params={"items": 400}))
    assert len(content["ids"]) == len(set(content["ids"])) == 400
    full_map = good(client.get("/map", params={"items": 5000}))
    assert len(full_map["ids"]) == len(snapshot.catalogue.ids)
    vectors = snapshot.searcher.vectors(np.array(full_map["ids"])).astype(np.float64)
    values = np.linalg.eigvalsh(np.cov(vectors.T))[::-1]
    assert full_map["explained"] == pytest.approx(values[:2].sum() / values.sum())
    points = np.stack([full_map["x"], full_map["y"]])
    spread = np.var(points, axis=1)
    assert spread[0] / spread[1] == pytest.approx(values[0] / values[1], rel=1e-3)
    labels = [full_map["labels"][place] for place in full_map["label"]]
    rows = np.searchsorted(snapshot.catalogue.ids, full_map["ids"])
    assert labels == [snapshot.label_of(row) for row in rows]


def test_statistics_of_a_round_are_computed_once(store, monkeypatch):
    import remine.flows.serving.routes.triplets as routes

    calls = []
    for name in ("stats", "_project"):
        original = getattr(routes, name)
        monkeypatch.setattr(
            routes,
            name,
            lambda *a, original=original, name=name: calls.append(name) or original(*a),
        )
    with TestClient(make_app(store)) as client:
        for _ in range(3):
            good(client.get("/rounds/0"))
            good(client.get("/map"))
    assert sorted(calls) == ["_project", "stats"]


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


def test_nothing_is_loaded_from_other_hosts(client):
    for path in ("/docs", "/redoc"):
        assert client.get(path).status_code == 404
    assert "http" not in json.dumps(client.get("/openapi.json").json()).replace("HTTP", "")
    assert "default-src 'self'" in client.get("/health").headers["content-security-policy"]


def test_the_openapi_document_describes_every_field(client):
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    # Records of the index document their fields in their own description.
    documented = {"RecallPoint", "RecallCheck", "SearchReport"}
    documented.add("Body_search_by_image_search_image_post")
    for name in set(schemas) - documented:
        for field, schema in schemas[name]["properties"].items():
            assert "description" in schema, f"{name}.{field}"


def test_items_by_id(client, snapshot):
    content = good(client.get("/items", params={"id": [500, 3, 10**9, 3]}))
    assert [one["id"] for one in content["items"]] == [3, 500]
    split = SPLITS[snapshot.catalogue.splits[np.searchsorted(snapshot.catalogue.ids, 3)]]
    second = next(name for name in SPLITS if name != split)
    assert good(client.get("/items", params={"id": 3, "split": second}))["total"] == 0


def suspects(client, **params):
    until = time.monotonic() + 30
    while (content := good(client.get("/suspects", params=params)))["state"] == "working":
        assert time.monotonic() < until
        time.sleep(0.05)
    return content


def test_suspects_equal_those_of_the_command(client, snapshot):
    expected = find_suspects(snapshot, SuspectConfig(margin=0.1), lambda *_: None).suspects
    content = suspects(client, margin=0.1, limit=100)
    assert content["total"] == len(expected) > 0
    rows = list(expected.head(100).itertuples(index=False))
    assert [one["item"]["id"] for one in content["suspects"]] == [row.id for row in rows]
    assert [one["suspected_label"] for one in content["suspects"]] == [
        row.suspected_label for row in rows
    ]
    assert sum(content["counts"].values()) == content["total"]
    page = suspects(client, margin=0.1, offset=2, limit=3)
    assert page["suspects"] == content["suspects"][2:5]
    label = rows[0].label
    fits = (expected["label"] == label) | (expected["suspected_label"] == label)
    assert suspects(client, margin=0.1, label=label)["total"] == fits.sum()
    assert suspects(client, margin=4, reason="mislabelled")["total"] == 0


def test_a_search_for_suspects_blocks_nothing_and_ends_with_the_server(store, monkeypatch):
    import remine.flows.serving.routes.suspects as routes

    calls, seen = [], threading.Event()

    def endless(snapshot, _config, progress):
        calls.append(snapshot)
        while True:
            progress(1, 2)
            seen.set()
            time.sleep(0.01)

    monkeypatch.setattr(routes, "find_suspects", endless)
    with TestClient(make_app(store)) as client:
        assert good(client.get("/suspects"))["state"] == "working"
        assert seen.wait(10)
        assert good(client.get("/suspects"))["done"] == 1
        good(client.get("/search", params={"id": 3}))
    assert len(calls) == 1


def test_a_failed_search_for_suspects_is_reported_and_repeated(store, monkeypatch, capsys):
    import remine.flows.serving.routes.suspects as routes

    def broken(*_):
        raise ValueError("no")

    monkeypatch.setattr(routes, "find_suspects", broken)
    with TestClient(make_app(store)) as client:
        until = time.monotonic() + 10
        while (answer := client.get("/suspects")).status_code == 200:
            assert time.monotonic() < until
        assert answer.status_code == 503
        monkeypatch.undo()
        client.get("/suspects")  # a task that failed before the next request is reported twice
        assert suspects(client)["state"] == "done"
    assert "ValueError: no" in capsys.readouterr().err


def test_too_many_items_are_not_searched_for_suspects(client, monkeypatch):
    import remine.flows.serving.routes.suspects as routes

    monkeypatch.setattr(routes, "MAX_ITEMS", 10)
    assert client.get("/suspects").status_code == 422


def test_triplets_as_csv(client, store, monkeypatch):
    import remine.flows.serving.routes.triplets as routes

    triplets = TripletTable(store, store.current())
    query = TripletQuery(round=0, kinds=("hard",), sort="d_an", limit=700)
    expected = triplets.page(query)
    monkeypatch.setattr(routes, "MAX_LIMIT", 300)
    monkeypatch.setattr(routes, "MAX_CSV_ROWS", 600)
    answer = client.get("/triplets.csv", params={"round": 0, "kind": "hard", "sort": "d_an"})
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == 600
    assert [int(row["negative_id"]) for row in rows] == [
        row["negative_id"] for row in expected[:600]
    ]
    assert [row["anchor_label"] for row in rows] == [row["anchor_label"] for row in expected[:600]]
