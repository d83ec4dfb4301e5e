"""The policy: what is built for how many items and how much memory, and that its sums are right."""

import numpy as np
import pytest

from remine.data.errors import InputError
from remine.data.faiss_library import faiss
from remine.index.factory_choice import choose_factory


@pytest.mark.parametrize(
    ("n", "memory", "factory"),
    [
        (1, 0, "Flat"),
        (200_000, 0, "Flat"),
        (200_001, 0, "IVF447,Flat"),
        (1_000_000, 0, "IVF1000,Flat"),
        (10_000_000, 0, "IVF3162,Flat"),
        (200_000, 104, "Flat"),
        (200_000, 103, "SQfp16"),
        (200_000, 52, "SQ8"),
        (1_000_000, 536, "IVF1000,SQfp16"),
        (1_000_000, 200, "IVF1000,SQ8"),
    ],
)
def test_the_most_exact_that_fits(n, memory, factory):
    choice = choose_factory(n, 128, memory)
    assert choice.factory == factory
    assert f"{n:,} items" in choice.reason
    assert not memory or choice.bytes <= memory * 1e6


def test_too_little_memory_for_the_smallest_is_refused():
    with pytest.raises(InputError, match=r"index\.memory is 100 MB; the smallest .* takes 153 MB"):
        choose_factory(1_000_000, 128, 100)


@pytest.mark.parametrize("memory", [0, 3, 2])
def test_the_estimate_is_the_file(memory):
    vectors = np.random.default_rng(0).standard_normal((5000, 128)).astype(np.float32)
    choice = choose_factory(5000, 128, memory)
    index = faiss.IndexIDMap2(inner := faiss.index_factory(128, choice.factory))
    inner.train(vectors)
    index.add_with_ids(vectors, np.arange(5000))
    assert faiss.serialize_index(index).nbytes == pytest.approx(choice.bytes, rel=0.01)
