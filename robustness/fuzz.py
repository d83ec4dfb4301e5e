"""Fuzzed configs and items files: success, or exit code 2 and one line; published files stay.

    TORTURE_FILES=10000 python -m robustness.fuzz

Each case goes through the real command line up to the check and storage of the data, after which no
stage reads the user's files again. A child process runs many cases, and ends at the first crash.
"""

import io
import json
import os
import random
import re
import resource
import shutil
import signal
import struct
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from PIL import Image

import remine.flows.cli.main
from remine.flows.config.template import config_text
from robustness.kit import (
    TINY,
    Child,
    command,
    env_number,
    new_place,
    preload,
    print_table,
    seed_of,
    tree_of,
    workshop,
    write_items,
)

CHUNK = 100
SECONDS = 60
MEMORY = 16 << 30
WILD = (  # noqa: SIM905 - a list of so many quotes reads worse
    "0 -1 1 2 16 1e308 -1e308 nan inf -inf true false '' 'x' [] [1] ['hard'] {} {a=1} 2147483648"
    " 9223372036854775807 99999999999999999999 1979-05-27 '\\u0000' '../../etc/passwd' '/dev/null'"
    " '/dev/zero' '.' 'auto' 'os:getcwd' 'Flat' 'IVF0,Flat' 'PQ3' 'HNSW99999999' 'HNSW0,Flat'"
).split()


def main() -> None:
    """Fuzz and print the outcomes by kind of file."""
    seed = seed_of("fuzz")
    preload()
    files = env_number("TORTURE_FILES", 10_000)
    outcomes: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    with workshop() as folder:
        items = folder / "items.parquet"
        write_items(items)
        place = new_place(folder / "place", items).parent
        if (outcome := Child(command("run"), place).end()).code:
            raise AssertionError(outcome.text)
        before = tree_of(place / "store")
        for start in range(0, files, CHUNK):
            cases = range(start, min(start + CHUNK, files))
            _chunk(place, cases, seed, outcomes)
            after = tree_of(place / "store")
            if any(after.get(name) != digest for name, digest in before.items()):
                raise AssertionError(f"cases {cases}: published files changed")
    rows = [
        (kind, counts.total(), counts["refused"], counts["taken"])
        for kind, counts in outcomes.items()
    ]
    if harmless := [kind for kind, counts in outcomes.items() if not counts["refused"]]:
        raise AssertionError(f"nothing was refused of: {', '.join(harmless)}")
    print_table("fuzzed files", ("kind", "files", "refused in a line", "taken"), rows)
    print(f"{files} files: 0 crashes, 0 tracebacks, 0 published files changed", flush=True)


def _chunk(place: Path, cases: range, seed: int, outcomes: dict[str, Counter[str]]) -> None:
    log = place / "log"
    log.unlink(missing_ok=True)

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        remine.flows.cli.commands.run.run_one_cycle = _checks_only  # type: ignore[assignment]
        for case in cases:
            kind, code, text = _case(place, case, seed)
            with log.open("a") as out:
                out.write(json.dumps([case, kind, code, text[-3000:]]) + "\n")

    outcome = Child(work).end(SECONDS * 10)
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    for case, kind, code, text in lines:
        refusals = [line for line in text.splitlines() if line.startswith("remine: ")]
        if code not in (0, 2) or "Traceback" in text or (code == 2 and len(refusals) != 1):
            raise AssertionError(f"case {case}, {kind}: {code}: {text}")
        outcomes[kind]["refused" if code else "taken"] += 1
    if outcome.code or len(lines) != len(cases):
        raise AssertionError(f"case {cases.start + len(lines)}: {outcome.code}: {outcome.text}")


def _case(place: Path, case: int, seed: int) -> tuple[str, int, str]:
    """Write the files of a case and run it; returns its kind, exit code and output."""
    draw = random.Random(seed * 1_000_003 + case)  # noqa: S311 - no secret
    kind = list(KINDS)[case % len(KINDS)]
    folder = place / "case"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    config = KINDS[kind](folder, draw)
    out, code = io.StringIO(), 0
    sys.argv = ["remine", "run", "--config", str(config), "--set", f'run.store="{place}/store"']
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(SECONDS)
    try:
        with redirect_stdout(out), redirect_stderr(out):
            remine.flows.cli.main.main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:  # noqa: BLE001 - the crashes that we look for
        import traceback

        code = 70
        out.write(traceback.format_exc())
    finally:
        signal.alarm(0)
    return kind, code, out.getvalue()


def _too_long(*_: object) -> None:
    raise TimeoutError(f"a case took more than {SECONDS} s")


def _checks_only(path: Path | None, changes: list[str], **_: object) -> None:
    """The part of `remine run` that reads the user's files, without the stages after it."""
    from remine.flows.config.settings import load_config
    from remine.flows.cycle.cycle import prepared
    from remine.flows.jobs.console import Console
    from remine.flows.jobs.job import run_plain

    with prepared(load_config(path, changes), run_plain, Console(quiet=True)):
        pass


# Cases: each writes its files to a folder and returns the path of the config ----------------------


def _config_bytes(folder: Path, draw: random.Random) -> Path:
    """A config with some bytes changed."""
    write_items(folder / "items.parquet", classes=8, per_class=4)
    text = draw.choice([TINY, "\n".join(_settings())]).encode()
    path = folder / "remine.toml"
    path.write_bytes(_mutated(text, draw))
    return path


def _config_values(folder: Path, draw: random.Random) -> Path:
    """Every setting that `remine init` knows, some with wild values."""
    write_items(folder / "items.parquet", classes=8, per_class=4)
    lines = _settings()
    places = [i for i, line in enumerate(lines) if "=" in line]
    for place in draw.sample(places, draw.randint(1, 3)):
        name = lines[place].split("=")[0]
        lines[place] = f"{name}= {draw.choice(WILD)}"
    path = folder / "remine.toml"
    path.write_text("\n".join(lines))
    return path


def _settings() -> list[str]:
    """The settings that `remine init` prints, uncommented, without the explanations."""
    lines = [re.sub(r"^#(?=\w+ = )", "", line) for line in config_text().splitlines()]
    lines = [line for line in lines if line[:1] not in ("#", "")]
    return [line.replace('"glyphs"', '"items.parquet"') for line in lines]


def _table(draw: random.Random) -> pa.Table:
    """Items of a random kind with random faults."""
    n = draw.choice([0, 1, 2, 24, 24, 24, 24])
    labels: list[Any] = [f"c{i % 6}" for i in range(n)]
    columns: dict[str, Any] = {"label": labels}
    if draw.random() < 0.5:
        columns["id"] = list(range(n))
    if draw.random() < 0.3:
        columns["split"] = [("train", "val", "test")[i % 6 // 2] for i in range(n)]
    if draw.random() < 0.2:
        columns["group"] = [draw.choice(["a", "b", None]) for _ in range(n)]
    content = draw.choice(["vector", "text", "image", "path", "vector"])
    columns[content] = [_content(content, i) for i in range(n)]
    for _ in range(draw.randint(0, 3)):
        name = draw.choice(list(columns))
        if n and isinstance(columns[name], list):
            columns[name][draw.randrange(n)] = draw.choice(WILD_CELLS)
        if draw.random() < 0.15:
            columns[name] = [draw.choice(WILD_CELLS)] * n
        if draw.random() < 0.1:
            columns[draw.choice(["image", "text", "vector", "id ", "LABEL", ""])] = columns[name]
    return _arrow(columns)


WILD_CELLS: tuple[Any, ...] = (
    None, -1, 2**63 - 1, 0.5, float("nan"), "", " ", "x" * 5000, "\0", "../../../etc/passwd",
    "/dev/zero", b"\xff\xfe", b"", [], [1.0], [float("inf")] * 4, [0.0] * 4, [float("nan")] * 4,
    [[1]], {"bytes": b"x"}, True, 10**30, "\ud7ff", [None] * 4, ["a"],
)  # fmt: skip


def _arrow(columns: dict[str, Any]) -> pa.Table:
    arrays = {}
    for name, values in columns.items():
        try:
            arrays[name] = pa.array(values)
        except (pa.ArrowException, OverflowError, TypeError, ValueError):
            arrays[name] = pa.array([str(value)[:50] for value in values])
    return pa.table(arrays)


def _content(content: str, row: int) -> Any:
    if content == "vector":
        return [float((row * 7 + i * 3) % 11 - 5) for i in range(4)]
    if content == "text":
        return f"text {row}"
    return _picture(row) if content == "image" else f"{row}.png"


def _picture(row: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((8, 8), row * 9 % 256, np.uint8)).save(out, "PNG")
    return out.getvalue()


def _parquet_structure(folder: Path, draw: random.Random) -> Path:
    """A Parquet file with wrong cells, columns and types."""
    pq.write_table(_table(draw), folder / "items.parquet")
    return _simple(folder, "items.parquet", draw)


def _parquet_bytes(folder: Path, draw: random.Random) -> Path:
    """A valid Parquet file with some bytes changed."""
    write_items(folder / "items.parquet", classes=8, per_class=4)
    return _bytewise(folder, "items.parquet", draw)


def _csv(folder: Path, draw: random.Random) -> Path:
    """A CSV file with wrong cells or changed bytes."""
    n = draw.choice([0, 1, *[24] * 8])
    rows = [["id", "label", "text"]] + [[str(i), f"c{i % 6}", f"text {i}"] for i in range(n)]
    for _ in range(draw.randint(0, 3)):
        row = draw.choice(rows)
        row[draw.randrange(len(row))] = draw.choice(["", '"', "\0", "é", "1e400", "-5", ",", "\n"])
        if draw.random() < 0.2:
            row.append("more")
    (folder / "items.csv").write_text("\n".join(",".join(row) for row in rows))
    if draw.random() < 0.5:
        return _bytewise(folder, "items.csv", draw)
    return _simple(folder, "items.csv", draw)


def _npy(folder: Path, draw: random.Random) -> Path:
    """An .npy file of vectors with wild shapes and types, a wrong header, or changed bytes."""
    shape = draw.choice([(24, 4), (24, 4), (0, 4), (24, 0), (24,), (2, 2, 2), ()])
    kind = draw.choice(["f4", "f8", "i4", "u1", "c8", "U3", "O", "M8[s]", "?", ">f4", "f2"])
    values = np.ones(shape).astype(kind) if kind != "M8[s]" else np.zeros(shape, kind)
    if values.dtype.kind in "fiu" and values.ndim == 2 and values.size:
        values[:] = np.random.default_rng(draw.randrange(99)).integers(1, 9, shape)
    np.save(folder / "items.npy", values, allow_pickle=True)
    (folder / "labels.txt").write_text("\n".join(f"c{i % 6}" for i in range(24)))
    if draw.random() < 0.3:
        content = (folder / "items.npy").read_bytes()
        huge = draw.choice([b"(99999999999, 4)", b"(-1, 4)", b"(24, 4L)", b"(24, 1e9)"])
        content = content.replace(b"(24, 4)", huge, 1)
        (folder / "items.npy").write_bytes(content)
    if draw.random() < 0.4:
        raw = (folder / "items.npy").read_bytes()
        (folder / "items.npy").write_bytes(_mutated(raw, draw))
    extra = 'labels = "labels.txt"'
    return _simple(folder, "items.npy", draw, extra)


def _pictures(folder: Path, draw: random.Random) -> Path:
    """A folder of pictures by class, some of them damaged, bombs or not pictures."""
    for row in range(24):
        place = folder / "pictures" / f"c{row % 6}"
        place.mkdir(parents=True, exist_ok=True)
        content = _encoded(row, draw) if draw.random() < 0.2 else _picture(row)
        if draw.random() < 0.05:
            content = draw.choice([_mutated(content, draw), bomb(60_000), b""])
        (place / f"{row}{draw.choice(['.png', '.png', '.png', '.jpg'])}").write_bytes(content)
    return _simple(folder, "pictures", draw, draw.choice(["", "image_size = 8"]))


def _encoded(row: int, draw: random.Random) -> bytes:
    """A picture of the same size in a random format and mode."""
    out = io.BytesIO()
    mode = draw.choice(["L", "RGB", "RGBA", "P", "1", "I;16", "LA"])
    image = Image.fromarray(np.full((8, 8), row * 9 % 256, np.uint8)).convert(
        "L" if mode == "I;16" else mode
    )
    image.save(out, draw.choice(["PNG", "TIFF", "WEBP" if mode in ("RGB", "RGBA") else "PNG"]))
    return out.getvalue()


def bomb(side: int) -> bytes:
    """A tiny PNG whose header claims side x side pixels."""
    import zlib

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    body = zlib.compress(b"\0" * 100_000)
    start = b"\x89PNG\r\n\x1a\n"
    return start + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def _bytewise(folder: Path, name: str, draw: random.Random) -> Path:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(_mutated(content, draw))
    return _simple(folder, name, draw)


def _simple(folder: Path, source: str, draw: random.Random, extra: str = "") -> Path:
    path = folder / "remine.toml"
    rows = draw.choice([16, 8192])
    path.write_text(
        f'[run]\nstore = "store"\n[data]\nsource = "{source}"\nunit_rows = {rows}\n{extra}\n'
    )
    return path


def _mutated(content: bytes, draw: random.Random) -> bytes:
    """`content` with some bytes changed, removed or repeated, or with its end cut off."""
    raw = bytearray(content)
    for _ in range(draw.choice([1, 1, 2, 5, 20])):
        if not raw:
            break
        place, length = draw.randrange(len(raw)), draw.randint(1, 8)
        mutation = draw.randrange(7)
        if mutation == 0:
            raw[place] ^= draw.randint(1, 255)
        elif mutation in (
            1,
            5,
            6,
        ):  # most changes stay printable: other bytes fail early as invalid UTF-8
            raw[place] = draw.randint(32, 126)
        elif mutation == 2:
            del raw[place : place + length]
        elif mutation == 3:
            raw[place:place] = raw[place : place + length]
        else:
            raw[place : place + length] = draw.randbytes(length)
    return bytes(raw[: draw.randrange(len(raw) + 1)] if draw.random() < 0.1 else raw)


Maker = Callable[[Path, random.Random], Path]
KINDS: dict[str, Maker] = {
    "config, bytes": _config_bytes,
    "config, wild values": _config_values,
    "Parquet, structure": _parquet_structure,
    "Parquet, bytes": _parquet_bytes,
    "CSV": _csv,
    "npy": _npy,
    "folder of pictures": _pictures,
}

if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    main()
