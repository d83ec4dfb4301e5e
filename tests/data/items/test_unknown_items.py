"""Items of no class: marked by a split or a label, and kept out of all classes."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from remine.data.config import DataConfig
from remine.data.errors import InputError
from remine.data.items.source_catalogue import build_catalogue
from remine.data.types import SPLITS


class Metadata:
    content = "text"
    root = Path()

    def __init__(self, **columns: Any) -> None:
        self.columns = columns

    def metadata(self) -> pa.Table:
        return pa.table(self.columns)

    def row_name(self, row: int) -> str:
        return f"row {row}"


KNOWN = {"label": ["a", "a", "b", "b", "c", "c"], "split": ["train"] * 4 + ["test"] * 2}


def with_rows(labels, splits):
    return Metadata(label=[*KNOWN["label"], *labels], split=[*KNOWN["split"], *splits])


def splits_of(catalogue):
    return [SPLITS[code] for code in catalogue.splits]


def test_the_split_unknown_marks_items_and_needs_no_label():
    result = build_catalogue(with_rows(["x", None], ["unknown"] * 2), DataConfig())
    assert splits_of(result) == [*KNOWN["split"], "unknown", "unknown"]
    assert result.labels[result.label_codes[-1]] == "unknown"
    assert result.counts()["unknown"] == {"items": 2, "classes": 2}
    assert "unknown" not in build_catalogue(with_rows([], []), DataConfig()).counts()


def test_a_label_marks_items_of_any_split():
    source = with_rows(["oos", " oos", "oos"], ["train", "val", "test"])
    result = build_catalogue(source, DataConfig(unknown_labels=("oos",)))
    assert splits_of(result)[-3:] == ["unknown"] * 3
    assert result.counts()["val"]["items"] == 0


def test_a_label_marks_items_without_splits_and_moves_no_class():
    labels = [f"c{i % 30}" for i in range(90)]
    plain = build_catalogue(Metadata(label=labels), DataConfig())
    result = build_catalogue(
        Metadata(label=[*labels, "oos", "oos"]), DataConfig(unknown_labels=("oos",))
    )
    assert splits_of(result) == [*splits_of(plain), "unknown", "unknown"]


@pytest.mark.parametrize("number", range(20))
def test_the_only_test_class_is_never_an_unknown_one(number):
    labels = [f"{number}-{i % 5}" for i in range(10)]
    config = DataConfig(test_share=0.01, val_share=0, unknown_labels=(labels[0], labels[1]))
    counts = build_catalogue(Metadata(label=labels), config).counts()
    assert counts["test"]["classes"] == 1
    assert counts["unknown"]["classes"] == 2


def test_val_is_not_taken_from_unknown_classes():
    labels = [f"c{i % 20}" for i in range(200)]
    splits = ["test" if i % 20 < 5 else "train" for i in range(200)]
    source = Metadata(label=[*labels, *["oos"] * 50], split=[*splits, *["train"] * 50])
    result = build_catalogue(source, DataConfig(val_from_train=0.9, unknown_labels=("oos",)))
    assert splits_of(result)[-50:] == ["unknown"] * 50
    assert result.counts()["val"]["items"]


def test_contradictions_are_refused():
    with pytest.raises(InputError, match=r"^row 6: split is 'unknown', but .* its label 'a', too"):
        build_catalogue(with_rows(["a"], ["unknown"]), DataConfig())
    with pytest.raises(InputError, match="unknown_labels: no item has the label 'none'"):
        build_catalogue(with_rows([], []), DataConfig(unknown_labels=("none",)))
    with pytest.raises(InputError, match="row 6: label is missing"):
        build_catalogue(with_rows([None], ["train"]), DataConfig())
