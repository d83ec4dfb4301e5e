"""Does a default cycle leave the model at least as good as it was? By kind of encoder and seed.

Each case runs with the defaults of `remine init` and `remine init --for images | text`, from the
same pretrained or untrained encoder. A line is printed as soon as a run ends:

    python -m benchmarks.no_harm --photos FOLDER --texts FILE.parquet --pictures FILE.parquet

`--grid` runs each case also with a third of the learning rate, and with three and ten times as
much: what could have been gained. Seeds change what is mined and the order of batches, not splits.
"""

import argparse
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remine.data.store.pins import CHOICE
from remine.data.store.records import Artifact, Version
from remine.data.store.store import Store
from remine.flows.config.settings import Config, load_config
from remine.flows.config.starters import STARTERS
from remine.flows.cycle.cycle import prepared, run_cycle
from remine.flows.jobs.console import Console
from remine.flows.jobs.job import run_plain
from remine.flows.stages.encoder import first_checkpoint
from remine.flows.stages.features import adopt_features
from remine.train.recipe import RECIPES, kind_of

GRID = (1 / 3, 3.0, 10.0)
"""Learning rates of `--grid` as multiples of the default."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A dataset with an encoder: `tables` of a config, and settings on top of them."""

    name: str
    tables: Mapping[str, Any]
    overrides: tuple[str, ...]

    def config(self, store: Path, *overrides: str) -> Config:
        """The settings of a run in `store`."""
        all_overrides = [f'run.store="{store}"', *self.overrides, *overrides]
        return load_config(self.tables, all_overrides)


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """The cases whose data are given."""
    if options.texts:
        source = f'data.source="{options.texts}"'
        text = tomllib.loads(STARTERS["text"])
        for name, settings in {
            "texts, frozen MiniLM": (),
            "texts, MiniLM with LoRA": ("encoder.frozen=false", 'encoder.adapter="lora"'),
            "texts, MiniLM whole": ("encoder.frozen=false",),
        }.items():
            yield Case(name=name, tables=text, overrides=(source, *settings))
    if options.photos:
        source = f'data.source="{options.photos}"'
        images = tomllib.loads(STARTERS["images"])
        yield Case(name="photos, frozen EfficientNet-Lite0", tables=images, overrides=(source,))
    if options.pictures:
        source = (f'data.source="{options.pictures}"', "data.image_size=32")
        yield Case(name="pictures, conv net from scratch", tables={}, overrides=source)
    yield Case(name="glyphs, conv net from scratch", tables={}, overrides=())


def run(case: Case, store: Path, first_store: Path, *overrides: str) -> Version:
    """A cycle in a new store; features of a frozen network are taken from the first one's."""
    config = case.config(store, *overrides)
    with prepared(config, run_plain, Console(quiet=True)) as (cycle, items, inputs):
        if first_store.exists() and first_store != store:
            checkpoint = first_checkpoint(cycle, items, inputs)
            adopt_features(cycle, checkpoint, inputs, Store(first_store))
        return run_cycle(cycle, items, inputs)


def line(version: Version) -> str:
    """R@1 and MAP@R on test in per cent: the start, the rounds, and the one that is served."""
    cards = [version.artifacts[f"metrics/round={n}"].card for n in range(version.round + 1)]
    texts = [f"{100 * card['recall@1']:.1f} / {100 * card['map@r']:.1f}" for card in cards]
    choice: Artifact = version.artifacts[CHOICE]
    number = choice.card["round"]
    gain = 100 * (cards[number]["map@r"] - cards[0]["map@r"])
    return f"{' -> '.join(texts)} | {number}: {texts[number]} | {gain:+.1f}"


def learning_rates(case: Case) -> Iterator[float]:
    """The learning rates of `--grid`, without the default."""
    config = case.config(Path("none"))
    content = "text" if config.encoder.name == "minilm" else "image"
    rate = RECIPES[kind_of(config.encoder, content)].learning_rate
    yield from (factor * rate for factor in GRID)


def main() -> None:
    """Run every case with every seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, help="a folder of photos, one folder a class")
    parser.add_argument("--texts", type=Path, help="Parquet with the columns text and label")
    parser.add_argument("--pictures", type=Path, help="Parquet with the columns image and label")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="", help="cases whose name has this text")
    parser.add_argument("--grid", action="store_true", help="other learning rates, too")
    options = parser.parse_args()
    print("| case | seed | start and rounds: R@1 / MAP@R | served | MAP@R gained |")
    print("|---|---|---|---|---|", flush=True)
    for case in cases(options):
        if options.only not in case.name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            first_store = Path(folder) / "seed-0"
            for seed in range(options.seeds):
                store = Path(folder) / f"seed-{seed}"
                version = run(case, store, first_store, f"run.seed={seed}")
                print(f"| {case.name} | {seed} | {line(version)} |", flush=True)
            for rate in learning_rates(case) if options.grid else ():
                store = Path(folder) / f"rate-{rate}"
                version = run(case, store, first_store, f"train.learning_rate={rate}")
                print(f"| {case.name}, rate {rate:.0e} | 0 | {line(version)} |", flush=True)


if __name__ == "__main__":
    main()
