"""What is refused before a store is made, and where a new store is staged."""

import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from remine.data.errors import InputError
from remine.flows.config.settings import load_config
from remine.flows.cycle.cycle import prepared
from remine.flows.jobs.console import Console
from remine.flows.jobs.job import run_plain


def prepare(config_file: Path, *overrides: str) -> None:
    with prepared(load_config(config_file, overrides), run_plain, Console(quiet=True)):
        pass


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("encoder.name=ngram", "encoder.name is 'ngram'"),
        ("index.factory=Foo", "index.factory 'Foo' is not one that FAISS knows"),
        ("index.factory=IVF1024,Flat", "needs 1024 vectors or more beside the 82 that measure"),
        ("index.factory=PQ4x12", "needs 4096 vectors or more beside the 82 that measure"),
        ('train.kinds=["hard", "semi_hard"]', "train.kinds contains semi_hard"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_a_store_is_made(
    config_file, override, message
):
    changes = ['mining.negatives=["hard"]'] if "kinds" in override else []
    with pytest.raises(InputError, match=message):
        prepare(config_file, override, *changes)
    assert [path.name for path in config_file.parent.iterdir()] == ["remine.toml"]
    prepare(config_file)
    if not changes:  # and by a store that is there
        with pytest.raises(InputError, match=message):
            prepare(config_file, override)


def test_what_is_left_out_of_the_data_is_said_once(config_file):
    texts = {
        f"{label}{row}": "word " * (300 if row else 3) for label in "abcdefghijkl" for row in (0, 1)
    }
    rows = "".join(f"{name[0]},{text}{name}\n" for name, text in texts.items())
    (config_file.parent / "items.csv").write_text(f"label,text\n{rows}")
    config = load_config(
        config_file, ["data.source=items.csv", "encoder.name=ngram", "data.unit_rows=16"]
    )
    lines: list[str] = []
    for _ in range(2):
        with prepared(config, run_plain, Console(quiet=True, on_line=lines.append)):
            pass
    cuts = [line for line in lines if "cut to" in line]
    assert cuts == [
        "12 of 24 texts: cut to their first 256 grams (all words, then the trigrams of each)"
    ]


def test_a_new_store_may_be_a_link_to_another_disk(config_file):
    second = Path("/dev/shm")
    if not second.is_dir() or second.stat().st_dev == config_file.stat().st_dev:
        pytest.skip("no other disk at hand")
    folder = second / f"remine-test-{os.getpid()}"
    folder.mkdir()
    try:
        (config_file.parent / "store").symlink_to(folder)
        with pytest.raises(InputError):
            prepare(config_file, "index.factory=Foo")
        assert not list(folder.iterdir())
        prepare(config_file)
        assert (folder / "FORMAT").exists()
        assert not list((folder / "tmp").iterdir())
    finally:
        shutil.rmtree(folder)


def test_what_is_passed_over_is_said_once(tmp_path):
    folder = tmp_path / "items"
    folder.mkdir()
    rows = np.random.default_rng(0).normal(size=(2, 60, 4))
    for number, name in enumerate(("a.parquet", "b.PARQUET")):
        labels = [f"c{row // 10}" for row in range(60)]
        splits = ["train"] * 30 + ["dev"] * 10 + ["test"] * 20
        columns = {"vector": rows[number].tolist(), "label": labels, "split": splits}
        pq.write_table(pa.table(columns), folder / name)
    (folder / "c.csv").touch()
    config = tmp_path / "remine.toml"
    config.write_text('[run]\nstore = "store"\n[data]\nsource = "items"\n')
    lines: list[str] = []
    with prepared(load_config(config), run_plain, Console(quiet=True, on_line=lines.append)):
        pass
    notes = [f"{folder}: passed over 1 .csv", "split: 'dev' is read as val (20 items)"]
    assert [line for line in lines if line in notes] == notes


def test_prepare_counts_merged_spellings_of_labels(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(48, 4)))
    labels = [f"c{row // 4}" + "\t" * (row == 9) for row in range(48)]
    (tmp_path / "l.txt").write_text("\n".join(labels))
    tables = {"source": str(tmp_path / "x.npy"), "labels": str(tmp_path / "l.txt")}
    config = load_config({"data": tables, "run": {"store": str(tmp_path / "store")}})
    console = Console(quiet=True, on_line=(said := []).append)
    with prepared(config, run_plain, console):
        pass
    assert any(line.startswith("labels: 1 spelling(s) differ") for line in said)
