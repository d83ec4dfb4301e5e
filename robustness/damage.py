"""Damage to every kind of stored file must be noticed or harmless.

    TORTURE_DAMAGES=6 python -m robustness.damage      trials per kind of file

Each trial changes one byte or cuts off the end of a file, and then tries three uses:
`remine search` (gives the same answer or a one-line error), a server that is about to switch to the
damaged version (keeps its present one), and `remine run` on a store whose cycle was killed (repairs
the store and ends with the same bits, or gives an error).
A damaged index must never reach FAISS, which loads it without an error or crashes.
"""

import hashlib
import random
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from remine.data.errors import StoreError
from remine.data.store.pins import pin, unpin
from remine.data.store.records import unseal
from remine.data.store.store import Store
from robustness.kit import (
    Child,
    Marks,
    Outcome,
    StoreState,
    command,
    env_number,
    new_place,
    preload,
    print_table,
    seed_of,
    verified_state,
    workshop,
    write_items,
)

SEARCH = ("search", "--id", "3", "--json", "--version", "0")
HINTS = ("CURRENT", "view")
"""Files that may be damaged without an error, because nothing depends on them."""


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """Undamaged places, and the results of each use there."""

    finished_place: Path
    killed_place: Path
    answer: str
    first_state: StoreState
    next_state: StoreState


def main() -> None:
    """Damage every kind of file and print the outcomes by kind."""
    draw = random.Random(seed_of("damage"))  # noqa: S311 - no secret
    preload()
    trials = env_number("TORTURE_DAMAGES", 6)
    rows = []
    with workshop() as folder:
        baseline = _make_baseline(folder)
        roots = [place / "store" for place in (baseline.finished_place, baseline.killed_place)]
        for kind in sorted(kinds(roots[0]) | kinds(roots[1])):
            counts: Counter[str] = Counter()
            for turn in range(trials):
                _damage_once(folder, baseline, kind, turn, draw, counts)
            uses = [
                f"{counts['refused']} refused, {counts['mended']} mended, {counts['same']} the same"
            ]
            rows.append((kind, trials, *uses, f"{counts['noticed']}/{counts['looked']}"))
    title = "one byte changed, or the end cut off (three uses each)"
    print_table(title, ("kind", "damages", "uses", "noticed by the hash"), rows)
    print("no crash, no traceback, no wrong answer, no damaged index given to FAISS", flush=True)


def kinds(root: Path) -> dict[str, list[Path]]:
    """The files of a store by kind; a file of several kinds is listed under each."""
    store, by_kind = Store(root), {}
    for version in store.versions():
        for artifact in version.artifacts.values():
            for file in artifact.files:
                kind = f"{artifact.kind} {''.join(c for c in file.name if not c.isdigit())}"
                by_kind.setdefault(kind, []).append(root / file.object)
    by_kind["receipt"] = sorted((root / "receipts").iterdir())
    by_kind["manifest"] = sorted((root / "versions").iterdir())
    for name in ("CURRENT", "PIN", "FORMAT"):
        if (root / name).exists():
            by_kind[name] = [root / name]
    by_kind["view"] = [path for path in (root / "views").rglob("*") if path.is_symlink()]
    for path in (root / "work").glob("*/0*-*/*"):
        by_kind.setdefault(f"save {path.name}", []).append(path)
    return {kind: paths for kind, paths in by_kind.items() if paths}


def _make_baseline(folder: Path) -> Baseline:
    items = folder / "items.parquet"
    write_items(items)
    finished_place, killed_place = folder / "finished", folder / "killed"
    new_place(finished_place, items)
    _successful_text(Child(command("run"), finished_place).end())
    first_state = verified_state(finished_place / "store")
    answer = _successful_text(Child(command(*SEARCH), finished_place).end())
    pin(Store(finished_place / "store"), 3)
    next_place = folder / "next"
    shutil.copytree(finished_place, next_place, symlinks=True)
    _successful_text(Child(command("run"), next_place).end())
    new_place(killed_place, items)
    marks = Marks()
    child = Child(_cycle_killed_in_training(marks), killed_place)
    child.end()
    pin(Store(killed_place / "store"), 1)
    return Baseline(
        finished_place=finished_place,
        killed_place=killed_place,
        answer=answer,
        first_state=first_state,
        next_state=verified_state(next_place / "store"),
    )


def _cycle_killed_in_training(marks: Marks) -> Callable[[], None]:
    """A cycle that ends as if killed, right after the fourth save of its training."""

    def work() -> None:
        import os

        from remine.train import loop

        save, saves = loop.Training._save, []  # noqa: SLF001

        def counted(*args: object) -> None:
            save(*args)  # type: ignore[arg-type]
            saves.append(1)
            if len(saves) == 4:
                os._exit(9)

        loop.Training._save = counted  # type: ignore[method-assign]  # noqa: SLF001
        command("run", marks=marks)()

    return work


def _successful_text(outcome: Outcome) -> str:
    if outcome.code:
        raise AssertionError(outcome.text)
    return outcome.text


def _damage_once(
    folder: Path,
    baseline: Baseline,
    kind: str,
    turn: int,
    draw: random.Random,
    counts: Counter[str],
) -> None:
    label = f"TORTURE_SEED damage of {kind}, number {turn}"
    for use in ("search", "serve", "run"):
        places = [baseline.finished_place, baseline.killed_place]
        if use == "run":
            places.reverse()
        # Some kinds of file exist in one of the two only.
        origin = next(place for place in places if kind in kinds(place / "store"))
        if use != "run" and origin == baseline.killed_place:
            continue
        place = folder / "damaged"
        shutil.copytree(origin, place, symlinks=True)
        victim = draw.choice(kinds(place / "store")[kind])
        if use == "serve":
            outcome = Child(
                _server_switch(place / "store", lambda v=victim: _damage(v, turn, draw))
            ).end()
        else:
            _damage(victim, turn, draw)
            _count_noticed(victim, counts)
            arguments = SEARCH if use == "search" else ("run",)
            outcome = Child(_guard_faiss(command(*arguments)), place).end()
        counts[_classify(use, place, origin, baseline, outcome, label)] += 1
        shutil.rmtree(place)


def _damage(victim: Path, turn: int, draw: random.Random) -> None:
    """Change one byte (even turns) or cut the file (odd turns); a link gets another target."""
    if victim.is_symlink():
        target = str(victim.readlink())
        victim.unlink()
        victim.symlink_to(target[:-1])
        return
    content = victim.read_bytes()
    place = draw.randrange(len(content))
    if turn % 2:
        content = content[:place]
    else:
        content = (
            content[:place] + bytes([content[place] ^ draw.randint(1, 255)]) + content[place + 1 :]
        )
    victim.chmod(0o644)
    victim.write_bytes(content)


def _count_noticed(victim: Path, counts: Counter[str]) -> None:
    """Count whether the hash of the file reveals the damage, if the file has a hash."""
    if victim.parent.name == "objects":
        counts["looked"] += 1
        counts["noticed"] += hashlib.sha256(victim.read_bytes()).hexdigest() != victim.stem
    elif victim.parent.name in ("receipts", "versions"):
        counts["looked"] += 1
        try:
            unseal(victim.read_bytes(), victim)
        except StoreError:
            counts["noticed"] += 1


def _guard_faiss(work: Callable[[], object]) -> Callable[[], object]:
    """`work`, but it ends at once if a damaged index reaches FAISS."""

    def watched() -> object:
        from remine.data.faiss_library import faiss

        read = faiss.read_index

        def checked(path: str, *args: object) -> object:
            if hashlib.sha256(Path(path).read_bytes()).hexdigest() != Path(path).stem:
                print("Traceback (most recent): a damaged index reached FAISS")
                sys.exit(70)
            return read(path, *args)

        faiss.read_index = checked
        return work()

    return watched


def _server_switch(root: Path, damage: Callable[[], None]) -> Callable[[], object]:
    """A server at version 2 that is about to switch to version 3, which is damaged."""

    def work() -> None:
        from remine.flows.serving.counters import Counters
        from remine.flows.serving.served_version import Holder

        store = Store(root)
        pin(store, 2)
        holder = Holder(store, Counters())
        before = holder.current
        pin(store, 3)
        damage()
        has_switched = holder.refresh()
        version = holder.current.version
        if not has_switched and (holder.current is not before or version.number != 2):
            raise AssertionError("the served version changed")
        print(f"taken={has_switched} fault={holder.fault}")

    return _guard_faiss(work)


def _classify(
    use: str, place: Path, origin: Path, baseline: Baseline, outcome: Outcome, label: str
) -> str:
    """Classify the outcome of a use of a damaged store; AssertionError if it is not acceptable."""
    if outcome.crashed:
        raise AssertionError(f"{label}: {use} crashed: {outcome.text}")
    if use == "serve":
        return "same" if "taken=True" in outcome.text else "refused"
    if outcome.code:
        if outcome.code not in (1, 2) or not outcome.last.startswith("remine: "):
            raise AssertionError(f"{label}: {use} ends with {outcome.code}: {outcome.text}")
        return "refused"
    if use == "search":
        if outcome.text != baseline.answer:
            raise AssertionError(f"{label}: another answer")
        return "same"
    unpin(Store(place / "store"))
    is_resumed = origin == baseline.killed_place
    expected_state = baseline.first_state if is_resumed else baseline.next_state
    store = Store(place / "store")
    if (current := store.current()) is None or current.digest != expected_state.version:
        raise AssertionError(f"{label}: the run ends with other bits: {outcome.text}")
    return "mended"


if __name__ == "__main__":
    main()
