"""The embeddings of a version's items by its encoder as it was before it learnt from the labels.

Those of the first version that has them, while it is in the store. Else the items are embedded
again: the design of a checkpoint holds all that an untrained encoder is built from.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from remine.data import schemas
from remine.data.errors import InputError, StoreError
from remine.data.items.inputs import Inputs
from remine.data.store.records import Version
from remine.data.types import Float32
from remine.flows.query.snapshot import BATCH, Snapshot
from remine.flows.stages.encoder import device
from remine.index.embed import embed_rows
from remine.train.encoders.design import Design, build_trainable, full_encoder
from remine.train.encoders.encoder import Encoder

BLOCK = 2048
"""Items between two reports of progress."""


@dataclass(frozen=True, kw_only=True)
class StartVectors:
    """Embeddings of all items before any training.

    Attributes:
        vectors: (n, d) float32 of length 1, in the order of ids.
        version: Number of the version that they are of; 0 if they were made anew.
    """

    vectors: Float32
    version: int


def is_untrained(version: Version) -> bool:
    """Whether the encoder of a version has not learnt from any label yet."""
    return bool(version.artifacts["checkpoint"].card.get("steps") == 0)


def start_vectors(
    snapshot: Snapshot, progress: Callable[[int, int], None] = lambda _count, _total: None
) -> StartVectors:
    """Read the embeddings before training, or make them.

    Args:
        snapshot: The version; a trained one.
        progress: Called with the number of items embedded and of all, if they are made.

    Raises:
        InputError, StoreError: The untrained encoder cannot be built on this machine.
    """
    for version in sorted(snapshot.store.versions(), key=lambda one: one.number):
        if _is_start_of(version, snapshot.version):
            try:
                return StartVectors(vectors=_read(snapshot, version), version=version.number)
            except (StoreError, InputError):  # damaged, or collected just now
                continue
    return StartVectors(vectors=_embedded(snapshot, progress), version=0)


def _read(snapshot: Snapshot, version: Version) -> Float32:
    store = snapshot.store
    release = store.register_reader(version)
    try:
        return schemas.read_embeddings(store.paths(version.artifacts["embeddings"])).vectors
    finally:
        release()


def _is_start_of(version: Version, trained: Version) -> bool:
    """Whether `version` has the same items, by the encoder that `trained` was trained from."""
    if not is_untrained(version):
        return False
    cards = (v.artifacts["checkpoint"].card["encoder"] for v in (version, trained))
    first, second = (Design.from_json(card).identity for card in cards)
    return bool(first == second and version.artifacts["items"] == trained.artifacts["items"])


def _embedded(snapshot: Snapshot, progress: Callable[[int, int], None]) -> Float32:
    encoder, inputs = _untrained(snapshot)
    n = len(snapshot.catalogue.ids)
    parts = []
    for start in range(0, n, BLOCK):
        rows = range(start, min(start + BLOCK, n))
        parts.append(embed_rows(encoder, inputs, rows, BATCH, device()))
        progress(rows.stop, n)
    return np.concatenate(parts)


def _untrained(snapshot: Snapshot) -> tuple[Encoder, Inputs]:
    """The encoder of the version before training, and what it reads: features where there are."""
    artifacts = snapshot.version.artifacts
    design = Design.from_json(artifacts["checkpoint"].card["encoder"])
    trainable = build_trainable(design, snapshot.base, int(snapshot.version.config["run"]["seed"]))
    if design.config.frozen and "features" in artifacts:
        return trainable.eval().to(device()), Inputs(snapshot.store.paths(artifacts["features"]))
    encoder = full_encoder(trainable, design, snapshot.base)
    return encoder.eval().to(device()), snapshot.inputs
