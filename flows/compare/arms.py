"""The arms of a comparison: configurations that differ only in how triplets are chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from remine.data.errors import InputError
from remine.flows.config.settings import Config, ConfigSource, build_config, path_of, read_values

STANDARD_ARMS: dict[str, Any] = {
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
"""Arms of a config that names none: five online, one offline, three hybrids."""

ARM_TABLES = ("train", "mining", "online")
"""Tables of the config that an arm may change."""

SHARED_KEYS = (
    *("batch", "micro_batch", "epochs", "save_every"),
    *("learning_rate", "schedule", "warmup", "weight_decay", "clip_norm"),
    *("head_factor", "layer_decay", "unfreeze_after", "batch_statistics"),
    *("val_every", "val_items", "patience", "idle_share"),
)
"""Keys of [train] that all arms share, so that they differ in the choice of triplets alone."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to choose what to train on.

    config: All settings of the arm, train.batch such that every arm trains on compare.items items
        a step.
    """

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
        is_offline = (
            train.batches == "triplets" and train.miner == "auto" and not train.warmup_rounds
        )
        return "offline" if is_offline else "hybrid"


def load_arms(source: ConfigSource, overrides: Sequence[str] = ()) -> tuple[Config, list[Arm]]:
    """Load the configuration of a source and its arms, each checked as if it were run by itself.

    Raises:
        InputError: If there are fewer than two arms, or one changes what all share.

    """
    values, path = read_values(source, overrides), path_of(source)
    base = build_config(values, path)
    arms = [
        Arm(name=name, config=_arm_config(name, values, changes, path, base.compare.items))
        for name, changes in (base.compare.arms or STANDARD_ARMS).items()
    ]
    if len(arms) < 2:
        raise InputError("compare.arms names one arm; a comparison needs at least two")
    return base, arms


def _arm_config(
    name: str, values: Mapping[str, Any], changes: Mapping[str, Any], path: Path | None, items: int
) -> Config:
    """The settings of one arm: `values` with its `changes`, checked."""
    key = f"compare.arms.{name}"
    if unknown := sorted(set(changes) - set(ARM_TABLES)):
        raise InputError(
            f"{key} changes [{unknown[0]}], which all arms share; it may change"
            f" {', '.join(ARM_TABLES)}"
        )
    if shared_keys := sorted(set(changes.get("train", {})) & set(SHARED_KEYS)):
        hint = "; set compare.items instead" if shared_keys[0] == "batch" else ""
        raise InputError(f"{key} changes train.{shared_keys[0]}, which all arms share{hint}")
    try:
        # train.batch counts items online and triplets otherwise; which one, the merge decides.
        arm_values = _merge(_merge(values, changes), {"train": {"batch": items}})
        config = build_config(arm_values, path)
        config = replace(config, train=replace(config.train, batch=_batch(config)))
        config.check_cycle()
        _check_epochs(config)
    except InputError as error:
        hint = "; in a comparison compare.items sets it" if "train.batch is" in str(error) else ""
        raise InputError(f"{key}: {error}{hint}") from None
    return config


def _check_epochs(config: Config) -> None:
    if config.train.epochs:
        raise InputError(
            f"train.epochs is {config.train.epochs:g}, but a comparison counts steps: set"
            " train.steps, the steps between two minings"
        )


def _batch(config: Config) -> int:
    """The train.batch with which compare.items items pass through the encoder in a step."""
    train, items = config.train, config.compare.items
    if (train.uses_pk_batches or train.warmup_rounds) and items % train.per_class:
        raise InputError(
            f"compare.items = {items} is not a multiple of train.per_class = {train.per_class}"
        )
    if train.uses_pk_batches:
        return items
    # Symmetrical synthesis also takes a second item of the negative's class.
    triplet_items = 4 if train.synthesis == "symmetrical" else 3
    if items % triplet_items:
        raise InputError(
            f"compare.items = {items} is not a multiple of the {triplet_items} items of a triplet"
        )
    return items // triplet_items


def _merge(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `values` with `changes` applied, table by table."""
    result = dict(values)
    for key, value in changes.items():
        old_value = result.get(key)
        if isinstance(value, Mapping) and isinstance(old_value, Mapping):
            result[key] = _merge(old_value, value)
        else:
            result[key] = value
    return result
