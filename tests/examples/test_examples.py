"""The examples run as they stand, each in a process of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "examples"


def run_example(name: str, tmp_path: Path, *arguments: object) -> str:
    """The output of an example that must succeed."""
    environment = {
        **os.environ,
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "PYTHONPATH": str(FOLDER.parent / "src"),
    }
    environment.pop("PREFECT_API_URL", None)
    process = subprocess.run(
        [sys.executable, str(FOLDER / name), *map(str, arguments)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_vectors_are_mined(tmp_path):
    output = run_example("mine_your_vectors.py", tmp_path)
    hard, semi_hard = map(int, re.search(r"'hard': (\d+), 'semi_hard': (\d+)", output).groups())
    total = int(re.search(r"([\d,]+) triplets; the first", output)[1].replace(",", ""))
    assert 0 < hard < 20_000
    assert total == hard + semi_hard
    assert "5 negatives a pair: 25,000 rows" in output


def test_photos_become_a_served_index(tmp_path):
    output = run_example("from_photos_to_a_served_index.py", tmp_path, tmp_path / "work")
    assert "288 pictures" in output
    neighbours = re.search(r"neighbours of item 0: (.*)", output)[1]
    assert neighbours.count("'shape-00'") >= 3
    of_new_picture = re.search(r"neighbours of a new picture of shape-03: (.*)", output)[1]
    assert of_new_picture.count("'shape-03'") >= 3
    assert output.endswith("the server has stopped\n")
    store = tmp_path / "work" / "runs" / "photos"
    assert (store / "latest" / "report.html").is_file()

    # The third example reads the store that the second one made.
    lines = run_example("read_triplets.py", tmp_path, store).splitlines()
    assert lines[0] == "2 shards in 2 rounds"
    assert any("triplets are semi-hard" in line for line in lines)
