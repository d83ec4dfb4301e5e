"""Trackers: the curves that a cycle sends. MLflow and Weights & Biases are small stand-ins."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from remine.data.errors import InputError
from remine.data.store.records import Version
from remine.data.store.store import Store
from remine.flows.config.settings import load_config
from remine.flows.cycle.cycle import call_plain, prepared, run_cycle
from remine.flows.jobs.console import Console
from remine.flows.jobs.job import run_plain

Curves = dict[str, list[tuple[int, float]]]


def run(config_file: Path, *overrides: str, call: Any = call_plain) -> Version:
    config = load_config(config_file, ["track.every=2", *overrides])
    with prepared(config, run_plain, Console(quiet=True)) as (cycle, items, inputs):
        return run_cycle(cycle, items, inputs, call)


def curves_of(folder: Path) -> Curves:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {
        name: [(point.step, point.value) for point in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def check(curves: Curves, store: Store, version: Version, at: str = "@") -> None:
    """Two rounds of six steps: a point every two steps, and the metrics before each round."""
    assert [step for step, _ in curves["train/loss"]] == [2, 4, 6, 8, 10, 12]
    assert [step for step, _ in curves["train/active"]] == [2, 4, 6, 8, 10, 12]
    metrics = [version.artifacts[f"metrics/round={n}"].card for n in range(3)]
    expected = [(6 * n, pytest.approx(card["map@r"])) for n, card in enumerate(metrics)]
    assert curves[f"test/map{at}r"] == expected
    values = [(6 * n, pytest.approx(card["val"]["map@r"])) for n, card in enumerate(metrics)]
    assert curves[f"val/map{at}r"] == values
    assert curves["round"] == [(0, 0.0), (6, 1.0), (12, 2.0)]
    assert store.current().digest == version.digest


def test_tensorboard_has_the_curves_of_a_cycle(config_file):
    version = run(config_file, 'track.to=["tensorboard"]')
    store = Store(config_file.parent / "store")
    check(curves_of(store.root / "tensorboard" / "cycle-1"), store, version)


def test_a_resumed_cycle_has_the_points_once(config_file):
    class StruckError(Exception):
        pass

    def struck(stage: Callable[..., Any], *args: Any) -> Any:
        if stage.__name__ == "train" and args[1].card["steps"] == 6:
            raise StruckError
        return stage(*args)

    with pytest.raises(StruckError):
        run(config_file, 'track.to=["tensorboard"]', call=struck)
    version = run(config_file, 'track.to=["tensorboard"]')
    store = Store(config_file.parent / "store")
    curves = curves_of(store.root / "tensorboard" / "cycle-1")
    assert curves["train/loss"][-1][0] == 12
    assert [step for step, _ in curves["test/map@r"]] == [0, 6, 12]
    assert store.current().digest == version.digest


@pytest.fixture
def mlflow(monkeypatch) -> SimpleNamespace:
    """What remine calls of MLflow, noting it."""
    record = SimpleNamespace(curves={}, params={}, experiment=None, name=None, ended=0)

    class Client:
        def log_param(self, run_id: str, name: str, value: Any) -> None:
            assert run_id == "run 1"
            record.params[name] = value

        def log_metric(self, run_id: str, name: str, value: float, *, step: int) -> None:
            assert run_id == "run 1"
            assert "@" not in name  # MLflow refuses it
            record.curves.setdefault(name, []).append((step, value))

    def start_run(*, run_name: str) -> Any:
        record.name = run_name
        return SimpleNamespace(info=SimpleNamespace(run_id="run 1"))

    module = ModuleType("mlflow")
    module.__spec__ = SimpleNamespace()  # type: ignore[assignment]
    module.set_experiment = lambda name: setattr(record, "experiment", name)  # type: ignore[attr-defined]
    module.MlflowClient = Client  # type: ignore[attr-defined]
    module.start_run = start_run  # type: ignore[attr-defined]
    module.end_run = lambda: setattr(record, "ended", record.ended + 1)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", module)
    return record


def test_mlflow_gets_curves_and_settings(config_file, mlflow):
    version = run(config_file, 'track.to=["mlflow"]', 'track.project="shoes"')
    check(mlflow.curves, Store(config_file.parent / "store"), version, at="_at_")
    assert (mlflow.experiment, mlflow.name, mlflow.ended) == ("shoes", "store-cycle-1", 1)
    assert mlflow.params["train.steps"] == 6
    assert "run.store" not in mlflow.params


def test_weights_and_biases_gets_curves_and_settings(config_file, monkeypatch):
    curves: Curves = {}
    record = SimpleNamespace(finished=0, steps=[])

    class OneRun:
        def log(self, values: dict[str, float], *, step: int) -> None:
            # Weights & Biases drops what comes with a smaller step.
            assert step >= max(record.steps, default=0)
            record.steps.append(step)
            for name, value in values.items():
                curves.setdefault(name, []).append((step, value))

        def finish(self) -> None:
            record.finished += 1

    def init(**settings: Any) -> OneRun:
        vars(record).update(settings)
        return OneRun()

    module = ModuleType("wandb")
    module.__spec__ = SimpleNamespace()  # type: ignore[assignment]
    module.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    version = run(config_file, 'track.to=["wandb"]')
    check(curves, Store(config_file.parent / "store"), version)
    assert (record.project, record.name, record.finished) == ("remine", "store-cycle-1", 1)
    assert record.config["train.batch"] == 16


def test_a_tracker_that_is_missing_is_refused_before_anything_runs(config_file, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(InputError, match=r"track\.to names wandb.*pip install wandb"):
        run(config_file, 'track.to=["wandb"]')
    assert not (config_file.parent / "store").exists()


def test_trackers_change_no_result(config_file, tmp_path):
    with_curves = run(config_file, 'track.to=["tensorboard"]')
    other = tmp_path / "other" / "remine.toml"
    other.parent.mkdir()
    other.write_text(config_file.read_text())
    assert run(other).digest == with_curves.digest
