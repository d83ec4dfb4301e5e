"""Val items out of the training items, for data without any.

Without val nothing says whether a round made the model better. Where test classes are not trained
on, whole classes become val, so that val asks what test asks: classes never seen. Where they are
(a closed set), or where there are too few classes to give any up, some items of each class do.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from remine.data.items.catalogue import TEST, TRAIN, VAL
from remine.data.types import Float64, Int8, Int32, Int64

MIN_CLASSES = 2
"""Val classes below which retrieval among them says nothing: of one class, every item is right."""
FEW_CLASSES = 10
"""Training classes below which none is given up."""
MIN_ITEMS = 6
"""Training items of a class below which it gives up none: two for val, and enough to train on."""


def has_val(splits: Int8, codes: Int32) -> bool:
    """Whether there are val items to measure: two classes, one of them with two items."""
    counts = np.bincount(codes[splits == VAL])
    return bool((counts > 0).sum() >= MIN_CLASSES and counts.max() > 1)


def with_val(
    splits: Int8, codes: Int32, labels: Sequence[str], ids: Int64, share: float
) -> tuple[Int8, str]:
    """Move training items to val.

    Args:
        splits: (n,) codes of the splits.
        codes: (n,) int32 class codes.
        labels: Class names by code.
        ids: (n,) ids of the items.
        share: Share of the training classes, or of the items of each, that become val.

    Returns:
        The splits, and a line that says what was moved; as they are and empty if nothing was.
    """
    train_classes = np.unique(codes[splits == TRAIN])
    test_classes = np.unique(codes[splits == TEST])
    seen_count = len(np.intersect1d(train_classes, test_classes))
    if 2 * seen_count < len(test_classes) and len(train_classes) >= FEW_CLASSES:
        moved_classes = _moved_classes(train_classes, labels, share)
        moved = (splits == TRAIN) & np.isin(codes, moved_classes)
        subject = f"{len(moved_classes):,} of {len(train_classes):,} training classes"
    else:
        moved = _moved_items(splits, codes, ids, share)
        subject = "some items of each training class"
    new_splits = np.where(moved, np.int8(VAL), splits)
    # A class of one item is no query, so that even ten classes may have none.
    if not has_val(new_splits, codes):
        return splits, ""
    reason = _lack(splits, codes)
    return new_splits, f"val: {subject} ({int(moved.sum()):,} items), since {reason}"


def _lack(splits: Int8, codes: Int32) -> str:
    """Why the val items, if there are any, do not do."""
    val_codes = codes[splits == VAL]
    if not len(val_codes):
        return "the data has no val"
    if len(np.unique(val_codes)) < MIN_CLASSES:
        return f"of one class all {len(val_codes):,} val items are right"
    return f"no two of the {len(val_codes):,} val items are of one class"


def label_fractions(labels: Sequence[str]) -> Float64:
    """(c,) numbers in [0, 1), each from a hash of the label alone.

    They do not depend on the other labels, so adding a label moves no other class.
    """
    hashes = (hashlib.blake2b(label.encode(), digest_size=8).digest() for label in labels)
    return np.array([int.from_bytes(value) / 2**64 for value in hashes], np.float64)


def smallest(fractions: Float64, share: float, least: int) -> Int64:
    """The positions of the fractions below `share`, or of the `least` smallest if that is more."""
    count = max(least, int((fractions < share).sum()))
    return np.argsort(fractions, kind="stable")[:count]


def _moved_classes(train_classes: Int64, labels: Sequence[str], share: float) -> Int64:
    fractions = label_fractions([labels[code] for code in train_classes])
    moved_classes: Int64 = train_classes[smallest(fractions, share, MIN_CLASSES)]
    return moved_classes


def _moved_items(splits: Int8, codes: Int32, ids: Int64, share: float) -> NDArray[np.bool_]:
    """(n,) bool: per training class of MIN_ITEMS or more, `share` of its items, at least two."""
    moved = np.zeros(len(splits), bool)
    rows = np.flatnonzero(splits == TRAIN)
    rows = rows[np.argsort(codes[rows], kind="stable")]
    for class_rows in np.split(rows, np.flatnonzero(np.diff(codes[rows])) + 1):
        if len(class_rows) >= MIN_ITEMS:
            moved[class_rows[smallest(_id_fractions(ids[class_rows]), share, 2)]] = True
    return moved


def _id_fractions(ids: Int64) -> Float64:
    """(n,) numbers in [0, 1) from the ids, by the mixing function of SplitMix64 (Steele 2014)."""
    mixed = ids.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed.astype(np.float64) / 2.0**64
