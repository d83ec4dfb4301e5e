"""Runs of a deployment against a real Prefect server: what is retried, what is marked crashed."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import UUID

import pytest

from remine.data.errors import InputError
from remine.data.store.store import Store
from remine.flows.config.settings import load_config
from remine.flows.jobs.console import Console
from remine.flows.jobs.environment import set_environment
from remine.flows.orchestration.prefect_server import Server, server
from remine.flows.orchestration.single_run import run_now

QUICK = ["run.rounds=1", "train.steps=2"]


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The module under test, with a server of its own."""
    with patch.dict(os.environ, {"PREFECT_HOME": str(tmp_path_factory.mktemp("prefect"))}):
        os.environ.pop("PREFECT_API_URL", None)
        set_environment()
        with server(schedules=False):
            from remine.flows.orchestration import flow

            yield flow
            flow.APILogHandler().flush()


def ask(call: str, *args: Any, **kwargs: Any) -> Any:
    """One call of Prefect's client."""
    from prefect import get_client

    async def call_client() -> Any:
        async with get_client() as client:
            return await getattr(client, call)(*args, **kwargs)

    return asyncio.run(call_client())


class Fault:
    """The first `times` that a stage stores its metrics fail with `error`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception, times: int) -> None:
        self.error, self.times, self.attempts = error, times, 0
        remember = Store.remember

        def failing(store: Store, key: str, artifact: Any) -> Any:
            if artifact.kind == "metrics":
                self.attempts += 1
                if self.attempts <= self.times:
                    raise self.error
            return remember(store, key, artifact)

        monkeypatch.setattr(Store, "remember", failing)


@pytest.fixture
def impatient(prefect, monkeypatch) -> None:
    """Stages that are tried again at once."""
    quick = prefect.stage_task.with_options(retry_delay_seconds=[0.0, 0.0])
    monkeypatch.setattr(prefect, "stage_task", quick)


@pytest.fixture(scope="module")
def deployment(prefect) -> UUID:
    """A deployment of the cycle."""
    return ask("create_deployment", ask("create_flow", prefect.cycle), name="remine")


def run_scheduled(prefect: Any, deployment: UUID, config: Path) -> Any:
    """The final state of a scheduled run of the cycle."""
    from prefect.flow_engine import run_flow

    parameters = {"config": str(config), "overrides": QUICK}
    run = ask("create_flow_run_from_deployment", deployment, parameters=parameters)
    return run_flow(prefect.cycle, flow_run=run, return_type="state")


def full() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/disk/file")


def test_a_scheduled_stage_waits_longer_the_second_time(prefect):
    stage = prefect.stage_task
    assert (stage.retries, stage.retry_delay_seconds) == (2, [10.0, 60.0])  # docs/operations.md


@pytest.mark.usefixtures("impatient")
def test_a_fault_of_the_machine_is_retried(prefect, deployment, config_file, monkeypatch):
    fault = Fault(monkeypatch, full(), times=2)
    state = run_scheduled(prefect, deployment, config_file)
    assert state.is_completed(), state
    assert fault.attempts == 4  # three for the first round's, one for the second's
    assert Store(config_file.parent / "store").current().finished


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("error", "times", "attempts"),
    [
        (full(), 3, 3),
        (InputError("row 3 is bad"), 1, 1),
        (FileNotFoundError(errno.ENOENT, "gone"), 1, 1),
    ],
    ids=["a disk that stays full", "bad input", "a file that is not there"],
)
def test_an_error_that_would_repeat_is_not_retried(
    prefect, deployment, config_file, monkeypatch, error, times, attempts
):
    fault = Fault(monkeypatch, error, times)
    state = run_scheduled(prefect, deployment, config_file)
    assert state.is_failed(), state
    assert str(error) in state.message
    assert fault.attempts == attempts


def run_by_hand(config: Path, overrides: list[str]) -> None:
    """As `remine run` does it."""
    run_now(load_config(config, overrides), Console(quiet=True), config, overrides)


@pytest.mark.usefixtures("impatient")
def test_a_run_by_hand_fails_at_once(config_file, monkeypatch):
    fault = Fault(monkeypatch, full(), times=1)
    with pytest.raises(OSError, match="No space left"):
        run_by_hand(config_file, QUICK)
    assert fault.attempts == 1


@pytest.mark.usefixtures("prefect")
def test_an_unknown_runner_is_in_the_log(config_file, own_store):
    """It is refused before any stage runs that could report it."""
    with pytest.raises(InputError, match=r"beam\.runner"):
        run_by_hand(config_file, ['beam.runner="Nonesuch"'])
    last = own_store.events()[-1]
    assert (last["event"], "beam.runner" in last["why"]) == ("failed", True)


def create_run(deployment: UUID, config: Path, state: Any, *overrides: str) -> UUID:
    """A run that has `state` on the server and no process."""
    parameters = {"config": str(config), "overrides": list(overrides)}
    call = "create_flow_run_from_deployment"
    return ask(call, deployment, parameters=parameters, state=state).id


def mark(prefect: Any, deployment: UUID, config: Path) -> int:
    """Mark crashed runs; returns their number."""
    return prefect.crashed_runs.mark_crashed_runs(deployment, load_config(config, ()).store)


def states(*runs: UUID) -> list[str]:
    return [ask("read_flow_run", run).state.name for run in runs]


@pytest.fixture
def own_store(config_file: Path) -> Store:
    return Store(config_file.parent / "store", create=True)


@pytest.mark.usefixtures("own_store")
def test_runs_of_a_killed_machine_are_marked(prefect, deployment, config_file):
    from prefect.states import Cancelling, Completed, Pending, Running, Scheduled

    orphans = [create_run(deployment, config_file, state) for state in (Running(), Cancelling())]
    # Finished, scheduled, just starting, of another store, or with unreadable parameters.
    other_runs = [
        create_run(deployment, config_file, s) for s in (Completed(), Scheduled(), Pending())
    ]
    other_runs.append(create_run(deployment, config_file.parent / "other.toml", Running()))
    other_runs.append(create_run(deployment, config_file, Running(), 'run.store="another"'))
    other_runs.append(create_run(deployment, config_file.parent / "a\0b", Running()))
    # The same parameters in another deployment may refer to another machine's store.
    elsewhere = ask("create_deployment", ask("create_flow", prefect.cycle), name="elsewhere")
    other_runs.append(create_run(elsewhere, config_file, Running()))
    before = states(*other_runs)
    assert mark(prefect, deployment, config_file) == len(orphans)
    assert states(*orphans) == ["Crashed"] * len(orphans)
    assert states(*other_runs) == before
    assert mark(prefect, deployment, config_file) == 0


def test_without_a_store_a_first_run_may_be_checking_its_data(prefect, deployment, config_file):
    from prefect.states import Running

    run = create_run(deployment, config_file, Running())
    assert mark(prefect, deployment, config_file) == 0
    assert states(run) == ["Running"]


@pytest.mark.usefixtures("own_store")
def test_a_run_that_was_killed_while_it_started_is_marked(
    prefect, deployment, config_file, monkeypatch
):
    from prefect.states import Pending

    run = create_run(deployment, config_file, Pending())
    assert mark(prefect, deployment, config_file) == 0  # it may begin yet
    monkeypatch.setattr(prefect.crashed_runs, "STARTUP_TIME", timedelta(0))
    assert mark(prefect, deployment, config_file) == 1
    assert states(run) == ["Crashed"]


def test_while_a_cycle_works_nothing_is_marked(prefect, deployment, config_file, own_store):
    from prefect.states import Running

    run = create_run(deployment, config_file, Running())
    with own_store.lock():
        assert mark(prefect, deployment, config_file) == 0
    assert states(run) == ["Running"]
    assert mark(prefect, deployment, config_file) == 1
    assert states(run) == ["Crashed"]


def test_of_missed_runs_all_but_the_latest_are_cancelled(prefect, monkeypatch):
    from prefect.states import Scheduled

    mine, foreign = (
        ask("create_deployment", ask("create_flow", prefect.cycle), name=name)
        for name in ("mine", "foreign")
    )
    monkeypatch.setattr(prefect.crashed_runs, "PAGE_SIZE", 2)
    now = datetime.now(UTC)
    whens = [now - timedelta(minutes=m) for m in (5, 4, 3, 2, 1)] + [now + timedelta(hours=1)]
    runs = [late(mine, moment) for moment in whens]
    newest = late(foreign, now)
    by_hand = ask("create_flow_run_from_deployment", mine, state=Scheduled(scheduled_time=now)).id
    prefect.crashed_runs.cancel_older_missed_runs(mine)
    assert states(*runs) == ["Cancelled"] * 4 + ["Scheduled"] * 2
    assert states(newest, by_hand) == ["Scheduled"] * 2


def late(deployment: UUID, when: datetime) -> UUID:
    """A run as the server's scheduler makes it."""
    from prefect.states import Scheduled

    state, call = Scheduled(scheduled_time=when), "create_flow_run_from_deployment"
    return ask(call, deployment, state=state, tags=["auto-scheduled"]).id


@pytest.mark.parametrize(("within", "name"), [(0, "Crashed"), (5, "Running")])
def test_a_cycle_marks_those_before_it(prefect, deployment, config_file, monkeypatch, within, name):
    """In a work pool no schedule does it; a run that has just started may be about to skip."""
    from prefect.states import Running

    monkeypatch.setattr(prefect.crashed_runs, "STARTUP_TIME", timedelta(minutes=within))
    earlier_run = create_run(deployment, config_file, Running())
    assert run_scheduled(prefect, deployment, config_file).is_completed()
    assert states(earlier_run) == [name]


@pytest.mark.usefixtures("prefect")
@pytest.mark.parametrize("is_temporary", [True, False])
def test_the_end_of_a_temporary_server_is_noticed(monkeypatch, is_temporary):
    """A configured server is waited for: it may restart."""
    from remine.flows.orchestration import schedule

    monkeypatch.setattr(schedule, "CHECK_SECONDS", 0.01)
    dead_server = Server(url="http://127.0.0.1:9/api", is_temporary=is_temporary)

    async def wait() -> None:
        await asyncio.wait_for(schedule._wait_until_gone(dead_server), timeout=1)

    if is_temporary:
        asyncio.run(wait())
    else:
        with pytest.raises(TimeoutError):
            asyncio.run(wait())


@pytest.mark.parametrize("has_events", [True, False])
def test_events_go_only_to_servers_that_store_them(prefect, monkeypatch, own_store, has_events):
    from types import SimpleNamespace

    from prefect.events import emit_event
    from prefect.events.worker import EventsWorker

    events = []

    def finish(*_: object) -> int:
        events.append(emit_event("test", resource={"prefect.resource.id": "remine.test"}))
        return 7

    monkeypatch.setattr(prefect, "_finish", finish)
    ready = (SimpleNamespace(console=Console(quiet=True), store=own_store), None, None)
    assert prefect.run_prepared(ready, None, None, [], has_events=has_events) == 7
    assert (events[0] is not None) == has_events
    assert EventsWorker._client_override is None


@pytest.mark.usefixtures("prefect")
def test_sigterm_in_a_stage_is_one_line_and_the_server_is_told(config_file):
    command = [Path(sys.executable).parent / "remine", "run", "--config", config_file]
    process = subprocess.Popen(
        [*command, "--set", "train.steps=1000000"], stderr=subprocess.PIPE, text=True
    )
    with process:
        assert any("round 0   mine" in line for line in iter(process.stderr.readline, ""))
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "remine: interrupted; the same command resumes\n")
    runs = ask("read_flow_runs")
    assert max(runs, key=lambda run: run.created).state.name == "Crashed"
