"""Two cycles at once, a clock that jumps, and numbers that no model should give.

    python -m robustness.states

Whatever happens: one line, the store whole, the served version as before.
"""

import random
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from remine.data.store.store import Store
from robustness.kit import (
    TINY,
    Child,
    Ended,
    Marks,
    command,
    left_in,
    new_place,
    preload,
    print_table,
    seed_of,
    tree_of,
    workshop,
    write_items,
)

YEAR = 365 * 86_400.0
NETS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how, self.layer = how, nn.Linear(16, 8)
        self.register_buffer("calls", torch.zeros(1))
    def forward(self, x):
        y = self.layer(x)
        if self.how == "nan":
            return y * float("nan")
        if self.how == "nan_in_training" and self.training:
            return y * float("nan")
        if self.how == "zeros":
            return y * 0
        if self.how == "same":
            return y * 0 + torch.ones(8)
        return y * float("inf")
""" + "".join(
    f"\ndef {how}():\n    return Net({how!r})\n"
    for how in ("nan", "nan_in_training", "zeros", "same", "inf")
)


def main() -> None:
    """Run every state and print how it ended."""
    draw = random.Random(seed_of("states"))  # noqa: S311 - no secret
    preload()
    rows: list[tuple[str, str]] = []
    with workshop() as folder:
        items = folder / "items.parquet"
        write_items(items)
        sound = new_place(folder / "sound", items).parent
        _good(Child(command("run"), sound).end())
        left = left_in(sound / "store")
        rows.append(("two cycles at once", _two_at_once(folder, items, left)))
        for years in (30, -30, 0):
            place = new_place(folder / f"clock{years}", items).parent
            _good(Child(_clock(years, draw), place).end())
            if left_in(place / "store") != left:
                raise AssertionError(f"clock {years}: other bits")
            what = f"jumps by {years} years" if years else "jumps back and forth at every look"
            rows.append((f"clock {what}", "same bits"))
        for how in ("nan", "nan_in_training", "zeros", "same", "inf"):
            text = TINY + f'[encoder]\nname = "nets:{how}"\n'
            rows.append((f"encoder gives {how}", _refused(folder, items, how, text, None)))
        for how, change in (("infinite", float("inf")), ("NaN", float("nan")), ("zero", 0.0)):
            table = _with_cell(items, change)
            rows.append((f"a vector is {how}", _refused(folder, items, how, TINY, table)))
        one = pq.read_table(items)
        one = one.set_column(0, "label", pa.array(["one"] * len(one)))
        rows.append(("the data shrinks to one class", _refused(folder, items, "one", TINY, one)))
        none = one.slice(0, 0)
        rows.append(("the data shrinks to nothing", _refused(folder, items, "none", TINY, none)))
    print_table("states", ("what", "how it ended"), rows)


def _good(ended: Ended) -> None:
    if ended.code:
        raise AssertionError(ended.text)


def _two_at_once(folder: Path, items: Path, left: object) -> str:
    place = new_place(folder / "two", items).parent
    children = [Child(command("run"), place) for _ in range(2)]
    ends = sorted((child.end() for child in children), key=lambda ended: ended.code)
    if ends[0].code or ends[1].code != 1 or ends[1].crashed or left_in(place / "store") != left:
        raise AssertionError([ended.text for ended in ends])
    return ends[1].last


def _clock(years: int, draw: random.Random) -> Callable[[], None]:
    def work() -> None:
        real = time.time
        time.time = lambda: real() + (years or draw.uniform(-40, 40)) * YEAR
        command("run", marks=Marks())()

    return work


def _with_cell(items: Path, value: float) -> pa.Table:
    table = pq.read_table(items)
    vectors = table["vector"].to_pylist()
    vectors[7] = [value] * 16 if value == 0 else [value, *vectors[7][1:]]
    return table.set_column(1, "vector", pa.array(vectors, pa.list_(pa.float32(), 16)))


def _refused(folder: Path, items: Path, name: str, text: str, table: pa.Table | None) -> str:
    """A store with a finished cycle, then one that cannot be; what it says."""
    place = new_place(folder / f"refused-{name}", items).parent
    (place / "nets.py").write_text(NETS)
    _good(Child(command("run"), place).end())
    served, before = Store(place / "store").current(), tree_of(place / "store")
    answer = Child(command("search", "--id", "3", "--json"), place).end()
    (place / "remine.toml").write_text(text)
    if table is not None:
        pq.write_table(table, place / "items.parquet")
    ended = Child(command("run"), place).end()
    if ended.crashed or ended.code not in (1, 2) or not ended.last.startswith("remine: "):
        raise AssertionError(f"{name}: {ended.code}: {ended.text}")
    after = tree_of(place / "store")
    if any(after.get(path) != digest for path, digest in before.items()):
        raise AssertionError(f"{name}: published files changed")
    now = Store(place / "store").current()
    if now is None or served is None:
        raise AssertionError(f"{name}: nothing is served")
    if now.digest != served.digest:
        if name in ("nan", "inf", "zeros", "same") or table is not None:
            raise AssertionError(f"{name}: version {now.number} was published: {ended.text}")
        # Rounds before the fault may be published; they must be whole and answer.
        left_in(place / "store")
        return f"exit {ended.code}, version {now.number} published before it: {ended.last[8:90]}"
    if Child(command("search", "--id", "3", "--json"), place).end().text != answer.text:
        raise AssertionError(f"{name}: another answer")
    return f"exit {ended.code}: {ended.last[8:100]}"


if __name__ == "__main__":
    main()
