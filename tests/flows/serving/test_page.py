"""The page in a real browser against a real server."""

import dataclasses
import os
import re
import shutil
import threading
import time
from contextlib import contextmanager
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uvicorn
from starlette.testclient import TestClient

from remine.data.store.store import Store
from remine.flows.config.settings import load_config
from remine.flows.cycle.cycle import prepared, run_cycle
from remine.flows.jobs.console import Console
from remine.flows.jobs.job import run_plain
from remine.flows.serving.app import make_app
from remine.flows.serving.limits import Limits

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
HOSTILE = '<img src=x onerror="window.hacked=1">'
# Where a browser is required, its absence is a failure of the fixture below rather than a skip.
IS_REQUIRED = os.environ.get("REMINE_REQUIRE_BROWSER") == "1"
needs_browser = pytest.mark.skipif(
    not CHROMIUM and not IS_REQUIRED,
    reason="the page is not tested without a browser: apt-get install chromium",
)


@contextmanager
def serving(store, limits=None):
    """The address of a server over the store, in a thread."""
    config = uvicorn.Config(
        make_app(store, limits, every=0.1), port=0, log_level="warning", lifespan="on"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    until = time.monotonic() + 20
    while not server.started and time.monotonic() < until:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM:
        pytest.fail("REMINE_REQUIRE_BROWSER is 1, and no Chromium is on the PATH")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def store(cycle_store, tmp_path_factory):
    root = tmp_path_factory.mktemp("page") / "store"
    return Store(shutil.copytree(cycle_store, root, symlinks=True))


@pytest.fixture(scope="module")
def home(store):
    with serving(store) as address:
        yield address


@contextmanager
def opened(browser, address, path="", **options):
    """A page that may only send requests to its own server, and must not raise errors."""
    context = browser.new_context(**options)
    elsewhere, faults = [], []

    def route(route):
        if route.request.url.startswith((address, "blob:", "data:")):
            route.continue_()
        else:
            elsewhere.append(route.request.url)
            route.abort()

    context.route("**/*", route)
    page = context.new_page()
    page.set_default_timeout(10_000)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "console",
        lambda said: faults.append(said.text) if "Content Security" in said.text else None,
    )
    page.goto(f"{address}/{path}")
    yield page
    context.close()
    assert elsewhere == []
    assert faults == []


def get_json(address, path, **params):
    import httpx2

    answer = httpx2.get(f"{address}/{path}", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def tiles(page):
    page.wait_for_selector("#neighbours .tile")
    return [
        int(x)
        for x in page.eval_on_selector_all(
            "#neighbours .tile", "all => all.map(one => one.dataset.id)"
        )
    ]


@needs_browser
def test_search_by_upload_then_walk_and_back(browser, home, glyphs, tmp_path):
    picture = tmp_path / "drawn.png"
    picture.write_bytes(pq.read_table(glyphs)["image"][5].as_py())
    with opened(browser, home) as page:
        page.set_input_files("#file", picture)
        first = tiles(page)
        assert first[0] == 5
        assert page.inner_text("h1") == "Your picture"
        page.click("#neighbours .tile >> nth=2")
        page.wait_for_selector(f"h1:text-is('Item {first[2]}')")
        neighbours = get_json(home, "search", id=first[2], k=24)["neighbours"]
        assert tiles(page) == [one["id"] for one in neighbours]
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        page.wait_for_selector(f"h1:text-is('Item {neighbours[1]['id']}')")
        assert page.locator(".crumbs a").count() == 2
        page.go_back()
        page.wait_for_selector(f"h1:text-is('Item {first[2]}')")
        page.click(".crumbs a >> nth=0")
        page.wait_for_selector("h1:text-is('Your picture')")
        assert tiles(page) == first


@needs_browser
def test_filters_are_in_the_address(browser, home):
    with opened(browser, home, "#/search?id=3&k=5") as page:
        assert len(tiles(page)) == 5
        page.select_option("select[name=split]", "test")
        page.wait_for_url(re.compile("split=test"))
        neighbours = get_json(home, "search", id=3, k=5, split="test")["neighbours"]
        ids = [neighbour["id"] for neighbour in neighbours]
        # Not one tile alone: it may be among the unfiltered answers, which are still shown.
        page.wait_for_function(
            "ids => ids == Array.from("
            "document.querySelectorAll('#neighbours .tile'), tile => tile.dataset.id)",
            arg=",".join(map(str, ids)),
        )
        assert tiles(page) == ids
        page.click("summary:text('What was searched')")
        assert "The filter kept" in page.inner_text(".explain")
        page.fill("input[name=label]", "no such label")
        page.keyboard.press("Enter")
        page.wait_for_selector(".fault")
        assert "No label" in page.inner_text(".fault")


@needs_browser
def test_unknown_queries_are_named(browser, home):
    answers = [get_json(home, "search", id=item, k=5, reject=0.5) for item in range(40)]
    unknown = next(answer for answer in answers if answer["unknown"])
    known = next(answer for answer in answers if not answer["unknown"])
    with opened(browser, home, f"#/search?id={unknown['query']['id']}&k=5") as page:
        assert len(tiles(page)) == 5
        assert page.locator("#unknown").count() == 0
        page.fill("input[name=reject]", "0.5")
        page.keyboard.press("Enter")
        page.wait_for_selector("#unknown")
        text = page.inner_text("#unknown")
        nearest = unknown["neighbours"][0]["distance"]
        assert f"at {nearest:.4f}, beyond the limit {unknown['limit']:.4f}" in text
        page.goto(f"{home}/#/search?id={known['query']['id']}&k=5&reject=0.5")
        page.wait_for_selector(f"h1:text-is('Item {known['query']['id']}')")
        assert page.locator("#unknown").count() == 0


@needs_browser
def test_suspects_name_their_judge(browser, home):
    with opened(browser, home, "#/suspects") as page:
        page.wait_for_selector("#judge")
        judge = get_json(home, "suspects")["judge"]
        assert page.inner_text("#judge").startswith("Judged by ")
        assert judge["reason"] in page.inner_text("#judge")


@needs_browser
def test_triplets_are_filtered_sorted_paged_and_explained(browser, home):
    with opened(browser, home, "#/triplets") as page:
        page.wait_for_selector("tr.triplet")
        page.select_option("select[name=kind]", "hard")
        page.wait_for_url(re.compile("kind=hard"))
        page.click("th a:text('d_an')  >> nth=0")
        page.wait_for_selector("th[aria-sort=ascending]")
        page.click("[data-page=n]")
        page.wait_for_selector(".pages :text('26 to 50')")
        expected = get_json(home, "triplets", kind="hard", sort="d_an", offset=25, limit=25)[
            "triplets"
        ]
        rows = page.locator("tr.triplet")
        assert rows.count() == 25
        for place in (0, 24):
            messages = rows.nth(place).inner_text()
            for name in ("anchor_id", "positive_id", "negative_id"):
                assert f"#{expected[place][name]}" in messages
            assert f"{expected[place]['d_an']:.3f}" in messages
        assert "--kind hard" in page.inner_text("pre")
        page.click("tr.triplet button >> nth=0")
        page.wait_for_selector(".because .strip .tile.this")
        rank = expected[0]["negative_rank"]
        messages = page.inner_text(".because ul")
        assert "That makes it hard" in messages
        assert ("No other negative" if rank == 0 else str(rank)) in messages
        with page.expect_download() as download:
            page.click("#download")
        lines = download.value.path().read_text().splitlines()
        assert lines[0].startswith("anchor_id,positive_id,negative_id,d_ap,d_an,kind")
        assert lines[26].startswith(f"{expected[0]['anchor_id']},{expected[0]['positive_id']},")
        assert len(lines) == 1 + get_json(home, "triplets", kind="hard")["total"]


@needs_browser
def test_every_view_opens_by_keyboard(browser, home):
    with opened(browser, home, color_scheme="dark") as page:
        page.wait_for_selector(".welcome .tile")
        light = "getComputedStyle(document.body).backgroundColor"
        assert max(map(int, re.findall(r"\d+", page.evaluate(light)))) < 60
        page.keyboard.press("d")
        assert min(map(int, re.findall(r"\d+", page.evaluate(light)))) > 200
        for letter, page_text in (
            ("t", "tr.triplet"), ("r", ".chart rect"), ("c", ".chart rect"),
            ("m", "canvas.plane"), ("u", ".suspects h1"), ("i", "dl.facts"),
        ):  # fmt: skip
            page.keyboard.press("g")
            page.keyboard.press(letter)
            page.wait_for_selector(page_text, state="attached")
            assert page.locator("#nav a[aria-current]").count() == 1
        page.keyboard.press("?")
        page.wait_for_selector("dialog[open]")
        page.keyboard.press("Escape")
        page.keyboard.press("/")
        page.wait_for_selector("#q:focus")


@needs_browser
def test_the_map_leads_to_a_search(browser, home):
    with opened(browser, home, "#/map") as page:
        page.wait_for_selector("canvas.plane")
        plane = get_json(home, "map", items=2000)
        box = page.locator("canvas.plane").bounding_box()
        side = min(box["width"], box["height"]) / 2 - 16
        farthest = int(np.argmax(np.abs(plane["x"])))
        at = (
            box["x"] + box["width"] / 2 + plane["x"][farthest] * side,
            box["y"] + box["height"] / 2 - plane["y"][farthest] * side,
        )
        page.mouse.move(*at)
        page.wait_for_selector(f".tip :text('#{plane['ids'][farthest]}')")
        page.mouse.click(*at)
        page.wait_for_selector(f"h1:text-is('Item {plane['ids'][farthest]}')")


@needs_browser
def test_a_new_version_is_announced_and_shown(browser, cycle_store, tmp_path):
    # A store of its own: the other tests want triplets, and version 1 has none.
    store = Store(shutil.copytree(cycle_store, tmp_path / "store", symlinks=True))
    with serving(store) as home, opened(browser, home, "#/search?id=3") as page:
        before = tiles(page)
        page.wait_for_selector("#served:text('version 3')")
        current = store.current()
        version = dataclasses.replace(
            store.version(1), number=current.number + 1, parent=current.digest
        )
        store.publish(version)
        page.wait_for_selector(f".news:text('Version {version.number}')")
        expected_ids = [one["id"] for one in get_json(home, "search", id=3, k=24)["neighbours"]]
        assert expected_ids != before
        page.wait_for_selector(f"#neighbours > :nth-child(1) [data-id='{expected_ids[0]}']")
        assert tiles(page) == expected_ids


@pytest.fixture(scope="module")
def hostile(small_config, tmp_path_factory):
    """A store of texts and labels that are HTML."""
    folder = tmp_path_factory.mktemp("hostile")
    labels = [f"{HOSTILE}{place % 6}" for place in range(60)]
    texts = [f"{HOSTILE} text {place} of class {place % 6}" for place in range(60)]
    splits = [("train", "train", "train", "test")[place % 4] for place in range(60)]
    table = pa.table({"id": list(range(60)), "label": labels, "text": texts, "split": splits})
    pq.write_table(table, folder / "items.parquet")
    config = folder / "remine.toml"
    config.write_text(re.sub(r'source = ".*"', 'source = "items.parquet"', small_config))
    settings = load_config(config, ["run.rounds=1"])
    with prepared(settings, run_plain, Console(quiet=True)) as inputs:
        run_cycle(*inputs)
    return Store(settings.store)


@needs_browser
def test_texts_and_labels_stay_text(browser, hostile):
    with serving(hostile, Limits(token="a b;c")) as address, opened(browser, address) as page:
        page.wait_for_selector("#token")
        page.fill("#token", "wrong")
        page.click("button:text('Sign in')")
        page.wait_for_selector(":text('This is not the token')")
        page.fill("#token", "a b;c")
        page.click("button:text('Sign in')")
        page.wait_for_selector(".welcome .tile")
        page.fill("#q", f"{HOSTILE} text 7")
        page.keyboard.press("Enter")
        tiles(page)
        assert HOSTILE in page.inner_text(".query")
        assert HOSTILE in page.inner_text("#neighbours")
        for view, page_text in (
            ("triplets", "tr.triplet"), ("rounds", ".tile .words"), ("suspects", ".suspects h1"),
            ("map", "canvas"),
        ):  # fmt: skip
            page.goto(f"{address}/#/{view}")
            page.wait_for_selector(page_text)
        page.goto(f"{address}/#/triplets")
        page.click("tr.triplet button >> nth=0")
        page.wait_for_selector(".because .tile")
        page.wait_for_timeout(100)
        assert page.evaluate("window.hacked") is None
        assert page.locator("img[src=x]").count() == 0
        assert page.evaluate("document.cookie") == ""


def test_the_page_needs_no_token_but_its_data_does(cycle_store):
    with TestClient(make_app(Store(cycle_store), Limits(token="s3cret"))) as client:
        index_page = client.get("/")
        assert index_page.status_code == 200
        assert "'unsafe" not in index_page.headers["content-security-policy"]
        for name in re.findall(r'(?:src|href)="(page/[^"]+)"', index_page.text):
            answer = client.get(f"/{name}")
            assert answer.status_code == 200
            tag = {"if-none-match": answer.headers["etag"]}
            assert client.get(f"/{name}", headers=tag).status_code == 304
        for path in ("/page/", "/page/../app.py", "/page/%2e%2e/app.py", "/page/none.js"):
            assert client.get(path).status_code in (401, 404)
        assert client.post("/session").status_code == 401
        bearer = {"authorization": "Bearer s3cret"}
        cookie = client.post("/session", headers=bearer).headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert client.get("/index").status_code == 200
        client.delete("/session")
        assert client.get("/index").status_code == 401


def test_no_script_parses_html():
    from remine.flows.serving.routes.page import FILES

    for name, (content, _, _) in FILES.items():
        words = (
            "innerHTML|outerHTML|insertAdjacentHTML|document\\.write|eval\\(|https?://(?!www.w3)"
        )
        assert not re.search(words, content.decode()), name
        assert content.count(b"\n") <= 300, name


@needs_browser
def test_items_with_text_ids(browser, keyed_store, keys):
    with serving(Store(keyed_store)) as address, opened(browser, address) as page:
        page.fill("#q", keys(41))
        page.press("#q", "Enter")
        page.wait_for_selector("#neighbours .tile")
        assert page.inner_text("h1") == f"Item {keys(41)}"
        (nearest,) = get_json(address, "search", id=keys(41), k=1)["neighbours"]
        item = get_json(address, f"items/{quote(keys(41), safe='')}")["item"]
        assert item["id"] == keys(41)
        first = page.locator("#neighbours .tile").first
        assert first.get_attribute("data-id") == nearest["id"]
        page.wait_for_function(
            "[...document.querySelectorAll('img.face')].some((i) => i.naturalWidth)"
        )
        first.click()
        page.wait_for_function(
            "(id) => document.querySelector('h1').innerText.endsWith(id)", arg=nearest["id"]
        )
        page.click("text=Its triplets")
        page.wait_for_selector("tr.triplet")
        ids = page.eval_on_selector_all("td.who .soft", "all => all.map((one) => one.innerText)")
        assert f"#{nearest['id']}" in ids
        page.click("tr.triplet button")
        page.wait_for_selector(".because .strip .tile")
        page.goto(f"{address}/#/map?id={keys(41)}".replace("#1", "%231"))
        page.wait_for_selector("canvas.plane")
