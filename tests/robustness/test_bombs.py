"""A tiny picture that says it is huge is refused before it is decoded; a full disk has a line."""

import errno

import pytest

from remine.data.errors import InputError, machine_line
from remine.data.items.pictures import open_image
from robustness.fuzz import bomb


def test_a_bomb_is_refused_from_bytes_and_from_a_file(tmp_path):
    content = bomb(60_000)
    assert len(content) < 1000
    with pytest.raises(InputError, match="60000x60000 pixels are too many"):
        open_image(content)
    (tmp_path / "bomb.png").write_bytes(content)
    with pytest.raises(InputError, match="too many"):
        open_image(tmp_path / "bomb.png")


def test_a_fault_of_the_machine_says_what_to_do():
    full = OSError(errno.ENOSPC, "No space left on device", "/disk/file")
    assert machine_line(full).startswith("/disk/file: no space left on device; free space")
    assert "whole" in machine_line(OSError("1024 requested and 0 written"))
    assert machine_line(FileNotFoundError(errno.ENOENT, "no such file")) is None
