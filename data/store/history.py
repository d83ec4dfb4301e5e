"""One summary of plain values per version of a store."""

from dataclasses import dataclass
from datetime import UTC, datetime

from remine.data.store.pins import pinned_version, served_version
from remine.data.store.store import Store

METRIC = "recall@1"
"""The metric that the history shows."""


@dataclass(frozen=True, kw_only=True)
class VersionSummary:
    """One version.

    Attributes:
        number, cycle, round, rounds: As in `remine.data.store.records.Version`.
        published_at: The time of publication; None if it is not known.
        metric: The value of METRIC, 0 to 1; None before the first evaluation.
        bytes: The size of its files.
        new: The size of those that the version before it does not have.
        notes: Whether it is the newest, pinned, served or read, separated by commas.
    """

    number: int
    cycle: int
    round: int
    rounds: int
    published_at: datetime | None
    metric: float | None
    bytes: int
    new: int
    notes: str


def history(store: Store) -> list[VersionSummary]:
    """Summarize all versions, newest first."""
    times = _publication_times(store)
    pin, numbers = pinned_version(store), store.numbers()
    newest, served = numbers[-1] if numbers else 0, served_version(store)
    numbers_in_use = store.place.versions_in_use()
    summaries: list[VersionSummary] = []
    previous_files: set[str] = set()
    for number in numbers:
        version = store.version(number)
        files = version.files
        metrics = version.artifacts.get(f"metrics/round={version.round}")
        notes = {
            "newest": number == newest,
            "pinned": number == pin,
            "served": served is not None and number == served.number,
            "read": number in numbers_in_use,
        }
        summaries.append(
            VersionSummary(
                number=number,
                cycle=version.cycle,
                round=version.round,
                rounds=version.rounds,
                published_at=times.get(number),
                metric=metrics.card.get(METRIC) if metrics else None,
                bytes=sum(file.bytes for file in files.values()),
                new=sum(file.bytes for name, file in files.items() if name not in previous_files),
                notes=", ".join(note for note, applies in notes.items() if applies),
            )
        )
        previous_files = set(files)
    return summaries[::-1]


def _publication_times(store: Store) -> dict[int, datetime]:
    """The time of publication by version: from the log, else the time of the manifest file."""
    entries = store.place.entries("versions")
    times = {int(n[:8]): e.time for n, e in entries.items() if n[:8].isdigit()}
    for event in store.events():
        number, seconds = event.get("version"), event.get("time")
        if event.get("event") == "publish" and number in times and isinstance(seconds, int | float):
            times[number] = seconds
    return {number: datetime.fromtimestamp(time, UTC) for number, time in times.items()}
