"""Encoders from elsewhere in a whole cycle: features once, only the head kept, whole searches."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from remine.data.errors import InputError, StoreError
from remine.data.items.catalogue import read_catalogue
from remine.data.items.inputs import Inputs
from remine.data.store.records import Version
from remine.data.store.store import Store
from remine.flows.compare.evaluation import embeddings_of
from remine.flows.config.settings import load_config
from remine.flows.cycle.cycle import prepared, run_cycle
from remine.flows.jobs.console import Console
from remine.flows.jobs.job import run_plain
from remine.flows.jobs.run_context import Run
from remine.flows.query.questions import Question, queries_of
from remine.flows.query.snapshot import SearchOptions, Snapshot
from remine.flows.stages.encoder import load_checkpoint
from remine.flows.stages.evaluate import TEST
from remine.flows.stages.split import read_split
from remine.train.encoders.heads import principal_components

NETS = """
from pathlib import Path
import numpy as np
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(256, 12)

    def forward(self, pictures):
        with Path(__file__).with_name("calls").open("a") as file:
            file.write(f"{len(pictures)}\\n")
        return self.layer(pictures.float().flatten(1) / 255)

def build():
    return Net()

class Flat(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(12))

    def forward(self, pictures):
        return self.weight.expand(len(pictures), 12)

def flat():
    return Flat()

def smaller():
    def transform(pictures):
        return np.stack([np.asarray(p.resize((8, 8)), np.float32)[None] / 255 for p in pictures])
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12)), transform
"""
PK = ("train.batches=pk", "train.batch=8", "train.per_class=4")
FROZEN = ("encoder.name=nets:build", "encoder.frozen=true", "encoder.dimensions=0")


def cycle(config_file: Path, *overrides: str):
    config = load_config(config_file, overrides)
    with prepared(config, run_plain, Console(quiet=True)) as (run, items, inputs):
        return Store(config.store), run_cycle(run, items, inputs)


def nearest(store: Store, version: Version, question: Question, base: Path):
    """The id, the label and the distance of the nearest item."""
    snapshot = Snapshot(store, version, base)
    (queries,) = queries_of(snapshot, question)
    result = snapshot.search(queries, SearchOptions(k=1))
    row = result.rows[0, 0]
    return snapshot.catalogue.ids[row], snapshot.label_of(row), result.distances[0, 0]


@pytest.fixture
def nets(config_file):
    # A source of its own: one that was loaded before from elsewhere would be taken from memory.
    (config_file.parent / "nets.py").write_text(f"# {config_file.parent}\n{NETS}")
    return config_file


def rows_seen(nets):
    """How many pictures went through the backbone, but for the two that find out its shape."""
    calls = (nets.parent / "calls").read_text().split()
    return sum(int(m) for m in calls if int(m) > 2)


def test_a_frozen_backbone_sees_each_item_once(nets):
    store, version = cycle(nets, *FROZEN)
    items = version.artifacts["items"].rows
    assert rows_seen(nets) == items
    remainder = version.artifacts["features"]
    assert (remainder.kind, remainder.rows, remainder.card["shape"]) == ("features", items, [12])
    # Another round, another head: the same features.
    cycle(nets, *FROZEN)
    cycle(nets, *FROZEN, "encoder.head=mlp")
    assert rows_seen(nets) == items
    checkpoint = version.artifacts["checkpoint"]
    assert checkpoint.files[0].bytes < 12 * 12 * 4 + 200
    card = checkpoint.card["encoder"]
    assert card["name"] == "nets:build"
    assert set(card["backbone"]) == {"dimensions", "source", "weights"}
    # The embeddings are those of the whole encoder on the pictures.
    complete = load_checkpoint(store, checkpoint, nets.parent)
    pictures = Inputs(store.paths(version.artifacts["inputs"]))[np.arange(40)]
    with torch.no_grad():
        vectors = complete(torch.from_numpy(pictures)).numpy()
    table = pq.read_table(store.paths(version.artifacts["embeddings"])[0])
    store_rows = np.stack(table["vector"].to_numpy()[:40])
    np.testing.assert_allclose(vectors, store_rows, atol=1e-5)
    # So are those that a comparison makes for itself.
    run = Run(config=load_config(nets, FROZEN), store=store, execute=run_plain)
    result, inputs = read_catalogue(store, version.artifacts["items"]), version.artifacts["inputs"]
    output = embeddings_of(run, checkpoint, result, inputs, "test")
    test = read_split(store, version.artifacts["embeddings"], version.artifacts["items"], TEST)
    np.testing.assert_array_equal(output.ids, test.ids)
    np.testing.assert_allclose(output.vectors, test.vectors, atol=1e-6)
    assert rows_seen(nets) == items + 40


def test_a_frozen_backbone_sees_only_what_is_new(nets, glyphs):
    table = pq.read_table(glyphs)
    nets.write_text(nets.read_text().replace(str(glyphs), "items.parquet"))
    pq.write_table(table, nets.parent / "items.parquet")
    cycle(nets, *FROZEN)
    rows = table.to_pylist()
    for place in range(10, 16):
        rows[place]["image"] = rows[place + 500]["image"]
    pq.write_table(pa.Table.from_pylist(rows[1:], table.schema), nets.parent / "items.parquet")
    store, version = cycle(nets, *FROZEN)
    assert rows_seen(nets) == len(table) + 6
    old, new = (store.version(n).artifacts["features"] for n in (1, version.number))
    before, after = (Inputs(store.paths(one)) for one in (old, new))
    matches = np.setdiff1d(np.arange(1, len(table)), np.arange(10, 16))
    np.testing.assert_array_equal(after[matches - 1], before[matches])
    changes = np.arange(10, 16)
    np.testing.assert_allclose(after[changes - 1], before[changes + 500], atol=1e-5)
    assert [file.sha256 for file in new.files[1:]] == [file.sha256 for file in old.files[1:]]


FAST = ("train.learning_rate=0.001", "train.val_every=0")
"""A rate that a few steps show, and weights that are those of the last step."""


def test_training_moves_the_head_of_a_frozen_backbone(nets):
    store, version = cycle(nets, *FROZEN, "train.steps=20", *FAST)
    checkpoint = version.artifacts["checkpoint"]
    head = load_checkpoint(store, checkpoint, nets.parent).body.head.layer.weight
    assert (head - torch.eye(12)).abs().max() > 0.01
    history = json.loads(store.path(checkpoint.files[2]).read_bytes())
    assert np.mean(history["active"]) > 0


def test_searching_goes_through_the_whole_encoder(nets, glyphs):
    store, version = cycle(nets, "encoder.name=nets:smaller", "encoder.frozen=true")
    assert version.artifacts["inputs"].card["shape"] == [1, 8, 8]
    item = pq.read_table(glyphs).slice(7, 1).to_pylist()[0]
    (nets.parent / "seven.png").write_bytes(item["image"])
    question = Question(image=nets.parent / "seven.png")
    number, label, distance = nearest(store, version, question, nets.parent)
    assert (number, label) == (item["id"], item["label"])
    assert distance < 1e-5
    # With other code the stored index would answer wrongly: it is refused.
    (nets.parent / "nets.py").write_text(NETS + "# changed\n")
    with pytest.raises(StoreError, match="its source is not the one of the checkpoint"):
        nearest(store, version, question, nets.parent)


def test_changed_code_starts_from_a_fresh_encoder(nets):
    name = "encoder.name=nets:build"
    _, first = cycle(nets, name)
    (nets.parent / "nets.py").write_text(NETS.replace("/ 255)", "/ 128)"))
    store, second = cycle(nets, name)
    start = next(v for v in store.versions() if (v.cycle, v.round) == (2, 0))
    assert start.artifacts["checkpoint"] != first.artifacts["checkpoint"]
    assert start.artifacts["checkpoint"].card["steps"] == 0
    assert second.artifacts["inputs"] == first.artifacts["inputs"]


def test_an_encoder_that_tells_nothing_apart_is_never_published(nets):
    store, sound = cycle(nets, "encoder.name=nets:build")
    with pytest.raises(InputError, match="gives all items nearly the same embedding"):
        cycle(nets, "encoder.name=nets:flat")
    assert store.current().digest == sound.digest


def test_a_network_of_ones_own_is_trained_whole_in_bfloat16_and_augmented(nets):
    # Six steps from random weights on random features: how they spread says nothing yet.
    extra = ("encoder.dimensions=5", "augment.shift=0.1", "train.precision=bf16", "health.every=0")
    store, version = cycle(nets, "encoder.name=nets:build", *extra, *FAST)
    checkpoint = version.artifacts["checkpoint"]
    first = next(v for v in store.versions() if v.round == 0).artifacts["checkpoint"]
    before, after = (
        load_checkpoint(store, c, nets.parent).body.backbone.layer.weight
        for c in (first, checkpoint)
    )
    assert (before - after).abs().max() > 1e-3
    assert version.artifacts["index"].card["dimensions"] == 5


def test_texts_through_minilm(config_file):
    rng = np.random.default_rng(0)
    subjects = ["my card", "the weather", "a train to Rome", "the piano", "tax", "two cats"]
    texts = [f"question {rng.integers(99)} about {s}" for s in subjects for _ in range(6)]
    table = {
        "text": texts,
        "label": np.repeat(subjects, 6),
        "split": ["train"] * 24 + ["test"] * 12,
    }
    pq.write_table(pa.table(table), config_file.parent / "texts.parquet")
    settings = ("data.source=texts.parquet", "encoder.name=minilm", "encoder.frozen=true")
    store, version = cycle(config_file, *settings, "encoder.dimensions=0", *PK)
    assert version.artifacts["checkpoint"].files[0].bytes < 384 * 384 * 4 + 200
    _, label, _ = nearest(store, version, Question(text="feline animals"), config_file.parent)
    assert label == "two cats"
    with pytest.raises(InputError, match="and of each text the encoder reads int32"):
        cycle(config_file, *settings[:2], "augment.shift=0.1")


def test_augmentation_of_kept_features_is_refused(config_file):
    with pytest.raises(InputError, match="a step uses features that were computed once"):
        load_config(config_file, [*FROZEN, "augment.rotate=5"])


def test_a_head_into_fewer_dimensions_starts_as_the_components_of_the_training_features(nets):
    settings = ("encoder.name=nets:smaller", "encoder.frozen=true", "encoder.dimensions=3")
    store, _ = cycle(nets, *settings, *PK)
    start = next(version for version in store.versions() if version.round == 0)
    checkpoint = start.artifacts["checkpoint"]
    weight = load_checkpoint(store, checkpoint, nets.parent).body.head.layer.weight
    splits = read_catalogue(store, start.artifacts["items"]).splits
    features = Inputs(store.paths(start.artifacts["features"]))[np.flatnonzero(splits == 0)]
    expected = principal_components(features, 3)
    np.testing.assert_allclose(weight.detach().numpy(), expected, atol=1e-3)


TWO_ARRAYS = """
import numpy as np
import torch
from torch import nn

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(257, 12)

    def forward(self, inputs):
        pixels = inputs["pixels"].float().flatten(1) / 255
        return self.layer(torch.cat([pixels, inputs["mean"]], dim=1))

def build():
    def transform(pictures):
        pixels = np.stack([np.asarray(picture) for picture in pictures])
        return {"pixels": pixels, "mean": pixels.mean(axis=(1, 2))[:, None] / 255}
    return Two(), transform

def wrong():
    return Two(), lambda pictures: {"a b": np.zeros((len(pictures), 2))}
"""


def test_a_network_of_two_arrays_is_trained_and_searched(nets, glyphs):
    (nets.parent / "two.py").write_text(TWO_ARRAYS)
    store, version = cycle(nets, "encoder.name=two:build", "encoder.dimensions=0", *PK)
    card = version.artifacts["inputs"].card
    assert (card["shape"], card["dtype"]) == ([], "pixels:uint8:16x16,mean:float32:1")
    item = pq.read_table(glyphs).slice(7, 1).to_pylist()[0]
    (nets.parent / "seven.png").write_bytes(item["image"])
    question = Question(image=nets.parent / "seven.png")
    number, _, distance = nearest(store, version, question, nets.parent)
    assert number == item["id"]
    assert distance < 1e-5
    with pytest.raises(InputError, match=r"its transform fails on .*names that are identifiers"):
        cycle(nets, "encoder.name=two:wrong")
