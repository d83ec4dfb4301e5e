"""What is refused before a store is made, and where a new store is staged."""

import os
import shutil
from pathlib import Path

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
