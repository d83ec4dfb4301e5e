"""The torture scripts in their short form; most start a process that forks, so not in this one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SHORT = {
    "kills": {"TORTURE_KILLS": "4", "TORTURE_COMMAND_KILLS": "0"},
    "faults": {"TORTURE_FAULTS": "9"},
    "fuzz": {"TORTURE_FILES": "350"},
    "odd_tables": {"TORTURE_TABLES": "60"},
}


@pytest.mark.parametrize("name", SHORT)
def test_torture(name):
    # Another test of this process may have left it; the scripts are found in the working folder.
    os.environ.pop("PYTHONSAFEPATH", None)
    one = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    process = subprocess.run(
        [sys.executable, "-m", f"robustness.{name}"],
        cwd=Path(__file__).parents[2],
        env={**os.environ, **one, **SHORT[name]},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
