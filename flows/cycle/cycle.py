"""One cycle: R rounds of embed, index, evaluate, mine, train, each round's state published.

Engine-free: `call` runs a stage, directly or as a Prefect task. A cycle that was killed is walked
again from its first round; every finished stage is recalled from the store, so the walk arrives
where the kill struck, with the same bits.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from remine.data.errors import InputError, StoreBusyError
from remine.data.store.records import Artifact, Version, digest
from remine.data.store.store import Store, made
from remine.data.store.views import lay_out, page_of, view
from remine.flows.config.settings import Config
from remine.flows.cycle.failures import failures_noted
from remine.flows.cycle.refresh import INDEX, Decision
from remine.flows.cycle.stopped_rounds import note_stop, stop_of
from remine.flows.jobs.console import Bar, Console
from remine.flows.jobs.job import Execute
from remine.flows.jobs.run import Run
from remine.flows.stages import evaluate
from remine.flows.stages.embed import embed
from remine.flows.stages.features import features
from remine.flows.stages.health import overlap
from remine.flows.stages.index import build
from remine.flows.stages.prepare import prepare
from remine.flows.stages.reuse import Before
from remine.flows.stages.train import check_training, train, training_record
from remine.flows.stages.training_data import material
from remine.train.monitor.health import RoundStoppedError

Call = Callable[..., Artifact]
COLLAPSED = 1e-6
"""Of the mean squared distance of two items, which float32 rounding alone moves by about 1e-7."""


def call_plain(stage: Callable[..., Artifact], *args: Any) -> Artifact:
    """Run a stage as the function that it is."""
    return stage(*args)


@contextmanager
def prepared(
    config: Config, execute: Execute, console: Console
) -> Iterator[tuple[Run, Artifact, Artifact]]:
    """The locked store with checked data in it: the run, the items and the inputs."""
    with ExitStack() as stack:
        stack.enter_context(failures_noted(config))
        config.check_cycle()
        locked = made(config.store)
        if locked:
            stack.enter_context(Store(config.store).lock())
        early: list[tuple[str, Bar, float]] = []  # there may be no store yet to log it in
        console.on_stage_end = lambda *told: early.append(told)
        try:
            store, items, inputs = prepare(config, console)
        except FileNotFoundError:
            if locked or not _others(config):
                raise
            # Whoever made it cleared what lay half-done there, this run's too.
            raise StoreBusyError(
                f"{config.store} was made by another cycle meanwhile: one cycle at a time"
            ) from None
        check_training(config, items)
        if not locked:
            stack.enter_context(store.lock())
        console.on_stage_end = partial(_note, store, console)
        for told in early:
            console.on_stage_end(*told)
        yield Run(config=config, store=store, execute=execute, console=console), items, inputs


def _others(config: Config) -> bool:
    """Whether somebody works on a store that this run did not find made, or has."""
    if not made(config.store):
        return False
    store = Store(config.store)
    return bool(store.holder() or store.numbers())


def _note(store: Store, console: Console, stage: str, bar: Bar, seconds: float) -> None:
    """A line in the store's log for a stage that ran; partial ones say so."""
    taken = {"partial": True} if bar.partial else {}
    where = {"stage": stage, "round": console.round}
    store.log("stage", **where, count=bar.done, seconds=round(seconds, 3), **taken)


def run_cycle(
    run: Run,
    items: Artifact,
    inputs: Artifact,
    call: Call = call_plain,
    published: Callable[[Version], None] = lambda _version: None,
    decision: Decision | None = None,
) -> Version:
    """Run the next cycle, or what is left of one that was killed; returns its last version.

    decision: why; where it says "index" the cycle has no round of training.
    """
    base = next((v for v in run.store.versions() if v.finished or _given_up(run, v)), None)
    cycle, rounds = base.cycle + 1 if base else 1, run.config.run.rounds
    if decision and decision.what == INDEX:
        rounds = 0
    checkpoint = _start(run, base, items, inputs)
    rows = _why(run, base, decision)
    if run.config.encoder.frozen:
        known = Before.of(base.artifacts, "features") if base else None
        rows["features"] = call(features, run, checkpoint, inputs, items, known)
    before: Artifact | None = None
    for number in range(rounds + 1):
        run.console.round = f"round {number}"
        known = Before.of(base.artifacts) if base and not number else None
        embeddings = call(embed, run, checkpoint, items, inputs, known)
        if before:
            rows[f"health/round={number}"] = call(overlap, run, before, embeddings)
        before = embeddings
        index = call(build, run, embeddings, None if number else base)
        rows[f"metrics/round={number}"] = call(evaluate.evaluate, run, embeddings, items)
        _check_spread(rows[f"metrics/round={number}"])
        artifacts = {
            "items": items,
            "inputs": inputs,
            "checkpoint": checkpoint,
            "embeddings": embeddings,
            "index": index,
            **rows,
        }
        version = _publish(run, base, (cycle, number, rounds), artifacts)
        published(version)
        if number < rounds:
            seed = int(digest([run.config.run.seed, cycle, number])[:7], 16)
            mined = material(run, checkpoint, embeddings, items, seed, call)
            rows |= {f"{name}/round={number}": artifact for name, artifact in mined.items()}
            given = next(iter(mined.values()), None)
            try:
                checkpoint = call(train, run, checkpoint, given, items, inputs, seed)
            except RoundStoppedError as error:
                raise _stopped(run, version, error) from None
            rows[f"training/round={number}"] = training_record(checkpoint)
    return version


def _check_spread(metrics: Artifact) -> None:
    """Refuse to publish what nothing can be searched or mined in."""
    if metrics.card["spread"] < COLLAPSED:
        raise InputError(
            "the encoder gives all items nearly the same embedding (their mean squared distance is"
            f" {metrics.card['spread']:.1e}): change [encoder]; what is served stays"
        )


def _why(run: Run, base: Version | None, decision: Decision | None) -> dict[str, Artifact]:
    """The decision that began the cycle, which a run that resumes it does not take again."""
    current = run.store.current()
    if current and (base is None or current.number > base.number):
        begun = current.artifacts.get("decision")
        return {"decision": begun} if begun else {}
    return {"decision": decision.artifact()} if decision else {}


def _given_up(run: Run, version: Version) -> bool:
    """Whether the round after `version` was stopped under other settings: these go on from it."""
    stop = stop_of(run.store, version)
    return stop is not None and stop["settings"] != digest(run.config.to_json())


def _stopped(run: Run, version: Version, error: RoundStoppedError) -> RoundStoppedError:
    """Note which settings stopped the round after `version`; says what is left and what to do."""
    note_stop(run.store, run.config, version, str(error))
    run.store.log("stopped", version=version.number, round=version.round, why=str(error))
    return RoundStoppedError(
        f"round {version.round} was stopped at {error}; with changed settings the next run goes on"
        f" from version {version.number}, the last good checkpoint"
    )


def unreported(run: Run) -> Version | None:
    """The last version of a finished cycle that has no page yet: a kill came just before it."""
    current = run.store.current()
    if current is None or not current.finished or page_of(run.store, current).exists():
        return None
    if run.store.remote:
        return None  # pages lie on the machine that ran the cycle, and this may be another
    run.console.say(f"cycle {current.cycle} was finished but for its page")
    lay_out(run.store, current)
    return current


def _start(run: Run, base: Version | None, items: Artifact, inputs: Artifact) -> Artifact:
    """The last cycle's checkpoint, or a fresh encoder where there is none that fits."""
    if base:
        checkpoint = base.artifacts["checkpoint"]
        if evaluate.fits(run, checkpoint, items, inputs):
            return checkpoint
        run.console.say("the encoder or its inputs changed: starting from a fresh encoder")
    return evaluate.first_checkpoint(run, items, inputs)


def _publish(
    run: Run,
    base: Version | None,
    place: tuple[int, int, int],
    artifacts: dict[str, Artifact],
) -> Version:
    """Publish the state at the start of round `number`, unless this very cycle has."""
    current, (cycle, number, rounds) = run.store.current(), place
    version = Version(
        number=current.number + 1 if current else 1,
        parent=current.digest if current else None,
        cycle=cycle,
        round=number,
        rounds=rounds,
        config=run.config.to_json(),
        artifacts=artifacts,
    )
    for old in run.store.versions():
        if base and old.number <= base.number:
            break
        if replace(version, number=old.number, parent=old.parent).digest == old.digest:
            # A kill may have come between publishing and laying out.
            view(run.store, old)
            if current:
                lay_out(run.store, current)
            return old
    run.store.publish(version)
    run.store.log("publish", version=version.number, cycle=cycle, round=number)
    lay_out(run.store, version)
    return version
