"""A full disk, a quota, an I/O error at any call that writes: one line, nothing published by half.

    TORTURE_FAULTS=120 python -m robustness.faults      needs a C compiler

A small library laid over the C library (shim.c) counts the calls of a cycle on files of
its folder (create, write, fsync, rename, link, mkdir, those of Arrow, FAISS and numpy too) and lets
one of them fail: once with EIO, or from there on with ENOSPC or EDQUOT.
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
    Ended,
    command,
    left_in,
    new_place,
    number,
    preload,
    print_table,
    ran,
    seed_of,
    whole_versions,
    workshop,
    write_items,
)

ERRORS = (("ENOSPC", True), ("EDQUOT", True), ("EIO", False))


def main() -> None:
    """Inject faults spread over a cycle and print them by call and error."""
    if "TORTURE_SHIM" not in os.environ:
        _again_with_shim()
    draw = random.Random(seed_of("faults"))  # noqa: S311 - no secret
    preload()
    wanted = number("TORTURE_FAULTS", 120)
    counts: Counter[tuple[str, str]] = Counter()
    harmless = 0
    with workshop() as folder:
        items = folder / "items.parquet"
        write_items(items)
        place = new_place(folder / "sound", items).parent
        calls = int(_run(place, 0, 0, sticky=False).text.split("calls=")[1].split()[0])
        left = left_in(place / "store")
        for turn in range(wanted):
            name, sticky = ERRORS[turn % len(ERRORS)]
            # One in each stretch of the cycle, so that all of it is covered.
            step = calls / wanted
            at = 1 + int(min(calls - 1, (turn + draw.random()) * step))
            place = new_place(folder / "hit", items).parent
            ended = _run(place, at, getattr(errno, name), sticky=sticky)
            call = ended.text.split("first=")[1].split()[0]
            _judge(ended, f"{name} at call {at} ({call})")
            harmless += ended.code == 0
            whole_versions(place / "store")
            # After a harmless one the cycle is finished, and another run would be the next cycle.
            if ended.code and (again := ran("run", cwd=place)).code:
                raise AssertionError(f"{name} at call {at} ({call}): not resumed: {again.text}")
            # A fault after the end, while the page is written, makes the next run one that ends it.
            if left_in(place / "store") != left:
                raise AssertionError(f"{name} at call {at} ({call}): other bits")
            counts[call, name] += 1
            shutil.rmtree(place)
    rows = [(*key, count) for key, count in sorted(counts.items())]
    print_table(f"a call of the {calls} of a cycle fails", ("call", "error", "times"), rows)
    print(
        f"one line and exit code 1: {counts.total() - harmless}, harmless: {harmless};"
        f" same bits by the next run: {counts.total()}/{wanted}",
        flush=True,
    )


def _run(place: Path, at: int, error: int, *, sticky: bool) -> Ended:
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


def _judge(ended: Ended, what: str) -> None:
    """One line with what to do and exit code 1, or no harm at all."""
    if ended.crashed or ended.code not in (0, 1):
        raise AssertionError(f"{what}: ends with {ended.code}: {ended.text}")
    refusals = [line for line in ended.text.splitlines() if line.startswith("remine: ")]
    if ended.code and len(refusals) != 1:
        raise AssertionError(f"{what}: {ended.text}")


def _again_with_shim() -> None:
    """Compile the library and start this script anew under it."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        print("faults: no C compiler here, left out")
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
