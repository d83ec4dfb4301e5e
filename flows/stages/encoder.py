"""The encoder of a round: a fresh one, and those of checkpoints, ready for use."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from remine.data.store.records import Artifact, digest
from remine.flows.jobs.stage_code import code_hash
from remine.train.checkpoint import encoder_bytes, load_encoder
from remine.train.encoders.design import Design, build_trainable, design, full_encoder
from remine.train.encoders.encoder import Encoder
from remine.train.encoders.older_names import current_names

if TYPE_CHECKING:
    from remine.data.store.store import Store
    from remine.flows.jobs.run_context import Run


def first_checkpoint(run: "Run", items: Artifact, inputs: Artifact) -> Artifact:
    """An encoder that has not been trained here, of the seed that the settings name."""
    encoder_design = design_of(run, items, inputs)
    key = digest(["init", encoder_design.to_json(), run.config.run.seed, code_hash(__name__)])
    if artifact := run.store.recall(key):
        return artifact
    encoder = build_trainable(encoder_design, run.config.base, run.config.run.seed)
    weights = run.store.put_bytes(encoder_bytes(encoder), name="encoder.safetensors")
    card = {"encoder": encoder_design.to_json(), "steps": 0, "parent": None}
    return run.store.remember(key, Artifact(kind="checkpoint", files=(weights,), card=card))


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
