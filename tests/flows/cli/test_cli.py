"""The installed command: a real cycle through Prefect and Beam, then every way to look at it."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from remine.data.store.store import Store


@pytest.fixture(scope="module")
def ran(remine, small_config, tmp_path_factory):
    """A folder in which `remine run` has finished a cycle."""
    folder = tmp_path_factory.mktemp("ran")
    (folder / "remine.toml").write_text(small_config)
    process = remine("run", cwd=folder)
    assert process.returncode == 0, process.stderr
    return folder, process


def test_run_shows_stages_a_table_and_the_report(ran):
    folder, process = ran
    for stage in ("prepare", "embed", "index", "evaluate", "mine", "train"):
        assert f" {stage} " in process.stderr
    assert "R@1 %" in process.stdout
    rows = [line.split() for line in process.stdout.splitlines()]
    assert [row[0] for row in rows if row and row[0].isdigit()] == ["0", "1", "2"]
    assert str(folder / "store" / "latest" / "report.html") in process.stdout
    assert "WARNING" not in process.stderr
    assert "Traceback" not in process.stderr


def test_the_same_cycle_through_prefect_and_beam_as_by_plain_functions(ran, config_file):
    from remine.flows.config.settings import load_config
    from remine.flows.cycle.cycle import prepared, run_cycle
    from remine.flows.jobs.console import Console
    from remine.flows.jobs.job import run_plain

    with prepared(load_config(config_file), run_plain, Console(quiet=True)) as inputs:
        plain = run_cycle(*inputs)
    assert Store(ran[0] / "store").current().digest == plain.digest


def test_report_is_one_offline_page(ran):
    page = (ran[0] / "store" / "latest" / "report.html").read_text()
    assert page.count("data:image/png;base64,") > 50
    page = page.replace("http://www.w3.org/", "").replace("url(#", "")  # SVG's own names
    for outside in ("http://", "https://", "<script", "<link", "url("):
        assert outside not in page


def test_search_by_id_as_table_and_json(ran, remine):
    result = remine("search", "--id", "3", "-k", "4", "--json", cwd=ran[0])
    (neighbours,) = json.loads(result.stdout)
    assert len(neighbours) == 4
    assert 3 not in [one["id"] for one in neighbours]
    distances = [one["distance"] for one in neighbours]
    assert distances == sorted(distances)
    table = remine("search", "--id", "3", "-k", "4", cwd=ran[0]).stdout
    assert neighbours[0]["label"][:6] in table


def test_search_by_vector_and_by_image_agree_with_id(ran, remine, glyphs, tmp_path):
    store = Store(ran[0] / "store")
    version = store.current()
    shard = pq.read_table(store.path(version.artifacts["embeddings"].files[0]))
    np.save(tmp_path / "q.npy", np.stack(shard["vector"].to_pylist()[5:7]).astype(np.float32))
    (tmp_path / "q.png").write_bytes(pq.read_table(glyphs)["image"][5].as_py())
    by_vector = remine("search", "--vector", tmp_path / "q.npy", "--json", "-k", "3", cwd=ran[0])
    by_image = remine("search", "--image", tmp_path / "q.png", "--json", "-k", "3", cwd=ran[0])
    five, six = json.loads(by_vector.stdout)
    assert five[0]["id"] == 5
    assert six[0]["id"] == 6
    assert [one["id"] for one in json.loads(by_image.stdout)[0]] == [one["id"] for one in five]


def test_triplets_head_counts_histogram(ran, remine):
    head = remine("triplets", "head", "-n", "3", cwd=ran[0]).stdout
    assert head.count("U+") == 9
    counts = remine("triplets", "counts", cwd=ran[0]).stdout
    assert counts.count("semi_hard") == 2
    histogram = remine("triplets", "histogram", "negative_rank", cwd=ran[0]).stdout
    assert "negative_rank of" in histogram
    assert "█" in histogram


def test_report_can_be_written_again(ran, remine):
    page = ran[0] / "store" / "latest" / "report.html"
    before = page.read_text()
    repetition = remine("report", cwd=ran[0])
    assert repetition.returncode == 0
    assert page.read_text() == before


def test_init_writes_a_config_that_loads_and_never_overwrites(remine, tmp_path):
    assert remine("init", "new.toml", cwd=tmp_path).returncode == 0
    text = (tmp_path / "new.toml").read_text()
    repetition = remine("init", "new.toml", cwd=tmp_path)
    assert repetition.returncode == 2
    assert (tmp_path / "new.toml").read_text() == text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--config", "none.toml"], "config none.toml does not exist"),
        (["run", "--set", "train.stepz=1"], "unknown key train.stepz"),
        (["run", "--runner", "NoSuchRunner"], "beam.runner"),
        (["run", "--", "--no_such_option=1"], "Beam has no option --no_such_option"),
        (["run", "--no-such-option"], "No such option: --no-such-option"),
        (["search", "-k", "x"], "Invalid value for '-k': "),
        (["init", "nowhere/c.toml"], "nowhere/c.toml: No such file"),
        (["run", "--set", "run.rounds.x=2"], "run.rounds is {'x': 2}; it must be a whole number"),
        (["run", "--set", "run.rounds=1", "--set", "run.rounds.x=2"], "rounds is a setting, not"),
        (["run", "--set", 'data.source=""'], "data.source is ''; it must be a file, a folder"),
        (
            ["run", "--set", 'run.store="a\\u0000b"'],
            "run.store is 'a\\x00b'; it must not hold a NUL",
        ),
        (["frobnicate"], "No such command 'frobnicate'"),
        (["search", "--id", "1"], "no store at"),
        (["search"], "no store at"),
        (["schedule"], "give one of --cron and --every"),
        (["schedule", "--every", "soon"], "--every 'soon': write a number"),
        (["schedule", "--cron", "every day"], "--cron 'every day'"),
        (["schedule", "--cron", "0 3 31 2 *"], "--cron '0 3 31 2 *'"),
        (["schedule", "--cron", ""], "--cron ''"),
        (["schedule", "--cron", "0 0 3 * * *"], "--cron '0 0 3 * * *' has 6 fields; write five"),
        (["schedule", "--every", ""], "--every ''"),
    ],
)
def test_bad_commands_are_one_line_exit_two_and_touch_nothing(remine, tmp_path, arguments, message):
    process = remine(*arguments, cwd=tmp_path)
    assert process.returncode == 2
    assert message in process.stderr
    assert len(process.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_is_never_longer_than_people_read(remine, tmp_path):
    process = remine("run", "--set", f"train.{'z' * 5000}=1", cwd=tmp_path)
    assert process.returncode == 2
    assert process.stderr.startswith("remine: unknown key train.zzz")
    assert 900 < len(process.stderr) < 1100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "--id", "999999"], "no item 999999"),
        (["search", "--id", "1", "-k", "0"], "k is 0; it must be 1 to"),
        (["search", "--id", "1", "--text", "a"], "give exactly one of"),
        (["search", "--text", "a"], "--text: the items are pictures"),
        (["search", "--vector", "none.npy"], "--vector none.npy"),
        (["search", "--vector", "empty.npy"], "--vector empty.npy: "),
        (["search", "--vector", "x.npz"], "--vector x.npz holds several arrays"),
        (["search", "--id", "9" * 23], f"no item '{'9' * 23}' in the index: ids are 0 to 2^63"),
        (["triplets", "head", "--round", "-7"], "--round is -7; it must be a round"),
        (["search", "--image", "none.png"], "none.png does not exist"),
        (["triplets", "head", "--round", "9"], "round 9 has no triplets; known: [0, 1]"),
        (["triplets", "histogram", "colour"], "no column 'colour'; known: d_ap"),
        (["report", "--version", "99"], "no version 99"),
    ],
)
def test_bad_questions_are_one_line_and_exit_two(ran, remine, arguments, message):
    (ran[0] / "empty.npy").touch()
    np.savez(ran[0] / "x.npz", a=np.ones(2))
    process = remine(*arguments, cwd=ran[0])
    assert process.returncode == 2
    assert message in process.stderr
    assert len(process.stderr.strip().splitlines()) == 1


def test_no_command_is_a_question_for_help(remine, tmp_path):
    process = remine(cwd=tmp_path)
    assert process.returncode == 2
    assert (process.stdout + process.stderr).lstrip().startswith("Usage: remine")


def test_bad_data_is_refused_before_anything_is_made(remine, tmp_path):
    pictures = [b"not a picture"] * 4
    table = pa.table({"label": ["a", "a", "b", "b"], "split": ["train"] * 4, "image": pictures})
    pq.write_table(table, tmp_path / "items.parquet")
    process = remine("run", "--set", "data.source=items.parquet", cwd=tmp_path)
    assert process.returncode == 2
    assert process.stderr.startswith(
        "remine: items.parquet: no test classes: no item has the split"
    )
    assert len(process.stderr.strip().splitlines()) == 1
    table = table.set_column(1, "split", [["train", "train", "test", "test"]])
    pq.write_table(table, tmp_path / "items.parquet")
    process = remine("run", "--set", "data.source=items.parquet", cwd=tmp_path)
    assert process.returncode == 2
    assert [p.name for p in tmp_path.iterdir()] == ["items.parquet"]


def test_a_corrupt_file_is_named_and_never_used(ran, remine, tmp_path):
    import shutil

    shutil.copytree(ran[0] / "store", tmp_path / "store", symlinks=True)
    store = Store(tmp_path / "store")
    index = store.current().artifacts["index"].files[0]
    path: Path = store.root / index.object
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    process = remine("search", "--store", "store", "--id", "3", cwd=tmp_path)
    assert process.returncode == 1
    assert "index.faiss) is corrupt" in process.stderr
