"""One byte changed, or the end cut off, in every kind of stored file: noticed or harmless.

    TORTURE_DAMAGES=6 python -m robustness.damage      damages of each kind

Each damage goes through three real uses: `remine search` (the answer as before, or a refusal in a
line), a server that is about to take over the damaged version (it keeps the one it has), and
`remine run` on a store whose cycle was killed (mends it and ends with the same bits, or refuses).
A damaged index must never reach FAISS, which loads it without a word or crashes.
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
    Ended,
    Left,
    Marks,
    command,
    left_in,
    new_place,
    number,
    preload,
    print_table,
    seed_of,
    workshop,
    write_items,
)

SEARCH = ("search", "--id", "3", "--json", "--version", "0")
HINTS = ("CURRENT", "view")
"""What may be damaged without a word: nobody trusts it."""


@dataclass(frozen=True, kw_only=True)
class Sound:
    """The undamaged places, and what each use gives there."""

    finished: Path
    killed: Path
    answer: str
    left: Left
    after_next: Left


def main() -> None:
    """Damage every kind of file and print what happened by kind."""
    draw = random.Random(seed_of("damage"))  # noqa: S311 - no secret
    preload()
    each = number("TORTURE_DAMAGES", 6)
    rows = []
    with workshop() as folder:
        sound = _sound(folder)
        for kind in sorted(kinds(sound.finished / "store") | kinds(sound.killed / "store")):
            seen: Counter[str] = Counter()
            for turn in range(each):
                _damage_once(folder, sound, kind, turn, draw, seen)
            uses = [f"{seen['refused']} refused, {seen['mended']} mended, {seen['same']} the same"]
            rows.append((kind, each, *uses, f"{seen['noticed']}/{seen['looked']}"))
    title = "one byte changed, or the end cut off (three uses each)"
    print_table(title, ("kind", "damages", "uses", "noticed by the hash"), rows)
    print("no crash, no traceback, no wrong answer, no damaged index given to FAISS", flush=True)


def kinds(root: Path) -> dict[str, list[Path]]:
    """The files of a store by kind; a file that several kinds share counts as each."""
    store, found = Store(root), {}
    for version in store.versions():
        for artifact in version.artifacts.values():
            for file in artifact.files:
                kind = f"{artifact.kind} {''.join(c for c in file.name if not c.isdigit())}"
                found.setdefault(kind, []).append(root / file.object)
    found["receipt"] = sorted((root / "receipts").iterdir())
    found["manifest"] = sorted((root / "versions").iterdir())
    for name in ("CURRENT", "PIN", "FORMAT"):
        if (root / name).exists():
            found[name] = [root / name]
    found["view"] = [path for path in (root / "views").rglob("*") if path.is_symlink()]
    for path in (root / "work").glob("*/0*-*/*"):
        found.setdefault(f"save {path.name}", []).append(path)
    return {kind: paths for kind, paths in found.items() if paths}


def _sound(folder: Path) -> Sound:
    items = folder / "items.parquet"
    write_items(items)
    finished, killed = folder / "finished", folder / "killed"
    new_place(finished, items)
    _good(Child(command("run"), finished).end())
    left = left_in(finished / "store")
    answer = _good(Child(command(*SEARCH), finished).end())
    pin(Store(finished / "store"), 3)
    after = folder / "after"
    shutil.copytree(finished, after, symlinks=True)
    _good(Child(command("run"), after).end())
    new_place(killed, items)
    marks = Marks()
    child = Child(_stopped_in_training(marks), killed)
    child.end()
    pin(Store(killed / "store"), 1)
    return Sound(
        finished=finished,
        killed=killed,
        answer=answer,
        left=left,
        after_next=left_in(after / "store"),
    )


def _stopped_in_training(marks: Marks) -> Callable[[], None]:
    """A cycle that ends at the fifth step of its second round, as by a kill, after saves."""

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


def _good(ended: Ended) -> str:
    if ended.code:
        raise AssertionError(ended.text)
    return ended.text


def _damage_once(
    folder: Path, sound: Sound, kind: str, turn: int, draw: random.Random, seen: Counter[str]
) -> None:
    where = f"TORTURE_SEED damage of {kind}, number {turn}"
    for use in ("search", "serve", "run"):
        origin = sound.killed if use == "run" else sound.finished
        if kind not in kinds(origin / "store"):
            origin = sound.finished if origin == sound.killed else sound.killed
        if use != "run" and origin == sound.killed:
            continue
        place = folder / "damaged"
        shutil.copytree(origin, place, symlinks=True)
        victim = draw.choice(kinds(place / "store")[kind])
        if use == "serve":
            ended = Child(
                _takes_over(place / "store", lambda v=victim: _damage(v, turn, draw))
            ).end()
        else:
            _damage(victim, turn, draw)
            _look(victim, seen)
            wanted = SEARCH if use == "search" else ("run",)
            ended = Child(_watched(command(*wanted)), place).end()
        seen[_judged(use, place, origin, sound, ended, where)] += 1
        shutil.rmtree(place)


def _damage(victim: Path, turn: int, draw: random.Random) -> None:
    """Change one byte or cut the file (even and odd turns); a link is pointed elsewhere."""
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


def _look(victim: Path, seen: Counter[str]) -> None:
    """Whether the hash of the file tells, where a file has one."""
    if victim.parent.name == "objects":
        seen["looked"] += 1
        seen["noticed"] += hashlib.sha256(victim.read_bytes()).hexdigest() != victim.stem
    elif victim.parent.name in ("receipts", "versions"):
        seen["looked"] += 1
        try:
            unseal(victim.read_bytes(), victim)
        except StoreError:
            seen["noticed"] += 1


def _watched(work: Callable[[], object]) -> Callable[[], object]:
    """`work`, ended at once where a damaged index reaches FAISS."""

    def watched() -> object:
        import faiss

        read = faiss.read_index

        def checked(path: str, *args: object) -> object:
            if hashlib.sha256(Path(path).read_bytes()).hexdigest() != Path(path).stem:
                print("Traceback (most recent): a damaged index reached FAISS")
                sys.exit(70)
            return read(path, *args)

        faiss.read_index = checked
        return work()

    return watched


def _takes_over(root: Path, damage: Callable[[], None]) -> Callable[[], object]:
    """A server's holder at version 2 that finds version 3, damaged, to take over."""

    def work() -> None:
        from remine.flows.serving.counters import Counters
        from remine.flows.serving.holder import Holder

        store = Store(root)
        pin(store, 2)
        holder = Holder(store, Counters())
        before = holder.current
        pin(store, 3)
        damage()
        taken = holder.refresh()
        served = holder.current.version
        if not taken and (holder.current is not before or served.number != 2):
            raise AssertionError("the served version changed")
        print(f"taken={taken} fault={holder.fault}")

    return _watched(work)


def _judged(use: str, place: Path, origin: Path, sound: Sound, ended: Ended, where: str) -> str:
    """What a use of a damaged store came to; ends the script where it may not have."""
    if ended.crashed:
        raise AssertionError(f"{where}: {use} crashed: {ended.text}")
    if use == "serve":
        return "same" if "taken=True" in ended.text else "refused"
    if ended.code:
        if ended.code not in (1, 2) or not ended.last.startswith("remine: "):
            raise AssertionError(f"{where}: {use} ends with {ended.code}: {ended.text}")
        return "refused"
    if use == "search":
        if ended.text != sound.answer:
            raise AssertionError(f"{where}: another answer")
        return "same"
    unpin(Store(place / "store"))
    wanted = sound.left if origin == sound.killed else sound.after_next
    store = Store(place / "store")
    if (current := store.current()) is None or current.digest != wanted.version:
        raise AssertionError(f"{where}: the run ends with other bits: {ended.text}")
    return "mended"


if __name__ == "__main__":
    main()
