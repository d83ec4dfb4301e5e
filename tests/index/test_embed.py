"""Embedding rows: the same as a bare loop, bit for bit; cut by bytes, and resumed."""

import numpy as np
import pytest
import torch

from remine.data.errors import InputError
from remine.data.items.inputs import Inputs
from remine.index import micro_batches as cuts
from remine.index.embed import embed_rows
from remine.index.micro_batches import largest_layer, micro_batches
from remine.train.encoders.config import EncoderConfig
from remine.train.encoders.encoder import build_encoder


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Tiny networks on several threads would mostly wait for one another on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (90, 1, 12, 12)).astype(np.uint8)


@pytest.fixture
def inputs(pictures, tmp_path):
    """The pictures in three shards of 40, 40 and 10."""
    paths = [tmp_path / f"{start:02d}.npy" for start in (0, 40, 80)]
    for path, start in zip(paths, (0, 40, 80), strict=True):
        np.save(path, pictures[start : start + 40])
    return Inputs(paths)


@pytest.fixture(scope="module")
def encoder():
    return build_encoder(EncoderConfig(width=8, dimensions=16), "image", (1, 12, 12)).eval()


def bare_loop(encoder, pictures, batch):
    with torch.inference_mode():
        parts = [
            encoder(torch.from_numpy(pictures[start : start + batch])).numpy()
            for start in range(0, len(pictures), batch)
        ]
    return np.concatenate(parts)


@pytest.mark.parametrize("batch", [13, 32, 90, 1000])
def test_equals_a_bare_loop(encoder, inputs, pictures, batch):
    vectors = embed_rows(encoder, inputs, range(90), batch)
    assert vectors.dtype == np.float32
    assert vectors.shape == (90, 16)
    np.testing.assert_array_equal(vectors, bare_loop(encoder, pictures, batch))


def test_units_of_whole_batches_give_the_same_bits(encoder, inputs):
    complete = embed_rows(encoder, inputs, range(90), 16)
    units = [range(32), range(32, 48), range(48, 90)]
    parts = [embed_rows(encoder, inputs, rows, 16) for rows in units]
    np.testing.assert_array_equal(np.concatenate(parts), complete)


def test_rows_are_those_asked_for(encoder, inputs, pictures):
    # From the middle of one shard into the next; a lone batch, so no boundaries to differ in.
    vectors = embed_rows(encoder, inputs, range(35, 45), 16)
    np.testing.assert_array_equal(vectors, bare_loop(encoder, pictures[35:45], 16))


class Weighted(torch.nn.Module):
    """Pixels times a learnable weight, which would ask for a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.graph = []

    def forward(self, block):
        vectors = block.float().flatten(1) * self.weight
        self.graph.append(vectors.requires_grad)
        return vectors


def test_no_gradient_is_kept(inputs):
    encoder = Weighted()
    embed_rows(encoder, inputs, range(90), 50)
    assert set(encoder.graph) == {False}


def test_refuses_an_embedding_of_zeros(tmp_path):
    vectors = np.ones((90, 4), np.float32)
    vectors[41] = 0
    np.save(tmp_path / "vectors.npy", vectors)
    with pytest.raises(InputError, match=r"an embedding of length 0 in row 41: it has"):
        embed_rows(torch.nn.Identity(), Inputs([tmp_path / "vectors.npy"]), range(90), 20)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_refuses_a_number_that_is_not_finite(tmp_path, bad):
    vectors = np.ones((90, 4), np.float32)
    vectors[83, 2] = bad
    np.save(tmp_path / "vectors.npy", vectors)
    with pytest.raises(InputError, match=r"a non-finite embedding in row 83$"):
        embed_rows(torch.nn.Identity(), Inputs([tmp_path / "vectors.npy"]), range(90), 20)


CPU = torch.device("cpu")


def test_the_largest_layer_is_measured_on_one_row():
    network = torch.nn.Sequential(
        torch.nn.Linear(10, 100), torch.nn.ReLU(), torch.nn.Linear(100, 2)
    )
    block = np.zeros((3, 10), np.float32)
    assert largest_layer(network, block) == 3 * (100 + 100) * 4
    assert largest_layer(lambda rows: rows, block) == block.nbytes
    assert not any(module._forward_hooks for module in network.modules())


def test_passes_are_as_large_as_their_bytes_allow(encoder, inputs, monkeypatch):
    row_bytes = largest_layer(encoder, inputs[np.arange(1)])
    monkeypatch.setattr(cuts, "CPU_BYTES", 7 * row_bytes + 1)
    passes = micro_batches(encoder, inputs, range(90), 50, CPU)
    assert [len(part) for part in passes] == [7] * 12 + [6]
    assert np.concatenate(passes).tolist() == list(range(90))
    assert len(micro_batches(encoder, inputs, range(90), 4, CPU)[0]) == 4
    monkeypatch.setattr(cuts, "CPU_BYTES", 1)
    assert len(micro_batches(encoder, inputs, range(90), 50, CPU)) == 90


class Lengths(torch.nn.Module):
    """Sums rows of unequal length, and notes the blocks that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Identity()
        self.shapes = []

    def row_lengths(self, rows):
        return (rows != 0).sum(dim=1)

    def forward(self, rows):
        longest = int(self.row_lengths(rows).max())
        self.shapes.append((len(rows), longest))
        cut = self.layer(rows[:, :longest].float())
        return torch.stack([cut.sum(dim=1), cut.amax(dim=1)], dim=1)


def test_rows_of_unequal_length_are_sorted_and_come_back_in_order(monkeypatch):
    rng = np.random.default_rng(3)
    lengths = rng.integers(1, 30, 90)
    rows = np.where(np.arange(30) < lengths[:, None], rng.integers(1, 9, (90, 30)), 0)
    rows = rows.astype(np.int32)
    network = Lengths()
    monkeypatch.setattr(cuts, "CPU_BYTES", 8 * 30 * 4)  # four of the longest rows, in and out
    vectors = embed_rows(network, rows, range(90), 16)
    np.testing.assert_array_equal(vectors, np.stack([rows.sum(1), rows.max(1)], axis=1))
    counts, longest = zip(*network.shapes[1:], strict=True)
    assert sorted(longest, reverse=True) == list(longest)
    assert counts[0] == 4
    assert max(counts) == 16
    assert all(count * length <= 4 * 30 for count, length in network.shapes[1:])


class Notes:
    """Keeps what is finished, and stops after some passes."""

    def __init__(self, start=None, passes=10**9) -> None:
        self.start, self.passes, self.rows = start, passes, None

    def load(self):
        return self.start

    def keep(self, parts):
        self.rows = np.concatenate(parts)
        if len(parts) == self.passes:
            raise KeyboardInterrupt


@pytest.mark.parametrize("lost", [0, 3])
def test_a_killed_process_goes_on_behind_its_last_pass(encoder, inputs, lost):
    complete = embed_rows(encoder, inputs, range(90), 16)
    killed = Notes(passes=3)
    with pytest.raises(KeyboardInterrupt):
        embed_rows(encoder, inputs, range(90), 16, keeper=killed)
    assert len(killed.rows) == 48
    calls = []
    # Rows that do not end with a pass, of another device for example, are computed again.
    again = embed_rows(
        lambda block: (calls.append(len(block)), encoder(block))[1],
        inputs,
        range(90),
        16,
        keeper=Notes(start=killed.rows[: 48 - lost]),
    )
    np.testing.assert_array_equal(again, complete)
    assert sum(calls) - 1 == (90 if lost else 42)
