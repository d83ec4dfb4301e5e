"""Which version is served: the newest, unless a user pinned another.

The pin is a small file next to CURRENT; published files never change.
"""

from contextlib import suppress

from remine.data.errors import InputError, StoreError
from remine.data.store.records import Version, digest
from remine.data.store.store import Store

NAME = "PIN"
"""The file that holds the pin."""


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
    """Serve the newest version again."""
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
    """The pinned version, else the newest one; None before the first is published."""
    number = pinned_version(store)
    return store.version(number) if number else store.current()
