"""Planted label errors of real glyphs are found after a whole cycle."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from remine.data.errors import InputError
from remine.data.store.pins import served_version
from remine.data.store.store import Store
from remine.data.types import SPLITS
from remine.flows.config.settings import load_config
from remine.flows.cycle.cycle import prepared, run_cycle
from remine.flows.jobs.console import Console
from remine.flows.jobs.job import run_plain
from remine.flows.query.answers import check_output_path
from remine.flows.query.snapshot import Snapshot
from remine.flows.query.suspects import (
    SUFFIXES,
    find_suspects,
    print_suspects,
    write_suspects,
)
from remine.mining.suspects import SuspectConfig


@pytest.fixture(scope="module")
def planted_errors(glyphs, small_config, tmp_path_factory):
    """A snapshot, the ids with wrong labels, and the two ids of a duplicated item."""
    folder = tmp_path_factory.mktemp("planted")
    table = pq.read_table(glyphs).to_pandas()
    rng = np.random.default_rng(0)
    wrong = rng.choice(len(table), len(table) // 20, replace=False)
    labels = table["label"].to_numpy(object).copy()
    right = labels.copy()
    for row in wrong:
        labels[row] = rng.choice(np.setdiff1d(np.unique(right), [right[row]]))
    table["label"] = labels
    clean = next(row for row in range(len(table)) if row not in wrong)
    double = table.iloc[[clean]].assign(id=10**6, label=labels[(clean + 200) % len(table)])
    path = folder / "items.parquet"
    pq.write_table(pa.Table.from_pandas(pd.concat([table, double]), preserve_index=False), path)
    config = folder / "remine.toml"
    config.write_text(small_config.replace(str(glyphs), str(path)))
    settings = load_config(
        config, ["train.steps=60", "train.batches=pk", "train.miner=semi_hard", "train.batch=64"]
    )
    with prepared(settings, run_plain, Console(quiet=True)) as (run, items, inputs):
        run_cycle(run, items, inputs)
    store = Store(settings.store)
    ids = table["id"].to_numpy()
    return (
        Snapshot(store, served_version(store)),
        set(ids[wrong].tolist()),
        {int(ids[clean]), 10**6},
    )


def report_of(planted_errors):
    return find_suspects(planted_errors[0], SuspectConfig(), lambda _done, _all: None)


def test_planted_errors_come_first(planted_errors):
    snapshot, wrong, _ = planted_errors
    training = snapshot.catalogue.ids[snapshot.catalogue.splits == SPLITS.index("train")]
    suspects = find_suspects(snapshot, SuspectConfig(margin=0.0), lambda *_: None).suspects
    suspects = suspects[(suspects["reason"] == "mislabelled") & suspects["id"].isin(training)]
    wrong = wrong & set(training.tolist())
    # One in twenty is wrong; of as many suspects as there are errors, most are.
    first = set(suspects["id"].head(len(wrong)))
    assert len(first & wrong) >= 0.6 * len(wrong)
    assert len(set(suspects["id"]) & wrong) >= 0.6 * len(wrong)


def test_the_same_content_under_two_labels_is_found(planted_errors):
    suspects = report_of(planted_errors).suspects
    matches = suspects[suspects["reason"] == "same content, two labels"]
    assert {*matches["id"], *matches["other_id"]} >= planted_errors[2]
    assert (matches["distance"] < 1e-5).all()


def test_reports_are_written_and_printed(planted_errors, tmp_path: Path, capsys):
    report = report_of(planted_errors)
    for suffix in (".parquet", ".csv", ".html"):
        write_suspects(planted_errors[0], report, tmp_path / f"s{suffix}")
    read = pd.read_parquet(tmp_path / "s.parquet")
    pd.testing.assert_frame_equal(read.drop(columns="judge"), report.suspects)
    assert len(pd.read_csv(tmp_path / "s.csv")) == len(read)
    page = (tmp_path / "s.html").read_text()
    assert page.count("data:image/png") >= len(read)
    print_suspects(report, 3)
    printed = capsys.readouterr().out
    assert f"{len(read):,} suspects of" in printed
    assert ("other_id" in printed) == bool(report.suspects.head(3)["other_id"].notna().any())
    print_suspects(replace(report, suspects=_mislabelled(report)), 3)
    assert "other_id" not in capsys.readouterr().out


def _mislabelled(report):
    return report.suspects[report.suspects["reason"] == "mislabelled"]


def test_unsupported_output_files_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"ends in \.parquet, \.csv, \.html"):
        check_output_path(tmp_path / "s.xlsx", SUFFIXES)
    with pytest.raises(InputError, match="does not exist"):
        check_output_path(tmp_path / "no" / "s.csv", SUFFIXES)
