"""The arms of a comparison: configurations that differ only in how triplets are chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from remine.data.errors import InputError
from remine.flows.config.settings import Config, ConfigSource, build_config, path_of, read_values

STANDARD: dict[str, Any] = {
    "random": {"train": {"batches": "pk", "miner": "random"}},
    "batch_all": {"train": {"batches": "pk"}},
    "batch_hard": {"train": {"batches": "pk", "miner": "batch_hard"}},
    "semi_hard": {"train": {"batches": "pk", "miner": "semi_hard"}},
    "distance_weighted": {"train": {"batches": "pk", "miner": "distance_weighted"}},
    "offline_semi_hard": {"train": {"batches": "triplets", "miner": "auto"}},
    "offline_remined": {"train": {"batches": "triplets", "miner": "semi_hard"}},
    "confusable": {"train": {"batches": "confusable", "miner": "semi_hard"}},
    "online_then_offline": {"train": {"batches": "triplets", "miner": "auto", "warmup_rounds": 1}},
}
"""What runs where the config names no arms; the first five are online, the last three hybrids."""

TABLES = ("train", "mining", "online")
SHARED = ("batch", "learning_rate", "save_every")
"""Of [train]: the same for all arms, or the contrast would be of something else."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to choose what is trained on; `config` is whole, and its train.batch made equal."""

    name: str
    config: Config

    @property
    def mines(self) -> bool:
        """Whether it embeds and mines the training items."""
        return self.config.train.batches != "pk"

    @property
    def family(self) -> str:
        """online: chooses inside its batches. offline: over the dataset. hybrid: both."""
        train = self.config.train
        if not self.mines:
            return "online"
        whole = train.batches == "triplets" and train.miner == "auto" and not train.warmup_rounds
        return "offline" if whole else "hybrid"


def load_arms(source: ConfigSource, overrides: Sequence[str] = ()) -> tuple[Config, list[Arm]]:
    """The configuration of a source and its arms, each checked as if it were run by itself."""
    values, path = read_values(source, overrides), path_of(source)
    base = build_config(values, path)
    arms = [
        Arm(name=name, config=_of_arm(name, values, changes, path, base.compare.items))
        for name, changes in (base.compare.arms or STANDARD).items()
    ]
    if len(arms) < 2:
        raise InputError("compare.arms names one arm; a comparison needs two or more")
    return base, arms


def _of_arm(
    name: str, values: Mapping[str, Any], changes: Mapping[str, Any], path: Path | None, items: int
) -> Config:
    where = f"compare.arms.{name}"
    if unknown := sorted(set(changes) - set(TABLES)):
        raise InputError(
            f"{where} changes [{unknown[0]}], which all arms share; it may change"
            f" {', '.join(TABLES)}"
        )
    if shared := sorted(set(changes.get("train", {})) & set(SHARED)):
        instead = ": compare.items is for that" if shared[0] == "batch" else ""
        raise InputError(f"{where} changes train.{shared[0]}, which all arms share{instead}")
    try:
        changed = _merged(_merged(values, changes), {"train": {"batch": items}})
        config = build_config(changed, path)
        config = replace(config, train=replace(config.train, batch=_batch(config)))
        config.check_cycle()
    except InputError as error:
        hint = "; compare.items is what sets it here" if "train.batch is" in str(error) else ""
        raise InputError(f"{where}: {error}{hint}") from None
    return config


def _batch(config: Config) -> int:
    """train.batch such that compare.items items pass through the encoder in a step."""
    train, items = config.train, config.compare.items
    if (train.uses_pk_batches or train.warmup_rounds) and items % train.per_class:
        raise InputError(
            f"compare.items = {items} is no multiple of train.per_class = {train.per_class}"
        )
    if train.uses_pk_batches:
        return items
    each = 4 if train.synthesis == "symmetrical" else 3
    if items % each:
        raise InputError(f"compare.items = {items} is no multiple of the {each} items of a triplet")
    return items // each


def _merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with `changes` over it, table by table."""
    merged = dict(values)
    for key, value in changes.items():
        old = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(old, Mapping)
        merged[key] = _merged(old, value) if both else value  # type: ignore[arg-type]
    return merged
