"""A full disk, an exhausted quota or an I/O error at any write gives a one-line error.

    TORTURE_FAULTS=120 python -m robustness.faults      needs a C compiler

Nothing may be published incompletely, and the next run must end with the same bits. A small library
in front of the C library (shim.c) counts the calls of a cycle on files of its folder (create,
write, fsync, rename, link, mkdir, also from Arrow, FAISS and numpy) and makes one of them fail:
once with EIO, or all from there on with ENOSPC or EDQUOT.
"""

import ctypes
import errno
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from robustness.kit import (
    Child,
    Outcome,
    command,
    env_number,
    new_place,
    preload,
    print_table,
    run_command,
    seed_of,
    verified_state,
    verified_version,
    workshop,
    write_items,
)

ERRORS = (("ENOSPC", True), ("EDQUOT", True), ("EIO", False))


def main() -> None:
    """Inject faults spread over a cycle and print them by call and error."""
    if "TORTURE_SHIM" not in os.environ:
        _restart_with_shim()
    draw = random.Random(seed_of("faults"))  # noqa: S311 - no secret
    preload()
    faults = env_number("TORTURE_FAULTS", 120)
    counts: Counter[tuple[str, str]] = Counter()
    harmless = 0
    with workshop() as folder:
        items = folder / "items.parquet"
        write_items(items)
        place = new_place(folder / "sound", items).parent
        calls = int(_run(place, 0, 0, sticky=False).text.split("calls=")[1].split()[0])
        sound_state = verified_state(place / "store")
        for turn in range(faults):
            name, sticky = ERRORS[turn % len(ERRORS)]
            # One fault in each of `faults` equal parts of the cycle, so that all of it is covered.
            step = calls / faults
            at = 1 + int(min(calls - 1, (turn + draw.random()) * step))
            place = new_place(folder / "hit", items).parent
            outcome = _run(place, at, getattr(errno, name), sticky=sticky)
            call = outcome.text.split("first=")[1].split()[0]
            _judge(outcome, f"{name} at call {at} ({call})")
            harmless += outcome.code == 0
            verified_version(place / "store")
            # After a harmless fault the cycle is finished, and another run would be the next cycle.
            if outcome.code and (resumed_run := run_command("run", cwd=place)).code:
                raise AssertionError(
                    f"{name} at call {at} ({call}): not resumed: {resumed_run.text}"
                )
            # After a fault while the report is written, the next run only writes the report.
            if verified_state(place / "store") != sound_state:
                raise AssertionError(f"{name} at call {at} ({call}): other bits")
            counts[call, name] += 1
            shutil.rmtree(place)
    rows = [(*key, count) for key, count in sorted(counts.items())]
    print_table(f"a call of the {calls} of a cycle fails", ("call", "error", "times"), rows)
    print(
        f"one line and exit code 1: {counts.total() - harmless}, harmless: {harmless};"
        f" same bits by the next run: {counts.total()}/{faults}",
        flush=True,
    )


def _run(place: Path, at: int, error: int, *, sticky: bool) -> Outcome:
    def work() -> None:
        shim = ctypes.CDLL(os.environ["TORTURE_SHIM"])
        shim.torture_first.restype = ctypes.c_char_p
        shim.torture_count.restype = ctypes.c_long
        shim.torture_arm(str(place).encode(), ctypes.c_long(at), error, int(sticky))
        try:
            command("run")()
        finally:
            shim.torture_arm.argtypes = None
            first = (shim.torture_first() or b"").decode() or "none"
            sys.stdout.write(f"calls={shim.torture_count()} first={first}\n")
            sys.stdout.flush()

    return Child(work, place).end()


def _judge(outcome: Outcome, label: str) -> None:
    """Require success, or exit code 1 with exactly one line that says what to do."""
    if outcome.crashed or outcome.code not in (0, 1):
        raise AssertionError(f"{label}: ends with {outcome.code}: {outcome.text}")
    refusals = [line for line in outcome.text.splitlines() if line.startswith("remine: ")]
    if outcome.code and len(refusals) != 1:
        raise AssertionError(f"{label}: {outcome.text}")


def _restart_with_shim() -> None:
    """Compile the library and restart this script with it."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        print("faults: skipped, because there is no C compiler")
        sys.exit(0)
    source = Path(__file__).with_name("shim.c")
    folder = Path(__file__).with_name(".data")
    folder.mkdir(exist_ok=True)
    library = folder / "shim.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    environment = {**os.environ, "TORTURE_SHIM": str(library), "LD_PRELOAD": str(library)}
    os.execve(sys.executable, [sys.executable, "-m", "robustness.faults"], environment)  # noqa: S606


if __name__ == "__main__":
    main()
