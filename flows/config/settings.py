"""The whole configuration: one TOML file, each table a dataclass that checks its own values."""

import tomllib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from remine.data.config import DataConfig
from remine.data.errors import InputError
from remine.data.store.gc import Keeping
from remine.data.store.place import Address
from remine.flows.config.comparison import CompareConfig
from remine.flows.config.refresh_policy import RefreshConfig
from remine.index.config import IndexConfig
from remine.mining.config import MiningConfig
from remine.mining.in_batch.config import MINERS, OnlineConfig
from remine.train.augmentation.config import AugmentConfig
from remine.train.config import EncoderConfig, TrainConfig
from remine.train.monitor.config import HealthConfig

DEFAULT_NAME = "remine.toml"


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A cycle as a whole.

    store: the folder of everything that is made, or s3://bucket/prefix. rounds:
    embed-index-mine-train rounds a cycle. seed: decides weights, positives and the order of
    triplets.
    """

    store: str = "runs/glyphs"
    rounds: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.store:
            raise InputError("run.store is empty; name a folder of its own")
        if not 1 <= self.rounds <= 1000:
            raise InputError(f"run.rounds is {self.rounds}; it must be 1 to 1000")
        if not 0 <= self.seed < 2**31:
            raise InputError(f"run.seed is {self.seed}; it must be 0 to 2147483647")


@dataclass(frozen=True, kw_only=True)
class BeamConfig:
    """Where the Beam jobs run: any runner of Beam's, and its own flags."""

    runner: str = "FnApiRunner"
    options: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Config:
    """All tables; `base` is the folder that relative paths start at."""

    run: RunConfig = field(default_factory=RunConfig)
    data: DataConfig = field(default_factory=DataConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    index: IndexConfig = field(default_factory=IndexConfig)
    mining: MiningConfig = field(default_factory=MiningConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    health: HealthConfig = field(default_factory=HealthConfig)
    online: OnlineConfig = field(default_factory=OnlineConfig)
    compare: CompareConfig = field(default_factory=CompareConfig)
    refresh: RefreshConfig = field(default_factory=RefreshConfig)
    beam: BeamConfig = field(default_factory=BeamConfig)
    gc: Keeping = field(default_factory=Keeping)
    base: Path = field(default=Path(), metadata={"internal": True})

    def check_cycle(self) -> None:
        """Refuse settings that are right each by itself and leave a cycle nothing to train on."""
        only = {"semi_hard": "semi_hard", "random_semi_hard": "semi_hard", "hard": "hard"}
        if not self.train.online and set(self.mining.negatives) <= set(only):
            mined = {only[name] for name in self.mining.negatives}
            if missing := sorted(set(self.train.kinds) - mined):
                raise InputError(
                    f"train.kinds asks for {missing[0]}, which mining.negatives"
                    f" {list(self.mining.negatives)} never gives"
                )

    def __post_init__(self) -> None:
        check_rooms(self)

    @property
    def store(self) -> Address:
        """The store's folder or URL."""
        if "://" in self.run.store:
            return self.run.store
        return (self.base / self.run.store).absolute()

    def to_json(self) -> dict[str, Any]:
        """What decides the results: no paths, no machines."""
        whole = asdict(replace(self, base=Path()))
        for table, key in (("run", "store"), ("data", "source"), ("data", "labels")):
            del whole[table][key]
        for table in ("beam", "base", "compare", "gc", "refresh"):
            del whole[table]
        return whole


def check_rooms(config: Config) -> None:
    """Refuse what contradicts across tables."""
    train, mining = config.train, config.mining
    if config.augment.on and config.encoder.frozen:
        raise InputError(
            "[augment] changes pictures at each step, and with encoder.frozen = true a step reads"
            " features that were computed once: leave one of them out"
        )
    for name in ("miner", "warmup_miner"):
        if (miner := getattr(train, name)) not in ("auto", *MINERS):
            raise InputError(f"train.{name} is {miner!r}; known: auto, {', '.join(MINERS)}")
    if train.refresh_when and not config.health.every:
        raise InputError(
            f"train.refresh_when is {train.refresh_when}, and with health.every = 0 nothing is"
            " measured: set health.every to the steps between measurements"
        )
    if train.online:
        return
    hinge = train.losses.triplet.form == "hinge"
    if train.unsquared and hinge and train.miner == "auto" and "semi_hard" in train.kinds:
        raise InputError(
            f'train.losses.triplet.distance is "unsquared", and mining.margin = {mining.margin},'
            " which chose the semi-hard triplets, is a squared distance: the two margins would not"
            ' mean the same; take "squared", form = "soft", train.kinds = ["hard"] or a train.miner'
        )
    if train.synthesis == "symmetrical" and not mining.second_negative:
        raise InputError(
            'train.synthesis is "symmetrical", which reflects pairs of negatives: set'
            ' mining.second_negative = true, or train.batches = "pk"'
        )


def load_config(path: Path | None, overrides: Sequence[str] = ()) -> Config:
    """The configuration in the file at `path` (None: the defaults), then `table.key=value`s."""
    return build_config(read_values(path, overrides), path)


def build_config(values: Mapping[str, Any], path: Path | None) -> Config:
    """The configuration of a TOML file's `values`; paths in it start at the folder of `path`."""
    config: Config = _build(Config, values, "")
    return replace(config, base=path.absolute().parent if path else Path.cwd())


def read_values(path: Path | None, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The tables of the file at `path`, then `table.key=value`s, unchecked."""
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text())
        except FileNotFoundError:
            raise InputError(f"config {path} does not exist: `remine init` writes one") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"config {path}: {error}") from None
        except IsADirectoryError:
            raise InputError(f"config {path} is a folder") from None
    for override in overrides:
        _override(values, override)
    return values


def find_config(path: Path | None) -> Path | None:
    """`path`, or remine.toml where there is one here, or None."""
    return path or (Path(DEFAULT_NAME) if Path(DEFAULT_NAME).exists() else None)


def _override(values: dict[str, Any], override: str) -> None:
    key, sign, text = override.partition("=")
    *tables, name = key.strip().split(".")
    if not sign or not tables:
        raise InputError(f"--set {override!r}: write table.key=value, for example train.steps=100")
    try:
        value = tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    for table in tables:
        values = values.setdefault(table, {})
        if not isinstance(values, dict):
            raise InputError(f"--set {override!r}: {table} is a setting, not a table")
    values[name] = value


def _build(kind: type, values: Mapping[str, Any], prefix: str) -> Any:
    """The dataclass `kind` from a TOML table; strict about names and types."""
    hints = typing.get_type_hints(kind)
    known = [f.name for f in fields(kind) if not f.metadata.get("internal")]
    for name in values:
        if name not in known:
            raise InputError(f"unknown key {prefix}{name}; known: {', '.join(known)}")
    return kind(**{n: _value(hints[n], v, f"{prefix}{n}") for n, v in values.items()})


def _value(hint: Any, value: Any, name: str) -> Any:
    if is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise InputError(f"{name} is {value!r}; it must be a table")
        return _build(typing.cast("type", hint), value, f"{name}.")
    if typing.get_origin(hint) is tuple:
        kind = typing.get_args(hint)[0]
        if not isinstance(value, list) or not all(type(v) is kind for v in value):
            what = {str: "texts", int: "whole numbers"}[kind]
            raise InputError(f"{name} is {value!r}; it must be a list of {what}")
        return tuple(value)
    if typing.get_origin(hint) is Mapping:
        texts = typing.get_args(hint)[1] is str
        kind, what = (str, "texts") if texts else (dict, "tables")
        if not isinstance(value, dict) or not all(isinstance(v, kind) for v in value.values()):
            raise InputError(f"{name} is {value!r}; it must be a table of {what}")
        return value
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
        raise InputError(f"{name} is {value!r}; it must be {names[hint]}")
    if hint is str and "\0" in value:
        raise InputError(f"{name} is {value!r}; it must not hold a NUL character")
    return value
