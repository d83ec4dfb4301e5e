"""Inputs of several arrays: stored as records, read back as tensors by name."""

import numpy as np
import pytest
import torch

from remine.data.items.inputs import Inputs
from remine.data.items.tensors import as_records, as_tensors, blank, dtype_of, dtype_text

ARRAYS = {
    "pixels": np.arange(5 * 12, dtype=np.uint8).reshape(5, 3, 2, 2),
    "mask": np.arange(10, dtype=np.int64).reshape(5, 2),
}


def test_records_pass_through_a_shard(tmp_path):
    records = as_records(ARRAYS)
    assert records.shape == (5,)
    np.save(tmp_path / "0.npy", records[:2])
    np.save(tmp_path / "1.npy", records[2:])
    rows = np.array([4, 0, 2])
    tensors = as_tensors(Inputs([tmp_path / "0.npy", tmp_path / "1.npy"])[rows])
    assert list(tensors) == ["pixels", "mask"]
    for name, tensor in tensors.items():
        assert torch.equal(tensor, torch.from_numpy(ARRAYS[name][rows]))


@pytest.mark.parametrize("array", [as_records(ARRAYS), *ARRAYS.values()])
def test_dtypes_are_written_and_read_back(array):
    text = dtype_text(array.dtype)
    assert dtype_of(text) == array.dtype
    zeros = blank(2, array.shape[1:], text)
    if isinstance(zeros, dict):
        assert {name: tuple(t.shape) for name, t in zeros.items()} == {
            "pixels": (2, 3, 2, 2),
            "mask": (2, 2),
        }
        zeros = zeros["mask"]
    assert not zeros.any()
    assert len(zeros) == 2


def test_the_text_of_records_names_every_array():
    assert dtype_text(as_records(ARRAYS).dtype) == "pixels:uint8:3x2x2,mask:int64:2"
