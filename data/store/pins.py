"""Which version is served: the newest one, unless a person pinned another.

The pin is one small file beside CURRENT; what is published never changes.
"""

from contextlib import suppress

from remine.data.errors import InputError, StoreError
from remine.data.store.records import Version, digest
from remine.data.store.store import Store

NAME = "PIN"


def pin(store: Store, number: int) -> Version:
    """Serve version `number` until it is unpinned; returns it."""
    store.version(number)
    store.place.write(NAME, line(number))
    try:
        return store.version(number)  # a collection reads the pin after it retires a version
    except InputError:
        unpin(store)
        raise


def unpin(store: Store) -> None:
    """Serve the newest version again."""
    store.place.remove(NAME)


def pinned(store: Store) -> int:
    """The pinned version's number, 0 where none is pinned."""
    with suppress(FileNotFoundError):
        content = store.place.read(NAME)
        text = content.decode(errors="replace").partition(" ")[0]
        if not (text.isascii() and text.isdigit() and len(text) < 19) or content != line(int(text)):
            raise StoreError(f"{store.address}/{NAME} names no version; remove it")
        return int(text)
    return 0


def line(number: int) -> bytes:
    """What the file holds: the number, and enough of its hash to tell a damaged one."""
    return f"{number} {digest(number)[:16]}\n".encode()


def served(store: Store) -> Version | None:
    """The pinned version, or the newest one; None before anything is published."""
    number = pinned(store)
    return store.version(number) if number else store.current()
