"""A comparison: every arm with every seed, then the tables that the page is drawn from.

points.parquet    arm, seed, evaluation: usage of the budgets, retrieval on val and on test
results.parquet   arm, seed, at the checkpoint selected on val and at the last: every metric;
                  the arm "before training" is the start of each seed
roc.parquet       true accept rate by false accept rate on test
steps.parquet     loss and active fraction of every step
health.parquet    staleness and health measures by step
map.parquet       test items in two dimensions, before and after training
arms.json         the settings of the comparison and of each arm
"""

import io
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from remine.data.items.catalogue import read_catalogue
from remine.data.store.place import Address
from remine.data.store.records import Artifact
from remine.data.store.store import Store, store_exists
from remine.data.store.views import lay_out_artifact
from remine.flows.compare.arms import ARM_TABLES, Arm
from remine.flows.compare.contestant import Contestant, Point
from remine.flows.compare.evaluation import check_splits, measure_fully
from remine.flows.compare.projection import map_rows
from remine.flows.compare.verdict import OFFLINE, START, best_arm
from remine.flows.config.settings import Config
from remine.flows.cycle.cycle import prepared
from remine.flows.jobs.console import Console
from remine.flows.jobs.job import run_plain
from remine.flows.jobs.run_context import Run
from remine.flows.stages.encoder import first_checkpoint
from remine.flows.stages.features import adopt_features
from remine.flows.stages.rounds.checks import check_training


@dataclass(frozen=True, kw_only=True)
class ArmRun:
    """The finished run of one arm with one seed.

    points: Every evaluation; the first is before any training.
    checkpoints: Every checkpoint, without the initial one.
    stop_reason: Why it ended early; empty if it did not.
    """

    arm: Arm
    seed: int
    points: Sequence[Point]
    checkpoints: Sequence[Artifact]
    stop_reason: str = ""

    def end_points(self, select: str) -> dict[str, Point]:
        """The "selected" evaluation, best on val by metric `select`, and the "final" one.

        The one before training may be selected, too. Of equal evaluations the earliest is.
        """
        scores = [point.metrics["val"][select] for point in self.points]
        return {"selected": self.points[int(np.argmax(scores))], "final": self.points[-1]}


def compare(config: Config, arms: Sequence[Arm], console: Console) -> Path:
    """Run the comparison, or the rest of an interrupted one; returns the folder of its tables."""
    cycle_address, config = config.store, with_own_store(config)
    with ExitStack() as stack:
        run, items, inputs = stack.enter_context(prepared(config, run_plain, console))
        check_splits(items)
        _adopt_features(run, cycle_address, items, inputs)
        # All arms before the first one trains, so that a mistake in the last costs nothing.
        for arm in arms:
            check_training(arm.config, items, fits=True)
        arm_runs: list[ArmRun] = []
        total = config.compare.seeds * len(arms)
        for seed in range(config.compare.seeds):
            for arm in arms:
                position = f"{len(arm_runs) + 1} of {total}"
                arm_runs.append(_run_arm(run, arm, seed, items, inputs, position))
        console.round = ""
        with console.stage("measure", "runs") as bar:
            tables = _tables(run, arm_runs, items, inputs, lambda n: bar.update(n, total))
        closed_classes = items.card["test_classes_seen"]
        artifact = _put(run, tables, config, arms, arm_runs, closed_classes)
        return lay_out_artifact(run.store, artifact)


def _adopt_features(run: Run, address: Address, items: Artifact, inputs: Artifact) -> None:
    """Take the features of a frozen backbone from the cycles' store, as far as it has them.

    They cost no arm any time: all arms of a frozen encoder read the same ones.
    """
    if run.config.encoder.frozen and store_exists(address):
        checkpoint = first_checkpoint(run, items, inputs)
        if count := adopt_features(run, checkpoint, inputs, Store(address)):
            run.console.say(f"features of {count:,} items are copied from {address}")


def with_own_store(config: Config) -> Config:
    """`config` with a separate store, so that no stage is recalled from an earlier cycle.

    Its seconds would be missing from the comparison.
    """
    return replace(config, run=replace(config.run, store=f"{config.run.store}-compare"))


def _run_arm(
    run: Run, arm: Arm, seed: int, items: Artifact, inputs: Artifact, position: str
) -> ArmRun:
    """Run one arm with one seed as one stage of the console."""
    settings = replace(arm.config, run=replace(run.config.run, seed=run.config.run.seed + seed))
    quiet_run = replace(run, config=settings, console=Console(quiet=True))
    compare = run.config.compare
    run.console.round = f"{position:<9}"
    with run.console.stage(f"{arm.name}, seed {seed}", compare.budget) as bar:

        def progress(amount: float, point: Point) -> None:
            score = 100 * point.metrics["val"][compare.select]
            bar.update(int(amount), compare.amount, f"val {compare.select} {score:.1f} %")

        contestant = Contestant(run=quiet_run, arm=arm, items=items, inputs=inputs)
        points = contestant.run_to_budget(progress)
        if contestant.stop_reason:
            run.console.say(
                f"{position:<9} {arm.name}, seed {seed} stopped: {contestant.stop_reason}"
            )
        return ArmRun(
            arm=arm,
            seed=seed,
            points=points,
            checkpoints=contestant.checkpoints,
            stop_reason=contestant.stop_reason,
        )


def _tables(
    run: Run,
    arm_runs: Sequence[ArmRun],
    items: Artifact,
    inputs: Artifact,
    progress: Callable[[int], None],
) -> dict[str, pd.DataFrame]:
    """All tables by name; progress(n) is called after the n-th run."""
    points, steps, health = [], [], []
    results: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []

    def add_end(keys: dict[str, Any], point: Point) -> None:
        full = measure_fully(run, point.checkpoint, items, inputs)
        all_keys = {**keys, "step": point.usage.steps}
        results.extend(_result_rows(all_keys, point, full["metrics"]))
        rates = zip(full["far"], full["tar"], strict=True)
        curves.extend({**all_keys, "far": far, "tar": tar} for far, tar in rates)

    # All arms of a seed start from the same weights.
    for arm_run in {arm_run.seed: arm_run for arm_run in arm_runs}.values():
        keys = {"arm": START, "family": "start", "seed": arm_run.seed, "which": "selected"}
        add_end(keys, arm_run.points[0])
    for number, arm_run in enumerate(arm_runs):
        points += _point_rows(arm_run)
        steps += _step_rows(run, arm_run)
        health += _health_rows(run, arm_run)
        for name, point in arm_run.end_points(run.config.compare.select).items():
            add_end({**_keys(arm_run), "which": name}, point)
        progress(number + 1)
    rows = {"points": points, "results": results, "roc": curves, "steps": steps}
    frames = {name: pd.DataFrame(table_rows) for name, table_rows in rows.items()}
    # With types, because without a mined arm this table has no rows.
    dtypes = dict.fromkeys(HEALTH_MEASURES, float)
    frames["health"] = pd.DataFrame(health, columns=HEALTH_COLUMNS).astype(dtypes)
    frames["map"] = _map(run, arm_runs, frames["results"], items, inputs)
    return frames


def _keys(arm_run: ArmRun) -> dict[str, Any]:
    """The columns that every table starts with."""
    return {"arm": arm_run.arm.name, "family": arm_run.arm.family, "seed": arm_run.seed}


def _point_rows(arm_run: ArmRun) -> list[dict[str, Any]]:
    """Two rows for each evaluation, of val and of test."""
    return [
        {
            **_keys(arm_run),
            "step": point.usage.steps,
            "forwards": point.usage.forwards,
            "seconds": point.usage.of("seconds"),
            **point.usage.seconds,
            "resumed": point.usage.resumed,
            "split": split,
            **metrics,
        }
        for point in arm_run.points
        for split, metrics in point.metrics.items()
    ]


def _result_rows(
    keys: dict[str, Any], point: Point, test_metrics: dict[str, float]
) -> list[dict[str, Any]]:
    """A row for each metric of an evaluation; `test_metrics` are further ones of test."""
    rows = []
    for split, metrics in point.metrics.items():
        all_metrics = metrics | test_metrics if split == "test" else metrics
        rows += [
            {**keys, "split": split, "metric": name, "value": value}
            for name, value in all_metrics.items()
        ]
    return rows


def _step_rows(run: Run, arm_run: ArmRun) -> list[dict[str, Any]]:
    """The training record, the checkpoints' parts joined."""
    rows: list[dict[str, Any]] = []
    for checkpoint in arm_run.checkpoints:
        file = next(f for f in checkpoint.files if f.name == "history.json")
        history = json.loads(run.store.path(file).read_bytes())
        pairs = zip(history["loss"], history["active"], strict=True)
        rows += [
            {**_keys(arm_run), "step": step, "loss": loss, "active": active}
            for step, (loss, active) in enumerate(pairs, start=len(rows) + 1)
        ]
    return rows


HEALTH_MEASURES = ["step", "stale", "drift", "overlap", "spread", "effective_rank"]
HEALTH_COLUMNS = ["arm", "family", "seed", *HEALTH_MEASURES]


def _health_rows(run: Run, arm_run: ArmRun) -> list[dict[str, Any]]:
    """The measurements during training, by step of the whole run."""
    rows: list[dict[str, Any]] = []
    for checkpoint in arm_run.checkpoints:
        first_step = checkpoint.card["steps"] - checkpoint.card["round_steps"]
        for file in checkpoint.files:
            if file.name == "health.parquet":
                table = pd.read_parquet(run.store.path(file))
                table["step"] += first_step
                records = table[HEALTH_MEASURES].to_dict("records")
                rows += [{**_keys(arm_run), **record} for record in records]
    return rows


def _map(
    run: Run,
    arm_runs: Sequence[ArmRun],
    results: pd.DataFrame,
    items: Artifact,
    inputs: Artifact,
) -> pd.DataFrame:
    """Maps of the first seed's test items: untrained, best online arm, best that mines."""
    select = run.config.compare.select
    panels = {"untrained": arm_runs[0].points[0].checkpoint}
    for families in (("online",), OFFLINE):
        name = best_arm(results, families, select)
        arm_run = next((r for r in arm_runs if r.arm.name == name and r.seed == 0), None)
        if arm_run:
            panels[arm_run.arm.name] = arm_run.end_points(select)["selected"].checkpoint
    return pd.DataFrame(map_rows(run, panels, read_catalogue(run.store, items), inputs))


def _put(
    run: Run,
    tables: dict[str, pd.DataFrame],
    config: Config,
    arms: Sequence[Arm],
    arm_runs: Sequence[ArmRun],
    test_classes_seen: int,
) -> Artifact:
    """Store the tables and the settings as one artifact."""
    files = []
    for name, frame in tables.items():
        body = io.BytesIO()
        frame.to_parquet(body, index=False)
        files.append(run.store.put_bytes(body.getvalue(), name=f"{name}.parquet", rows=len(frame)))
    settings = {
        "compare": asdict(config.compare),
        "config": config.to_json(),
        "test_classes_seen": test_classes_seen,
        "stopped": [[r.arm.name, r.seed, r.stop_reason] for r in arm_runs if r.stop_reason],
        "arms": {arm.name: {"family": arm.family, **_arm_settings(arm.config)} for arm in arms},
    }
    text = json.dumps(settings, indent=1, sort_keys=True).encode()
    files.append(run.store.put_bytes(text, name="arms.json"))
    return Artifact(kind="comparison", files=tuple(files))


def _arm_settings(config: Config) -> dict[str, Any]:
    """The tables that an arm may change."""
    tables = config.to_json()
    return {name: tables[name] for name in ARM_TABLES}
