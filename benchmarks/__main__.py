"""Run every benchmark."""

import subprocess
import sys

for name in ("embedding", "loader", "losses", "memory", "mining", "overhead", "seeds"):
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)
