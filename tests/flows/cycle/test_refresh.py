"""Whether a run is worth it, and what `remine status` tells; neither prepares nor writes."""

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from remine.data.errors import InputError, StoreBusyError
from remine.data.items import growth
from remine.data.store.pins import pin
from remine.data.store.records import Version
from remine.data.store.store import Store
from remine.data.store.views import page_of
from remine.flows.config.refresh_policy import RefreshConfig
from remine.flows.config.settings import load_config
from remine.flows.cycle import refresh
from remine.flows.cycle.cycle import prepared, prepared_if_needed, run_cycle
from remine.flows.cycle.refresh import CYCLE, INDEX, NOTHING, Decision, decide
from remine.flows.cycle.status import lines, status
from remine.flows.jobs.console import Console
from remine.flows.jobs.job import run_plain
from remine.flows.query.triplets import resolve_round
from remine.flows.report.cycle_page import write_report
from remine.flows.stages import prepare

ONE = "run.rounds=1"


@pytest.fixture(scope="module")
def finished(cycle_store: Path) -> Path:
    """A finished cycle's folder, to be copied."""
    return cycle_store.parent


@pytest.fixture
def config_file(finished: Path, own_store: Path, glyphs: Path) -> Path:
    """A finished cycle whose items lie in a file beside the config."""
    path = own_store.parent / "remine.toml"
    path.write_text((finished / "remine.toml").read_text().replace(str(glyphs), "items.parquet"))
    (path.parent / "items.parquet").write_bytes(glyphs.read_bytes())
    page_of(Store(own_store), Store(own_store).current()).touch()
    return path


def keep(config_file: Path, kept: np.ndarray) -> pa.Table:
    path = config_file.parent / "items.parquet"
    table = pq.read_table(path).filter(kept)
    pq.write_table(table, path)
    return table


def run(config_file: Path, *overrides: str, decision: Decision | None = None) -> Version:
    config = load_config(config_file, overrides)
    with prepared(config, run_plain, Console(quiet=True)) as (arguments, items, inputs):
        version = run_cycle(arguments, items, inputs, decision=decision)
        write_report(arguments.store, version)
        return version


def files_of(config_file: Path) -> dict[Path, int]:
    root = config_file.parent / "store"
    return {p: p.stat().st_mtime_ns for p in root.rglob("*") if p.is_file()}


HASHES = ("build_catalogue", "content_hashes")


def test_nothing_to_do_for_the_same_source_and_settings(config_file, monkeypatch):
    for module, names in ((prepare, ("build_catalogue", "stage_items")), (growth, HASHES)):
        for name in names:
            monkeypatch.setattr(module, name, lambda *_: pytest.fail("prepared"))
    before = files_of(config_file)
    decision = decide(load_config(config_file))
    assert (decision.action, decision.change) == (NOTHING, None)
    changed = {p.name for p, at in files_of(config_file).items() if before.get(p) != at}
    assert changed == {"log.jsonl"}
    logged = Store(config_file.parent / "store").events()[-1]
    assert (logged["event"], logged["what"]) == ("decision", NOTHING)


def test_a_source_written_again_with_the_same_items_is_hashed_once(config_file, monkeypatch):
    path = config_file.parent / "items.parquet"
    pq.write_table(pq.read_table(path), path, compression="none")
    config = load_config(config_file)
    looked, real = [], refresh._change

    def counted(*given: Any) -> Any:
        looked.append(given)
        return real(*given)

    monkeypatch.setattr(refresh, "_change", counted)
    status(config)  # which writes nothing
    assert (decide(config).action, len(looked)) == (NOTHING, 2)
    assert (decide(config).action, len(looked)) == (NOTHING, 2)


@pytest.mark.parametrize(
    ("override", "what", "why"),
    [
        ("train.steps=7", CYCLE, "other settings of train"),
        ("train.learning_rate=0.001", NOTHING, "same source, same settings"),
        ("index.recall=0.9", INDEX, "other settings of index"),
        ("data.unit_rows=512", NOTHING, "same source"),
        ("refresh.train_share=0.5", NOTHING, "same source"),
        ("run.rounds=3", CYCLE, "other settings of run"),
    ],
)
def test_settings_decide(config_file, override, what, why):
    decision = decide(load_config(config_file, [override]))
    assert (decision.action, decision.reason[: len(why)]) == (what, why)


def test_few_moved_items_are_embedded_and_published_without_training(config_file):
    n = len(pq.read_table(config_file.parent / "items.parquet"))
    keep(config_file, np.arange(n) != 17)
    config = load_config(config_file, ["refresh.train_share=0.01"])
    decision = decide(config)
    assert decision.action == INDEX
    assert vars(decision.change) == {"new": 0, "changed": 0, "deleted": 1, "same": n - 1}
    version = run(config_file, decision=decision)
    assert (version.cycle, version.round, version.rounds, version.finished) == (2, 0, 0, True)
    assert version.artifacts["decision"].card["what"] == INDEX
    assert not [name for name in version.artifacts if name.startswith(("triplets", "training"))]
    with pytest.raises(InputError, match=r"only applied changes of the items.* with --version"):
        resolve_round(version, -1)
    first = Store(config_file.parent / "store").version(3)
    assert version.artifacts["checkpoint"] == first.artifacts["checkpoint"]
    assert decide(config).action == NOTHING
    # What moved since the training adds up, over refreshes.
    keep(config_file, np.arange(n - 1) % 80 > 0)
    repetition = decide(config)
    assert (repetition.action, repetition.share > 0.01) == (CYCLE, True)
    assert repetition.share > repetition.change.share
    last = run(config_file, decision=repetition)
    assert (last.cycle, last.round, last.artifacts["decision"].card["what"]) == (3, 2, CYCLE)


def test_a_killed_refresh_ends_as_if_nothing_had_happened(config_file):
    n = len(pq.read_table(config_file.parent / "items.parquet"))
    keep(config_file, np.arange(n) != 17)
    decision = decide(load_config(config_file))
    version = run(config_file, decision=decision)
    store = Store(config_file.parent / "store")
    # Killed before it was published: the manifest is not there.
    (store.root / "versions" / "00000004.json").unlink()
    (store.root / "CURRENT").write_text("3\n")
    repetition = decide(load_config(config_file))
    assert run(config_file, decision=repetition).digest == version.digest


def test_a_cycle_that_was_killed_is_needed_and_keeps_its_decision(config_file):
    decision = Decision(action=CYCLE, reason="said at the start")

    class StruckError(Exception):
        pass

    def struck(stage: Any, *args: Any) -> Any:
        if stage.__name__ == "mine":
            raise StruckError
        return stage(*args)

    config = load_config(config_file)
    with (
        prepared(config, run_plain, Console(quiet=True)) as inputs,
        pytest.raises(StruckError),
    ):
        run_cycle(*inputs, struck, decision=decision)
    repetition = decide(load_config(config_file))
    assert repetition.action == CYCLE
    assert "cycle 2 is not finished: round 0 of 2" in repetition.reason
    version = run(config_file, decision=repetition)
    assert (version.cycle, version.number) == (2, 6)
    assert version.artifacts["decision"].card["why"] == "said at the start"


def test_other_code_is_probed(config_file, monkeypatch):
    monkeypatch.setattr(
        "remine.flows.cycle.refresh.embedding_recipe", lambda *_: "of another remine"
    )
    decision = decide(load_config(config_file))
    # The weights are the same, so are the neighbours.
    assert (decision.action, decision.overlap > 0.99) == (NOTHING, True)
    store = Store(config_file.parent / "store")
    first = store.version(1).artifacts["checkpoint"]
    real = store.current()
    second = {**real.artifacts, "checkpoint": first}
    monkeypatch.setattr(Store, "current", lambda _: Version(**{**vars(real), "artifacts": second}))
    decision = decide(load_config(config_file))
    assert decision.action == INDEX
    assert decision.overlap < 0.98


def test_a_page_that_is_missing_is_worth_a_run(config_file):
    store = Store(config_file.parent / "store")
    page_of(store, store.current()).unlink()
    decision = decide(load_config(config_file))
    assert (decision.action, decision.reason) == (CYCLE, "cycle 1 is finished, except for its page")


def test_no_store_is_a_cycle(tmp_path, small_config):
    (tmp_path / "remine.toml").write_text(small_config)
    config = load_config(tmp_path / "remine.toml")
    assert decide(config).action == CYCLE
    assert lines(status(config))[0].startswith("no store at")
    assert not config.store.exists()


def test_status_tells_and_touches_nothing(config_file):
    n = len(pq.read_table(config_file.parent / "items.parquet"))
    keep(config_file, np.arange(n) > 4)
    pin(Store(config_file.parent / "store"), 2)
    before = files_of(config_file)
    output_text = json.loads(json.dumps(status(load_config(config_file))))
    assert files_of(config_file) == before
    server_version = output_text["served"]
    assert (
        server_version["version"],
        server_version["pinned"],
        server_version["cycle"],
        server_version["round"],
    ) == (
        2,
        True,
        1,
        1,
    )
    assert 0 <= server_version["metrics"]["recall@1"] <= 1
    assert server_version["age_seconds"] > 0
    clock_set_back = status(load_config(config_file), 1.0)
    assert clock_set_back["served"]["age_seconds"] == 0
    assert (output_text["lock"], output_text["unfinished"]) == (None, None)
    assert output_text["stale"] == {"new": 0, "changed": 0, "deleted": 5, "same": n - 5}
    plan = output_text["next"]
    stages = [(one["stage"], one["round"]) for one in plan["stages"]]
    each = ["embed", "index", "evaluate"]
    expected = [(s, r) for r in range(3) for s in (*each, *(("mine", "train") if r < 2 else ()))]
    assert stages == [("prepare", 0), *expected]
    assert plan["seconds"] > 0
    assert [s["round"] for s in plan["if_needed"]["stages"]] == [0, 0, 0, 0]
    text = "\n".join(lines(output_text))
    assert "version 2 (pinned), cycle 1, round 1 of 2" in text
    assert f"0 new, 0 changed, 5 deleted, {n - 5:,} as before" in text


def test_status_says_what_is_refused_and_exits_well(config_file):
    (config_file.parent / "items.parquet").unlink()
    text = status(load_config(config_file))
    assert "does not exist" in text["refused"]
    assert "source     refused" in "\n".join(lines(text))


def test_status_knows_who_holds_the_lock(config_file):
    store = Store(config_file.parent / "store")
    if not Path("/proc/locks").exists():
        pytest.skip("Linux tells it in /proc/locks")
    assert store.lock_holder() is None
    with store.lock():
        holder = store.lock_holder()
        if holder is None and " FLOCK " not in Path("/proc/locks").read_text():
            pytest.skip("this kernel lists no locks")
        assert holder == f"process {os.getpid()}"
    assert store.lock_holder() is None


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"when": "daily"}, "refresh.when is 'daily'; it must be one of always, needed"),
        ({"train_share": 1.5}, r"refresh.train_share is 1.5; it must be 0 to 1"),
        ({"overlap": -0.1}, r"refresh.overlap is -0.1; it must be 0 to 1"),
        ({"sample": 5}, "refresh.sample is 5"),
    ],
)
def test_ranges(setting, message):
    with pytest.raises(InputError, match=message):
        RefreshConfig(**setting)


def test_the_commands(config_file, remine):
    text = remine("status", "--json", cwd=config_file.parent)
    assert (text.returncode, json.loads(text.stdout)["if_needed"]["what"]) == (0, NOTHING)
    process = remine("run", "--if-needed", cwd=config_file.parent)
    assert (process.returncode, process.stdout.splitlines()[0]) == (
        0,
        "nothing to do: same source, same settings, cycle finished",
    )
    assert Store(config_file.parent / "store").current().number == 3


def test_the_cost_of_a_whole_stage_is_not_that_of_one_that_took_most_from_before(config_file):
    n = len(pq.read_table(config_file.parent / "items.parquet"))
    keep(config_file, np.arange(n) != 3)
    run(config_file, decision=Decision(action=INDEX, reason="asked"))
    keep(config_file, np.arange(n - 1) != 3)
    log = config_file.parent / "store" / "log.jsonl"
    events = [json.loads(line) for line in log.read_text().splitlines()]
    last = {e["stage"]: e for e in events if e["event"] == "stage"}
    assert [last[s].get("partial") for s in ("prepare", "embed", "index")] == [True] * 3
    assert "partial" not in last["mine"]
    for event in events:  # as a store on which a whole stage takes a minute, and a part a second
        event |= {"seconds": 1.0 if event.get("partial") else 60.0}
    events += 6 * list(last.values())
    log.write_text("".join(f"{json.dumps(event)}\n" for event in events))
    plan = status(load_config(config_file))["next"]["stages"]
    text = {(s["stage"], s["round"]): s["seconds"] for s in plan}
    assert all(text[stage, 1] >= 60 for stage in ("embed", "index"))
    assert text["prepare", 0] == text["embed", 0] == text["index", 0] == 0  # items only went


def test_a_run_that_failed_is_told_until_one_did_not(config_file):
    source = config_file.parent / "items.parquet"
    good = source.read_bytes()
    config = load_config(config_file)
    assert "failed" not in status(config)
    table = pq.read_table(source)
    pq.write_table(table.slice(0, 0), source)
    need = load_config(config_file, ["refresh.when=needed"])
    with (
        pytest.raises(InputError, match="no items"),
        prepared_if_needed(need, lambda: run_plain, Console(quiet=True)),
    ):
        pass
    assert "no items" in status(config)["failed"]["why"]
    pq.write_table(pa.concat_tables([table, table.slice(0, 1)]).drop_columns("image"), source)
    with pytest.raises(InputError) as refusal:
        run(config_file)
    text = status(config)
    assert text["failed"]["why"] == str(refusal.value)
    assert f"ago: {refusal.value}" in "\n".join(lines(text))
    source.write_bytes(good)
    assert status(config)["well_seconds"] is None
    assert decide(config).action == NOTHING
    assert "failed" not in status(config)
    assert status(config, time.time() + 100)["well_seconds"] >= 100
    assert "succeeded" in "\n".join(lines(status(config)))


def test_a_fault_in_the_middle_of_a_cycle_is_told_and_a_busy_store_is_none(config_file):
    config = load_config(config_file)
    with pytest.raises(RuntimeError):
        _fail_half_way(config_file)
    store = Store(config_file.parent / "store")
    assert status(config)["failed"]["why"] == "of the machine"
    assert store.events()[-1]["event"] == "failed"


def _fail_half_way(config_file: Path) -> None:
    config = load_config(config_file)
    with prepared(config, run_plain, Console(quiet=True)):
        with pytest.raises(StoreBusyError):
            run(config_file)
        assert "failed" not in status(config)
        raise RuntimeError("of the machine\nand more")
