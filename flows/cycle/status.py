"""Where a store stands: what is served, what is stale, what the next run would do and cost.

Reads only, and no torch: a source that did not change is known by its fingerprint, one that did is
hashed.
"""

import statistics
import time
from collections.abc import Mapping
from typing import Any

from remine.data.errors import InputError
from remine.data.items.changes import Change
from remine.data.store.pins import pinned_version, served_version
from remine.data.store.records import Version
from remine.data.store.store import Store, store_exists
from remine.flows.config.settings import Config
from remine.flows.cycle.failures import last_failure, last_well
from remine.flows.cycle.refresh import CYCLE, INDEX, Decision, decision_of
from remine.flows.cycle.stopped_rounds import stop_of

LATEST = 3
METRICS = ("recall@1", "map@r", "spread")


def status(config: Config, now: float | None = None) -> dict[str, Any]:
    """Everything that `remine status` tells, as plain JSON. now: seconds since 1970."""
    root = str(config.store)
    if not store_exists(config.store):
        return {"store": root, "served": None, "next": {"what": CYCLE, "why": "no store yet"}}
    store = Store(config.store)
    newest, events = store.current(), store.events()
    told: dict[str, Any] = {"store": root, "served": None, "lock": store.lock_holder()}
    now = now or time.time()
    if failure := last_failure(events):
        told["failed"] = {"why": failure["why"], "age_seconds": _age(now, failure["time"])}
    well = last_well(events)
    told["well_seconds"] = None if well is None else _age(now, well)
    if newest:
        told["served"] = _served(store, events, now)
        told["unfinished"] = None if newest.finished else _unfinished(store, newest)
    try:
        decision = decision_of(config, store, newest)
    except InputError as error:  # the run would refuse it in the same words
        return {**told, "refused": str(error)}
    told["stale"] = decision.change.to_json() if decision.change else None
    told["if_needed"] = decision.to_json()
    told["next"] = _next(config, newest, decision, events)
    return told


def _served(store: Store, events: list[dict[str, Any]], now: float) -> dict[str, Any]:
    version = served_version(store)
    assert version is not None
    metrics = version.artifacts.get(f"metrics/round={version.round}")
    published = [
        e["time"]
        for e in events
        if e.get("event") == "publish" and e.get("version") == version.number
    ]
    return {
        "version": version.number,
        "pinned": bool(pinned_version(store)),
        "cycle": version.cycle,
        "round": version.round,
        "rounds": version.rounds,
        "items": version.artifacts["items"].rows,
        "metrics": {k: metrics.card[k] for k in METRICS} if metrics else {},
        "age_seconds": _age(now, published[-1]) if published else None,
    }


def _unfinished(store: Store, newest: Version) -> dict[str, Any]:
    """The cycle that was killed or stopped half-way."""
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
    """What `remine run` would do, stage by stage; seconds from the log, None where unknown."""
    resumed = newest is not None and not newest.finished
    steps = _steps(config, newest, decision, CYCLE)
    rates = _rates(events)
    what = "resume" if resumed else CYCLE
    found: dict[str, Any] = {"what": what, **_costed(steps, rates)}
    if decision.what == INDEX:
        found["if_needed"] = _costed(_steps(config, newest, decision, INDEX), rates)
    found["memory_gb"] = _memory(config, newest)
    return found


Step = tuple[str, int, float]
"""A stage, its round, and its share of a whole stage over all items."""


def _age(now: float, then: float) -> float:
    """Seconds; none where the clock was set back since."""
    return max(0.0, round(now - then, 1))


def _steps(config: Config, newest: Version | None, decision: Decision, what: str) -> list[Step]:
    change = decision.change
    fresh = 1.0 if newest is None else 0.0
    if change:
        moved = change.new + change.changed
        fresh = moved / max(1, moved + change.same)
    first = newest.round if newest and not newest.finished else 0
    rounds = config.run.rounds if what == CYCLE else 0
    found: list[Step] = [("prepare", 0, fresh)]
    for number in range(first, rounds + 1):
        again = number == 0 and newest is not None
        share = fresh if again else 1.0
        found += [("embed", number, share), ("index", number, share), ("evaluate", number, 1.0)]
        if number < rounds:
            found += [("mine", number, 1.0), ("train", number, 1.0)]
    return found


def _costed(steps: list[Step], rates: Mapping[str, float]) -> dict[str, Any]:
    taken = [round(share * rates[s], 2) if s in rates else None for s, _, share in steps]
    stages = [
        {"stage": stage, "round": number, "seconds": seconds}
        for (stage, number, _), seconds in zip(steps, taken, strict=True)
    ]
    known = [seconds for seconds in taken if seconds is not None]
    return {"stages": stages, "seconds": round(sum(known), 2) if known else None}


def _rates(events: list[dict[str, Any]]) -> dict[str, float]:
    """Seconds of a whole stage: the median of the last few that did all of their items.

    Those that took part of them from before tell little, and count only where there are no others.
    """
    seen: dict[str, list[tuple[int, float, bool]]] = {}
    for event in events:
        if event.get("event") == "stage" and event.get("count"):
            told = event["count"], event["seconds"], bool(event.get("partial"))
            seen.setdefault(event["stage"], []).append(told)
    rates = {}
    for stage, runs in seen.items():
        most = max(count for count, *_ in runs[-4 * LATEST :])
        some = [run for run in runs if not run[2]] or runs
        whole = [(s * most / count, 2 * count >= most) for count, s, _ in some]
        alike = [seconds for seconds, near in whole if near] or [seconds for seconds, _ in whole]
        rates[stage] = statistics.median(alike[-LATEST:])
    return rates


def _memory(config: Config, newest: Version | None) -> float | None:
    """Gigabytes at the peak, which is mining's; by its plan."""
    if newest is None:
        return None
    from remine.mining.search.gallery_size import peak_memory_gb

    n = newest.artifacts["items"].card["splits"]["train"]["items"]
    d = newest.artifacts["index"].card["dimensions"]
    return round(peak_memory_gb(n, d, config.mining.memory_gb), 2)


def lines(told: Mapping[str, Any]) -> list[str]:
    """For a person."""
    if told["served"] is None and "lock" not in told:
        return [f"no store at {told['store']}: `remine run` makes one"]
    said = [f"store      {told['store']}", f"served     {_served_line(told['served'])}"]
    said.append(f"lock       {'held by ' + told['lock'] if told['lock'] else 'free'}")
    if (well := told["well_seconds"]) is not None:
        said.append(f"last run   ended well {_duration(well)} ago")
    if failed := told.get("failed"):
        said.append(f"           failed {_duration(failed['age_seconds'])} ago: {failed['why']}")
    if left := told.get("unfinished"):
        why = f", stopped at {left['stopped']}" if left["stopped"] else ", the next run resumes it"
        said.append(
            f"unfinished cycle {left['cycle']}, round {left['round']} of {left['rounds']}{why}"
        )
    if "refused" in told:
        return [*said, f"source     refused: {told['refused']}"]
    stale = told["stale"]
    moved = Change(**stale).line().removeprefix("items: ") if stale else "as in the newest version"
    said.append(f"source     {moved}")
    plan = told["next"]
    said.append(f"run        {plan['what']}, {_about(plan['seconds'])}{_gigabytes(plan)}")
    for step in plan["stages"]:
        name = f"{step['stage']} {step['round']}"
        said.append(f"           {name:<11} {_about(step['seconds'])}")
    needed = told["if_needed"]
    cost = f", {_about(plan['if_needed']['seconds'])}" if "if_needed" in plan else ""
    return [*said, f"if needed  {needed['what']}{cost}: {needed['why']}"]


def _served_line(found: Mapping[str, Any] | None) -> str:
    if not found:
        return "nothing yet"
    metrics = ", ".join(f"{name} {value:.4f}" for name, value in found["metrics"].items())
    pin = " (pinned)" if found["pinned"] else ""
    age = found["age_seconds"]
    since = f", {_duration(age)} old" if age is not None else ""
    place = f"cycle {found['cycle']}, round {found['round']} of {found['rounds']}"
    return f"version {found['version']}{pin}, {place}, {found['items']:,} items, {metrics}{since}"


def _about(seconds: float | None) -> str:
    return "unknown seconds" if seconds is None else f"about {_duration(seconds)}"


def _gigabytes(plan: Mapping[str, Any]) -> str:
    return f", {plan['memory_gb']:.1f} GB of memory" if plan["memory_gb"] else ""


def _duration(seconds: float) -> str:
    for size, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.1f} s"
