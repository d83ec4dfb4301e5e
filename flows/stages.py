"""The stages of a cycle as plain functions: artifacts in, artifacts out.

Each names its work by a hash of all that goes in (inputs, settings, our own code) and looks in the
store first, so what is done is not done again, and a killed cycle goes on where it stopped. No
Prefect here; Beam only behind `run.execute`.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from data import schemas
from data.errors import InputError, StoreError
from data.inputs import ImageTransform, Inputs, Transform, vector_transform
from data.prepare import catalogue, read_catalogue, stage, staging_folder
from data.sources import Source, open_source
from data.store import Artifact, Store, check_place, digest
from data.types import SPLITS, Embeddings
from flows.config import Config
from flows.console import Console
from flows.features import device, features, load_trained
from flows.jobs import Unit, run_job, units_of
from flows.run import Run, code_hash, put_table
from index.build import build_index, check_factory
from index.embed import embed_rows
from index.metrics import retrieval_metrics
from train.checkpoint import encoder_bytes
from train.design import Design, build_trained, design, transform_key, transform_of, whole
from train.encoders import text_transform

TEST = SPLITS.index("test")


def prepare(config: Config, console: Console) -> tuple[Store, Artifact, Artifact]:
    """Check the data and lay it down: the store, the items and the inputs.

    Nothing is touched before the last row was found sound; the store is made only then.
    """
    source = open_source(config.data, config.base)
    settings = asdict(config.data)
    for elsewhere in ("source", "labels"):
        del settings[elsewhere]
    given = ["prepare", source.fingerprint(), settings, code_hash("data", "train")]
    key = digest(given + transform_key(config.encoder, config.base))
    root = config.store
    if (root / "FORMAT").exists():
        store = Store(root)
        if (items := store.recall(f"{key}-items")) and (inputs := store.recall(f"{key}-inputs")):
            _check_settings(config, source, inputs.card, items.rows)
            return store, items, inputs
    else:
        check_place(root)
    with console.stage("prepare", "items") as bar:
        found = catalogue(source, config.data)
        with _staging(root) as folder:
            transform = _transform(source, config)
            rows = config.data.unit_rows
            staged = stage(source, found, transform, folder, rows, bar.update)
            _check_settings(config, source, staged.inputs_card, len(found.ids))
            store = Store(root, create=True)
            items, inputs = staged.commit(store)
    store.remember(f"{key}-items", items)
    return store, items, store.remember(f"{key}-inputs", inputs)


@contextmanager
def _staging(root: Path) -> Iterator[Path]:
    """A staging folder on the disk of the store, which may be another than its parent's."""
    root = root.resolve()
    if not root.is_dir():
        with staging_folder(root) as folder:
            yield folder
        return
    (root / "tmp").mkdir(exist_ok=True)
    try:
        with staging_folder(root / "tmp") as folder:
            yield folder
    finally:
        if not (root / "FORMAT").exists():
            with suppress(OSError):
                (root / "tmp").rmdir()


def _check_settings(config: Config, source: Source, inputs: Mapping[str, Any], n: int) -> None:
    """Refuse an encoder or an index that does not fit the data, before a store is made for it."""
    shape, dtype, base = inputs["shape"], inputs["dtype"], config.base
    found = design(config.encoder, source.content, shape, dtype, base)
    if config.augment.on and (dtype != "uint8" or len(shape) != 3 or shape[0] not in (1, 3)):
        raise InputError(
            f"[augment] changes pictures of uint8 pixels, and of each {source.content} the encoder"
            f" reads {dtype} of shape {tuple(shape)}: leave it out"
        )
    encoder = whole(build_trained(found, base), found, base).eval()
    one = torch.zeros((1, *shape), dtype=getattr(torch, dtype))
    with torch.inference_mode():
        check_factory(config.index, n, encoder(one).shape[1])


def first_checkpoint(run: Run, items: Artifact, inputs: Artifact) -> Artifact:
    """A fresh encoder."""
    wanted = _design(run, items, inputs)
    key = digest(["init", wanted.to_json(), run.config.run.seed, code_hash("train")])
    if found := run.store.recall(key):
        return found
    encoder = build_trained(wanted, run.config.base, run.config.run.seed)
    weights = run.store.put_bytes(encoder_bytes(encoder), name="encoder.safetensors")
    card = {"encoder": wanted.to_json(), "steps": 0, "parent": None}
    return run.store.remember(key, Artifact(kind="checkpoint", files=(weights,), card=card))


def fits(run: Run, checkpoint: Artifact, items: Artifact, inputs: Artifact) -> bool:
    """Whether `checkpoint` is of the encoder that the settings and the data ask for."""
    return bool(checkpoint.card["encoder"] == _design(run, items, inputs).to_json())


def embed(run: Run, checkpoint: Artifact, items: Artifact, inputs: Artifact) -> Artifact:
    """Every item's embedding, as a Beam job over the shards."""
    job = EmbedJob(
        checkpoint=checkpoint,
        items=items,
        inputs=features(run, checkpoint, inputs),
        batch=run.config.index.batch,
        base=run.config.base,
    )
    rows = inputs.files[0].rows
    with run.console.stage("embed", "items") as bar:
        shards = run_job(
            run.store,
            job,
            units_of(inputs.rows, rows),
            run.execute,
            lambda done, units: bar.update(inputs.rows * done // units, inputs.rows),
        )
    files = tuple(file for shard in shards for file in shard.files)
    card = {"checkpoint": checkpoint.digest, "items": items.digest, "inputs": inputs.digest}
    return Artifact(kind="embeddings", files=files, card=card)


@dataclass(frozen=True, kw_only=True)
class EmbedJob:
    """Embeds one shard of inputs, or of a frozen backbone's features, a unit."""

    checkpoint: Artifact
    items: Artifact
    inputs: Artifact
    batch: int
    base: Path

    def key(self, unit: Unit) -> str:
        """Depends on the weights and on this shard alone, so unchanged shards are reused."""
        shard = [self.items.files[unit[0]].sha256, self.inputs.files[unit[0]].sha256]
        weights = [self.checkpoint.card["encoder"], self.checkpoint.files[0].sha256]
        return digest(["embed", weights, shard, unit, self.batch, code_hash("index", "train")])

    def open(self, store: Store) -> Callable[[Unit], Artifact]:
        """Load the encoder."""
        encoder = load_trained(store, self.checkpoint, self.base).to(device())

        def work(unit: Unit) -> Artifact:
            number, start, stop = unit
            inputs = Inputs([store.path(self.inputs.files[number])])
            vectors = embed_rows(encoder, inputs, range(stop - start), self.batch, device())
            columns = ["id", "label_code"]
            items = schemas.read(
                [store.path(self.items.files[number])], schema="items/1", columns=columns
            )
            embeddings = Embeddings(
                ids=items["id"].to_numpy(),
                label_codes=items["label_code"].to_numpy(),
                vectors=vectors,
            )
            return put_table(
                store,
                schemas.embeddings_table(embeddings),
                "embeddings",
                number,
                {"checkpoint": self.checkpoint.digest, "inputs": self.inputs.digest},
            )

        return work


def build(run: Run, embeddings: Artifact) -> Artifact:
    """The FAISS index of all items."""
    config = run.config.index
    given = [embeddings.digest, config.factory, config.recall, config.memory]
    key = digest(["build", given, code_hash("index")])
    if found := run.store.recall(key):
        return found
    with run.console.stage("index", "items") as bar:
        import faiss

        start = time.monotonic()
        vectors = schemas.read_embeddings(run.store.paths(embeddings))
        index, card = build_index(vectors, config)
        with run.store.temporary() as temp:
            try:
                faiss.write_index(index, str(temp))
            except RuntimeError:  # FAISS says a page about a full disk
                raise StoreError(
                    f"{temp}: the index cannot be written whole; see that the disk has room, then"
                    " run the same command again: it resumes"
                ) from None
            file = run.store.put(temp, name="index.faiss", rows=len(vectors))
        bar.update(len(vectors), len(vectors))
    # Seconds differ from run to run: they go to the log, not into what is hashed.
    seconds = round(time.monotonic() - start, 3)
    run.store.log("index", sha256=file.sha256, seconds=seconds)
    note = {"embeddings": embeddings.digest, "checkpoint": embeddings.card["checkpoint"]}
    whole = {**card.to_json(), **note, "bytes": file.bytes}
    return run.store.remember(key, Artifact(kind="index", files=(file,), card=whole))


def evaluate(run: Run, embeddings: Artifact, items: Artifact) -> Artifact:
    """Retrieval among the test items."""
    queries = run.config.index.queries
    key = digest(["evaluate", embeddings.digest, items.digest, queries, code_hash("index")])
    if found := run.store.recall(key):
        return found
    with run.console.stage("evaluate", "queries") as bar:
        vectors = split_of(run.store, embeddings, items, TEST)
        metrics = retrieval_metrics(vectors, queries=queries)
        if not metrics["queries"]:
            raise InputError("no test class has two items: retrieval cannot be measured")
        bar.update(int(metrics["queries"]), int(metrics["queries"]))
    body = json.dumps(metrics, indent=1, sort_keys=True).encode()
    file = run.store.put_bytes(body, name="metrics.json")
    card = {**metrics, "embeddings": embeddings.digest}
    return run.store.remember(key, Artifact(kind="metrics", files=(file,), card=card))


def split_of(store: Store, embeddings: Artifact, items: Artifact, split: int) -> Embeddings:
    """The embeddings of one split's items."""
    vectors = schemas.read_embeddings(store.paths(embeddings))
    return vectors.take(read_catalogue(store, items).splits == split)


def _transform(source: Source, config: Config) -> Transform:
    if own := transform_of(config.encoder, source.content, config.base):
        return own
    if source.content in ("image", "path"):
        return ImageTransform(config.data.image_size, config.data.channels)
    return vector_transform if source.content == "vector" else text_transform


def _design(run: Run, items: Artifact, inputs: Artifact) -> Design:
    """The encoder that the settings and the data ask for."""
    card = inputs.card
    content = items.card["content"]
    return design(run.config.encoder, content, card["shape"], card["dtype"], run.config.base)
