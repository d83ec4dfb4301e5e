"""The forecast of a first cycle, against what a cycle leaves, and its clock."""

import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from remine.data.store.store import Store
from remine.flows.cli.main import app
from remine.flows.config.settings import load_config
from remine.flows.cycle.forecast import network, sample
from remine.flows.cycle.forecast.lines import forecast_lines
from remine.flows.cycle.forecast.network import item_seconds
from remine.flows.cycle.forecast.retrieval import evaluation_seconds, index_costs
from remine.flows.cycle.forecast.stages import forecast_cycle
from remine.flows.cycle.status import lines, status


def test_sizes_are_those_of_the_store_after_the_cycle(cycle_store, config_file):
    forecast = forecast_cycle(load_config(config_file))
    assert [stage.stage for stage in forecast.stages] == [
        "prepare",
        "embed",
        "index",
        "evaluate",
        "mine",
        "train",
    ]
    assert [stage.runs for stage in forecast.stages] == [1, 3, 3, 3, 2, 2]
    sizes = _bytes_by_kind(Store(cycle_store))
    disk = {stage.stage: stage.disk_gb * 1e9 for stage in forecast.stages}
    assert disk["prepare"] == pytest.approx(sizes["items"] + sizes["inputs"], rel=0.3)
    assert disk["embed"] == pytest.approx(sizes["embeddings"], rel=0.3)
    assert disk["index"] == pytest.approx(sizes["index"], rel=0.3)
    # As many triplets as there can be; a window may hold none for a pair.
    assert sizes["triplets"] / 2 < disk["mine"] < 4 * sizes["triplets"]


def _bytes_by_kind(store: Store) -> Counter[str]:
    """Bytes of the files of all versions."""
    sizes: Counter[str] = Counter()
    counted = set()
    for version in store.versions():
        for artifact in version.artifacts.values():
            for file in artifact.files:
                if file.sha256 not in counted:
                    counted.add(file.sha256)
                    sizes[artifact.kind] += file.bytes
    return sizes


def test_more_rounds_steps_and_a_larger_batch_cost_more(config_file, monkeypatch):
    monkeypatch.setattr(network, "SECONDS", 0.05)

    def train_seconds(*overrides: str) -> tuple[int, float]:
        forecast = forecast_cycle(load_config(config_file, overrides))
        (stage,) = (stage for stage in forecast.stages if stage.stage == "train")
        return stage.runs, stage.seconds

    runs, seconds = train_seconds()
    more_runs, more_seconds = train_seconds("run.rounds=5", "train.steps=600", "train.batch=64")
    assert (runs, more_runs) == (2, 5)
    assert more_seconds > 50 * seconds  # 100 times the steps, each of 4 times the items


def test_a_frozen_network_computes_features_once(tmp_path):
    (tmp_path / "nets.py").write_text(
        "import torch\ndef build():\n    return torch.nn.Linear(8, 6)\n"
    )
    np.save(tmp_path / "v.npy", np.random.default_rng(0).normal(size=(60, 8)).astype("f4"))
    (tmp_path / "labels.txt").write_text("\n".join(f"c{n // 5}" for n in range(60)) + "\n")
    config = tmp_path / "remine.toml"
    config.write_text(
        '[data]\nsource = "v.npy"\nlabels = "labels.txt"\n'
        '[encoder]\nname = "nets:build"\nfrozen = true\n'
    )
    forecast = forecast_cycle(load_config(config))
    stages = {stage.stage: stage for stage in forecast.stages}
    assert stages["features"].runs == 1
    assert stages["features"].disk_gb == pytest.approx(60 * 6 * 4 / 1e9)
    assert not (tmp_path / "runs").exists()


def test_seconds_of_an_item_do_not_depend_on_what_only_the_first_call_does():
    calls = []

    def work(rows: np.ndarray) -> None:
        calls.append(len(rows))
        time.sleep(0.002 * len(rows) + (0.2 if len(calls) == 1 else 0))

    assert item_seconds(work, 3) == pytest.approx(0.002, rel=0.5)
    assert calls[:3] == [2, 2, 4]
    assert sum(calls) * 0.002 < 3 * network.SECONDS
    assert item_seconds(lambda rows: calls.append(len(rows)), 3, most=1) < 0.01
    assert calls[-1] == 1


def test_indexing_and_evaluating_more_items_costs_more():
    config = load_config({}).index
    seconds, size = index_costs(10_000, 16, config)
    assert size == 10_000 * (4 * 16 + 8)
    assert index_costs(1_000_000, 16, config)[0] > 10 * seconds
    codes = np.arange(20_000) // 10
    assert evaluation_seconds(codes, 16, 0) > 20 * evaluation_seconds(codes[:2000], 16, 0)
    assert evaluation_seconds(codes, 16, 100) < evaluation_seconds(codes, 16, 0) / 20


def test_items_that_cannot_be_read_are_passed_over(tmp_path):
    folder = tmp_path / "photos"
    for code in range(12):
        (folder / f"{code}").mkdir(parents=True)
        for number in range(3):
            picture = Image.new("RGB", (16, 16), (code, number, 0))
            picture.save(folder / f"{code}" / f"{number}.png")
    (folder / "0" / "0.png").write_bytes(b"none")
    config = load_config({"data": {"source": str(folder)}})
    assert sample.read_sample(config).shape == (3, 16, 16)


def test_status_and_check_forecast_the_first_run_and_write_nothing(config_file):
    report = status(load_config(config_file))
    text = lines(report)
    assert text[0].startswith("no store at")
    assert text[1].startswith("forecast   2 rounds, if none ends early: about ")
    assert [line.split()[0] for line in text[2:]] == [
        stage["stage"] for stage in report["next"]["forecast"]["stages"]
    ]
    answer = CliRunner().invoke(app, ["check", "--config", str(config_file)])
    assert (answer.exit_code, "\nforecast   2 rounds" in answer.stdout) == (0, True)
    assert [path.name for path in Path(config_file).parent.iterdir()] == [config_file.name]


def test_what_hinders_a_forecast_is_said(config_file):
    config = load_config(config_file, ["encoder.name=nowhere:build"])
    (line,) = forecast_lines(status(config)["next"])
    assert line.startswith("forecast   none: ")
    assert "nowhere" in line
