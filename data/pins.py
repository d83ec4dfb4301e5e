"""Which version is served: the newest one, unless a person pinned another.

The pin is one small file beside CURRENT; what is published never changes.
"""

from contextlib import suppress

from data.errors import StoreError
from data.store import Store, Version, sync

NAME = "PIN"


def pin(store: Store, number: int) -> Version:
    """Serve version `number` until it is unpinned; returns it."""
    version = store.version(number)
    with store.temporary() as temp:
        temp.write_text(f"{number}\n")
        sync(temp)
        temp.replace(store.root / NAME)
    sync(store.root)
    return version


def unpin(store: Store) -> None:
    """Serve the newest version again."""
    (store.root / NAME).unlink(missing_ok=True)
    sync(store.root)


def pinned(store: Store) -> int:
    """The pinned version's number, 0 where none is pinned."""
    with suppress(FileNotFoundError):
        text = (store.root / NAME).read_text(errors="replace").strip()
        if not (text.isascii() and text.isdigit() and int(text)):
            raise StoreError(f"{store.root / NAME} names no version; remove it")
        return int(text)
    return 0


def served(store: Store) -> Version | None:
    """The pinned version, or the newest one; None before anything is published."""
    number = pinned(store)
    return store.version(number) if number else store.current()
