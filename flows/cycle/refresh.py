"""Is a run worth it? From the source, the settings and, where our code changed, a small probe.

Cheap on purpose: a source that did not change is known by its fingerprint, and torch is loaded
only for the probe.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from remine.data.items.catalogue import build_catalogue
from remine.data.items.changes import (
    Change,
    EarlierItems,
    compare_items,
    content_hashes,
    source_key,
)
from remine.data.items.growth import match_by_content, recode_labels
from remine.data.sources.source import Source, open_source
from remine.data.store.records import Artifact, Version, digest
from remine.data.store.store import Store, store_exists
from remine.data.store.views import page_of
from remine.flows.config.settings import Config
from remine.flows.cycle.stopped_rounds import stop_of
from remine.flows.stages.embedding_recipe import embedding_recipe

CYCLE, INDEX, NOTHING = "cycle", "index", "nothing"


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a run does: "cycle", "index" (embed and index, no training) or "nothing"; and why.

    change: the source against the newest version, None where they were not compared. share: of
    items that moved since the model was trained. overlap: of the probe, None where none was needed.
    """

    what: str
    why: str
    change: Change | None = None
    share: float | None = None
    overlap: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {k: v for k, v in asdict(self).items() if v is not None}

    def artifact(self) -> Artifact:
        """For the version that follows from it."""
        return Artifact(kind="decision", files=(), card=self.to_json())


def decide(config: Config) -> Decision:
    """What a run with these settings does; noted in the store's log where there is one."""
    if not store_exists(config.store):
        return Decision(what=CYCLE, why="there is no store yet")
    store = Store(config.store)
    decision = decision_of(config, store, store.current(), remember=True)
    store.log("decision", **decision.to_json())
    return decision


def decision_of(
    config: Config, store: Store, newest: Version | None, *, remember: bool = False
) -> Decision:
    """As `decide`, for a store whose newest version is `newest`; logs nothing."""
    if newest is None:
        return Decision(what=CYCLE, why="nothing is published yet")
    change = change_since(config, store, newest, remember=remember)
    if not newest.finished or not page_of(store, newest).exists():
        return _unfinished(config, store, newest, change)
    others = _other_tables(newest.config, config)
    if set(others) - {"index"}:
        return Decision(what=CYCLE, why=f"other settings of {', '.join(others)}", change=change)
    if change and not change.is_empty:
        return _moved(config, store, newest, change)
    if others:
        return Decision(what=INDEX, why="other settings of index", change=change)
    return _same_source(config, store, newest, change)


def _moved(config: Config, store: Store, newest: Version, change: Change) -> Decision:
    """Items came, went or changed; train again where they are many."""
    share = _share_since_training(config, store, newest, change)
    limit = config.refresh.train_share
    what, than = (CYCLE, "at least") if share >= limit else (INDEX, "below")
    why = f"{change.line()}; {share:.1%} moved since the model was trained, {than} {limit:.1%}"
    return Decision(what=what, why=why, change=change, share=share)


def _unfinished(config: Config, store: Store, newest: Version, change: Change | None) -> Decision:
    if newest.finished:
        return Decision(what=CYCLE, why=f"cycle {newest.cycle} is finished but for its page")
    stop = stop_of(store, newest)
    same = stop is not None and stop["settings"] == digest(config.to_json())
    if stop and same and (change is None or change.is_empty):
        why = f"cycle {newest.cycle} was stopped at {stop['why']}: change the settings"
        return Decision(what=NOTHING, why=why, change=change)
    why = f"cycle {newest.cycle} is not finished: round {newest.round} of {newest.rounds}"
    return Decision(what=CYCLE, why=why, change=change)


def _same_source(config: Config, store: Store, newest: Version, change: Change | None) -> Decision:
    """The same items and settings: only our own code may be another."""
    checkpoint, old = newest.artifacts["checkpoint"], newest.artifacts["embeddings"]
    if old.card.get("recipe") == embedding_recipe(checkpoint, config.index.batch):
        return Decision(what=NOTHING, why="same source, same settings, cycle finished")
    from remine.flows.cycle.drift_probe import probe

    overlap = probe(config, store, newest)
    said = f"the code changed; of {config.refresh.sample:,} items {overlap:.1%} of the neighbours"
    if overlap >= config.refresh.overlap:
        return Decision(what=NOTHING, why=f"{said} stay", change=change, overlap=overlap)
    return Decision(what=INDEX, why=f"only {said} stay", change=change, overlap=overlap)


def _other_tables(before: Mapping[str, Any], config: Config) -> list[str]:
    """The tables of the settings that are not as they were."""
    now = config.to_json()
    old = {**before, "data": {**before.get("data", {})}}
    for tables in (old, now):
        tables["data"].pop("unit_rows", None)  # decides nothing about what lies there already
    return sorted(name for name in {*old, *now} if plain(old.get(name)) != plain(now.get(name)))


def plain(value: Any) -> Any:
    """As JSON gives it back: tuples are lists."""
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value


def change_since(
    config: Config, store: Store, version: Version, *, remember: bool = False
) -> Change | None:
    """The source against a version's items; None where its fingerprint says that they are those.

    Contents are hashed, none is decoded. remember: note where all were the same, so that files
    that were copied, or written again, are not hashed the next time.
    """
    source = open_source(config.data, config.base)
    items = version.artifacts["items"]
    key = source_key(source.fingerprint(), config.data, items)  # before contents are looked at
    if store.has_receipt(key):
        return None
    change = _change(config, source, store, version)
    if remember and change.is_empty:
        store.remember(key, items)
    return change


def _change(config: Config, source: Source, store: Store, version: Version) -> Change:
    items, inputs = version.artifacts["items"], version.artifacts["inputs"]
    earlier = EarlierItems.read(store, items, inputs)
    source.metadata()  # which brings the rows in the order of ids
    hashes = content_hashes(source)
    if source.lacks_ids:
        source, hashes = match_by_content(source, hashes, earlier)
    found = recode_labels(build_catalogue(source, config.data), earlier.catalogue.labels)
    return compare_items(found, hashes, earlier).change


def _share_since_training(config: Config, store: Store, newest: Version, change: Change) -> float:
    """The share of the source's items that the model was not trained with as they are now."""
    trained = next((v for v in store.versions() if v.rounds and v.finished), newest)
    if trained.artifacts["items"] == newest.artifacts["items"]:
        return change.share
    source = open_source(config.data, config.base)
    return _change(config, source, store, trained).share
