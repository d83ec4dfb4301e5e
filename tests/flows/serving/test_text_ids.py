"""The HTTP API over a store whose ids are texts, against the Python API."""

import csv
import io
from urllib.parse import quote

import numpy as np
import pytest
from starlette.testclient import TestClient

import remine
from remine.data.store.store import Store
from remine.flows.serving.app import make_app

ITEM = 41


@pytest.fixture(scope="module")
def client(keyed_store):
    with TestClient(make_app(Store(keyed_store))) as client:
        yield client


@pytest.fixture(scope="module")
def version(keyed_store):
    return remine.open(keyed_store)


def good(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_index_says_what_ids_are(client):
    assert good(client.get("/index"))["ids"] == "texts"
    schemas = good(client.get("/openapi.json"))["components"]["schemas"]
    types = [one["type"] for one in schemas["Item"]["properties"]["id"]["anyOf"]]
    assert types == ["integer", "string"]


def test_searches(client, version, keys):
    ids = [keys(ITEM), keys(3), keys(ITEM)]
    expected = version.search(id=ids, k=4)["id"].to_pylist()
    for answer in (
        client.get("/search", params={"id": ids[0], "k": 4}),
        client.post("/search", json={"id": ids[0], "k": 4}),
    ):
        content = good(answer)
        assert content["query"]["id"] == ids[0]
        assert [one["id"] for one in content["neighbours"]] == expected[:4]
    answer = good(client.post("/search/batch", json={"ids": ids, "k": 4}))
    assert np.ravel(answer["ids"]).tolist() == expected
    one_label = {"ids": ids[:1], "k": 50, "labels": [content["query"]["label"]]}
    answer = good(client.post("/search/batch", json=one_label))
    assert len(answer["ids"][0]) == len(answer["distances"][0]) < 50


def test_items_and_their_thumbnails(client, keys):
    page = good(client.get("/items", params={"id": [keys(ITEM), keys(3), "none"]}))
    assert [one["id"] for one in page["items"]] == [keys(3), keys(ITEM)]
    one = page["items"][1]
    assert one["thumbnail"] == f"thumbnail?id={quote(keys(ITEM), safe='')}"
    picture = client.get("/" + one["thumbnail"])
    assert picture.headers["content-type"] == "image/png"
    headers = {"if-none-match": picture.headers["etag"]}
    assert client.get("/" + one["thumbnail"], headers=headers).status_code == 304
    # The test's client decodes the path twice, a server once.
    address = quote(keys(ITEM).replace("%", "%25"), safe="")
    item = good(client.get(f"/items/{address}"))
    assert item["item"] == one
    assert sum(item["roles"].values()) > 0
    path = f"/items/{quote(keys(ITEM).replace('/', '-'), safe='')}/thumbnail"
    assert client.get(path).status_code == 404


def test_triplets(client, version):
    mined = version.triplets(round=0).to_pylist()
    anchor, negative = mined[0]["anchor_id"], mined[0]["negative_id"]
    for params, test in (
        ({"anchor": anchor}, lambda row: row["anchor_id"] == anchor),
        (
            {"item": negative},
            lambda row: negative in (row["anchor_id"], row["positive_id"], row["negative_id"]),
        ),
        ({"item": "none"}, lambda _row: False),
    ):
        page = good(client.get("/triplets", params={"round": 0, "limit": 500, **params}))
        expected = [row for row in mined if test(row)]
        assert page["total"] == len(expected)
        names = ("anchor_id", "positive_id", "negative_id")
        assert [[row[n] for n in names] for row in page["triplets"]] == [
            [row[n] for n in names] for row in expected
        ]
    download = client.get("/triplets.csv", params={"round": 0, "anchor": anchor}).text
    assert {row["anchor_id"] for row in csv.DictReader(io.StringIO(download, newline=""))} == {
        anchor
    }
    hubs = good(client.get("/rounds/0"))["hubs"]
    assert {hub["id"] for hub in hubs} <= {row["negative_id"] for row in mined}


def test_map_and_suspects(client, version):
    ids = set(version.embeddings().ids.tolist())
    assert set(good(client.get("/map", params={"items": 50}))["ids"]) <= ids
    while (answer := good(client.get("/suspects", params={"margin": 0})))["state"] == "working":
        pass
    assert answer["total"] > 0
    assert {one["item"]["id"] for one in answer["suspects"]} <= ids


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/search", {"params": {"id": "none"}}, 404),
        ("GET", "/search", {"params": {"id": ""}}, 422),
        ("GET", "/search", {"params": {"id": "x" * 10_001}}, 422),
        ("POST", "/search", {"json": {"id": "none"}}, 404),
        ("POST", "/search", {"json": {"id": 41}}, 422),
        ("POST", "/search/batch", {"json": {"ids": [41]}}, 422),
        ("POST", "/search/batch", {"json": {"ids": ["none", 41]}}, 422),
        ("POST", "/search/batch", {"json": {"ids": ["none"]}}, 404),
        ("POST", "/search/batch", {"content": b'{"ids": ["\\ud800"]}'}, 422),
        ("GET", "/items/none", {}, 404),
        ("GET", "/items/a/b/c", {}, 404),
        ("GET", "/thumbnail", {"params": {"id": "none"}}, 404),
        ("GET", "/thumbnail", {}, 422),
    ],
)
def test_refusals_do_not_repeat_the_id(client, method, path, options, status):
    answer = client.request(method, path, **options)
    assert answer.status_code == status
    assert "none" not in answer.text
    assert "\n" not in answer.json()["detail"]


@pytest.mark.parametrize("item", ["sku-1", "-1", "1.0", str(2**63), "3/x"])
def test_a_text_where_ids_are_integers(cycle_store, item):
    with TestClient(make_app(Store(cycle_store))) as client:
        paths = [
            f"/items/{item}",
            f"/search?id={item}",
            f"/triplets?item={item}",
            f"/thumbnail?id={item}",
        ]
        for path in paths:
            answer = client.get(path)
            assert answer.status_code == 422
            assert item not in answer.text or item == "-1"
        assert client.post("/search", json={"id": item}).status_code == 422
        assert good(client.get("/index"))["ids"] == "integers"
        assert client.get("/thumbnail?id=5").content == client.get("/items/5/thumbnail").content
