"""The whole configuration: one TOML file, each table a dataclass that checks its own values."""

import copy
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, field, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from remine.data.config import DataConfig
from remine.data.config_table import Notation, config_table, field_hints, unknown_key
from remine.data.errors import InputError
from remine.data.store.gc import RetentionConfig
from remine.data.store.place import Address
from remine.flows.config.comparison import CompareConfig
from remine.flows.config.refresh_policy import RefreshConfig
from remine.flows.config.tracking import TrackConfig
from remine.index.config import IndexConfig
from remine.mining.config import MiningConfig
from remine.mining.in_batch.config import OnlineConfig
from remine.train.augmentation.config import AugmentConfig
from remine.train.config import TrainConfig
from remine.train.encoders.config import EncoderConfig
from remine.train.monitor.config import HealthConfig

DEFAULT_NAME = "remine.toml"
KIND_OF_STRATEGY = {"semi_hard": "semi_hard", "random_semi_hard": "semi_hard", "hard": "hard"}
"""The mining strategies that yield triplets of one kind only."""


@config_table("run")
class RunConfig:
    """A cycle as a whole."""

    store: Annotated[str, Field(min_length=1), Notation("a folder or s3://bucket/prefix")] = (
        "runs/glyphs"
    )
    """Where all results go."""
    rounds: Annotated[int, Field(ge=1, le=1000)] = 3
    """Rounds per cycle: embed, index, mine, train."""
    publish: Literal["best", "last"] = "best"
    """Which round is served, and started from by the next cycle.
    best: the best on val, the one before any training included; that one unless the best round is
      above it by more than one standard error of their difference
    last: the last one
    """
    select: Literal["map@r", "recall@1", "r_precision"] = "map@r"
    """The metric on val by which the best round is chosen."""
    patience: Annotated[int, Field(ge=0, le=1000)] = 2
    """Rounds without a better one on val after which the cycle ends early; 0 never."""
    gallery: Literal["split", "train"] = "split"
    """What the val items and the test items are searched among when retrieval is evaluated.
    split: each among the items of its own split
    train: among the training items, as for classes that are all known (a closed set)
    """
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Seed of the initial weights, of random selections, and of the order of triplets."""


@config_table("beam")
class BeamConfig:
    """Where the Beam jobs run."""

    runner: str = "FnApiRunner"
    """Name of a Beam runner."""
    options: tuple[str, ...] = ()
    """The runner's own flags, such as "--direct_num_workers=2"."""


@config_table("")
class Config:
    """All tables. `base` is the folder that relative paths start at; it is not a setting."""

    run: RunConfig = field(default_factory=RunConfig)
    data: DataConfig = field(default_factory=DataConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    index: IndexConfig = field(default_factory=IndexConfig)
    mining: MiningConfig = field(default_factory=MiningConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    online: OnlineConfig = field(default_factory=OnlineConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    health: HealthConfig = field(default_factory=HealthConfig)
    compare: CompareConfig = field(default_factory=CompareConfig)
    refresh: RefreshConfig = field(default_factory=RefreshConfig)
    track: TrackConfig = field(default_factory=TrackConfig)
    beam: BeamConfig = field(default_factory=BeamConfig)
    gc: RetentionConfig = field(default_factory=RetentionConfig)
    base: Path = field(default=Path(), metadata={"internal": True})

    def __post_init__(self) -> None:
        _check_across_tables(self)

    def check_cycle(self) -> None:
        """Refuse settings that are valid one by one but leave a cycle nothing to train on."""
        strategies = set(self.mining.negatives)
        if self.train.uses_pk_batches or not strategies <= set(KIND_OF_STRATEGY):
            return
        kinds = {KIND_OF_STRATEGY[name] for name in strategies}
        if missing := sorted(set(self.train.kinds) - kinds):
            raise InputError(
                f"train.kinds contains {missing[0]}, which mining.negatives"
                f" {list(self.mining.negatives)} never yields"
            )

    @property
    def store(self) -> Address:
        """The store's folder or URL."""
        if "://" in self.run.store:
            return self.run.store
        return (self.base / self.run.store).absolute()

    def with_refresh(self, *, if_needed: bool) -> Self:
        """These settings for one run that is asked for by hand: always, or if it is needed."""
        when: Literal["needed", "always"] = "needed" if if_needed else "always"
        return replace(self, refresh=replace(self.refresh, when=when))

    def to_json(self) -> dict[str, Any]:
        """The settings that decide the results; no paths, no machines."""
        tables = asdict(replace(self, base=Path()))
        for table, key in (("run", "store"), ("data", "source"), ("data", "labels")):
            del tables[table][key]
        for table in ("beam", "base", "compare", "gc", "refresh", "track"):
            del tables[table]
        return tables


def _check_across_tables(config: Config) -> None:
    """Refuse settings of two tables that contradict each other."""
    train = config.train
    if config.augment.is_on and config.encoder.frozen:
        raise InputError(
            "[augment] changes pictures at each step, but with encoder.frozen = true a step uses"
            " features that were computed once: remove one of the two"
        )
    if train.refresh_when and not config.health.every:
        raise InputError(
            f"train.refresh_when is {train.refresh_when}, but with health.every = 0 nothing is"
            " measured: set health.every to the steps between measurements"
        )
    _check_layers(config)
    if train.uses_pk_batches:
        return
    is_hinge = train.losses.triplet.form == "hinge"
    if (
        train.has_unsquared_margin
        and is_hinge
        and train.miner == "auto"
        and "semi_hard" in train.kinds
    ):
        raise InputError(
            f'train.losses.triplet.distance is "unsquared", but mining.margin ='
            f" {config.mining.margin}, which selected the semi-hard triplets, is a squared"
            ' distance: set it to "squared", form = "soft", train.kinds = ["hard"] or a train.miner'
        )
    if train.synthesis == "symmetrical" and not config.mining.second_negative:
        raise InputError(
            'train.synthesis is "symmetrical", which needs pairs of negatives: set'
            ' mining.second_negative = true, or train.batches = "pk"'
        )


def _check_layers(config: Config) -> None:
    """Refuse rates by layer, or weights that are held, of a network that has no such layers."""
    train, encoder = config.train, config.encoder
    settings = {"head_factor": 1.0, "layer_decay": 1.0, "unfreeze_after": 0}
    changed_names = [name for name, neutral in settings.items() if getattr(train, name) != neutral]
    if not changed_names:
        return
    subject = f"train.{changed_names[0]} is {getattr(train, changed_names[0])}"
    if not encoder.has_backbone or encoder.frozen:
        network = "is frozen" if encoder.frozen else "starts from scratch"
        raise InputError(
            f"{subject}, which is for a pretrained or own network that is trained, but the network"
            f" of [encoder] {network}: remove it"
        )
    if changed_names != ["layer_decay"] and encoder.head == "auto" and not encoder.dimensions:
        raise InputError(
            f"{subject}, but the network has no head above it: set encoder.head, for example to"
            ' "linear"'
        )


ConfigSource = Path | Mapping[str, Any] | None
"""A TOML file; its tables as nested dictionaries; or None for the defaults."""


def load_config(source: ConfigSource, overrides: Sequence[str] = ()) -> Config:
    """The configuration of a source, with `table.key=value` overrides."""
    return build_config(read_values(source, overrides), path_of(source))


def path_of(source: ConfigSource) -> Path | None:
    """The file of a source; None if it is none."""
    return source if isinstance(source, Path) else None


def build_config(values: Mapping[str, Any], path: Path | None) -> Config:
    """The configuration of a TOML file's `values`; paths in it start at the folder of `path`."""
    config: Config = _table(Config, values)
    return replace(config, base=path.absolute().parent if path else Path.cwd())


def read_values(source: ConfigSource, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The tables of a source, with `table.key=value` overrides, unchecked."""
    if isinstance(overrides, str):
        raise InputError(f"overrides is {overrides!r}; give a list of texts")
    values = _read_file(source) if isinstance(source, Path) else _plain_tables(source or {})
    for override in overrides:
        _override(values, override)
    return values


def _plain_tables(tables: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of tables from Python, with paths as texts."""
    plain: dict[str, Any] = {}
    for name, value in tables.items():
        if isinstance(value, Mapping):
            plain[name] = _plain_tables(value)
        else:
            plain[name] = str(value) if isinstance(value, Path) else copy.deepcopy(value)
    return plain


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"config {path} does not exist: `remine init` writes one") from None
    except ValueError as error:  # also of UTF-8, and of numbers with thousands of digits
        raise InputError(f"config {path}: {error}") from None
    except IsADirectoryError:
        raise InputError(f"config {path} is a folder") from None


def find_config(path: Path | None) -> Path | None:
    """`path`, or remine.toml if the working folder has one, or None."""
    return path or (Path(DEFAULT_NAME) if Path(DEFAULT_NAME).exists() else None)


def _override(values: dict[str, Any], override: str) -> None:
    key, sign, text = override.partition("=")
    *tables, name = key.strip().split(".")
    if not sign or not tables:
        raise InputError(f"--set {override!r}: write table.key=value, for example train.steps=100")
    try:
        value = tomllib.loads(f"v = {text}")["v"]
    except ValueError:
        value = text.strip()
    for table in tables:
        values = values.setdefault(table, {})
        if not isinstance(values, dict):
            raise InputError(f"--set {override!r}: {table} is a setting, not a table")
    values[name] = value


def _table(kind: type, values: Mapping[str, Any]) -> Any:
    """The config table `kind` from a TOML table, sub-tables first; unknown keys are refused."""
    hints = field_hints(kind)
    for name in values:
        if name not in hints or hints[name] is Path:
            raise unknown_key(kind, name)
    return kind(
        **{
            name: _table(hints[name], value)
            if is_dataclass(hints[name]) and isinstance(value, Mapping)
            else value
            for name, value in values.items()
        }
    )
