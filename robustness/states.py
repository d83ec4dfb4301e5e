"""Two cycles at once, a clock that jumps, and encoders and data with invalid numbers.

    python -m robustness.states

Each must give a one-line error and leave the store complete and the served version unchanged.
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
    Marks,
    Outcome,
    command,
    new_place,
    preload,
    print_table,
    seed_of,
    tree_of,
    verified_state,
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
    f"\ndef {fault}():\n    return Net({fault!r})\n"
    for fault in ("nan", "nan_in_training", "zeros", "same", "inf")
)


def main() -> None:
    """Run all cases and print their outcomes."""
    draw = random.Random(seed_of("states"))  # noqa: S311 - no secret
    preload()
    rows: list[tuple[str, str]] = []
    with workshop() as folder:
        items = folder / "items.parquet"
        write_items(items)
        sound = new_place(folder / "sound", items).parent
        _good(Child(command("run"), sound).end())
        sound_state = verified_state(sound / "store")
        rows.append(("two cycles at once", _two_at_once(folder, items, sound_state)))
        for years in (30, -30, 0):
            place = new_place(folder / f"clock{years}", items).parent
            _good(Child(_clock(years, draw), place).end())
            if verified_state(place / "store") != sound_state:
                raise AssertionError(f"clock {years}: other bits")
            description = (
                f"jumps by {years} years" if years else "jumps back and forth at every look"
            )
            rows.append((f"clock {description}", "same bits"))
        for fault in ("nan", "nan_in_training", "zeros", "same", "inf"):
            text = TINY + f'[encoder]\nname = "nets:{fault}"\n'
            rows.append((f"encoder gives {fault}", _refused(folder, items, fault, text, None)))
        for fault, change in (("infinite", float("inf")), ("NaN", float("nan")), ("zero", 0.0)):
            table = _with_cell(items, change)
            rows.append((f"a vector is {fault}", _refused(folder, items, fault, TINY, table)))
        one = pq.read_table(items)
        one = one.set_column(0, "label", pa.array(["one"] * len(one)))
        rows.append(("the data shrinks to one class", _refused(folder, items, "one", TINY, one)))
        none = one.slice(0, 0)
        rows.append(("the data shrinks to nothing", _refused(folder, items, "none", TINY, none)))
    print_table("states", ("description", "fault it ended"), rows)


def _good(outcome: Outcome) -> None:
    if outcome.code:
        raise AssertionError(outcome.text)


def _two_at_once(folder: Path, items: Path, sound_state: object) -> str:
    place = new_place(folder / "two", items).parent
    children = [Child(command("run"), place) for _ in range(2)]
    outcomes = sorted((child.end() for child in children), key=lambda outcome: outcome.code)
    if (
        outcomes[0].code
        or outcomes[1].code != 1
        or outcomes[1].crashed
        or verified_state(place / "store") != sound_state
    ):
        raise AssertionError([outcome.text for outcome in outcomes])
    return outcomes[1].last


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
    """Finish a cycle, then start one that must fail; returns its message.

    text: The config of the second cycle. table: its items, None for those of the first.
    """
    place = new_place(folder / f"refused-{name}", items).parent
    (place / "nets.py").write_text(NETS)
    _good(Child(command("run"), place).end())
    version, before = Store(place / "store").current(), tree_of(place / "store")
    answer = Child(command("search", "--id", "3", "--json"), place).end()
    (place / "remine.toml").write_text(text)
    if table is not None:
        pq.write_table(table, place / "items.parquet")
    outcome = Child(command("run"), place).end()
    if outcome.crashed or outcome.code not in (1, 2) or not outcome.last.startswith("remine: "):
        raise AssertionError(f"{name}: {outcome.code}: {outcome.text}")
    after = tree_of(place / "store")
    if any(after.get(path) != digest for path, digest in before.items()):
        raise AssertionError(f"{name}: published files changed")
    now = Store(place / "store").current()
    if now is None or version is None:
        raise AssertionError(f"{name}: nothing is version")
    if now.digest != version.digest:
        if name in ("nan", "inf", "zeros", "same") or table is not None:
            raise AssertionError(f"{name}: version {now.number} was published: {outcome.text}")
        # Rounds before the fault may be published, but must be complete.
        verified_state(place / "store")
        return (
            f"exit {outcome.code}, version {now.number} published before it: {outcome.last[8:90]}"
        )
    if Child(command("search", "--id", "3", "--json"), place).end().text != answer.text:
        raise AssertionError(f"{name}: another answer")
    return f"exit {outcome.code}: {outcome.last[8:100]}"


if __name__ == "__main__":
    main()
