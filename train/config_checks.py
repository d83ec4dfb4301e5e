"""Settings of [train] that contradict one another."""

from typing import TYPE_CHECKING

from remine.data.errors import InputError

if TYPE_CHECKING:
    from remine.train.config import TrainConfig

WHOLE_BATCH_LOSSES = ("n_pair", "lifted_structure", "angular", "softmax", "l2_softmax")
"""Losses that use every item of a batch, so that a miner has nothing to select."""
SYMMETRICAL_LOSSES = ("triplet", "n_pair", "lifted_structure", "angular")


def check_combinations(config: "TrainConfig") -> None:
    """Refuse settings that contradict each other."""
    if config.losses.pml and not config.loss.startswith("pml:"):
        raise InputError(
            f"train.losses.pml is set, but train.loss is {config.loss!r}: remove the options, or"
            ' set train.loss = "pml:Name"'
        )
    if config.has_unsquared_margin and config.margin > 2:
        raise InputError(
            f"train.margin is {config.margin}; it must be at most 2 (unsquared Euclidean distance,"
            ' because train.losses.triplet.distance is "unsquared")'
        )
    if config.uses_pk_batches:
        _check_pk_batches(config)
        if config.refresh_when:
            raise InputError(
                f"train.refresh_when is {config.refresh_when}, a share of the mined triplets, but"
                f' train.batches = "{config.batches}" uses none: remove it'
            )
    _check_length(config)
    _check_candidates(config)
    if config.synthesis == "symmetrical":
        _check_symmetrical(config)
    elif config.synthesis != "none":
        _check_generator(config)


def _check_length(config: "TrainConfig") -> None:
    if config.epochs and config.steps != "auto":
        raise InputError(
            f"train.steps is {config.steps} and train.epochs is {config.epochs:g}: both say how"
            " long a round is; remove one"
        )


def check_warmup(config: "TrainConfig") -> None:
    """Check the settings of the warm-up rounds."""
    if config.batches == "pk":
        raise InputError(
            f"train.warmup_rounds is {config.warmup_rounds}, but later rounds train on PK batches"
            ' too: set train.batches = "triplets" or "confusable", or remove it'
        )
    try:
        config.after_rounds(0)
    except InputError as error:
        raise InputError(
            f"in the first {config.warmup_rounds} rounds (train.warmup_rounds), where the miner is"
            f" train.warmup_miner = {config.warmup_miner!r}: {error}"
        ) from None


def _check_pk_batches(config: "TrainConfig") -> None:
    if config.batch % config.per_class or config.batch < 2 * config.per_class:
        raise InputError(
            f"train.batch is {config.batch} and train.per_class {config.per_class}: a PK batch"
            " consists of two or more classes of per_class items each; make batch a multiple"
        )
    if config.per_class == 1 and config.loss not in ("softmax", "l2_softmax"):
        raise InputError(
            "train.per_class is 1: with one item per class no item has a positive, which the loss"
            f" {config.loss} needs; it must be 2 or more"
        )


def _check_candidates(config: "TrainConfig") -> None:
    """Refuse a miner or a memory that the loss or the batches would not use."""
    has_miner = config.miner != "auto"
    if config.loss in WHOLE_BATCH_LOSSES and (has_miner or config.memory):
        name, value = ("miner", config.miner) if has_miner else ("memory", config.memory)
        raise InputError(
            f"train.{name} is {value!r}, but the loss {config.loss} uses the whole batch: remove it"
        )
    if config.memory and not (has_miner or config.uses_pk_batches):
        raise InputError(
            f"train.memory is {config.memory}, but mined triplets used as they are need no further"
            ' candidates: set a train.miner, or train.batches = "pk"'
        )


def _check_symmetrical(config: "TrainConfig") -> None:
    _refuse_memory(config)
    if config.loss not in SYMMETRICAL_LOSSES:
        raise InputError(
            f"train.synthesis is 'symmetrical', which works with the losses"
            f" {', '.join(SYMMETRICAL_LOSSES)}; train.loss is {config.loss!r}"
        )
    if config.miner != "auto":
        raise InputError(
            "train.synthesis is 'symmetrical', which selects the hardest of 16 points itself:"
            f" remove train.miner = {config.miner!r}"
        )


def _check_generator(config: "TrainConfig") -> None:
    """Check the settings of the syntheses that train a generator: hdml and daml."""
    _refuse_memory(config)
    if config.loss != "triplet":
        raise InputError(
            f'train.synthesis is {config.synthesis!r}, which needs train.loss = "triplet";'
            f" it is {config.loss!r}"
        )
    if (config.uses_pk_batches and config.miner == "auto") or config.miner == "batch_all":
        raise InputError(
            f"train.synthesis is {config.synthesis!r}, which changes one negative per pair: set a"
            ' train.miner that selects one, such as "semi_hard"'
        )


def _refuse_memory(config: "TrainConfig") -> None:
    if config.memory:
        raise InputError(
            f"train.synthesis is {config.synthesis!r}, which cannot use a memory: set"
            " train.memory = 0"
        )
