"""Which version is served: the one that the newest chooses, unless a user pinned another.

A version names the round of its cycle that is served: the best one so far on val. The pin is a
small file next to CURRENT; published files never change.
"""

from contextlib import suppress

from remine.data.errors import InputError, StoreError
from remine.data.store.records import Artifact, Version, digest
from remine.data.store.store import Store

NAME = "PIN"
"""The file that holds the pin."""
CHOICE = "choice"
"""The artifact of a version that names the `round` to serve and its `embeddings` digest."""


def pin(store: Store, number: int) -> Version:
    """Serve version `number` until `unpin`; returns the version."""
    store.version(number)
    store.place.write(NAME, pin_line(number))
    try:
        # `gc` reads the pin after it retired versions, so one of the two notices the other.
        return store.version(number)
    except InputError:
        unpin(store)
        raise


def unpin(store: Store) -> None:
    """Serve the version again that the newest one chooses."""
    store.place.remove(NAME)


def pinned_version(store: Store) -> int:
    """The number of the pinned version, 0 if none is pinned."""
    with suppress(FileNotFoundError):
        content = store.place.read(NAME)
        text = content.decode(errors="replace").partition(" ")[0]
        if not (text.isascii() and text.isdigit() and len(text) < 19) or content != pin_line(
            int(text)
        ):
            raise StoreError(f"{store.address}/{NAME} names no version; remove it")
        return int(text)
    return 0


def pin_line(number: int) -> bytes:
    """The content of the file: the number, and part of its hash to detect damage."""
    return f"{number} {digest(number)[:16]}\n".encode()


def served_version(store: Store) -> Version | None:
    """The pinned version, else the one that the newest chooses; None before the first."""
    if number := pinned_version(store):
        return store.version(number)
    newest = store.current()
    return newest and chosen_version(store, newest)


def chosen_version(store: Store, version: Version) -> Version:
    """The version of a round of its cycle that `version` chooses to serve.

    Raises:
        StoreError: That version does not exist.
    """
    choice = version.artifacts.get(CHOICE)
    # Stores of 0.1 have no choice: they serve the newest.
    if choice is None or choice.card["round"] == version.round:
        return version
    for number in reversed(store.numbers()):
        if number < version.number:
            candidate = store.version(number)
            # A killed cycle with other settings may have left other versions of the round.
            if candidate.cycle == version.cycle and _is_choice(candidate, choice):
                return candidate
    raise StoreError(
        f"{store.address}: version {version.number} serves round {choice.card['round']} of its"
        " cycle, which has no version any more; pin another: `remine index use NUMBER`"
    )


def cycle_record(store: Store, version: Version) -> Version:
    """The version with the records (metrics, triplets, training) of all rounds of a cycle.

    Returns:
        The newest version if it chooses to serve `version`; `version` itself if it does not.
    """
    newest = store.current()
    is_chosen = newest is not None and chosen_version(store, newest).number == version.number
    return newest if newest is not None and is_chosen else version


def _is_choice(version: Version, choice: Artifact) -> bool:
    embeddings = version.artifacts["embeddings"].digest
    return (version.round, embeddings) == (choice.card["round"], choice.card["embeddings"])
