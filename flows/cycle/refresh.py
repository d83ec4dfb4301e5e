"""Whether a run is worth it: from the source, the settings and, if our code changed, a small probe.

Cheap on purpose: a source without a change is known by its fingerprint, and torch is loaded only
for the probe.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from remine.data.items.changes import Change, EarlierItems, source_key
from remine.data.items.growth import ItemsUpdate
from remine.data.sources.source import Source, open_source
from remine.data.store.pins import chosen_version
from remine.data.store.records import Artifact, Version, digest
from remine.data.store.store import Store, store_exists
from remine.data.store.views import lacks_page
from remine.flows.config.settings import Config
from remine.flows.cycle.stopped_rounds import stop_of
from remine.flows.stages.embedding_recipe import embedding_recipe
from remine.flows.stages.rounds.settings import kind_of_checkpoint
from remine.train.recipe import RECIPES

CYCLE, INDEX, NOTHING = "cycle", "index", "nothing"


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a run does, and why.

    Attributes:
        action: "cycle", "index" (embed and index, no training) or "nothing".
        reason: One line for people.
        change: The source compared with the newest version; None if they were not compared.
        share: Share of items that changed since the model was trained; None if not needed.
        overlap: Share of neighbours that the probe kept; None if there was no probe.

    """

    action: str
    reason: str
    change: Change | None = None
    share: float | None = None
    overlap: float | None = None

    def line(self) -> str:
        """One line for people: the action and the reason."""
        action = "nothing to do" if self.action == NOTHING else f"{self.action} needed"
        return f"{action}: {self.reason}"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: what, why, change, share, overlap; without those that are None."""
        fields = {
            "what": self.action,
            "why": self.reason,
            "change": self.change.to_json() if self.change else None,
            "share": self.share,
            "overlap": self.overlap,
        }
        return {name: value for name, value in fields.items() if value is not None}

    def artifact(self) -> Artifact:
        """For the versions of the cycle that follows from it."""
        return Artifact(kind="decision", files=(), card=self.to_json())


def decide(config: Config) -> Decision:
    """Decide what a run with these settings does, and log it in the store, if there is one."""
    if not store_exists(config.store):
        return Decision(action=CYCLE, reason="there is no store yet")
    store = Store(config.store)
    decision = decision_of(config, store, store.current(), remember=True)
    store.log("decision", **decision.to_json())
    return decision


def decision_of(
    config: Config, store: Store, newest: Version | None, *, remember: bool = False
) -> Decision:
    """As `decide`, for a store whose newest version is `newest`; logs nothing."""
    if newest is None:
        return Decision(action=CYCLE, reason="nothing is published yet")
    change = change_since(config, store, newest, remember=remember)
    if not newest.finished or lacks_page(store, newest):
        return _unfinished(config, store, newest, change)
    tables = _changed_tables(newest, config)
    if set(tables) - {"index"}:
        reason = f"other settings of {', '.join(tables)}"
        return Decision(action=CYCLE, reason=reason, change=change)
    if change and not change.is_empty:
        return _source_changed(config, store, newest, change)
    if tables:
        return Decision(action=INDEX, reason="other settings of index", change=change)
    return _same_source(config, store, newest, change)


def _source_changed(config: Config, store: Store, newest: Version, change: Change) -> Decision:
    """Items were added, removed or changed; train again if they are many."""
    share = _share_since_training(config, store, newest, change)
    limit = config.refresh.train_share
    action, bound = (CYCLE, "at least") if share >= limit else (INDEX, "below")
    reason = f"{change.line()}; {share:.1%} moved since the model was trained, {bound} {limit:.1%}"
    return Decision(action=action, reason=reason, change=change, share=share)


def _unfinished(config: Config, store: Store, newest: Version, change: Change | None) -> Decision:
    if newest.finished:
        return Decision(
            action=CYCLE, reason=f"cycle {newest.cycle} is finished, except for its page"
        )
    stop = stop_of(store, newest)
    is_same_config = stop is not None and stop["settings"] == digest(config.to_json())
    if stop and is_same_config and (change is None or change.is_empty):
        reason = f"cycle {newest.cycle} was stopped at {stop['why']}: change the settings"
        return Decision(action=NOTHING, reason=reason, change=change)
    reason = f"cycle {newest.cycle} is not finished: round {newest.round} of {newest.rounds}"
    return Decision(action=CYCLE, reason=reason, change=change)


def _same_source(config: Config, store: Store, newest: Version, change: Change | None) -> Decision:
    """Same items and settings: only the code that embeds may have changed."""
    served = chosen_version(store, newest)
    checkpoint, old = served.artifacts["checkpoint"], served.artifacts["embeddings"]
    if old.card.get("recipe") == embedding_recipe(checkpoint, config.index.batch):
        return Decision(action=NOTHING, reason="same source, same settings, cycle finished")
    from remine.flows.cycle.drift_probe import probe

    overlap = probe(config, store, served)
    text = f"the code changed; of {config.refresh.sample:,} items {overlap:.1%} of the neighbours"
    if overlap >= config.refresh.overlap:
        return Decision(action=NOTHING, reason=f"{text} stay", change=change, overlap=overlap)
    return Decision(action=INDEX, reason=f"only {text} stay", change=change, overlap=overlap)


def _changed_tables(version: Version, config: Config) -> list[str]:
    """The tables of the settings that differ from those of a version."""
    new = config.to_json()
    # A setting that did not exist then was what its default is now.
    old = _filled(version.config, Config().to_json())
    if "schedule" not in version.config["train"]:  # of a release whose defaults were numbers
        former = {k: "auto" for k, v in FORMER_DEFAULTS.items() if old["train"].get(k) == v}
        old["train"] = {**old["train"], **former}
    recipe = asdict(RECIPES[kind_of_checkpoint(version.artifacts["checkpoint"])])
    for tables in (old, new):
        tables["data"].pop("unit_rows", None)  # does not affect what is stored already
        tables["data"].pop("val_from_train", None)  # its effect are the splits of the items
        # A value that is named is no other than "auto" where that stands for the same.
        automatic = [name for name in recipe if tables["train"].get(name) == "auto"]
        tables["train"] = {**tables["train"], **{name: recipe[name] for name in automatic}}
    return sorted(name for name in {*old, *new} if plain(old.get(name)) != plain(new.get(name)))


FORMER_DEFAULTS = {"steps": 300, "learning_rate": 1e-3}
"""Settings of [train] in 0.1 that nobody had to name, and that are "auto" today."""


def _filled(tables: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Tables with the defaults of the settings that they lack."""
    filled = {**defaults, **tables}
    for name, value in filled.items():
        if isinstance(value, Mapping) and isinstance(defaults.get(name), Mapping):
            filled[name] = _filled(value, defaults[name])
    return filled


def plain(value: Any) -> Any:
    """A value as JSON returns it: tuples are lists."""
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value


def change_since(
    config: Config, store: Store, version: Version, *, remember: bool = False
) -> Change | None:
    """Compare the source with a version's items. Contents are hashed, none is decoded.

    Args:
        config: Settings.
        store: The store.
        version: A version of it.
        remember: If nothing changed, note the source's fingerprint, so that files that were copied
            or written again are not hashed the next time.

    Returns:
        The change; None if the source's fingerprint is known to be that of the items.

    """
    source = open_source(config.data, config.base)
    items = version.artifacts["items"]
    # Before the contents are read, so that a change meanwhile is seen the next time.
    key = source_key(source.fingerprint(), config.data, items)
    if store.has_receipt(key):
        return None
    change = _change(config, source, store, version)
    if remember and change.is_empty:
        store.remember(key, items)
    return change


def _change(config: Config, source: Source, store: Store, version: Version) -> Change:
    artifacts = version.artifacts
    earlier = EarlierItems.read(store, artifacts["items"], artifacts["inputs"])
    return ItemsUpdate.of(source, config.data, earlier).comparison.change


def _share_since_training(config: Config, store: Store, newest: Version, change: Change) -> float:
    """The share of the source's items that are new or changed since the model was trained."""
    versions = store.versions()
    trained_version = next((v for v in versions if v.rounds and v.finished), newest)
    if trained_version.artifacts["items"] == newest.artifacts["items"]:
        return change.share
    source = open_source(config.data, config.base)
    return _change(config, source, store, trained_version).share
