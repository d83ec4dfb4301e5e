"""The contrast experiment: every arm with every seed, then tables that the page is drawn from.

points.parquet    arm, seed, each evaluation: what was spent, retrieval on val and on test
results.parquet   arm, seed, at the checkpoint that val chose and at the last: every metric
roc.parquet       true accepts by false accepts on test
steps.parquet     loss and active fraction of every step
map.parquet       test items in two dimensions, before and after
arms.json         the settings of the comparison and of each arm
"""

import io
import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from remine.data.items.catalogue import read_catalogue
from remine.data.store.records import Artifact
from remine.data.store.views import lay_out_artifact
from remine.flows.compare.arms import Arm
from remine.flows.compare.contestant import Contestant, Point, check_splits, measure_fully
from remine.flows.compare.projection import map_rows
from remine.flows.compare.verdict import OFFLINE, best
from remine.flows.config.settings import Config
from remine.flows.cycle.cycle import prepared
from remine.flows.jobs.console import Console
from remine.flows.jobs.job import run_plain
from remine.flows.jobs.run import Run
from remine.flows.stages.train import check_training


@dataclass(frozen=True, kw_only=True)
class Course:
    """How one arm with one seed went."""

    arm: Arm
    seed: int
    points: Sequence[Point]
    trained: Sequence[Artifact]
    stopped: str = ""

    def chosen(self, select: str) -> dict[str, Point]:
        """The checkpoint that is best on val (the earliest of equals), and the last."""
        trained = self.points[1:] or self.points  # an arm may collapse before its first evaluation
        scores = [point.metrics["val"][select] for point in trained]
        return {"selected": trained[int(np.argmax(scores))], "final": trained[-1]}


def compare(config: Config, arms: Sequence[Arm], console: Console) -> Path:
    """Run what is left of the comparison; returns the folder of its tables."""
    config = of_comparison(config)
    with ExitStack() as stack:
        run, items, inputs = stack.enter_context(prepared(config, run_plain, console))
        check_splits(items)
        for arm in arms:
            check_training(arm.config, items)
        courses: list[Course] = []
        total = config.compare.seeds * len(arms)
        for seed in range(config.compare.seeds):
            for arm in arms:
                place = f"{len(courses) + 1} of {total}"
                courses.append(_course(run, arm, seed, items, inputs, place))
        console.round = ""
        with console.stage("measure", "courses") as bar:
            tables = _tables(run, courses, items, inputs, lambda n: bar.update(n, total))
        return lay_out_artifact(run.store, _put(run, tables, config, arms, courses))


def of_comparison(config: Config) -> Config:
    """`config` with a store of its own, so that no time is of work that a cycle had done before."""
    return replace(config, run=replace(config.run, store=f"{config.run.store}-compare"))


def _course(run: Run, arm: Arm, seed: int, items: Artifact, inputs: Artifact, place: str) -> Course:
    settings = replace(arm.config, run=replace(run.config.run, seed=run.config.run.seed + seed))
    quiet = replace(run, config=settings, console=Console(quiet=True))
    compare = run.config.compare
    run.console.round = f"{place:<9}"
    with run.console.stage(f"{arm.name}, seed {seed}", compare.budget) as bar:

        def progress(spent: float, point: Point) -> None:
            score = 100 * point.metrics["val"][compare.select]
            bar.update(int(spent), compare.amount, f"val {compare.select} {score:.1f} %")

        contestant = Contestant(run=quiet, arm=arm, items=items, inputs=inputs)
        points = contestant.go(progress)
        if contestant.stopped:
            run.console.say(f"{place:<9} {arm.name}, seed {seed} stopped: {contestant.stopped}")
        return Course(
            arm=arm,
            seed=seed,
            points=points,
            trained=contestant.trained,
            stopped=contestant.stopped,
        )


def _tables(
    run: Run, courses: Sequence[Course], items: Artifact, inputs: Artifact, progress: Any
) -> dict[str, pd.DataFrame]:
    select = run.config.compare.select
    points, results, curves, steps, health = [], [], [], [], []
    for number, course in enumerate(courses):
        who = {"arm": course.arm.name, "family": course.arm.family, "seed": course.seed}
        points += _point_rows(course, who)
        steps += _step_rows(run, course, who)
        health += _health_rows(run, course, who)
        for which, point in course.chosen(select).items():
            full = measure_fully(run, point.checkpoint, items, inputs)
            end = {**who, "which": which, "step": point.spent.steps}
            for split, metrics in point.metrics.items():
                more = full["metrics"] if split == "test" else {}
                results += [
                    {**end, "split": split, "metric": name, "value": value}
                    for name, value in {**metrics, **more}.items()
                ]
            for far, tar in zip(full["far"], full["tar"], strict=True):
                curves.append({**end, "far": far, "tar": tar})
        progress(number + 1)
    tables = {"points": points, "results": results, "roc": curves, "steps": steps}
    frames = {name: pd.DataFrame(rows) for name, rows in tables.items()}
    frames["health"] = pd.DataFrame(health, columns=HEALTH).astype(dict.fromkeys(HEALTH[3:], float))
    frames["map"] = _map(run, courses, frames["results"], items, inputs)
    return frames


def _point_rows(course: Course, who: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            **who,
            "step": point.spent.steps,
            "forwards": point.spent.forwards,
            "seconds": point.spent.of("seconds"),
            **point.spent.seconds,
            "resumed": point.spent.resumed,
            "split": split,
            **metrics,
        }
        for point in course.points
        for split, metrics in point.metrics.items()
    ]


def _step_rows(run: Run, course: Course, who: dict[str, Any]) -> list[dict[str, Any]]:
    """The training record, one checkpoint's after the other."""
    rows: list[dict[str, Any]] = []
    for checkpoint in course.trained:
        file = next(f for f in checkpoint.files if f.name == "history.json")
        history = json.loads(run.store.path(file).read_bytes())
        rows += [
            {**who, "step": len(rows) + 1 + i, "loss": loss, "active": active}
            for i, (loss, active) in enumerate(zip(history["loss"], history["active"], strict=True))
        ]
    return rows


HEALTH = ["arm", "family", "seed", "step", "stale", "drift", "overlap", "spread", "effective_rank"]


def _health_rows(run: Run, course: Course, who: dict[str, Any]) -> list[dict[str, Any]]:
    """What was measured while training, by step of the whole course."""
    rows: list[dict[str, Any]] = []
    for checkpoint in course.trained:
        first = checkpoint.card["steps"] - checkpoint.card["round_steps"]
        for file in checkpoint.files:
            if file.name == "health.parquet":
                table = pd.read_parquet(run.store.path(file))
                table["step"] += first
                rows += [{**who, **row} for row in table[HEALTH[3:]].to_dict("records")]
    return rows


def _map(
    run: Run, courses: Sequence[Course], results: pd.DataFrame, items: Artifact, inputs: Artifact
) -> pd.DataFrame:
    """The first seed's test items before training and after it by the arms that val chose."""
    select = run.config.compare.select
    panels = {"untrained": courses[0].points[0].checkpoint}
    for families in (("online",), OFFLINE):
        name = best(results, families, select)
        course = next((c for c in courses if c.arm.name == name and c.seed == 0), None)
        if course:
            panels[course.arm.name] = course.chosen(select)["selected"].checkpoint
    return pd.DataFrame(map_rows(run, panels, read_catalogue(run.store, items), inputs))


def _put(
    run: Run,
    tables: dict[str, pd.DataFrame],
    config: Config,
    arms: Sequence[Arm],
    courses: Sequence[Course],
) -> Artifact:
    files = []
    for name, frame in tables.items():
        body = io.BytesIO()
        frame.to_parquet(body, index=False)
        files.append(run.store.put_bytes(body.getvalue(), name=f"{name}.parquet", rows=len(frame)))
    compare = asdict(config.compare)
    settings = {
        "compare": compare,
        "config": config.to_json(),
        "stopped": [[c.arm.name, c.seed, c.stopped] for c in courses if c.stopped],
        "arms": {arm.name: {"family": arm.family, **_settings(arm.config)} for arm in arms},
    }
    text = json.dumps(settings, indent=1, sort_keys=True).encode()
    files.append(run.store.put_bytes(text, name="arms.json"))
    return Artifact(kind="comparison", files=tuple(files))


def _settings(config: Config) -> dict[str, Any]:
    whole = config.to_json()
    return {name: whole[name] for name in ("train", "mining", "online")}
