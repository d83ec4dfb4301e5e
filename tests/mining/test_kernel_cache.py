"""Compiling is said before it happens, and only then."""

import os
import subprocess
import sys
import types

import pytest

from remine.mining.kernel_cache import must_compile

SOURCE = """
import numba

@numba.njit(cache=True)
def double(x):
    return 2 * x
"""


@pytest.fixture
def kernels(tmp_path, monkeypatch):
    """A module with one kernel that has not been compiled."""
    path = tmp_path / "kernels_to_compile.py"
    path.write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    import kernels_to_compile

    return kernels_to_compile


def test_kernels_are_compiled_once(kernels):
    assert must_compile((kernels,))
    assert kernels.double(3) == 6
    assert not must_compile((kernels,))


def test_a_module_without_kernels_says_nothing():
    assert not must_compile((types.ModuleType("empty"),))


def test_our_kernels_are_asked(tmp_path):
    """With an empty cache all of them are to be compiled."""
    script = "from remine.mining.kernel_cache import must_compile; print(must_compile())"
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", script]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "True"
