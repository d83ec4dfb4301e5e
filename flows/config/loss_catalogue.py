"""The text of `remine losses`: every loss, miner, batch and synthesis, read from their settings."""

from dataclasses import fields
from typing import Any

from remine.data.config_table import choice_docs, field_doc
from remine.flows.config.template import toml
from remine.mining.in_batch.config import MINERS, OnlineConfig
from remine.train.config import TrainConfig
from remine.train.losses.config import LOSSES, SYNTHESES

LOSS_SETTINGS = {"triplet": ("margin",)}
BATCH_SETTINGS = {
    "triplets": ("kinds", "warmup_rounds", "warmup_miner"),
    "pk": ("per_class", "memory"),
    "confusable": ("random_classes",),
}
"""Settings of [train] that belong to a loss or to a kind of batches."""
MINER_SETTINGS = {"semi_hard": ("fallback",), "distance_weighted": ("nearest", "farthest")}
"""Settings of [online] that belong to a miner."""


def catalogue_text() -> str:
    """Every choice with a line of what it does and, below it, its settings with their defaults."""
    train, online = TrainConfig(), OnlineConfig()
    lines = ["losses (train.loss)"]
    for loss in LOSSES:
        lines += _table_entry(loss, getattr(train.losses, loss), f"train.losses.{loss}")
        lines += _settings(train, "train", LOSS_SETTINGS.get(loss, ()))
    lines += _entry("pml:Name", "any loss of pytorch-metric-learning")
    lines += ['      train.losses.pml = ["name=value", ...]']
    miner_docs = choice_docs(field_doc(TrainConfig, "miner"))
    lines += ["", "miners (train.miner)", *_entry("auto", miner_docs["auto"])]
    for miner in MINERS:
        lines += _entry(miner, miner_docs[miner])
        lines += _settings(online, "online", MINER_SETTINGS.get(miner, ()))
    lines += ["", "batches (train.batches)"]
    for batches, doc in choice_docs(field_doc(TrainConfig, "batches")).items():
        lines += _entry(batches, doc) + _settings(train, "train", BATCH_SETTINGS[batches])
    lines += ["", "synthesis (train.synthesis)"]
    for synthesis in SYNTHESES:
        table = getattr(train.generators, synthesis)
        lines += _table_entry(synthesis, table, f"train.generators.{synthesis}")
    return "\n".join(lines)


def _table_entry(name: str, table: Any, prefix: str) -> list[str]:
    """An entry whose docs and settings are those of its own table."""
    summary = (type(table).__doc__ or "").splitlines()[0].removesuffix(".")
    names = tuple(field.name for field in fields(table))
    return _entry(name, summary[0].lower() + summary[1:]) + _settings(table, prefix, names)


def _entry(name: str, doc: str) -> list[str]:
    return [f"  {name}", f"      {doc}"]


def _settings(table: Any, prefix: str, names: tuple[str, ...]) -> list[str]:
    return [f"      {prefix}.{name} = {toml(getattr(table, name))}" for name in names]
