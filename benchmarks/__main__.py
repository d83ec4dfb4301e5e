"""Run every benchmark."""

import subprocess
import sys

SCRIPTS = (
    "embedding",
    "growing",
    "indexes",
    "loader",
    "losses",
    "memory",
    "mining",
    "overhead",
    "seeds",
    "serving",
    "triplets",
)

for name in SCRIPTS:
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)
