"""The encoder of a round: a fresh one, and those of checkpoints, ready for use."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from remine.data.items.catalogue import read_catalogue
from remine.data.items.inputs import Inputs
from remine.data.store.records import Artifact, digest
from remine.data.types import SPLITS, Float32
from remine.flows.jobs.stage_code import code_hash
from remine.index.embed import embed_rows
from remine.train.checkpoint import encoder_bytes, load_encoder
from remine.train.encoders.design import (
    Design,
    build_backbone,
    build_trainable,
    design,
    full_encoder,
)
from remine.train.encoders.encoder import Encoder
from remine.train.encoders.heads import principal_components, reducing_layer
from remine.train.encoders.older_names import current_names

SAMPLE = 2000
"""Training items whose features decide how a head starts."""

if TYPE_CHECKING:
    from remine.data.store.store import Store
    from remine.flows.jobs.run_context import Run


def first_checkpoint(run: "Run", items: Artifact, inputs: Artifact) -> Artifact:
    """An encoder that has not been trained here, of the seed that the settings name.

    A head into fewer dimensions starts as the principal components of a sample's features.
    """
    encoder_design = design_of(run, items, inputs)
    data = [items.digest, inputs.digest]
    key = digest(["init", encoder_design.to_json(), run.config.run.seed, data, code_hash(__name__)])
    if artifact := run.store.recall(key):
        return artifact
    encoder = build_trainable(encoder_design, run.config.base, run.config.run.seed)
    if layer := reducing_layer(encoder.body):
        vectors = _sample_features(run, encoder_design, items, inputs)
        components = principal_components(vectors, layer.out_features)
        layer.weight.data.copy_(torch.from_numpy(components))
    weights = run.store.put_bytes(encoder_bytes(encoder), name="encoder.safetensors")
    card = {"encoder": encoder_design.to_json(), "steps": 0, "parent": None}
    return run.store.remember(key, Artifact(kind="checkpoint", files=(weights,), card=card))


def _sample_features(
    run: "Run", encoder_design: Design, items: Artifact, inputs: Artifact
) -> Float32:
    """What the head reads (m, in_dimensions) of some training items, of all if there are few."""
    splits = read_catalogue(run.store, items).splits
    rows = np.flatnonzero(splits == SPLITS.index("train"))
    count = min(SAMPLE, len(rows))
    sample = np.sort(np.random.default_rng(run.config.run.seed).choice(rows, count, replace=False))
    stored_inputs = Inputs(run.store.paths(inputs))
    if not encoder_design.config.has_backbone:
        vectors: Float32 = stored_inputs[sample]
        return vectors
    backbone = build_backbone(encoder_design, run.config.base, run.config.run.seed).to(device())
    with run.console.stage("start", "items") as bar:
        vectors = embed_rows(backbone, stored_inputs, sample, run.config.index.batch, device())
        bar.update(count, count)
    return vectors


def fits(run: "Run", checkpoint: Artifact, items: Artifact, inputs: Artifact) -> bool:
    """Whether the encoder of `checkpoint` is the one that the settings and the data ask for."""
    design = Design.from_json(checkpoint.card["encoder"])
    return bool(design.identity == design_of(run, items, inputs).identity)


def load_trained(store: "Store", checkpoint: Artifact, base: Path) -> Encoder:
    """The trainable part of a checkpoint's encoder, in evaluation mode; it reads `features`."""
    encoder = build_trainable(Design.from_json(checkpoint.card["encoder"]), base)
    load_encoder(encoder, store.path(checkpoint.files[0]), current_names)
    return encoder.eval()


def load_checkpoint(store: "Store", checkpoint: Artifact, base: Path = Path()) -> Encoder:
    """The full encoder of a checkpoint, in evaluation mode; it reads inputs.

    base: the folder of the user's own encoder modules.
    """
    design = Design.from_json(checkpoint.card["encoder"])
    return full_encoder(load_trained(store, checkpoint, base), design, base)


def device() -> torch.device:
    """The first GPU, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def design_of(run: "Run", items: Artifact, inputs: Artifact) -> Design:
    """The design of the encoder that the settings and the data ask for."""
    card = inputs.card
    content = items.card["content"]
    return design(run.config.encoder, content, card["shape"], card["dtype"], run.config.base)
