"""The loader: every triplet once an epoch, and batch number b always the same."""

from itertools import islice

import numpy as np
import pytest

from remine.data import schemas
from remine.data.errors import InputError
from remine.data.types import EASY, HARD, SEMI_HARD, Triplets
from remine.train.batches.triplet_loader import TripletLoader, count_triplets

GROUP = 10


@pytest.fixture(autouse=True)
def small_row_groups(monkeypatch):
    monkeypatch.setattr(schemas, "ROW_GROUP", GROUP)


def write_shards(folder, sizes, kinds=(SEMI_HARD,)):
    """Shards of so many triplets; kinds take turns, anchor_id counts on through all shards."""
    paths, first = [], 0
    for number, t in enumerate(sizes):
        serial = np.arange(first, first + t)
        triplets = Triplets(
            anchor_id=serial,
            positive_id=serial + 10_000,
            negative_id=serial + 2**40,
            d_ap=np.zeros(t, np.float32),
            d_an=np.zeros(t, np.float32),
            kind=np.array(kinds, np.int8)[serial % len(kinds)],
            negative_rank=np.zeros(t, np.int32),
        )
        path = folder / f"{number:05d}.parquet"
        table = schemas.triplets_table(triplets)
        schemas.write(table, path, schema="triplets/1", provenance={})
        paths.append(path)
        first += t
    return paths


def loader_of(paths, batch=4, kinds=("semi_hard",), seed=0, buffer_groups=8):
    return TripletLoader(
        paths=paths, kinds=kinds, batch=batch, seed=seed, buffer_groups=buffer_groups
    )


def anchor_batches(loader, count, start=0):
    """The anchors of `count` batches from number `start` on, (count, batch)."""
    batches = list(islice(loader.batches(start), count))
    for batch in batches:
        assert batch.dtype == np.int64
        assert batch.shape == (3, loader.batch)
        np.testing.assert_array_equal(batch[1], batch[0] + 10_000)  # the columns stay together
        np.testing.assert_array_equal(batch[2], batch[0] + 2**40)
    return np.stack([batch[0] for batch in batches])


@pytest.mark.parametrize("sizes", [[83], [30, 30, 23], [1, 0, 79, 3]])
@pytest.mark.parametrize("batch", [2, 4, 7, 30, 83])
@pytest.mark.parametrize("buffer_groups", [1, 3, 100])
def test_every_triplet_once_an_epoch(tmp_path, sizes, batch, buffer_groups):
    loader = loader_of(write_shards(tmp_path, sizes), batch, buffer_groups=buffer_groups)
    epoch = 83 // batch
    anchors = anchor_batches(loader, 3 * epoch).reshape(3, -1)
    for epoch_anchors in anchors:
        assert len(set(epoch_anchors.tolist())) == epoch * batch  # all but an incomplete last batch
        assert set(epoch_anchors.tolist()) <= set(range(83))
    assert anchors[0].tolist() != anchors[1].tolist()


@pytest.mark.parametrize(
    ("kinds", "places"),
    [(("hard",), {1}), (("semi_hard",), {0, 2}), (("hard", "semi_hard"), {0, 1, 2})],
)
def test_only_the_wanted_kinds(tmp_path, kinds, places):
    # Of five triplets in a row: semi-hard, hard, semi-hard, easy, easy.
    turn = (SEMI_HARD, HARD, SEMI_HARD, EASY, EASY)
    paths = write_shards(tmp_path, [40, 60], turn)
    count = 20 * len(places)
    anchors = anchor_batches(loader_of(paths, 5, kinds), count // 5)
    assert sorted(anchors.ravel()) == [i for i in range(100) if i % 5 in places]


def test_row_groups_without_the_kind_are_passed_over(tmp_path):
    paths = write_shards(tmp_path, [40])
    hard = tmp_path / "hard"
    hard.mkdir()
    paths += write_shards(hard, [12], (HARD,))
    anchors = anchor_batches(loader_of(paths, 3, ("hard",), buffer_groups=1), 4)
    assert sorted(anchors.ravel()) == list(range(12))


@pytest.mark.parametrize("buffer_groups", [1, 2, 100])
def test_starting_at_a_batch_equals_skipping_to_it(tmp_path, buffer_groups):
    loader = loader_of(write_shards(tmp_path, [25, 12]), 4, buffer_groups=buffer_groups)
    total = 3 * 9 + 2  # nine batches an epoch; into the fourth epoch
    all_batches = anchor_batches(loader, total)
    for start in range(total):
        np.testing.assert_array_equal(
            anchor_batches(loader, total - start, start), all_batches[start:]
        )


def test_the_seed_decides_the_order(tmp_path):
    paths = write_shards(tmp_path, [60])
    loaders = [loader_of(paths, seed=seed) for seed in (0, 1, 2, 2)]
    orders = [str(anchor_batches(loader, 15).tolist()) for loader in loaders]
    assert orders[2] == orders[3]
    assert len(set(orders)) == 3


def test_only_a_buffer_of_row_groups_is_mixed(tmp_path):
    # Two groups of ten are five batches of four; their triplets come one buffer after the other.
    loader = loader_of(write_shards(tmp_path, [60, 60]), 4, buffer_groups=2)
    buffers = [set((b // GROUP).tolist()) for b in anchor_batches(loader, 30).reshape(6, 20)]
    assert [len(groups) for groups in buffers] == [2] * 6
    assert set().union(*buffers) == set(range(12))
    # Groups are drawn from all shards, and mixed within the buffer.
    assert any(max(groups) - min(groups) > 1 for groups in buffers)
    batches = anchor_batches(loader, 30) // GROUP
    assert sum(len(set(batch.tolist())) == 2 for batch in batches) > 15


def test_a_buffer_of_everything_mixes_everything(tmp_path):
    loader = loader_of(write_shards(tmp_path, [60, 60]), 24, buffer_groups=100)
    groups = anchor_batches(loader, 5) // GROUP
    assert min(len(set(batch.tolist())) for batch in groups) > 6


@pytest.mark.parametrize(
    ("sizes", "kinds"),
    [([3], ("semi_hard",)), ([50], ("hard",)), ([0], ("hard",)), ([], ("hard",))],
)
@pytest.mark.parametrize("start", [0, 7])
def test_too_few_triplets_are_refused(tmp_path, sizes, kinds, start):
    loader = loader_of(write_shards(tmp_path, sizes), 4, kinds)
    with pytest.raises(InputError, match=rf"^fewer than 4 .* {kinds[0]}") as refusal:
        next(loader.batches(start))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(("sizes", "kind"), [([3, 5], "semi_hard"), ([3], "hard"), ([], "hard")])
def test_triplets_of_a_kind_are_counted(tmp_path, sizes, kind):
    paths = write_shards(tmp_path, sizes)
    assert count_triplets(paths, (kind,)) == (sum(sizes) if kind == "semi_hard" else 0)
    assert count_triplets(paths, ("hard", "semi_hard")) == sum(sizes)


def test_one_batch_is_enough(tmp_path):
    anchors = anchor_batches(loader_of(write_shards(tmp_path, [4]), 4), 3)
    assert [sorted(batch) for batch in anchors.tolist()] == [[0, 1, 2, 3]] * 3


def with_partners(folder, t=30):
    """A shard whose every third negative has no partner."""
    serial = np.arange(t)
    triplets = Triplets(
        anchor_id=serial,
        positive_id=serial + 10_000,
        negative_id=serial + 2**40,
        d_ap=np.zeros(t, np.float32),
        d_an=np.zeros(t, np.float32),
        kind=np.full(t, SEMI_HARD, np.int8),
        negative_rank=np.zeros(t, np.int32),
        negative2_id=np.where(serial % 3 == 0, -1, serial + 2**50),
    )
    path = folder / "partners.parquet"
    table = schemas.triplets_table(triplets)
    schemas.write(table, path, schema="triplets/1", provenance={})
    return path


def test_partners_are_a_fourth_row_and_the_rest_is_as_without(tmp_path):
    path = with_partners(tmp_path)
    loader = TripletLoader(paths=[path], kinds=("semi_hard",), batch=7, seed=0, partners=True)
    plain = loader_of([path], 7)
    for four, three in zip(islice(loader.batches(2), 9), islice(plain.batches(2), 9), strict=True):
        assert four.shape == (4, 7)
        assert four.dtype == np.int64
        np.testing.assert_array_equal(four[:3], three)
        expected = np.where(four[0] % 3 == 0, -1, four[0] + 2**50)
        np.testing.assert_array_equal(four[3], expected)


def test_triplets_without_partners_are_refused_where_they_are_needed(tmp_path):
    paths = write_shards(tmp_path, [40])
    loader = TripletLoader(paths=paths, kinds=("semi_hard",), batch=4, seed=0, partners=True)
    with pytest.raises(InputError, match=r"no negative2_id.*mining\.second_negative") as refusal:
        next(loader.batches())
    assert "\n" not in str(refusal.value)
