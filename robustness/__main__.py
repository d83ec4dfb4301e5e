"""All robustness tests, one after the other; each prints its counts.

`make torture` takes half an hour. The variables TORTURE_KILLS, TORTURE_DAMAGES, TORTURE_FAULTS,
TORTURE_FILES, TORTURE_TABLES, TORTURE_REQUESTS, TORTURE_INTERVALS and TORTURE_SEED change its
length and course.
"""

import os
import subprocess
import sys

SCRIPTS = (
    "kills",
    "damage",
    "faults",
    "states",
    "fuzz",
    "odd_tables",
    "http_requests",
    "endurance",
)


def main() -> None:
    """Run all scripts; exit code 1 if one of them failed."""
    # One thread: results depend on the number, and a forked process must not inherit a pool.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    failures = [
        name
        for name in SCRIPTS
        if subprocess.run(
            [sys.executable, "-m", f"robustness.{name}"], env=environment, check=False
        ).returncode
    ]
    print(f"failed: {', '.join(failures) or 'none'}")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
