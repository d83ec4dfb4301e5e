"""The versions of the index on the terminal: which there are, what one is, whether it is sound."""

from collections.abc import Callable, Iterator

from rich.table import Table

from remine.data import schemas
from remine.data.errors import StoreError
from remine.data.store.pins import pinned_version, served_version
from remine.data.store.records import Version
from remine.data.store.store import Store
from remine.flows.query.snapshot import Snapshot, index_card
from remine.flows.query.terminal import wide_console
from remine.index.recheck import recall_again, stored_as_given

SLACK = 0.02
ROUNDING = 0.01


def print_versions(store: Store) -> None:
    """A line a version, newest first."""
    table = Table("version", "cycle", "round", "index", "items", "recall@10", "MB", "model", "")
    current, serving = store.current(), served_version(store)
    for version in store.versions():
        index = version.artifacts["index"]
        notes = []
        if current and version.number == current.number:
            notes.append("newest")
        if serving and version.number == serving.number:
            notes.append("pinned, served" if pinned_version(store) else "served")
        table.add_row(
            str(version.number),
            str(version.cycle),
            f"{version.round} of {version.rounds}",
            index.card["factory"],
            f"{index.card['items']:,}",
            f"{index.card['recall']:.4f}",
            f"{index.files[0].bytes / 1e6:.1f}",
            index.card["checkpoint"][:12],
            ", ".join(notes),
        )
    wide_console().print(table)


def print_version(store: Store, version: Version) -> None:
    """The card of one version's index, and its curve."""
    card, index = index_card(version), version.artifacts["index"]
    seconds = _build_seconds(store, index.files[0].sha256)
    console = wide_console()
    lines = {
        "version": f"{version.number}, cycle {version.cycle}, round {version.round}",
        "factory": f"{card.factory} ({card.reason})",
        "items": f"{card.items:,} of {card.dimensions} dimensions",
        "bytes": f"{index.files[0].bytes:,}",
        "built in": f"{seconds:.1f} s" if seconds is not None else "not in this store's log",
        "checkpoint": index.card["checkpoint"],
        "embeddings": index.card["embeddings"],
        "file": index.files[0].object,
        "setting": f"{card.knob} {card.setting}, for recall {card.wished:g}",
    }
    if follows := index.card.get("update"):
        lines["brought up"] = (
            f"from version {follows['base']}: {follows['added']:,} added,"
            f" {follows['removed']:,} removed; {follows['moved']:,} since the whole"
            f" build that version {follows['since']} has"
        )
    if why := index.card.get("rebuilt"):
        lines["built anew"] = why
    for name, text in lines.items():
        console.print(f"{name:<11} {text}")
    console.print(f"recall against exact search, on {card.held_out:,} items held out:")
    table = Table(card.knob, "recall@1", "recall@10", "recall@100", "vectors visited")
    for point in card.curve:
        shares = (point.recall_1, point.recall_10, point.recall_100)
        seen = "" if point.visited is None else f"{point.visited:.2%}"
        mark = " *" if point.setting == card.setting else ""
        table.add_row(f"{point.setting}{mark}", *(f"{share:.4f}" for share in shares), seen)
    console.print(table)


def verify(store: Store, version: Version, say: Callable[[str], None]) -> None:
    """Check one version's index and say what was found; refuses at the first fault."""
    say(f"version {version.number}: {len(version.artifacts)} artifacts")
    for artifact in version.artifacts.values():
        store.paths(artifact)
    count = sum(len(artifact.files) for artifact in version.artifacts.values())
    say(f"ok  {count} files have the bytes that the version names")
    snapshot = Snapshot(store, version)
    say("ok  the index is of this version's checkpoint and items")
    for line in _measured(snapshot):
        say(f"ok  {line}")


def _measured(snapshot: Snapshot) -> Iterator[str]:
    """What the index is worth against the version's own embeddings."""
    version, card = snapshot.version, snapshot.searcher.card
    artifact = version.artifacts["embeddings"]
    if version.artifacts["index"].card["embeddings"] != artifact.digest:
        raise StoreError(f"version {version.number}: the index is of other embeddings")
    embeddings = schemas.read_embeddings(snapshot.store.paths(artifact))
    gap = stored_as_given(snapshot.searcher, embeddings)
    codec = card.factory.rpartition(",")[2]
    allowed = {"Flat": 1e-9, "SQfp16": 1e-4, "SQ8": ROUNDING}.get(codec)
    if allowed is not None and gap > allowed:
        raise StoreError(
            f"version {version.number}: stored vectors are {gap:.2g} away from the embeddings"
        )
    yield f"stored vectors are at most {gap:.2g} away from the embeddings (squared)"
    recall, asked = recall_again(snapshot.searcher, embeddings)
    if recall < card.recall - SLACK:
        raise StoreError(
            f"version {version.number}: recall@10 is {recall:.4f} on {asked} items; the card says"
            f" {card.recall:.4f}"
        )
    yield f"recall@10 is {recall:.4f} on {asked:,} items (card: {card.recall:.4f})"


def _build_seconds(store: Store, sha256: str) -> float | None:
    """How long the build took, from the log."""
    events = [event for event in store.events() if event.get("sha256") == sha256]
    seconds = [event["seconds"] for event in events if event.get("event") == "index"]
    return seconds[-1] if seconds else None
