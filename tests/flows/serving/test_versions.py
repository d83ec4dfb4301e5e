"""The server while versions change, are pinned, or cannot be opened."""

import dataclasses
import json
import threading
import time

import numpy as np
from starlette.testclient import TestClient

from remine.data.store.pins import pin, unpin
from remine.data.store.store import Store
from remine.flows.query.snapshot import Snapshot
from remine.flows.serving.app import make_app


def republished(store, number):
    """Publish the artifacts of version `number` again as the newest version."""
    current = store.current()
    version = dataclasses.replace(
        store.version(number), number=current.number + 1, parent=current.digest
    )
    store.publish(version)
    return version


def test_versions_change_under_load_without_a_failed_or_mixed_answer(own_store, expected_pairs):
    store = Store(own_store)
    items = [3, 41, 500]
    truth = {}
    for number in (1, 2, 3):
        old = Snapshot(store, store.version(number))
        truth[old.version.artifacts["index"].digest] = {
            item: expected_pairs(old, item, k=5) for item in items
        }
    assert len({json.dumps(value) for value in truth.values()}) == 3
    faults, versions, stop = [], [], threading.Event()
    with TestClient(make_app(store, every=0.02)) as client:

        def load(place):
            while not stop.is_set():
                item = items[place % 3]
                answer = client.get("/search", params={"id": item, "k": 5})
                content = answer.json()
                if answer.status_code != 200:
                    faults.append(content)
                    continue
                right = truth[content["index"]][item]
                ids = [one["id"] for one in content["neighbours"]]
                distances = [one["distance"] for one in content["neighbours"]]
                if ids != [i for i, _ in right] or not np.allclose(
                    distances, [d for _, d in right]
                ):
                    faults.append(content)
                if answer.headers["x-remine-version"] != str(content["version"]):
                    faults.append(content)
                versions.append(content["version"])

        threads = [threading.Thread(target=load, args=(place,)) for place in range(6)]
        for thread in threads:
            thread.start()
        for change in range(8):
            version = republished(store, change % 3 + 1)
            until = time.monotonic() + 20
            while versions[-1:] != [version.number] and time.monotonic() < until:
                time.sleep(0.01)
        stop.set()
        for thread in threads:
            thread.join()
    assert faults == []
    assert set(range(4, 12)) <= set(versions)


def waits_for(client, version, field="version"):
    until = time.monotonic() + 20
    while (content := client.get("/health").json())[field] != version:
        assert time.monotonic() < until, content
        time.sleep(0.02)
    return content


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
        content = waits_for(client, "degraded", "status")
        assert content["version"] == 3
        assert str(own_store) not in json.dumps(content)
        assert client.get("/search", params={"id": 3}).status_code == 200
        assert "remine_version_faults_total 1" in client.get("/metrics").text
        republished(store, 2)
        assert waits_for(client, 5)["status"] == "ok"
