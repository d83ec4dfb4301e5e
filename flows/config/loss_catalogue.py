"""What can be trained with: every loss, miner and synthesis, read off their own settings."""

from dataclasses import fields
from typing import Any

from remine.mining.in_batch.config import MINERS, OnlineConfig
from remine.train.config import TrainConfig
from remine.train.losses.config import GeneratorsConfig, LossesConfig

BATCHES = {
    "triplets": (
        "mined over the whole dataset, as they are or mined again in the batch",
        ("warmup_rounds", "warmup_miner"),
    ),
    "pk": ("per_class items of each of some classes", ("per_class", "memory")),
    "confusable": (
        "pk batches of classes whose centroids are neighbours, and some at random",
        ("random_classes",),
    ),
}
MINER_SETTINGS = {"semi_hard": ("fallback",), "distance_weighted": ("nearest", "farthest")}


def catalogue_text() -> str:
    """A line each, its settings with their defaults below."""
    lines = ["losses (train.loss)"]
    losses = LossesConfig()
    for part in fields(losses):
        if part.name != "pml":
            lines += _entry(part.name, getattr(losses, part.name), f"train.losses.{part.name}")
            if part.name == "triplet":
                lines.append("      train.margin = 0.2")
    lines += ["  pml:Name", "      any loss of pytorch-metric-learning"]
    lines += ['      train.losses.pml = ["name=value", ...]']
    lines += ["", "miners (train.miner; auto takes mined triplets as they are, of PK batches all)"]
    online = OnlineConfig()
    for name, said in MINERS.items():
        lines += [f"  {name}", f"      {said}"]
        lines += [
            f"      online.{setting} = {_toml(getattr(online, setting))}"
            for setting in MINER_SETTINGS.get(name, ())
        ]
    lines += ["", "batches (train.batches)"]
    train = TrainConfig()
    for name, (said, settings) in BATCHES.items():
        lines += [f"  {name}", f"      {said}"]
        lines += [f"      train.{key} = {_toml(getattr(train, key))}" for key in settings]
    lines += ["", "synthesis (train.synthesis)"]
    generators = GeneratorsConfig()
    for part in fields(generators):
        prefix = f"train.generators.{part.name}"
        lines += _entry(part.name, getattr(generators, part.name), prefix)
    return "\n".join(lines)


def _entry(name: str, config: Any, prefix: str) -> list[str]:
    said = (type(config).__doc__ or "").strip().splitlines()[0]
    settings = [(f.name, getattr(config, f.name)) for f in fields(config)]
    return [
        f"  {name}",
        f"      {said[0].lower() + said[1:].removesuffix('.')}",
        *(f"      {prefix}.{key} = {_toml(value)}" for key, value in settings),
    ]


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else repr(value)
