"""The versions of a store as a table of plain values."""

from dataclasses import dataclass
from datetime import UTC, datetime

from remine.data.store.pins import pinned
from remine.data.store.store import Store

METRIC = "recall@1"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One version. bytes: of its files; new: of those that the version before it has not.

    metric: of the newest metrics in it, None where it has none. when: of its publication.
    """

    number: int
    cycle: int
    round: int
    rounds: int
    when: datetime | None
    metric: float | None
    bytes: int
    new: int
    notes: str


def history(store: Store) -> list[Row]:
    """A row a version, newest first."""
    when = _published(store)
    pin, numbers = pinned(store), store.numbers()
    newest = numbers[-1] if numbers else 0
    held = store.place.held()
    rows: list[Row] = []
    known: set[str] = set()
    for number in numbers:
        version = store.version(number)
        files = version.files
        measured = version.artifacts.get(f"metrics/round={version.round}")
        notes = {
            "newest": number == newest,
            "pinned": number == pin,
            "served": number == (pin or newest),
            "read": number in held,
        }
        rows.append(
            Row(
                number=number,
                cycle=version.cycle,
                round=version.round,
                rounds=version.rounds,
                when=when.get(number),
                metric=measured.card.get(METRIC) if measured else None,
                bytes=sum(file.bytes for file in files.values()),
                new=sum(file.bytes for name, file in files.items() if name not in known),
                notes=", ".join(note for note, true in notes.items() if true),
            )
        )
        known = set(files)
    return rows[::-1]


def _published(store: Store) -> dict[int, datetime]:
    """When each version was published: from the log, else the manifest's own time."""
    entries = store.place.entries("versions")
    found = {int(n[:8]): e.time for n, e in entries.items() if n[:8].isdigit()}
    for event in store.events():
        number, seconds = event.get("version"), event.get("time")
        if event.get("event") == "publish" and number in found and isinstance(seconds, int | float):
            found[number] = seconds
    return {number: datetime.fromtimestamp(time, UTC) for number, time in found.items()}
