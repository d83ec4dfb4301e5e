"""A folder of pictures as a source of items (see data.sources)."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from remine.data.errors import InputError
from remine.data.types import SPLITS, Int64

IMAGE_SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
)


class FolderSource:
    """Images in a folder a class, optionally below folders train, val and test."""

    content = "path"
    numbered = True

    def __init__(self, root: Path) -> None:
        """List the pictures; hidden files and files of other kinds are passed over."""
        self.root = root
        tops = [p for p in sorted(root.iterdir()) if p.is_dir() and not p.name.startswith(".")]
        if not tops:
            raise InputError(f"{root} holds no folders: one folder of images per class is needed")
        names = {p.name for p in tops}
        others = sorted(names - set(SPLITS))
        if others and (named := sorted(names & {"train", "test"})):
            raise InputError(
                f"{root} holds {', '.join(named)} beside {', '.join(others[:5])}: name splits"
                " train, val and test alone; a class of such a name needs another, or a table"
            )
        self.split = bool(names & {"train"}) and not others
        folders = [(f, t.name) for t in tops for f in _folders(t)] if self.split else None
        self.paths: list[Path] = []
        self.splits: list[str] = []
        self.labels: list[str] = []
        for folder, split in folders or [(t, "") for t in tops]:
            self._add(folder, split)

    def _add(self, folder: Path, split: str) -> None:
        found = _pictures(folder)
        if not found:
            raise InputError(f"class {folder.name!r} is empty: no image in {folder}")
        for path in found:
            _check_utf8(path, self.root)
        self.paths += found
        self.labels += [folder.name] * len(found)
        self.splits += [split] * len(found)

    def fingerprint(self) -> object:
        """Each picture's place, size and times."""
        return ["folder", [[str(p.relative_to(self.root)), stamp(p)] for p in self.paths]]

    def where(self, row: int) -> str:
        """The picture's path."""
        return str(self.paths[row])

    def metadata(self) -> pa.Table:
        """label, and split where the folders name it."""
        columns = {"label": self.labels}
        return pa.table({**columns, "split": self.splits} if self.split else columns)

    def blocks(self, rows: int) -> Iterator[Sequence[Path]]:
        """The paths."""
        for start in range(0, len(self.paths), rows):
            yield self.paths[start : start + rows]

    def taken(self, order: Int64, rows: int) -> Iterator[Sequence[Path]]:
        """The paths in `order`."""
        for start in range(0, len(order), rows):
            yield [self.paths[row] for row in order[start : start + rows]]


def _folders(folder: Path) -> list[Path]:
    return [p for p in sorted(folder.iterdir()) if p.is_dir() and not p.name.startswith(".")]


def _pictures(folder: Path) -> list[Path]:
    found = (p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(p for p in found if not any(n[0] == "." for n in p.relative_to(folder).parts))


def _check_utf8(path: Path, root: Path) -> None:
    """Refuse a name below `root` that cannot be stored as text (Linux allows any bytes)."""
    try:
        str(path.relative_to(root)).encode()
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode(errors="backslashreplace")
        raise InputError(f"{shown}: its name is no UTF-8; rename it") from None


def stamp(path: Path) -> list[int]:
    """Size and times of a file, zeros when it is not there (catalogue says so, with the row).

    A copy may keep size and time of modification; the kernel's own time it cannot keep.
    """
    try:
        stat = path.stat()
    except (OSError, ValueError):  # a path that is none, such as a long text
        return [0, 0, 0]
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
