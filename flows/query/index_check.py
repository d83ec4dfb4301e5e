"""The published versions, one version's index, and the check of an index, on the terminal."""

from collections.abc import Callable, Iterator

from rich.table import Table

from remine.data import schemas
from remine.data.errors import StoreError
from remine.data.store.pins import pinned_version, served_version
from remine.data.store.records import Version
from remine.data.store.store import Store
from remine.flows.query.snapshot import Snapshot, index_card
from remine.flows.query.terminal import wide_console
from remine.index.recall_check import max_stored_error, measure_recall

RECALL_SLACK = 0.02
"""How far recall on another sample may lie under the recall on the card."""
ROUNDING = {"Flat": 1e-9, "SQfp16": 1e-4, "SQ8": 0.01}
"""By codec: the largest squared distance between a vector and its stored form."""


def print_versions(store: Store) -> None:
    """Print one line per version, newest first."""
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
    """Print the card of one version's index and its recall curve."""
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
    if update := index.card.get("update"):
        lines["updated"] = (
            f"from version {update['base']}: {update['added']:,} added,"
            f" {update['removed']:,} removed; {update['moved']:,} since the last full build,"
            f" in version {update['since']}"
        )
    if reason := index.card.get("rebuilt"):
        lines["rebuilt"] = reason
    for name, text in lines.items():
        console.print(f"{name:<11} {text}")
    console.print(
        f"recall against exact search for queries like the items ({card.held_out:,} held out):"
    )
    table = Table(card.knob, "recall@1", "recall@10", "recall@100", "vectors visited")
    for point in card.curve:
        shares = (point.recall_1, point.recall_10, point.recall_100)
        visited_share = "" if point.visited is None else f"{point.visited:.2%}"
        mark = " *" if point.setting == card.setting else ""
        table.add_row(
            f"{point.setting}{mark}", *(f"{share:.4f}" for share in shares), visited_share
        )
    console.print(table)


def verify(store: Store, version: Version, report: Callable[[str], None]) -> None:
    """Check one version's index and report each step; stops at the first fault.

    Args:
        store: The store that holds the version.
        version: The version to check.
        report: Called with one line per check that passed.

    Raises:
        StoreError: If a file, a vector or the recall is not as the version says.
    """
    report(f"version {version.number}: {len(version.artifacts)} artifacts")
    for artifact in version.artifacts.values():
        store.paths(artifact)  # verifies the checksums
    count = sum(len(artifact.files) for artifact in version.artifacts.values())
    report(f"ok  {count} files match the checksums of the version")
    snapshot = Snapshot(store, version)  # refuses an index of another checkpoint or other items
    report("ok  the index belongs to this version's checkpoint and items")
    for line in _measure(snapshot):
        report(f"ok  {line}")


def _measure(snapshot: Snapshot) -> Iterator[str]:
    """Compare the index with the version's embeddings; yield one line per check that passed."""
    version, card = snapshot.version, snapshot.searcher.card
    artifact = version.artifacts["embeddings"]
    if version.artifacts["index"].card["embeddings"] != artifact.digest:
        raise StoreError(f"version {version.number}: the index is of other embeddings")
    embeddings = schemas.read_embeddings(snapshot.store.paths(artifact))
    gap = max_stored_error(snapshot.searcher, embeddings)
    # Other codecs, such as product quantization, have no bound worth checking.
    limit = ROUNDING.get(card.factory.rpartition(",")[2])
    if limit is not None and gap > limit:
        raise StoreError(
            f"version {version.number}: stored vectors are {gap:.2g} away from the embeddings"
        )
    yield f"stored vectors are at most {gap:.2g} away from the embeddings (squared)"
    recall, sampled_items = measure_recall(snapshot.searcher, embeddings)
    if recall < card.recall - RECALL_SLACK:
        raise StoreError(
            f"version {version.number}: recall@10 is {recall:.4f} on {sampled_items} items; the"
            f" card says {card.recall:.4f}"
        )
    yield (
        f"recall@10 is {recall:.4f} for queries like the items, on {sampled_items:,} items"
        f" (card: {card.recall:.4f})"
    )


def _build_seconds(store: Store, sha256: str) -> float | None:
    """Seconds that the build took, from the event log; None if it is not there."""
    events = [event for event in store.events() if event.get("sha256") == sha256]
    seconds = [event["seconds"] for event in events if event.get("event") == "index"]
    return seconds[-1] if seconds else None
