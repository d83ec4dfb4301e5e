"""Growing data: only what is new is decoded and embedded, and nothing deleted stays behind."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from remine.data import schemas
from remine.data.errors import InputError
from remine.data.items import inputs as decoding
from remine.data.items.catalogue import read_catalogue
from remine.data.items.inputs import Inputs
from remine.data.store.records import Artifact, Version
from remine.data.store.store import Store
from remine.data.types import Embeddings
from remine.flows.config.settings import load_config
from remine.flows.cycle.cycle import call_plain, prepared, run_cycle
from remine.flows.jobs.console import Console
from remine.flows.jobs.job import run_plain
from remine.flows.stages import embed, index
from remine.flows.stages.shard import put_table
from remine.index.build import IndexCard
from remine.index.search import Searcher

ONE = "run.rounds=1"


class StruckError(Exception):
    """Stands for a kill."""


def cycle(config_file: Path, call: Any = call_plain, *overrides: str) -> Version:
    config = load_config(config_file, overrides)
    with prepared(config, run_plain, Console(quiet=True)) as (run, items, inputs):
        return run_cycle(run, items, inputs, call)


def mined(version: Version) -> list[Artifact]:
    return [a for name, a in sorted(version.artifacts.items()) if name.startswith("triplets/")]


@pytest.fixture
def items(config_file: Path, glyphs: Path) -> pa.Table:
    """The glyphs, which the config now reads from a file beside it."""
    config_file.write_text(config_file.read_text().replace(str(glyphs), "items.parquet"))
    table = pq.read_table(glyphs)
    save(config_file, table)
    return table


def save(config_file: Path, table: pa.Table) -> None:
    pq.write_table(table, config_file.parent / "items.parquet")


def store_of(config_file: Path) -> Store:
    return Store(config_file.parent / "store")


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every content that is decoded from now on."""
    calls: list[Any] = []

    def count(name: str) -> None:
        real = getattr(decoding, name)

        def counted(content: Any) -> Any:
            calls.append(content)
            return real(content)

        monkeypatch.setattr(decoding, name, counted)

    for name in ("open_image", "decode_image"):
        count(name)
    return calls


@pytest.fixture
def encodings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many items each call of the encoder got, in the embedding stage."""
    calls: list[int] = []
    real = embed.embed_rows

    def counted(encoder: Any, inputs: Any, rows: Any, *rest: Any) -> Any:
        calls.append(len(rows))
        return real(encoder, inputs, rows, *rest)

    monkeypatch.setattr(embed, "embed_rows", counted)
    return calls


def edited(table: pa.Table) -> pa.Table:
    """Three deleted (one in each shard and the first), two changed, one relabelled, four new."""
    rows = table.to_pylist()
    rows[10]["image"], rows[11]["image"] = rows[700]["image"], rows[701]["image"]
    rows[20]["label"] = rows[800]["label"]
    last = rows[-1]["id"]
    new = [{**rows[i], "id": last + 5 + i, "image": rows[i + 300]["image"]} for i in range(4)]
    remainder = [row for i, row in enumerate(rows) if i not in (0, 300, 600)]
    return pa.Table.from_pylist(remainder + new, schema=table.schema)


def test_only_new_and_changed_items_are_decoded_and_embedded(
    config_file, items, decodings, encodings, capsys
):
    cycle(config_file, call_plain, ONE)
    complete = len(items)
    decodings.clear()
    encodings.clear()
    save(config_file, edited(items))
    config = load_config(config_file, [ONE])
    with prepared(config, run_plain, Console()) as (run, result, inputs):
        assert "items: 4 new, 3 changed, 3 deleted, 815 as before" in capsys.readouterr().err
        change = {"new": 4, "changed": 3, "deleted": 3, "same": complete - 6}
        assert {k: result.card["change"][k] for k in change} == change
        # The first picture of a shard is looked at for its size, and then decoded.
        assert 6 <= len(decodings) <= 8
        version = run_cycle(run, result, inputs)
    assert sum(encodings) == 6 + len(items) + 1  # the second round has other weights
    fresh = config_file.parent / "fresh.toml"
    fresh.write_text(config_file.read_text().replace('"store"', '"fresh"'))
    assert_alike(config_file, version, fresh)


def assert_alike(config_file: Path, version: Version, fresh: Path) -> None:
    """The first round of `version` holds what a new store holds of the same source."""
    store = store_of(config_file)
    first = next(v for v in store.versions() if (v.cycle, v.round) == (version.cycle, 0))
    with prepared(load_config(fresh, [ONE]), run_plain, Console(quiet=True)) as (run, who, kind):
        inputs, growth = (
            read_catalogue(run.store, who),
            read_catalogue(store, first.artifacts["items"]),
        )
        np.testing.assert_array_equal(inputs.ids, growth.ids)
        np.testing.assert_array_equal(inputs.splits, growth.splits)
        names = [[c.labels[code] for code in c.label_codes] for c in (inputs, growth)]
        assert names[0] == names[1]
        old = Inputs(store.paths(first.artifacts["inputs"]))
        every = np.arange(len(inputs.ids))
        np.testing.assert_array_equal(Inputs(run.store.paths(kind))[every], old[every])
        checkpoint = first.artifacts["checkpoint"]
        for file in checkpoint.files:
            with run.store.temporary() as temp:
                temp.write_bytes(store.path(file).read_bytes())
                run.store.put(temp, name=file.name)
        vectors = embed.embed(run, checkpoint, who, kind)
        repetition = schemas.read_embeddings(run.store.paths(vectors))
    remainder = schemas.read_embeddings(store.paths(first.artifacts["embeddings"]))
    np.testing.assert_array_equal(remainder.label_codes, growth.label_codes)
    np.testing.assert_allclose(remainder.vectors, repetition.vectors, atol=2e-6)


def test_nothing_deleted_is_mined_or_found(config_file, items):
    cycle(config_file, call_plain, ONE)
    label = items["label"][0].as_py()
    missing = [i for i, row in enumerate(items["label"].to_pylist()) if row == label or i % 9 == 0]
    remainder = items.take(np.setdiff1d(np.arange(len(items)), missing))
    save(config_file, remainder)
    version = cycle(config_file, call_plain, ONE)
    deleted = set(items["id"].to_numpy()[missing].tolist())
    store = store_of(config_file)
    for artifact in mined(version):
        result = schemas.triplets_from(schemas.read(store.paths(artifact), schema="triplets/1"))
        for ids in (result.anchor_id, result.positive_id, result.negative_id):
            assert not deleted & set(ids.tolist())
    rounds = [v for v in store.versions() if v.cycle == version.cycle]
    # The first has the model of before, so the index is brought up to date.
    assert ["update" in v.artifacts["index"].card for v in rounds] == [False, True]
    update = rounds[1].artifacts["index"].card["update"]
    assert (update["base"], update["since"], update["added"]) == (2, 2, 0)
    assert update["removed"] == update["moved"] == len(missing)
    for one in rounds:
        index = one.artifacts["index"]
        searcher = Searcher(store.path(index.files[0]), IndexCard.from_json(index.card))
        vectors = schemas.read_embeddings(store.paths(one.artifacts["embeddings"]))
        neighbours, _ = searcher.search(vectors.vectors, len(remainder))
        assert set(neighbours.ids.reshape(-1).tolist()) == set(remainder["id"].to_pylist())
    assert label not in read_catalogue(store, version.artifacts["items"]).labels


def test_a_source_that_is_written_again_with_the_same_items_is_the_same(
    config_file, items, decodings
):
    first = cycle(config_file, call_plain, ONE)
    decodings.clear()
    order = np.random.default_rng(0).permutation(len(items))
    save(config_file, items.take(order))
    second = cycle(config_file, call_plain, ONE)
    assert not decodings
    for name in ("items", "inputs"):
        assert second.artifacts[name] == first.artifacts[name]


@pytest.mark.parametrize("strike", [0, 1, 4])
def test_a_strike_in_a_grown_cycle_changes_nothing(config_file, items, strike):
    ends = []
    for struck in (False, True):
        for remainder in config_file.parent.glob("store"):
            remainder.rename(remainder.with_name("other"))
        save(config_file, items)
        cycle(config_file, call_plain, ONE)
        save(config_file, edited(items))
        if struck:
            with pytest.raises(StruckError):
                cycle(config_file, strike_after(strike), ONE)
        ends.append(cycle(config_file, call_plain, ONE).digest)
    assert ends[0] == ends[1]


def strike_after(calls: int) -> Callable[..., Any]:
    remainder = [calls]

    def call(stage: Any, *args: Any) -> Any:
        artifact = stage(*args)
        remainder[0] -= 1
        if remainder[0] < 0:
            raise StruckError
        return artifact

    return call


def test_items_without_ids_are_known_by_content(config_file, items, decodings, encodings):
    bare = items.drop_columns(["id"])
    save(config_file, bare)
    first = cycle(config_file, call_plain, ONE)
    store = store_of(config_file)
    ids = named(store, first)
    rows = bare.to_pylist()
    new = {**rows[5], "image": picture_of(rows[5]["image"])}
    decodings.clear()
    encodings.clear()
    # A new row in front, the last one gone: by row every item would be another.
    save(config_file, pa.Table.from_pylist([new, *rows[:-1]], schema=bare.schema))
    second = cycle(config_file, call_plain, ONE)
    assert len(decodings) <= 2
    assert encodings[0] == 1
    # What lies in shards without a change is not written again either.
    begun = next(v for v in store.versions() if (v.cycle, v.round) == (2, 0))
    vectors = [[f.sha256 for f in v.artifacts["embeddings"].files] for v in (first, begun)]
    assert vectors[0][:-1] == vectors[1][:-1]
    assert vectors[0][-1] != vectors[1][-1]
    update = begun.artifacts["index"].card["update"]
    assert (update["added"], update["removed"]) == (1, 1)
    after = named(store, second)
    fresh = len(bare)
    assert after.pop(fresh)[0] == new["image"]
    missing = ids.pop(len(bare) - 1)
    assert after == ids
    # The deleted one comes back under a number that was never given.
    save(config_file, pa.Table.from_pylist([new, *rows], schema=bare.schema))
    third = named(store, cycle(config_file, call_plain, ONE))
    assert third[fresh + 1] == missing
    assert len(bare) - 1 not in third
    # Nor is the highest number, when it went and others came since.
    save(config_file, pa.Table.from_pylist(rows[:-1], schema=bare.schema))
    cycle(config_file, call_plain, ONE)
    save(config_file, pa.Table.from_pylist([new, *rows[:-1]], schema=bare.schema))
    fourth = named(store, cycle(config_file, call_plain, ONE))
    assert fourth[fresh + 2][0] == new["image"]


def named(store: Store, version: Version) -> dict[int, tuple[bytes, str]]:
    """Content and label by id."""
    shards = store.paths(version.artifacts["items"])[:-1]
    table = schemas.read(shards, schema="items/1", columns=["id", "image", "label"])
    columns = (table[name].to_pylist() for name in ("id", "image", "label"))
    return {number: (image, label) for number, image, label in zip(*columns, strict=True)}


def picture_of(other: bytes) -> bytes:
    """A picture that no item is, of the size of another."""
    import io

    from PIL import Image, ImageOps

    buffer = io.BytesIO()
    with Image.open(io.BytesIO(other)) as image:
        ImageOps.invert(image.convert("L")).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("left", "message"),
    [
        ("one class", "0 of 1 classes are for training|no training class|no test classes"),
        ("singles", "no (training|test) class has two items"),
        ("none", "holds no items"),
    ],
)
def test_a_dataset_that_shrinks_too_far_is_refused_and_nothing_moves(
    config_file, items, left, message
):
    server_version = cycle(config_file, call_plain, ONE)
    store = store_of(config_file)
    before = sorted(path for path in store.root.rglob("*") if path.name != "lock")
    labels = np.array(items["label"].to_pylist())
    keep = {
        "one class": np.flatnonzero(labels == labels[0]),
        "singles": np.unique(labels, return_index=True)[1],
        "none": np.arange(0),
    }[left]
    save(config_file, items.take(np.sort(keep)))
    with pytest.raises(InputError, match=message) as refusal:
        cycle(config_file, call_plain, ONE)
    assert "\n" not in str(refusal.value)
    assert sorted(path for path in store.root.rglob("*") if path.name != "lock") == before
    assert store.current().digest == server_version.digest


def test_an_index_of_which_too_much_moved_is_built_anew(config_file, items):
    cycle(config_file, call_plain, ONE)
    save(config_file, items.take(np.flatnonzero(np.arange(len(items)) % 5 > 1)))
    version = cycle(config_file, call_plain, ONE)
    first = next(v for v in store_of(config_file).versions() if (v.cycle, v.round) == (2, 0))
    assert "of the items were added or removed since" in first.artifacts["index"].card["rebuilt"]
    assert "update" not in first.artifacts["index"].card
    assert version.cycle == 2


def test_an_index_that_answers_worse_is_built_anew(config_file):
    """In 16 tight clusters one list answers; then strangers lie between them."""
    draw = np.random.default_rng(0)
    n, centres = 2000, 10 * draw.standard_normal((16, 8))
    vectors = (centres[np.arange(n) % 16] + draw.standard_normal((n, 8))).astype(np.float32)
    config = load_config(config_file, ['index.factory="IVF16,Flat"', "index.recall=0.9"])
    with prepared(config, run_plain, Console(quiet=True)) as (run, _items, _inputs):
        before = embedded(run, vectors)
        built = index.build(run, before)
        base: Any = SimpleNamespace(number=1, artifacts={"embeddings": before, "index": built})
        changes = draw.choice(n, n // 10, replace=False)
        for spread, text in ((1, "update"), (10, "rebuilt")):
            now = vectors.copy()
            around = centres[changes % 16] if text == "update" else 0
            now[changes] = around + spread * draw.standard_normal((len(changes), 8))
            card = index.build(run, embedded(run, now), base).card
            assert ("update" in card, "rebuilt" in card) == (text == "update", text == "rebuilt")
    assert "its recall fell by 0." in card["rebuilt"]


def embedded(run: Any, vectors: np.ndarray) -> Artifact:
    """`vectors` as what the embedding stage leaves."""
    n = len(vectors)
    complete = Embeddings(ids=np.arange(n), label_codes=np.zeros(n, np.int32), vectors=vectors)
    table = schemas.embeddings_table(complete)
    output = put_table(run.store, table, "embeddings", 0, {})
    return replace(output, card={"checkpoint": "c", "recipe": "one"})
