"""The encoder of a version as a folder that another library loads, without remine.

Targets:
    sentence-transformers   SentenceTransformer(DIR)
    transformers            AutoModel.from_pretrained(DIR), and the head beside it
    torch                   torch.export.load(DIR/encoder.pt2)
    onnx                    an ONNX runtime on DIR/encoder.onnx

An adapter is merged into the weights. Every target gives the store's embeddings up to 1e-5.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from remine.data.errors import InputError
from remine.flows.query.export import model_card
from remine.flows.query.snapshot import Snapshot
from remine.flows.stages.encoder import load_checkpoint
from remine.train.encoders.adapter import merge_adapters
from remine.train.encoders.design import Design
from remine.train.encoders.heads import BackboneWithHead
from remine.train.encoders.pretrained.model_files import model_folder

if TYPE_CHECKING:
    from remine.train.encoders.encoder import Encoder

TARGETS = ("sentence-transformers", "transformers", "torch", "onnx")


@dataclass(frozen=True, kw_only=True)
class ExportedModel:
    """The parts of a version's encoder that are written.

    snapshot: The version. target: One of TARGETS. folder: Where to write; it exists.
    """

    snapshot: Snapshot
    target: str
    folder: Path

    @property
    def design(self) -> Design:
        """The design of the encoder."""
        checkpoint = self.snapshot.version.artifacts["checkpoint"]
        return Design.from_json(checkpoint.card["encoder"])

    @cached_property
    def encoder(self) -> "Encoder":
        """The whole encoder on the CPU, with its adapter merged."""
        checkpoint = self.snapshot.version.artifacts["checkpoint"]
        encoder = load_checkpoint(self.snapshot.store, checkpoint, self.snapshot.base)
        merge_adapters(encoder)
        return encoder.eval()

    @property
    def backbone(self) -> nn.Module:
        """The encoder's body without its head."""
        body = self.encoder.body
        return body.backbone if isinstance(body, BackboneWithHead) else body

    @property
    def head(self) -> nn.Module | None:
        """The head; None if there is none."""
        body = self.encoder.body
        return body.head if isinstance(body, BackboneWithHead) else None

    @property
    def source_folder(self) -> Path:
        """The folder of the pretrained model, whose tokenizer and config are copied."""
        return model_folder(self.design.config.name, self.snapshot.base)

    @property
    def is_text(self) -> bool:
        """Whether the items are texts."""
        return self.snapshot.content == "text"


def export(snapshot: Snapshot, target: str, folder: Path) -> list[str]:
    """Write a version's encoder for another library.

    Args:
        snapshot: The version.
        target: One of TARGETS.
        folder: A new folder, which appears when it is complete.

    Returns:
        The names of the files in it.

    Raises:
        InputError: There is no such target, the folder exists, a library is missing, or the
            encoder cannot be what the target loads.

    """
    if target not in TARGETS:
        raise InputError(f"--to {target}: it must be one of {', '.join(TARGETS)}")
    if folder.exists():
        raise InputError(f"{folder} exists already: name a new folder")
    if not folder.absolute().parent.is_dir():
        raise InputError(f"{folder}: the folder {folder.absolute().parent} does not exist")
    temp = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(temp, ignore_errors=True)
    temp.mkdir()
    try:
        model = ExportedModel(snapshot=snapshot, target=target, folder=temp)
        usage = _writer(target)(model)
        (temp / "README.md").write_text(model_card.card(snapshot, target, usage), encoding="utf-8")
        temp.rename(folder)
    finally:
        shutil.rmtree(temp, ignore_errors=True)
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def _writer(target: str) -> Callable[[ExportedModel], str]:
    """The function that writes a target and returns how its result is used, in Python."""
    from remine.flows.query.export import graphs, transformer_folders

    writers: dict[str, Callable[[Any], str]] = {
        "sentence-transformers": transformer_folders.write_sentence_transformer,
        "transformers": transformer_folders.write_transformer,
        "torch": graphs.write_torch,
        "onnx": graphs.write_onnx,
    }
    return writers[target]
