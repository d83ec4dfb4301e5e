"""What each stage of a first cycle takes, and the cycle as a whole."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from remine.data.items.catalogue import TEST, TRAIN, VAL
from remine.data.items.inputs import shard_rows
from remine.flows.cycle.forecast.network import NetworkCosts, measure_network
from remine.flows.cycle.forecast.retrieval import (
    TRIPLET_BYTES,
    evaluation_seconds,
    index_costs,
    mining_costs,
)
from remine.flows.cycle.forecast.sample import SourceSample, read_sample
from remine.index.metrics import BLOCK
from remine.index.micro_batches import CPU_BYTES
from remine.mining.engines.memory_forecast import BASE_GB as MINING_BASE_GB
from remine.mining.engines.memory_forecast import gallery_size
from remine.mining.kernel_cache import must_compile

if TYPE_CHECKING:
    from remine.flows.config.settings import Config

GB, GIB = 1e9, 2**30
BASE_GB = 1.15
"""Python and all libraries in `remine run`, which has Prefect and Beam beside those of mining."""
START_SECONDS = 12.0
"""Of `remine run` beside its stages: imports, Prefect's server, the page at the end."""
COMPILE_SECONDS = 8.0
"""Of the kernels of mining, once on a machine."""
JOB_SECONDS = 0.5
"""Of a stage that is a Beam job, beside its work."""
WRITE_RATE = 2e8
"""Bytes a second that are hashed and written."""


@dataclass(frozen=True, kw_only=True)
class StageForecast:
    """What a stage takes.

    Attributes:
        stage: Its name.
        runs: How often it runs in a cycle, at most.
        seconds: Of one run.
        memory_gb: At its peak, with the process around it.
        disk_gb: Of all runs.
    """

    stage: str
    runs: int
    seconds: float
    memory_gb: float
    disk_gb: float


@dataclass(frozen=True, kw_only=True)
class CycleForecast:
    """What a cycle of `rounds` rounds takes, if none of them ends early.

    start_seconds: beside its stages.
    """

    rounds: int
    start_seconds: float
    stages: tuple[StageForecast, ...]

    @property
    def seconds(self) -> float:
        """Of the cycle."""
        return self.start_seconds + sum(stage.runs * stage.seconds for stage in self.stages)

    @property
    def memory_gb(self) -> float:
        """At the peak."""
        return max(stage.memory_gb for stage in self.stages)

    @property
    def disk_gb(self) -> float:
        """Of the store after the cycle."""
        return sum(stage.disk_gb for stage in self.stages)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "rounds": self.rounds,
            "seconds": round(self.seconds, 2),
            "memory_gb": round(self.memory_gb, 3),
            "disk_gb": round(self.disk_gb, 4),
            "stages": [
                {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(stage).items()}
                for stage in self.stages
            ],
        }


def forecast_cycle(config: "Config") -> CycleForecast:
    """Forecast the first cycle of the settings, by a probe of about two seconds.

    Loading the encoder and reading the metadata of the source come on top. Nothing is written.

    Raises:
        InputError: The source or the encoder cannot be used.
    """
    sample = read_sample(config)
    costs = measure_network(config, sample)
    return CycleForecast(
        rounds=config.run.rounds,
        start_seconds=START_SECONDS + (COMPILE_SECONDS if must_compile() else 0),
        stages=tuple(_stages(config, sample, costs)),
    )


def _stages(config: "Config", sample: SourceSample, costs: NetworkCosts) -> Iterator[StageForecast]:
    rounds = config.run.rounds
    yield _prepare(config, sample)
    if costs.feature_dimensions:
        yield _features(sample, costs)
    yield _embed(sample, costs, rounds)
    yield _index(config, sample, costs)
    yield _evaluate(config, sample, costs)
    train_codes = sample.catalogue.label_codes[sample.catalogue.splits == TRAIN]
    mining, triplets = mining_costs(train_codes, costs.dimensions, config.mining)
    if not costs.config.uses_pk_batches:
        yield StageForecast(
            stage="mine",
            runs=rounds,
            seconds=mining.seconds + JOB_SECONDS + triplets * TRIPLET_BYTES / WRITE_RATE,
            memory_gb=BASE_GB + mining.memory_gb - MINING_BASE_GB,
            disk_gb=rounds * triplets * TRIPLET_BYTES / GB,
        )
    yield _train(config, sample, costs, triplets)


def _prepare(config: "Config", sample: SourceSample) -> StageForecast:
    n = len(sample.catalogue.ids)
    rows = min(n, shard_rows(int(sample.input_bytes), config.data.unit_rows))
    size = n * (sample.input_bytes + sample.content_bytes)
    return StageForecast(
        stage="prepare",
        runs=1,
        seconds=sample.prepare_seconds + size / WRITE_RATE,
        memory_gb=BASE_GB + 2 * rows * (sample.input_bytes + sample.content_bytes) / GB,
        disk_gb=size / GB,
    )


def _features(sample: SourceSample, costs: NetworkCosts) -> StageForecast:
    n = len(sample.catalogue.ids)
    size = 4.0 * n * costs.feature_dimensions
    return StageForecast(
        stage="features",
        runs=1,
        seconds=n * costs.feature_seconds + size / WRITE_RATE + JOB_SECONDS,
        memory_gb=_network_memory(costs),
        disk_gb=size / GB,
    )


def _embed(sample: SourceSample, costs: NetworkCosts, rounds: int) -> StageForecast:
    n = len(sample.catalogue.ids)
    size = n * (4.0 * costs.dimensions + 12)
    return StageForecast(
        stage="embed",
        runs=rounds + 1,
        seconds=n * costs.embed_seconds + size / WRITE_RATE + JOB_SECONDS,
        memory_gb=_network_memory(costs),
        disk_gb=(rounds + 1) * size / GB,
    )


def _network_memory(costs: NetworkCosts) -> float:
    """Gigabytes of a process that embeds."""
    return BASE_GB + (costs.weight_bytes + 4 * CPU_BYTES) / GB


def _index(config: "Config", sample: SourceSample, costs: NetworkCosts) -> StageForecast:
    n, runs = len(sample.catalogue.ids), config.run.rounds + 1
    seconds, size = index_costs(n, costs.dimensions, config.index)
    vectors = gallery_size(n, costs.dimensions) * GIB
    return StageForecast(
        stage="index",
        runs=runs,
        seconds=seconds + size / WRITE_RATE,
        memory_gb=BASE_GB + (2 * vectors + size) / GB,
        disk_gb=runs * size / GB,
    )


def _evaluate(config: "Config", sample: SourceSample, costs: NetworkCosts) -> StageForecast:
    catalogue, seconds, largest = sample.catalogue, 0.0, 0
    for split in (VAL, TEST):
        codes = catalogue.label_codes[catalogue.splits == split].astype(np.int64)
        seconds += evaluation_seconds(codes, costs.dimensions, config.index.queries)
        largest = max(largest, len(codes))
    n = len(catalogue.ids)
    scores = 4.0 * min(BLOCK, largest * min(largest, config.index.queries or largest))
    vectors = gallery_size(n, costs.dimensions) * GIB
    return StageForecast(
        stage="evaluate",
        runs=config.run.rounds + 1,
        seconds=seconds,
        memory_gb=BASE_GB + (2 * vectors + scores) / GB,
        disk_gb=0.0,
    )


def _train(
    config: "Config", sample: SourceSample, costs: NetworkCosts, triplets: float
) -> StageForecast:
    train, catalogue = costs.config, sample.catalogue
    steps = train.steps if isinstance(train.steps, int) else 0
    if epochs := config.train.epochs:
        count = (catalogue.splits == TRAIN).sum() if train.uses_pk_batches else triplets
        steps = int(np.ceil(epochs * count / train.batch))
    validations = 0
    if isinstance(train.val_every, int) and train.val_every:
        validations = 1 + -(-steps // train.val_every)
    val_items = min(train.val_items, int((catalogue.splits == VAL).sum()))
    checkpoint = 3.0 * costs.trained_bytes  # the weights and two moments of each
    return StageForecast(
        stage="train",
        runs=config.run.rounds,
        seconds=steps * costs.step_seconds
        + validations * val_items * costs.embed_seconds
        + checkpoint / WRITE_RATE,
        memory_gb=BASE_GB
        + (costs.weight_bytes + checkpoint + costs.step.part * costs.step.item_bytes) / GB,
        disk_gb=((config.run.rounds + 1) * costs.trained_bytes + config.run.rounds * checkpoint)
        / GB,
    )
