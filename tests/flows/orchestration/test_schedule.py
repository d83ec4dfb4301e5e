"""A schedule that really creates and runs cycles, with a Prefect server of its own.

With a Chromium, the Run button and the artifacts of a run are checked in Prefect's own page.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from remine.data.errors import InputError
from remine.data.store.store import Store
from remine.flows.cli.commands.schedule import CRON_NAMES, cron_runs, parse_interval, run_text
from remine.flows.config.settings import load_config
from remine.flows.jobs.environment import set_environment
from remine.flows.orchestration.prefect_server import _running_server

LIMIT = 120
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
NEVER = ("--cron", "0 0 29 2 *")


def test_intervals():
    assert parse_interval("90s").total_seconds() == 90
    assert parse_interval("6h").total_seconds() == 6 * 3600
    for bad in ("6", "h", "0s", "-1h", "1w", "²s", "99999999999d", "9999d"):
        with pytest.raises(InputError):
            parse_interval(bad)


@pytest.mark.parametrize(
    ("line", "runs"),
    [
        ("0 3 * * *", ["2026-11-28 03:00", "2026-11-29 03:00", "2026-11-30 03:00"]),
        (" 30  22 * * 5 ", ["2026-11-27 22:30", "2026-12-04 22:30", "2026-12-11 22:30"]),
        ("@daily", ["2026-11-28 00:00", "2026-11-29 00:00", "2026-11-30 00:00"]),
        ("@monthly", ["2026-12-01 00:00", "2027-01-01 00:00", "2027-02-01 00:00"]),
        ("0 0 29 2 *", ["2028-02-29 00:00", "2032-02-29 00:00", "2036-02-29 00:00"]),
    ],
)
def test_the_next_runs_of_a_cron_line(line, runs):
    set_environment()
    start = datetime(2026, 11, 27, 21, 30, 5, tzinfo=UTC)
    assert [f"{run:%Y-%m-%d %H:%M}" for run in cron_runs(line, start)] == runs


@pytest.mark.parametrize("name", CRON_NAMES)
def test_every_name_of_a_cron_line_is_known(name):
    set_environment()
    assert len(cron_runs(name, datetime(2026, 11, 27, tzinfo=UTC))) == 3


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0 0 3 * * *", "has 6 fields; write five"),
        ("0 0 3 * * * 2027", "has 7 fields; write five"),
        ("0 3 * *", "has 4 fields; write five"),
        ("@reboot", "has 1 field; write five"),
        ("@daily 3", "has 2 fields; write five"),
        ("0 25 * * *", "is not a cron line"),
        ("H 3 * * *", "is not a cron line"),
    ],
)
def test_a_cron_line_has_five_fields_or_is_a_name(line, reason):
    set_environment()
    with pytest.raises(InputError, match=re.escape(f"--cron {line!r} {reason}")):
        cron_runs(line, datetime(2026, 11, 27, tzinfo=UTC))


def test_runs_are_shown_in_utc_and_local_time():
    run = datetime(2026, 11, 28, 3, tzinfo=UTC)
    text = run_text(run, ZoneInfo("America/New_York"))
    assert text == "2026-11-28 03:00:00 UTC = 2026-11-27 22:00:00 EST"


def test_every_store_has_a_deployment_of_its_own(config_file, monkeypatch):
    set_environment()
    from remine.flows.orchestration.schedule import deployment_name

    def name(store: str, *more: str) -> str:
        return deployment_name(load_config(config_file, [f'run.store="{store}"', *more]))

    stores = ["runs/a", "other/a", "runs/b", "runs/a%b", "s3://a/b c"]
    names = [name(store) for store in stores]
    assert len(set(names)) == len(stores)
    assert name("runs/a", "train.steps=7") == names[0]
    assert names[0].startswith("a-")
    # Another machine's folder of the same path is another store; a bucket is one for all.
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    assert [name(store) == one for store, one in zip(stores, names, strict=True)] == [
        *[False] * 4,
        True,
    ]
    for one in names:  # Prefect refuses the others
        assert not set(one) & set("/%&><")


class Schedule:
    """`remine schedule`, with a Prefect of its own that outlives it on disk."""

    def __init__(self, config_file: Path) -> None:
        self.folder = config_file.parent
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.out = self.folder / "out"
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, *when: str) -> None:
        environment = {
            **os.environ,
            "PREFECT_HOME": str(self.folder / "prefect"),
            "PREFECT_SERVER_API_PORT": str(self.port),
            "PREFECT_RUNNER_POLL_FREQUENCY": "1",  # it looks for runs that are due every 10 s
        }
        environment.pop("PREFECT_API_URL", None)
        remine = Path(sys.executable).parent / "remine"
        command = [remine, "schedule", *when, "-c", self.folder / "remine.toml"]
        command += ["-s", "run.rounds=1", "-s", "train.steps=60"]
        with self.out.open("a") as out:
            process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
        self.started.append(process)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LIMIT
        while not condition():
            assert time.monotonic() < deadline, self.out.read_text()
            assert self.started[-1].poll() is None, self.out.read_text()
            time.sleep(0.2)

    def finished(self) -> int:
        """How many cycles are finished in the store."""
        root = self.folder / "store"
        if not (root / "CURRENT").exists():
            return 0
        return sum(version.finished for version in Store(root).versions())

    def ask(self, path: str, **body: Any) -> Any:
        """What Prefect's server answers; 503 means that its database is busy, so ask again."""
        url, raw = f"http://127.0.0.1:{self.port}/api/{path}", json.dumps(body).encode()
        request = urllib.request.Request(url, raw, {"content-type": "application/json"})
        deadline = time.monotonic() + 30
        while True:
            try:
                with urllib.request.urlopen(request, timeout=20) as response:
                    return json.load(response)
            except urllib.error.HTTPError as error:
                with error:
                    if error.code != 503 or time.monotonic() > deadline:
                        raise
            time.sleep(0.5)

    def states(self) -> Counter[str]:
        """Number of runs by state; empty while no server answers."""
        with suppress(OSError):
            return Counter(run["state_name"] for run in self.ask("flow_runs/filter"))
        return Counter()

    def run(self, overrides: list[str]) -> str:
        """Start a run as a program does; its id."""
        deployment = self.ask("deployments/filter")[0]
        parameters = {**deployment["parameters"], "overrides": overrides}
        path = f"deployments/{deployment['id']}/create_flow_run"
        return str(self.ask(path, parameters=parameters, state={"type": "SCHEDULED"})["id"])

    def wait_for_silence(self) -> None:
        """Wait until the server has stopped."""
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
            except ConnectionRefusedError:
                return
            time.sleep(0.2)
        pytest.fail("the server outlived the schedule")


@pytest.fixture
def schedule(config_file: Path) -> Iterator[Schedule]:
    schedule = Schedule(config_file)
    yield schedule
    for process in schedule.started:
        process.kill()
        process.wait()


@pytest.fixture
def page(schedule: Schedule) -> Iterator[Any]:
    """A page of Prefect's, or None where there is no browser."""
    if not CHROMIUM:
        if os.environ.get("REMINE_REQUIRE_BROWSER") == "1":
            pytest.fail("REMINE_REQUIRE_BROWSER is 1, and no Chromium is on the PATH")
        yield None
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        page = browser.new_page(base_url=f"http://127.0.0.1:{schedule.port}")
        page.set_default_timeout(30_000)
        yield page
        browser.close()


def press_run(page: Any, deployment: str, override: str) -> None:
    """Start a run with other settings, from the page of the deployment."""
    page.goto("/v2/deployments")
    page.get_by_role("link", name=deployment).click()
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Custom run").click()
    page.get_by_text("each table.key=value").wait_for()
    page.get_by_role("button", name="Add item").click()
    page.locator("textarea").last.fill(override)
    # Not the page's notice, which is gone after some seconds.
    with page.expect_response(lambda response: response.url.endswith("create_flow_run")):
        page.get_by_role("button", name="Submit").click()


def look_at(page: Any, schedule: Schedule, run: str) -> None:
    """Check the run's page: its log, one artifact of each kind, the whole table."""
    page.goto(f"/v2/runs/flow-run/{run}")
    page.get_by_text("Beginning flow run").wait_for()
    page.get_by_text("round 0   train").first.wait_for()
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_text("remine-progress").wait_for()
    of_run = {"artifacts": {"flow_run_id": {"any_": [run]}}}
    artifacts = {one["key"]: one for one in schedule.ask("artifacts/filter", **of_run)}
    assert sorted(artifacts) == ["remine-progress", "remine-report", "remine-rounds"]
    assert artifacts["remine-progress"]["data"] == 100
    page.goto(f"/v2/artifacts/artifact/{artifacts['remine-rounds']['id']}")
    page.get_by_role("columnheader", name="R@1 %").wait_for()
    assert page.get_by_role("row").count() == 3  # the names, before the round, after it
    page.goto(f"/v2/artifacts/artifact/{artifacts['remine-report']['id']}")
    page.get_by_text(str(schedule.folder / "store" / "views")).first.wait_for()


def test_a_schedule_runs_cycles_after_a_kill_and_stops_when_told(schedule, page):
    schedule.start("--every", "3s")
    schedule.wait_for(lambda: " mine " in schedule.out.read_text())
    schedule.started[0].kill()  # in the middle of a cycle
    kill = time.monotonic()
    schedule.wait_for_silence()
    assert schedule.finished() == 0
    time.sleep(max(0, kill + 7 - time.monotonic()))
    schedule.start(*NEVER)
    # At least two runs were missed; the latest of them runs, and resumes the killed cycle.
    schedule.wait_for(lambda: schedule.states().get("Completed", 0) == 1)
    assert schedule.finished() == 1
    states = schedule.states()
    assert states["Crashed"] > 0  # by the kill
    assert states["Cancelled"] > 0
    assert not {"Running", "Late", "Failed"} & set(states)
    if page:
        press_run(page, schedule.ask("deployments/filter")[0]["name"], "train.steps=7")
    else:
        schedule.run(["run.rounds=1", "train.steps=7"])
    schedule.wait_for(lambda: schedule.states().get("Completed", 0) == 2)
    assert schedule.finished() == 2
    completion = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    run = schedule.ask("flow_runs/filter", sort="END_TIME_DESC", **completion)[0]
    assert run["parameters"]["overrides"][-1] == "train.steps=7"
    if page:
        look_at(page, schedule, run["id"])
    with Store(schedule.folder / "store").lock():
        before = schedule.states()["Cancelled"]
        schedule.run([])
        schedule.wait_for(lambda: schedule.states()["Cancelled"] == before + 1)
        assert "skipped: " in schedule.out.read_text()
    schedule.started[1].send_signal(signal.SIGTERM)
    assert schedule.started[1].wait(20) == 130
    out = schedule.out.read_text()
    assert "Traceback" not in out, out
    assert out.count("next runs:\n") == 2
    assert "-02-29 00:00:00 UTC = " in out
    assert out.splitlines()[-1] == "remine: interrupted; the same command resumes"
    schedule.wait_for_silence()


def register_by_0_1(schedule: Schedule, config_file: Path) -> str:
    """A deployment as version 0.1 registered it for this store; returns its id."""
    from remine.flows.orchestration.schedule import deployment_name

    deployment = schedule.ask(
        "deployments/",
        name=deployment_name(load_config(config_file)),
        flow_id=schedule.ask("flows/", name="remine-cycle")["id"],
        entrypoint="flows.orchestrate.cycle",
        parameters={"config": str(config_file), "overrides": []},
        tags=["remine"],
    )
    return str(deployment["id"])


def test_a_schedule_migrates_the_deployment_of_version_0_1(schedule, config_file, monkeypatch):
    monkeypatch.setenv("PREFECT_HOME", str(schedule.folder / "prefect"))
    set_environment()
    with _running_server(schedule.port, []):
        deployment_id = register_by_0_1(schedule, config_file)
        assert schedule.ask("deployments/filter")[0]["entrypoint"] == "flows.orchestrate.cycle"
        run_id = schedule.run(["run.rounds=1", "train.steps=2"])  # due before the migration
        schedule.start(*NEVER)
        schedule.wait_for(lambda: schedule.states().get("Completed", 0) == 1)
        (deployment,) = schedule.ask("deployments/filter")
        assert deployment["id"] == deployment_id
        assert deployment["entrypoint"] == "remine.flows.orchestration.flow.cycle"
        (flow_run,) = [r for r in schedule.ask("flow_runs/filter") if r["id"] == run_id]
        assert (flow_run["state_name"], schedule.finished()) == ("Completed", 1)
        schedule.started[0].send_signal(signal.SIGTERM)
        assert schedule.started[0].wait(20) == 130


def test_a_work_pool_in_a_clone_finds_the_entrypoint_of_version_0_1():
    """Prefect's worker puts the deployment's working directory on the path of the run."""
    clone = Path(__file__).parents[3]
    code = (
        "from prefect.flows import load_flow_from_entrypoint as load;"
        "from remine.flows.orchestration.flow import cycle;"
        "assert load('flows.orchestrate.cycle') is cycle"
    )
    path = os.pathsep.join(filter(None, [str(clone), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}
    subprocess.run([sys.executable, "-P", "-c", code], env=environment, cwd=clone, check=True)


def test_a_tethered_module_ends_with_the_process_that_started_it():
    command = [
        sys.executable,
        "-m",
        "remine.flows.orchestration.tether",
        "http.server",
        "0",
        "--bind",
        "127.0.0.1",
    ]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.read(7) == b"Serving"
    assert process.poll() is None
    process.stdin.close()  # what the system does for a killed parent
    assert process.wait(10) != 0
    process.stdout.close()
