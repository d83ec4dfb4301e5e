"""What a source holds, without making a store: `remine check`."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from remine.data.errors import InputError
from remine.data.items.catalogue import TEST, TRAIN, VAL, Catalogue
from remine.data.items.changes import content_hashes
from remine.data.items.inputs import PICTURES, Omissions, vector_transform
from remine.data.items.pictures import decode_image
from remine.data.items.source_catalogue import build_catalogue
from remine.data.sources.source import Source, open_source
from remine.flows.config.settings import Config

BLOCK = 1024
"""Items whose contents are held at a time."""

MAX_FAULTS = 10
"""Faulty items that are listed; all are counted."""

TEXT_LIMITS = (8, 32, 128, 512)
"""Bounds of the groups of texts by length, in words."""

LARGE_CLASS = 0.5
"""Share of the items from which on one class is remarked."""


@dataclass(frozen=True, kw_only=True)
class SourceReport:
    """What a source holds: lines for people, and how many items cannot be read."""

    lines: list[str]
    n_faults: int


@dataclass(kw_only=True)
class ContentCheck:
    """The contents of all items, as they are decoded.

    Attributes:
        kinds: Counts of the kinds of content: modes of pictures, lengths of texts, dimensions.
        sizes: Counts of the sizes of pictures, (width, height).
        omissions: What is not read of pictures.
        faults: One line for each item that cannot be read, the first MAX_FAULTS.
        n_faults: How many there are.

    """

    kinds: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    omissions: Omissions = field(default_factory=Omissions)
    faults: list[str] = field(default_factory=list)
    n_faults: int = 0

    def add_fault(self, line: str) -> None:
        """Count a fault, and keep its line if there are few."""
        self.n_faults += 1
        if self.n_faults <= MAX_FAULTS:
            self.faults.append(line)


def check_source(
    config: Config, progress: Callable[[int, int], None] = lambda _count, _total: None
) -> SourceReport:
    """Read and decode everything that the settings' source holds, and describe it.

    Args:
        config: Settings; nothing but `[data]` is used, and nothing is written.
        progress: Called with the number of items that were decoded, and of all.

    Returns:
        Items, splits, classes, contents, copies, what is unusual, and what cannot be read.

    Raises:
        InputError: The source, its ids, labels or splits cannot be used.

    """
    source = open_source(config.data, config.base)
    catalogue = build_catalogue(source, config.data)
    hashes = content_hashes(source)
    check = _check_contents(source, len(catalogue.ids), progress)
    rows = (
        ("source", f"{config.data.source}: {_items(source, catalogue)}"),
        *_split_rows(source, catalogue),
        ("classes", _class_sizes(catalogue)),
        *_content_rows(check),
        ("copies", _copies(catalogue, hashes)),
        *(("reading", note) for note in source.notes),
        *_unread_rows(source),
        *(("unusual", remark) for remark in _remarks(catalogue, config.run.gallery)),
        *(("unusual", remark) for remark in _content_remarks(check, catalogue, hashes)),
        *(("left out", line) for line in check.omissions.lines()),
        *_fault_rows(check),
    )
    lines = [f"{name:<10} {text}".rstrip() for name, text in rows]
    return SourceReport(lines=lines, n_faults=check.n_faults)


def _items(source: Source, catalogue: Catalogue) -> str:
    ids = ", ids are texts" if catalogue.keys else ""
    ids = ", numbered in their order" if source.lacks_ids else ids
    classes = f"{len(catalogue.labels):,} classes"
    return f"{len(catalogue.ids):,} items of {classes}, {source.content}{ids}"


def _split_rows(source: Source, catalogue: Catalogue) -> Iterator[tuple[str, str]]:
    has_splits = "split" in source.metadata().column_names
    origin = "as the data names them" if has_splits else "by a hash of the label"
    name = "splits"
    for split, counts in catalogue.counts().items():
        yield name, f"{split:<6}{counts['items']:>9,} items of {counts['classes']:,} classes"
        name = ""
    shared = catalogue.test_classes_seen()
    seen = f"{shared:,} test classes are also trained on" if shared else "test classes are unseen"
    yield "", f"{origin}; {seen}"


def _class_sizes(catalogue: Catalogue) -> str:
    sizes = np.bincount(catalogue.label_codes, minlength=len(catalogue.labels))
    low, middle, high = (int(value) for value in np.quantile(sizes, (0, 0.5, 1)))
    return f"{low:,} to {high:,} items each, median {middle:,}"


def _remarks(catalogue: Catalogue, gallery: str) -> Iterator[str]:
    yield from catalogue.cleaning.lines()
    if catalogue.val_note:
        yield catalogue.val_note
    if gallery != "train" and (note := catalogue.test_note()):
        yield note
    sizes = np.bincount(catalogue.label_codes, minlength=len(catalogue.labels))
    if singles := int((sizes == 1).sum()):
        yield f"{singles:,} classes have one item: no pair can be made of it"
    largest = int(sizes.argmax())
    if sizes[largest] >= LARGE_CLASS * sizes.sum():
        share = sizes[largest] / sizes.sum()
        yield f"class {catalogue.labels[largest]!r} holds {share:.0%} of the items"
    for split, counts in catalogue.counts().items():
        if not counts["items"]:
            yield f"no item is in the split {split}"


def _content_remarks(
    check: ContentCheck, catalogue: Catalogue, hashes: np.ndarray
) -> Iterator[str]:
    grey = check.kinds["pictures of mode L"]
    if grey and check.kinds["pictures of mode RGB"]:
        yield f"{grey:,} grey pictures among coloured ones: all are read with three channels"
    _, codes = np.unique(hashes, return_inverse=True)
    for split, number in (("train", TRAIN), ("val", VAL)):
        shared = np.isin(codes[catalogue.splits == TEST], codes[catalogue.splits == number])
        if count := int(shared.sum()):
            yield f"{count:,} test items have the content of an item in {split}"


def _unread_rows(source: Source) -> Iterator[tuple[str, str]]:
    """The columns of a table that are not read."""
    if names := getattr(source, "unread_columns", ()):
        more = f" and {len(names) - MAX_FAULTS:,} more" if len(names) > MAX_FAULTS else ""
        columns = ", ".join(names[:MAX_FAULTS])
        yield "reading", f"columns not read: {columns}{more} (data.extra_columns keeps columns)"


def _copies(catalogue: Catalogue, hashes: np.ndarray) -> str:
    """Items whose content another item has, too; under another label they contradict."""
    _, first, codes, counts = np.unique(
        hashes, return_index=True, return_inverse=True, return_counts=True
    )
    n_copies = int((counts - 1).sum())
    labels = catalogue.label_codes
    # The items are compared with the first one of the same content.
    contradictions = int((labels != labels[first][codes]).sum())
    text = f"{n_copies:,} items repeat the content of another"
    return f"{text}, {contradictions:,} of them under another label" if n_copies else "none"


def _check_contents(
    source: Source, total: int, progress: Callable[[int, int], None]
) -> ContentCheck:
    check, start = ContentCheck(), 0
    for block in source.blocks(BLOCK):
        for offset, content in enumerate(block):
            try:
                _count(check, source.content, content)
            except InputError as error:
                check.add_fault(f"{source.row_name(start + offset)}: {error}")
        start += len(block)
        progress(start, total)
    return check


def _count(check: ContentCheck, kind: str, content: Any) -> None:
    """Decode a content and count its kind."""
    if kind in PICTURES:
        picture, notes = decode_image(content)
        check.omissions.add(1, notes)
        check.sizes[picture.size] += 1
        check.kinds[f"pictures of mode {picture.mode}"] += 1
    elif kind == "text":
        words = len(content.split())
        if not words:
            raise InputError("the text is empty")
        limit = next((limit for limit in TEXT_LIMITS if words <= limit), None)
        check.kinds[f"texts of up to {limit} words" if limit else "longer texts"] += 1
    else:
        vector_transform([content], lambda _row: "it")
        check.kinds[f"vectors of {len(content)} dimensions"] += 1


def _content_rows(check: ContentCheck) -> Iterator[tuple[str, str]]:
    name = "contents"
    for kind, count in check.kinds.most_common():
        yield name, f"{count:,} {kind}"
        name = ""
    if check.sizes:
        widths, heights = zip(*check.sizes, strict=True)
        (size, count), *_ = check.sizes.most_common(1)
        extent = f"{min(widths)} to {max(widths)} wide, {min(heights)} to {max(heights)} high"
        most = f"most are {size[0]}x{size[1]} ({count:,})"
        yield "", f"{len(check.sizes):,} sizes, {extent} pixels; {most}"


def _fault_rows(check: ContentCheck) -> Sequence[tuple[str, Any]]:
    rows = [("bad" if number == 0 else "", line) for number, line in enumerate(check.faults)]
    if check.n_faults > len(rows):
        rows.append(("", f"and {check.n_faults - len(rows):,} more"))
    return rows or [("bad", "none")]
