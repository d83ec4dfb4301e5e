"""The encoder of a round: a fresh one, and those of checkpoints, ready for use."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from remine.data.store.records import Artifact, digest
from remine.flows.jobs.stage_code import code_hash
from remine.train.checkpoint import encoder_bytes, load_encoder
from remine.train.encoders.design import Design, build_trainable, design, full_encoder
from remine.train.encoders.encoder import Encoder

if TYPE_CHECKING:
    from remine.data.store.store import Store
    from remine.flows.jobs.run import Run


def first_checkpoint(run: "Run", items: Artifact, inputs: Artifact) -> Artifact:
    """A fresh encoder."""
    wanted = design_of(run, items, inputs)
    key = digest(["init", wanted.to_json(), run.config.run.seed, code_hash(__name__)])
    if found := run.store.recall(key):
        return found
    encoder = build_trainable(wanted, run.config.base, run.config.run.seed)
    weights = run.store.put_bytes(encoder_bytes(encoder), name="encoder.safetensors")
    card = {"encoder": wanted.to_json(), "steps": 0, "parent": None}
    return run.store.remember(key, Artifact(kind="checkpoint", files=(weights,), card=card))


def fits(run: "Run", checkpoint: Artifact, items: Artifact, inputs: Artifact) -> bool:
    """Whether `checkpoint` is of the encoder that the settings and the data ask for."""
    return bool(checkpoint.card["encoder"] == design_of(run, items, inputs).to_json())


def load_trained(store: "Store", checkpoint: Artifact, base: Path) -> Encoder:
    """What of a checkpoint's encoder was trained, ready for use: it reads `features`."""
    encoder = build_trainable(Design.from_json(checkpoint.card["encoder"]), base)
    load_encoder(encoder, store.path(checkpoint.files[0]))
    return encoder.eval()


def load_checkpoint(store: "Store", checkpoint: Artifact, base: Path = Path()) -> Encoder:
    """The whole encoder of a checkpoint, ready for inputs; own modules are sought in `base`."""
    design = Design.from_json(checkpoint.card["encoder"])
    return full_encoder(load_trained(store, checkpoint, base), design, base)


def device() -> torch.device:
    """The first GPU, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def design_of(run: "Run", items: Artifact, inputs: Artifact) -> Design:
    """The encoder that the settings and the data ask for."""
    card = inputs.card
    content = items.card["content"]
    return design(run.config.encoder, content, card["shape"], card["dtype"], run.config.base)
