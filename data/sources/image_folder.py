"""A folder of pictures as a source of items."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from remine.data.errors import InputError
from remine.data.sources.picture_formats import install_lines, is_picture_ending
from remine.data.sources.splits import VAL_NAMES, val_note
from remine.data.types import SPLITS, Int64

ENDINGS_LISTED = 8
"""Endings of passed-over files that are named, the most frequent first."""
LOOP = "linked folder already read"
HIDDEN_FILE = "hidden"


class FolderSource:
    """One folder of images per class, optionally below folders train, val and test.

    A class is a folder that holds pictures, at any depth, named by its path; or each top folder.

    Links to folders are followed, but to no folder twice within a class.
    Implements `remine.data.sources.source.Source`.
    """

    content = "path"
    lacks_ids = True

    def __init__(self, root: Path, class_folders: str = "leaf") -> None:
        """List the pictures; hidden files and files of other kinds are only counted.

        Args:
            root: The folder.
            class_folders: "leaf" or "top": which folders are the classes.
        """
        self.root, self.class_folders = root, class_folders
        self.passed_over: Counter[str] = Counter()
        self.notes: list[str] = []
        top_folders = self._subfolders(root)
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
        entries = (path for top in top_folders for path in _entries(top))
        if self.has_splits and any(map(_is_visible_folder, entries)):
            folders = [(f, top.name) for top in top_folders for f in self._subfolders(top)]
        else:
            folders = [(top, "") for top in top_folders]
        for folder, split in folders:
            self._add_class(folder, "val" if split == val_name else split)
        if self.has_splits and val_name != "val":
            self.notes.append(val_note(val_name, self.splits.count("val")))
        self.notes += self._depth_lines()
        self.notes += self.omission_lines()

    def _add_class(self, folder: Path, split: str) -> None:
        pictures, passed_over = _list_files(folder)
        self.passed_over += passed_over
        if not pictures:
            contents = f", only {_counts(passed_over)}" if passed_over else ""
            raise InputError(f"class {folder.name!r} is empty: no image in {folder}{contents}")
        for path in pictures:
            _check_utf8(path, self.root)
        self.paths += pictures
        if self.class_folders == "top":
            self.labels += [folder.name] * len(pictures)
        else:
            self.labels += [path.parent.relative_to(folder.parent).as_posix() for path in pictures]
        self.splits += [split] * len(pictures)

    def _depth_lines(self) -> list[str]:
        """A line that counts the classes if there are folders within class folders."""
        top = {label.partition("/")[0] for label in self.labels}
        names = set(self.labels)
        if names == top:
            return []
        depth = 1 + max(name.count("/") for name in names)
        line = (
            f"{self.root}: {len(names):,} classes, the folders that hold pictures, up to {depth}"
            f' deep; data.class_folders = "top" makes {len(top):,} of the folders at the top'
        )
        return [line]

    def _subfolders(self, folder: Path) -> list[Path]:
        """The folders in `folder`; its files belong to no class and are counted."""
        entries = _entries(folder)
        folders = [path for path in entries if _is_visible_folder(path)]
        for path in entries:
            if not _is_visible_folder(path):
                place = "" if _ending(path) == HIDDEN_FILE else " outside the class folders"
                self.passed_over[f"{_ending(path)}{place}"] += 1
        return folders

    def omission_lines(self) -> list[str]:
        """Lines that count the files that were passed over, and say how to read them."""
        count = self.passed_over.total()
        if not count:
            return []
        line = f"{self.root}: {count:,} passed over: {_counts(self.passed_over)}"
        return [line, *install_lines(self.passed_over)]

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


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}; its pictures cannot be listed") from None


def _is_visible_folder(path: Path) -> bool:
    return not path.name.startswith(".") and path.is_dir()


def _ending(path: Path) -> str:
    if path.name.startswith("."):
        return HIDDEN_FILE
    return path.suffix.lower() or "without ending"


def _list_files(folder: Path) -> tuple[list[Path], Counter[str]]:
    """The pictures below `folder` in order of path, and the number of other files by ending."""
    pictures: list[Path] = []
    passed_over: Counter[str] = Counter()
    resolved_folders: set[Path] = set()
    pending = [folder]
    links: list[Path] = []
    # Links last, so that a folder reached in two ways keeps its own path.
    while pending or links:
        current = pending.pop() if pending else links.pop(0)
        target = current.resolve()
        if target in resolved_folders or (
            current.is_symlink() and _holds(target, current.parent, folder)
        ):
            passed_over[LOOP] += 1
            continue
        resolved_folders.add(target)
        for path in _entries(current):
            if _is_visible_folder(path):
                (links if path.is_symlink() else pending).append(path)
            elif is_picture_ending(_ending(path)):
                pictures.append(path)
            else:
                passed_over[_ending(path)] += 1
    return sorted(pictures), passed_over


def _holds(target: Path, parent: Path, class_folder: Path) -> bool:
    """Whether the target of a link holds the link, or the class, and so perhaps other classes."""
    if parent.resolve().is_relative_to(target):
        return True
    return target != class_folder.resolve() and class_folder.resolve().is_relative_to(target)


def _counts(passed_over: Counter[str]) -> str:
    """Numbers of files by ending, the most frequent first."""
    ordered_counts = sorted(passed_over.items(), key=lambda pair: (-pair[1], pair[0]))
    parts = [f"{count:,} {ending}" for ending, count in ordered_counts[:ENDINGS_LISTED]]
    if remaining := sum(count for _, count in ordered_counts[ENDINGS_LISTED:]):
        parts.append(f"{remaining:,} with other endings")
    return ", ".join(parts)


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
