"""A comparison: equal budgets, refusals, resuming, and a page drawn from its tables alone."""

import json
from typing import Any

import pandas as pd
import pytest

from remine.data.errors import InputError
from remine.flows.compare import contestant
from remine.flows.compare.arms import load_arms
from remine.flows.compare.comparison_page import read_comparison, write_page
from remine.flows.compare.experiment import compare
from remine.flows.jobs.console import Console
from remine.train.monitor.health import RoundStoppedError

SMALL = """
[compare]
amount = 8
items = 24
evaluate_every = 3
seeds = 2
[compare.arms.online]
train = { batches = "pk", miner = "semi_hard" }
[compare.arms.mined]
train = { steps = 4 }
"""


@pytest.fixture
def comparison(config_file):
    config_file.write_text(config_file.read_text() + SMALL)
    return config_file


def run(path, *overrides: str):
    config, arms = load_arms(path, overrides)
    return compare(config, arms, Console(quiet=True))


def ends(points):
    """Each run's last evaluation on test."""
    test = points[points["split"] == "test"]
    return test.sort_values("step").groupby(["arm", "seed"]).last()


def test_equal_steps_and_what_they_cost(comparison):
    tables = read_comparison(run(comparison))
    last = ends(tables.points)
    assert set(last["step"]) == {8}
    settings = json.loads((comparison.parent / "store-compare/latest/arms.json").read_text())
    batches = {name: arm["train"]["batch"] for name, arm in settings["arms"].items()}
    assert batches == {"online": 24, "mined": 8}
    mining_result = last.loc["mined"]
    items = mining_result["forwards"] - 8 * 24
    assert (last.loc["online"]["forwards"] == 8 * 24).all()
    assert (items > 0).all()
    assert (items % 2 == 0).all()  # mined at step 0 and at step 4: twice all training items
    assert (mining_result[["embed", "mine", "train"]] > 0).all().all()
    assert (last.loc["online"][["embed", "index", "mine"]] == 0).all().all()
    assert sorted(tables.points.query("arm == 'mined'")["step"].unique()) == [0, 3, 6, 8]
    assert len(tables.steps) == 2 * 2 * 8


def test_all_arms_start_a_seed_from_the_same_weights(comparison):
    points = read_comparison(run(comparison)).points.query("step == 0 and split == 'test'")
    by_arm = points.pivot_table(index="seed", columns="arm", values="map@r")
    assert (by_arm["online"] == by_arm["mined"]).all()
    assert by_arm["online"].nunique() == 2


def test_forwards_count_the_embedding_for_mining(comparison):
    points = read_comparison(
        run(comparison, "compare.budget=forwards", "compare.amount=1200", "compare.seeds=1")
    ).points
    last = ends(points)["forwards"]
    assert (last <= 1200).all()
    assert (last > 1200 - 24).all()
    steps = ends(points)["step"]
    assert steps["mined", 0] < steps["online", 0] == 50


def test_seconds_end_all_arms_alike(comparison):
    points = read_comparison(
        run(comparison, "compare.budget=seconds", "compare.amount=1", "compare.seeds=1")
    ).points
    assert (ends(points)["seconds"] > 0.3).all()


def test_a_killed_comparison_goes_on_and_keeps_its_times(comparison, monkeypatch):
    train, process = contestant.train, []

    def dying(*args: Any) -> Any:
        if len(process) == 5:
            raise KeyboardInterrupt
        process.append(1)
        return train(*args)

    monkeypatch.setattr(contestant, "train", dying)
    with pytest.raises(KeyboardInterrupt):
        run(comparison)
    monkeypatch.setattr(contestant, "train", train)
    first = read_comparison(run(comparison))
    repetition = read_comparison(run(comparison))
    for name in ("points", "results", "roc", "steps", "health", "map"):
        pd.testing.assert_frame_equal(getattr(first, name), getattr(repetition, name))
    assert first.points["resumed"].any()
    assert not first.points.query("arm == 'online' and seed == 0")["resumed"].any()


def test_the_page_comes_from_the_tables_and_escapes_them(comparison, tmp_path):
    folder = run(comparison, "compare.seeds=1")
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    rows = pd.read_parquet(copy / "map.parquet").assign(label="<script>x</script>")
    rows.to_parquet(copy / "map.parquet")
    page = write_page(copy).read_text()
    assert "<script" not in page
    assert "http" not in page.replace("http://www.w3.org", "")
    r1 = pd.read_parquet(copy / "results.parquet").query(
        "arm == 'mined' and which == 'selected' and split == 'test' and metric == 'recall@1'"
    )
    assert f"{100 * r1['value'].item():.1f}" in page
    for line in read_comparison(copy).verdict():
        assert line.split(":")[0] in page


def test_a_collapsed_arm_is_a_result(comparison, monkeypatch):
    train = contestant.train

    def collapsing(run, checkpoint, mined, *rest):
        if mined is not None and checkpoint.card["steps"] > 0:
            raise RoundStoppedError("step 4: the spread is 0.001 <b>")
        return train(run, checkpoint, mined, *rest)

    monkeypatch.setattr(contestant, "train", collapsing)
    folder = run(comparison, "compare.seeds=1")
    tables = read_comparison(folder)
    assert ends(tables.points)["step"].to_dict() == {("mined", 0): 3, ("online", 0): 8}
    page = write_page(folder).read_text()
    assert "mined, seed 0, was stopped" in page
    assert "0.001 &lt;b&gt;" in page


def test_stale_triplets_are_mined_again(comparison):
    points = read_comparison(
        run(
            comparison,
            "compare.seeds=1",
            "compare.arms.mined.train.steps=100",
            "compare.arms.mined.train.refresh_when=0.001",
            "compare.arms.mined.train.refresh_after=2",
            "health.every=1",
            "train.learning_rate=0.05",
        )
    ).points
    last = ends(points).loc[("mined", 0)]
    once = ends(
        read_comparison(
            run(comparison, "compare.seeds=1", "compare.arms.mined.train.steps=100")
        ).points
    ).loc[("mined", 0)]
    assert last["step"] == once["step"] == 8
    assert last["forwards"] - 8 * 24 >= 2 * (once["forwards"] - 8 * 24)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("compare.arms.mined.encoder.width=16", r"changes \[encoder\], which all arms share"),
        (
            "compare.arms.mined.train.batch=16",
            "train.batch, which all arms share; set compare.items",
        ),
        ("compare.arms.mined.train.learning_rate=1.0", "train.learning_rate, which all arms share"),
        ("compare.arms.mined.train.miner=hardest", "compare.arms.mined: train.miner is 'hardest'"),
        ("compare.arms.mined.train.kind=hard", "compare.arms.mined: unknown key train.kind"),
        ("compare.arms.mined=3", "compare.arms is .* it must be a table of tables"),
        ("compare.items=25", "train.batch is 25 .*; in a comparison compare.items sets it"),
        ("compare.items=28", "compare.arms.mined: compare.items = 28 is not a multiple of the 3"),
        ("compare.budget=hours", "compare.budget is 'hours'; it must be one of steps, forwards"),
        ("compare.seeds=0", "compare.seeds is 0"),
    ],
)
def test_what_would_not_compare_is_refused(comparison, change, message):
    with pytest.raises(InputError, match=message):
        load_arms(comparison, [change])


def test_epochs_are_refused():
    with pytest.raises(InputError, match=r"train\.epochs is 2, but a comparison counts steps"):
        load_arms({"train": {"epochs": 2}})


def test_batches_that_the_classes_do_not_fill_are_refused_by_the_setting_that_is_theirs(comparison):
    with pytest.raises(
        InputError, match=r"^compare\.items = 9996 with train\.per_class = \d+ needs"
    ):
        run(comparison, "compare.items=9996")


def test_no_val_classes_are_refused_before_any_training(comparison):
    with pytest.raises(InputError, match=r"no val classes.*data\.val_from_train"):
        run(comparison, "data.val_share=0.0")


def test_a_budget_below_one_step_is_refused(comparison):
    with pytest.raises(InputError, match="does not pay for one step of mined"):
        run(comparison, "compare.budget=forwards", "compare.amount=200", "compare.seeds=1")


def test_without_arms_the_standard_ones_run(config_file):
    _, arms = load_arms(config_file)
    families = {arm.name: arm.family for arm in arms}
    assert families["batch_hard"] == "online"
    assert families["offline_semi_hard"] == "offline"
    assert families["confusable"] == families["online_then_offline"] == "hybrid"
