"""The state of a store: what is served, what is stale, what the next run would do and cost.

Only reads, and loads no torch: a source without a change is known by its fingerprint, one with a
change is hashed. Before the first run there is no log of what stages cost: that is forecast by a
probe of the source and the encoder.
"""

import statistics
import time
from collections.abc import Iterator, Mapping
from typing import Any

from remine.data.errors import InputError
from remine.data.items.changes import Change
from remine.data.store.pins import pinned_version, served_version
from remine.data.store.records import Version
from remine.data.store.store import Store, store_exists
from remine.flows.config.settings import Config
from remine.flows.cycle.durations import duration
from remine.flows.cycle.failures import last_failure, last_success
from remine.flows.cycle.forecast.lines import forecast_lines
from remine.flows.cycle.refresh import CYCLE, INDEX, Decision, decision_of
from remine.flows.cycle.round_choice import advice, choice_line
from remine.flows.cycle.stopped_rounds import stop_of

RECENT_RUNS = 3
"""Runs of a stage whose median gives its rate."""

METRICS = ("recall@1", "map@r", "spread")
"""Metrics of the served version that are shown."""


def status(config: Config, now: float | None = None) -> dict[str, Any]:
    """Everything that `remine status` shows, as plain JSON. now: seconds since 1970."""
    root = str(config.store)
    if not store_exists(config.store):
        plan = {"what": CYCLE, "why": "no store yet", **first_forecast(config)}
        return {"store": root, "served": None, "next": plan}
    store = Store(config.store)
    newest, events = store.current(), store.events()
    report: dict[str, Any] = {"store": root, "served": None, "lock": store.lock_holder()}
    now = now or time.time()
    if failure := last_failure(events):
        report["failed"] = {"why": failure["why"], "age_seconds": _age(now, failure["time"])}
    success = last_success(events)
    report["well_seconds"] = None if success is None else _age(now, success)
    if newest:
        report["served"] = _served(store, events, now)
        report["choice"] = choice_line(store, newest)
        report["advice"] = advice(newest)
        if bad_items := newest.artifacts["items"].card.get("skipped"):
            report["set_aside"] = f"set aside: {bad_items}"
        report["unfinished"] = None if newest.finished else _unfinished(store, newest)
    try:
        decision = decision_of(config, store, newest)
    except InputError as error:  # a run would give the same message
        return {**report, "refused": str(error)}
    report["stale"] = decision.change.to_json() if decision.change else None
    report["if_needed"] = decision.to_json()
    report["next"] = _next(config, newest, decision, events)
    return report


def _served(store: Store, events: list[dict[str, Any]], now: float) -> dict[str, Any]:
    version = served_version(store)
    assert version is not None
    metrics = version.artifacts.get(f"metrics/round={version.round}")
    publication_times = [
        event["time"]
        for event in events
        if event.get("event") == "publish" and event.get("version") == version.number
    ]
    return {
        "version": version.number,
        "pinned": bool(pinned_version(store)),
        "cycle": version.cycle,
        "round": version.round,
        "rounds": version.rounds,
        "items": version.artifacts["items"].rows,
        "metrics": {k: metrics.card[k] for k in METRICS} if metrics else {},
        "age_seconds": _age(now, publication_times[-1]) if publication_times else None,
    }


def _unfinished(store: Store, newest: Version) -> dict[str, Any]:
    """The cycle that was killed or stopped before its end."""
    stop = stop_of(store, newest)
    work = store.root / "work"
    return {
        "cycle": newest.cycle,
        "round": newest.round,
        "rounds": newest.rounds,
        "stopped": stop["why"] if stop else None,
        "half_done": len(list(work.iterdir())) if work.is_dir() else 0,
    }


def _next(
    config: Config, newest: Version | None, decision: Decision, events: list[dict[str, Any]]
) -> dict[str, Any]:
    """What `remine run` would do, stage by stage; seconds from the log, None if unknown."""
    is_resumed = newest is not None and not newest.finished
    steps = _steps(config, newest, decision, CYCLE)
    rates = _rates(events)
    plan: dict[str, Any] = {"what": "resume" if is_resumed else CYCLE, **_costs(steps, rates)}
    if decision.action == INDEX:
        plan["if_needed"] = _costs(_steps(config, newest, decision, INDEX), rates)
    plan["memory_gb"] = _memory(config, newest)
    return plan


def first_forecast(config: Config) -> dict[str, Any]:
    """The forecast of a first cycle, or why there is none."""
    from remine.flows.cycle.forecast.stages import forecast_cycle  # loads torch

    try:
        return {"forecast": forecast_cycle(config).to_json()}
    except InputError as error:  # a run would give the same message
        return {"refused": str(error)}


Step = tuple[str, int, float]
"""A stage, its round, and its share of a stage over all items."""


def _age(now: float, then: float) -> float:
    """Seconds; 0 if the clock was set back since."""
    return max(0.0, round(now - then, 1))


def _steps(config: Config, newest: Version | None, decision: Decision, action: str) -> list[Step]:
    change = decision.change
    fresh_share = 1.0 if newest is None else 0.0
    if change:
        fresh = change.new + change.changed
        fresh_share = fresh / max(1, fresh + change.same)
    first = newest.round if newest and not newest.finished else 0
    rounds = config.run.rounds if action == CYCLE else 0
    steps: list[Step] = [("prepare", 0, fresh_share)]
    for number in range(first, rounds + 1):
        reuses_rows = number == 0 and newest is not None
        share = fresh_share if reuses_rows else 1.0
        steps += [("embed", number, share), ("index", number, share), ("evaluate", number, 1.0)]
        if number < rounds:
            steps += [("mine", number, 1.0), ("train", number, 1.0)]
    return steps


def _costs(steps: list[Step], rates: Mapping[str, float]) -> dict[str, Any]:
    seconds = [round(share * rates[s], 2) if s in rates else None for s, _, share in steps]
    stages = [
        {"stage": stage, "round": number, "seconds": cost}
        for (stage, number, _), cost in zip(steps, seconds, strict=True)
    ]
    costs = [cost for cost in seconds if cost is not None]
    return {"stages": stages, "seconds": round(sum(costs), 2) if costs else None}


def _rates(events: list[dict[str, Any]]) -> dict[str, float]:
    """Seconds of a stage over all items: the median of its last runs.

    Runs that used rows of an earlier version again say little about a full one. They count only if
    there are no others, and runs over less than half of the items only if there are no larger ones.
    """
    runs_by_stage: dict[str, list[tuple[int, float, bool]]] = {}
    for event in events:
        if event.get("event") == "stage" and event.get("count"):
            run = event["count"], event["seconds"], bool(event.get("partial"))
            runs_by_stage.setdefault(event["stage"], []).append(run)
    rates = {}
    for stage, runs in runs_by_stage.items():
        largest = max(count for count, *_ in runs[-4 * RECENT_RUNS :])
        full_runs = [run for run in runs if not run[2]] or runs
        large_runs = [run for run in full_runs if 2 * run[0] >= largest] or full_runs
        full_seconds = [seconds * largest / count for count, seconds, _ in large_runs]
        rates[stage] = statistics.median(full_seconds[-RECENT_RUNS:])
    return rates


def _memory(config: Config, newest: Version | None) -> float | None:
    """Gigabytes at the peak, which is that of mining, by its forecast."""
    if newest is None:
        return None
    from remine.mining.engines.memory_forecast import peak_memory_gb

    n = newest.artifacts["items"].card["splits"]["train"]["items"]
    d = newest.artifacts["index"].card["dimensions"]
    return round(peak_memory_gb(n, d, config.mining.memory_gb), 2)


def lines(report: Mapping[str, Any]) -> list[str]:
    """The status as lines for people."""
    if report["served"] is None and "lock" not in report:
        first = f"no store at {report['store']}: `remine run` creates one"
        return [first, *forecast_lines(report["next"])]
    return [f"{name:<10} {text}".rstrip() for name, text in _rows(report)]


def _rows(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and text of each line; the name is empty if it is that of the line before."""
    yield "store", report["store"]
    yield "served", _served_line(report["served"])
    for name in ("choice", "advice", "set_aside"):
        if text := report.get(name):
            yield "", text
    yield "lock", f"held by {report['lock']}" if report["lock"] else "free"
    if (seconds := report["well_seconds"]) is not None:
        yield "last run", f"succeeded {duration(seconds)} ago"
    if failure := report.get("failed"):
        yield "", f"failed {duration(failure['age_seconds'])} ago: {failure['why']}"
    if cycle := report.get("unfinished"):
        end = f"stopped at {cycle['stopped']}" if cycle["stopped"] else "the next run resumes it"
        place = f"cycle {cycle['cycle']}, round {cycle['round']} of {cycle['rounds']}"
        yield "unfinished", f"{place}, {end}"
    if "refused" in report:
        yield "source", f"refused: {report['refused']}"
        return
    change = report["stale"]
    yield (
        "source",
        (Change(**change).line().removeprefix("items: ") if change else "as in the newest version"),
    )
    plan = report["next"]
    yield "run", f"{plan['what']}, {_about(plan['seconds'])}{_gigabytes(plan)}"
    for step in plan["stages"]:
        name = f"{step['stage']} {step['round']}"
        yield "", f"{name:<11} {_about(step['seconds'])}"
    decision = report["if_needed"]
    cost = f", {_about(plan['if_needed']['seconds'])}" if "if_needed" in plan else ""
    yield "if needed", f"{decision['what']}{cost}: {decision['why']}"


def _served_line(version: Mapping[str, Any] | None) -> str:
    if not version:
        return "nothing yet"
    metrics = ", ".join(f"{name} {value:.4f}" for name, value in version["metrics"].items())
    pin = " (pinned)" if version["pinned"] else ""
    age = version["age_seconds"]
    since = f", {duration(age)} old" if age is not None else ""
    place = f"cycle {version['cycle']}, round {version['round']} of {version['rounds']}"
    items = f"{version['items']:,} items"
    return f"version {version['version']}{pin}, {place}, {items}, {metrics}{since}"


def _about(seconds: float | None) -> str:
    return "unknown seconds" if seconds is None else f"about {duration(seconds)}"


def _gigabytes(plan: Mapping[str, Any]) -> str:
    return f", {plan['memory_gb']:.1f} GB of memory" if plan["memory_gb"] else ""
