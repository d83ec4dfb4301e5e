"""Jobs: the same receipts from a plain loop and from Beam, and only what is not done is run."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from remine.data.errors import InputError, StoreError
from remine.data.store.records import Artifact, digest
from remine.data.store.store import Store
from remine.flows.jobs.beam import beam_execute, parse_options
from remine.flows.jobs.job import Unit, run_job, run_plain, units_of


@dataclass(frozen=True)
class Squares:
    """Writes the square of each row's number."""

    lazy: bool = False

    def key(self, unit: Unit) -> str:
        return digest(["squares", unit])

    def open(self, store: Store) -> Callable[[Unit], Artifact]:
        def work(unit: Unit) -> Artifact:
            number, start, stop = unit
            body = " ".join(str(i * i) for i in range(start, stop)).encode()
            file = store.put_bytes(body, name=f"{number}.txt", rows=stop - start)
            return Artifact(kind="squares", files=(file,))

        return work


def silent(_done: int, _total: int) -> None:
    pass


def test_units_cover_all_rows_once():
    units = units_of(10, 4)
    assert units == [(0, 0, 4), (1, 4, 8), (2, 8, 10)]
    assert units_of(0, 4) == []


def test_beam_leaves_what_a_plain_loop_leaves(tmp_path):
    units = units_of(23, 5)
    plain = run_job(Store(tmp_path / "a", create=True), Squares(), units, run_plain, silent)
    beam = beam_execute("FnApiRunner", [])
    assert run_job(Store(tmp_path / "b", create=True), Squares(), units, beam, silent) == plain
    assert [a.rows for a in plain] == [5, 5, 5, 5, 3]


def test_only_units_without_a_sound_output_are_run(tmp_path):
    store = Store(tmp_path / "s", create=True)
    units = units_of(20, 5)
    run_job(store, Squares(), units[:2], run_plain, silent)
    ran: list[Unit] = []

    def watched(store: Store, job: Squares, todo: list[Unit]) -> None:
        ran.extend(todo)
        run_plain(store, job, todo)

    remainder = run_job(store, Squares(), units, watched, silent)
    assert ran == units[2:]
    damage = tmp_path / "s" / remainder[1].files[0].object
    damage.chmod(0o644)
    damage.write_bytes(b"25 36 49 64 80")
    ran.clear()
    assert run_job(Store(tmp_path / "s"), Squares(), units, watched, silent) == remainder
    assert ran == [units[1]]


def test_a_unit_without_output_is_an_error(tmp_path):
    store = Store(tmp_path / "s", create=True)
    with pytest.raises(StoreError, match=r"unit \(0, 0, 5\) left no undamaged output"):
        run_job(store, Squares(), units_of(5, 5), lambda *_: None, silent)


def test_progress_ends_at_all(tmp_path):
    calls: list[tuple[int, int]] = []
    store = Store(tmp_path / "s", create=True)
    run_job(store, Squares(), units_of(9, 3), run_plain, lambda *step: calls.append(step))
    assert calls[-1] == (9, 9)


def test_beam_options_pass_through_and_unknown_ones_are_refused():
    options = parse_options("DirectRunner", ["--direct_num_workers=2"])
    assert options.get_all_options()["direct_num_workers"] == 2
    with pytest.raises(InputError, match="Beam has no option --direct_num_worker"):
        parse_options("DirectRunner", ["--direct_num_worker=2"])


@pytest.mark.parametrize("runner", ["NoSuchRunner", "no.such.Runner"])
def test_an_unknown_runner_is_refused(runner):
    with pytest.raises(InputError, match=r"beam\.runner: "):
        beam_execute(runner, [])
