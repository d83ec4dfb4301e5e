"""A folder of pictures as a source of items."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from remine.data.errors import InputError
from remine.data.sources.splits import VAL_NAMES, val_note
from remine.data.types import SPLITS, Int64

IMAGE_SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
)


class FolderSource:
    """One folder of images per class, optionally below folders train, val and test.

    Implements `remine.data.sources.source.Source`.
    """

    content = "path"
    notes: Sequence[str] = ()
    lacks_ids = True

    def __init__(self, root: Path) -> None:
        """List the pictures; hidden files and files of other kinds are ignored."""
        self.root = root
        top_folders = _subfolders(root)
        if not top_folders:
            raise InputError(f"{root} holds no folders: one folder of images per class is needed")
        names = {folder.name for folder in top_folders}
        val_name = _val_name(names)
        class_names = sorted(names - {*SPLITS, val_name})
        # A lone class called "val" is plausible; "train" or "test" among classes is a mistake.
        if class_names and (split_names := sorted(names & {"train", "test"})):
            raise InputError(
                f"{root} holds {', '.join(split_names)} beside {', '.join(class_names[:5])}: name"
                " splits train, val and test alone; a class of such a name needs another, or a"
                " table"
            )
        self.has_splits = bool(names & {"train"}) and not class_names
        self.paths: list[Path] = []
        self.splits: list[str] = []
        self.labels: list[str] = []
        folders = [(f, top.name) for top in top_folders for f in _subfolders(top)]
        if not (self.has_splits and folders):
            folders = [(top, "") for top in top_folders]
        for folder, split in folders:
            self._add_class(folder, "val" if split == val_name else split)
        if self.has_splits and val_name != "val":
            self.notes = [val_note(val_name, self.splits.count("val"))]

    def _add_class(self, folder: Path, split: str) -> None:
        pictures = _list_pictures(folder)
        if not pictures:
            raise InputError(f"class {folder.name!r} is empty: no image in {folder}")
        for path in pictures:
            _check_utf8(path, self.root)
        self.paths += pictures
        self.labels += [folder.name] * len(pictures)
        self.splits += [split] * len(pictures)

    def fingerprint(self) -> object:
        """The relative path, size and times of each picture."""
        return ["folder", [[str(p.relative_to(self.root)), stamp(p)] for p in self.paths]]

    def row_name(self, row: int) -> str:
        """The path of the picture."""
        return str(self.paths[row])

    def metadata(self) -> pa.Table:
        """The column `label`, and `split` if the top folders are splits."""
        columns = {"label": self.labels}
        return pa.table({**columns, "split": self.splits} if self.has_splits else columns)

    def blocks(self, rows: int) -> Iterator[Sequence[Path]]:
        """The paths, `rows` at a time."""
        for start in range(0, len(self.paths), rows):
            yield self.paths[start : start + rows]

    def ordered_blocks(self, order: Int64, rows: int) -> Iterator[Sequence[Path]]:
        """The paths in the given order, `rows` at a time."""
        for start in range(0, len(order), rows):
            yield [self.paths[row] for row in order[start : start + rows]]


def _val_name(names: set[str]) -> str:
    """The folder that is the split val: one of another name if it has only train and test beside.

    Args:
        names: The top folders.
    """
    val_names = names & set(VAL_NAMES)
    is_plain = len(val_names) == 1 and {"train"} < names <= {"train", "test", *val_names}
    return val_names.pop() if is_plain else "val"


def _subfolders(folder: Path) -> list[Path]:
    return [p for p in sorted(folder.iterdir()) if p.is_dir() and not p.name.startswith(".")]


def _list_pictures(folder: Path) -> list[Path]:
    paths = (p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(p for p in paths if not any(n[0] == "." for n in p.relative_to(folder).parts))


def _check_utf8(path: Path, root: Path) -> None:
    """Refuse a path whose name is not valid UTF-8 (Linux allows any bytes in file names)."""
    try:
        str(path.relative_to(root)).encode()
    except UnicodeEncodeError:
        printable = os.fsencode(path).decode(errors="backslashreplace")
        raise InputError(f"{printable}: its name is not UTF-8; rename it") from None


def stamp(path: Path) -> list[int]:
    """Size, modification time and change time of a file, to notice that it changed.

    A copy may preserve size and modification time, but not the change time, which the kernel sets.
    Zeros if the file does not exist; it is reported with its row when it is to be decoded.
    """
    try:
        stat = path.stat()
    except (OSError, ValueError):  # ValueError: a text that cannot be a path
        return [0, 0, 0]
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
