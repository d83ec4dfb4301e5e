"""Everything that breaks things, one after the other, with the counts printed.

make torture        half an hour; TORTURE_KILLS, TORTURE_DAMAGES, TORTURE_FAULTS, TORTURE_FILES,
                    TORTURE_REQUESTS, TORTURE_INTERVALS, TORTURE_SEED make it other or shorter
"""

import os
import subprocess
import sys

SCRIPTS = ("kills", "damage", "faults", "states", "fuzz", "http_requests", "endurance")


def main() -> None:
    """Run all; the exit code says whether one failed."""
    # One thread: the bits follow from it, and a fork must not inherit a pool.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    failed = [
        name
        for name in SCRIPTS
        if subprocess.run(
            [sys.executable, "-m", f"robustness.{name}"], env=environment, check=False
        ).returncode
    ]
    print(f"failed: {', '.join(failed) or 'none'}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
