"""One cycle: R rounds of embed, index, evaluate, mine, train, each round's state published.

Each version chooses the round to serve, the best so far on val (`round_choice`). The next cycle
starts from it.

Engine-free: `call` runs a stage, directly or as a task of Prefect. A cycle that was killed is run
again from its first round; every finished stage is recalled from the store, so that it goes on at
the stage where the kill struck, with the same bits.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from remine.data.errors import StoreBusyError
from remine.data.store.pins import chosen_version
from remine.data.store.records import Artifact, Version, digest
from remine.data.store.store import Store, store_exists
from remine.data.store.views import check_latest, lacks_page, lay_out, view
from remine.flows.config.settings import Config
from remine.flows.cycle.cycle_state import CycleState
from remine.flows.cycle.failures import failures_logged
from remine.flows.cycle.refresh import INDEX, NOTHING, Decision, decide, plain
from remine.flows.cycle.round_choice import advice, choice_line
from remine.flows.cycle.stopped_rounds import note_stop, stop_of
from remine.flows.jobs.console import Bar, Console
from remine.flows.jobs.job import Execute
from remine.flows.jobs.run_context import Run
from remine.flows.jobs.trackers import check_trackers
from remine.flows.stages.parallel_round import announce_round
from remine.flows.stages.prepare import prepare
from remine.flows.stages.rounds.checks import check_training
from remine.flows.stages.training_data import StageCall
from remine.train.monitor.health import RoundStoppedError


def call_plain(stage: Callable[..., Artifact], *args: Any) -> Artifact:
    """Run a stage as the function that it is."""
    return stage(*args)


PreparedRun = tuple[Run, Artifact, Artifact]
"""A run that holds the store's lock, the items and the inputs."""


@contextmanager
def prepared(config: Config, execute: Execute, console: Console) -> Iterator[PreparedRun]:
    """Lock the store and put the checked data into it.

    Args:
        config: Settings.
        execute: Runs the units of jobs.
        console: Where stages report.

    Yields:
        The run, the items and the inputs. The lock is held until the context ends.

    Raises:
        InputError: The data or the settings cannot be used; nothing was written.
        StoreBusyError: Another cycle holds the lock.

    """
    with ExitStack() as stack:
        is_locked = _enter(stack, config)
        yield _prepare(stack, config, execute, console, is_locked=is_locked)


@contextmanager
def prepared_if_needed(
    config: Config,
    engine: Callable[[], Execute],
    console: Console,
    on_decision: Callable[[Decision], None] = lambda _decision: None,
) -> Iterator[tuple[PreparedRun | None, Decision | None]]:
    """As `prepared`, if a run is worth it by the settings `[refresh]`.

    Args:
        config: Settings.
        engine: Returns the way to run the units of jobs; not called if nothing is to do.
        console: Where stages report.
        on_decision: Called with the decision before anything is done.

    Yields:
        The prepared run, None if nothing is to do; and the decision, None if refresh.when is
        "always". Both are made under one lock, which is held until the context ends.

    """
    with ExitStack() as stack:
        is_locked = _enter(stack, config)
        decision = decide(config) if config.refresh.when == "needed" else None
        if decision:
            on_decision(decision)
            if decision.action == NOTHING:
                yield None, decision
                return
        yield _prepare(stack, config, engine(), console, is_locked=is_locked), decision


def _enter(stack: ExitStack, config: Config) -> bool:
    """Note failures in the store's log and lock the store, if there is one; whether there is."""
    stack.enter_context(failures_logged(config))
    config.check_cycle()
    check_trackers(config.track)
    if not store_exists(config.store):
        return False
    store = Store(config.store)
    check_latest(store)
    stack.enter_context(store.lock())
    return True


def _prepare(
    stack: ExitStack, config: Config, execute: Execute, console: Console, *, is_locked: bool
) -> PreparedRun:
    # There may be no store yet whose log could take these lines.
    early_stages: list[tuple[str, Bar, float]] = []
    console.on_stage_end = lambda *stage: early_stages.append(stage)
    try:
        store, items, inputs = prepare(config, console)
    except FileNotFoundError:
        if is_locked or not _is_used_by_others(config):
            raise
        # Whoever created the store removed half-done files in it, those of this run, too.
        raise StoreBusyError(
            f"{config.store} was created by another cycle at the same time: one cycle at a time"
        ) from None
    check_training(config, items)
    if not is_locked:
        stack.enter_context(store.lock())
    console.on_stage_end = partial(_log_stage, store, console)
    for stage in early_stages:
        console.on_stage_end(*stage)
    run = Run(config=config, store=store, execute=execute, console=console, announce=announce_round)
    return run, items, inputs


def _is_used_by_others(config: Config) -> bool:
    """Whether somebody works, or has worked, on a store that did not exist when this run began."""
    if not store_exists(config.store):
        return False
    store = Store(config.store)
    return bool(store.lock_holder() or store.numbers())


def _log_stage(store: Store, console: Console, stage: str, bar: Bar, seconds: float) -> None:
    """Write a line for a stage that ran into the store's log; partial ones are marked."""
    mark = {"partial": True} if bar.partial else {}
    place = {"stage": stage, "round": console.round}
    store.log("stage", **place, count=bar.count, seconds=round(seconds, 3), **mark)


def run_cycle(
    run: Run,
    items: Artifact,
    inputs: Artifact,
    call: StageCall = call_plain,
    on_publish: Callable[[Version], None] = lambda _version: None,
    decision: Decision | None = None,
) -> Version:
    """Run the next cycle, or the rest of one that was killed.

    Args:
        run: Settings, locked store, the way to run units.
        items: Ids, labels and splits.
        inputs: What the encoder reads.
        call: Runs a stage.
        on_publish: Called with every version, also with one that was published before a kill.
        decision: Why the cycle runs; if it is to refresh the index, no round trains.

    Returns:
        The last version. Which one is served, is in its `choice`.

    Raises:
        RoundStoppedError: The embedding collapsed; the versions before stay.

    """
    base = next((v for v in run.store.versions() if v.finished or _is_given_up(run, v)), None)
    cycle, rounds = base.cycle + 1 if base else 1, run.config.run.rounds
    if decision and decision.action == INDEX:
        rounds = 0
    served = base and chosen_version(run.store, base)
    state = CycleState(
        run, call, served, items, inputs, records=_decision_record(run, base, decision)
    )
    state.start()
    with state.tracked(cycle):
        return _run_rounds(run, state, (cycle, rounds), base, on_publish)


def _run_rounds(
    run: Run,
    state: CycleState,
    place: tuple[int, int],
    base: Version | None,
    on_publish: Callable[[Version], None],
) -> Version:
    """The rounds of a cycle. place: the number of the cycle, and of its rounds."""
    cycle, rounds = place
    for number in range(rounds + 1):
        run.console.round = f"round {number}"
        state.embed_and_evaluate(number)
        if why := state.reason_to_end(number):
            rounds = number
        version = _publish(run, base, (cycle, number, rounds), state.artifacts())
        on_publish(version)
        if number == rounds:
            break
        seed = int(digest([run.config.run.seed, cycle, number])[:7], 16)
        try:
            state.mine_and_train(number, seed)
        except RoundStoppedError as error:
            raise _stopped(run, version, error) from None
    run.console.round = ""
    for line in (why, choice_line(run.store, version), advice(version)):
        if line:
            run.console.say(line)
    return version


def _decision_record(
    run: Run, base: Version | None, decision: Decision | None
) -> dict[str, Artifact]:
    """The decision that began the cycle; a run that resumes the cycle keeps the first one."""
    current = run.store.current()
    if current and (base is None or current.number > base.number):
        first_decision = current.artifacts.get("decision")
        return {"decision": first_decision} if first_decision else {}
    return {"decision": decision.artifact()} if decision else {}


def _is_given_up(run: Run, version: Version) -> bool:
    """Whether the round after `version` was stopped under other settings: these go on from it."""
    stop = stop_of(run.store, version)
    return stop is not None and stop["settings"] != digest(run.config.to_json())


def _stopped(run: Run, version: Version, error: RoundStoppedError) -> RoundStoppedError:
    """Note which settings stopped the round after `version`; the error says what to do."""
    note_stop(run.store, run.config, version, str(error))
    run.store.log("stopped", version=version.number, round=version.round, why=str(error))
    return RoundStoppedError(
        f"round {version.round} was stopped at {error}; with changed settings the next run goes on"
        f" from version {version.number}, the last good checkpoint"
    )


def finished_without_page(run: Run, items: Artifact) -> Version | None:
    """The last version of a finished cycle without a page, because a kill came just before it.

    None if there is no such version, or if the items or the settings are others since: then the
    next cycle is to run.
    """
    current = run.store.current()
    if current is None or not current.finished or not lacks_page(run.store, current):
        return None
    is_same_config = plain(current.config) == plain(run.config.to_json())
    if not is_same_config or current.artifacts["items"] != items:
        return None
    run.console.say(f"cycle {current.cycle} was finished, except for its page")
    lay_out(run.store, current)
    return current


def _publish(
    run: Run,
    base: Version | None,
    place: tuple[int, int, int],
    artifacts: dict[str, Artifact],
) -> Version:
    """Publish the state at the start of a round, unless this cycle has published it before.

    place: numbers of the cycle and the round, and of the cycle's rounds.
    """
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
