"""Encoders of the user's own: `encoder.name = "module:function"`.

The function takes no arguments and returns a torch module, or (module, transform):

    def build():
        network = torch.nn.Sequential(...)
        return network, transform

    def transform(contents):
        return numpy.stack([...])

- The transform turns a list of contents into one array of a fixed shape a row, (rows, ...): uint8,
  int32, int64 or float32. Contents are texts, decoded pictures (`PIL.Image`, upright, eight bits a
  channel) or (d,) float32 vectors. Without one the module gets what remine's own encoders get:
  pictures as uint8 (channels, height, width) of data.image_size, hashed grams of texts, vectors.
- The module turns a tensor of such rows, (m, ...), into (m, d) numbers of any length; remine puts
  them on the unit sphere. Outside training it is set to `eval()`.
- The function is called under the run's seed, so fresh weights follow from it; a frozen network
  is made under seed 0 each time, and must get the same weights each time.

The module is a file in the config's folder (`nets:build` is nets.py or nets/__init__.py there,
`my.nets:build` is my/nets.py), or one that is installed. What it imports must be installed. Its
source is hashed into every stage key, so that changed code starts from a fresh encoder; weights
that it loads by itself should be as fixed as its source is.
"""

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from remine.data.errors import InputError
from remine.data.items.inputs import Transform, open_image, vector_transform

DTYPES = ("uint8", "int32", "int64", "float32")


@dataclass(frozen=True, kw_only=True)
class Custom:
    """What the user's function returned, and the hash of the source that it stands in."""

    module: nn.Module
    transform: Callable[[list[Any]], Any] | None
    source: str

    @property
    def parts(self) -> tuple[nn.Module, str]:
        """The module and the hash."""
        return self.module, self.source


def load_custom(name: str, base: Path, seed: int = 0) -> Custom:
    """Call `module:function` under torch's `seed`; the generator is left alone."""
    module_name, function_name = name.split(":")
    module, path = _module(name, module_name, base)
    function = getattr(module, function_name, None)
    if function is None:
        raise InputError(f"encoder.name is {name!r}, and {path} has no {function_name}")
    if not callable(function):
        raise InputError(f"encoder.name is {name!r}, and {function_name} is not a function")
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            made = function()
    except Exception as error:
        raise InputError(f"encoder.name {name!r}: the function fails: {said(error)}") from error
    network, transform = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(network, nn.Module) or not (transform is None or callable(transform)):
        raise InputError(
            f"encoder.name {name!r}: the function returns {_kinds(made)}; it must return a torch"
            " module, or (module, transform)"
        )
    return Custom(module=network, transform=transform, source=source_hash(path))


def source_hash(path: Path) -> str:
    """SHA-256 of a module's file; of a package's, of all its Python files."""
    files = sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]
    whole = hashlib.sha256()
    for file in files:
        name = file.relative_to(path.parent).as_posix()
        whole.update(name.encode() + b"\0" + file.read_bytes() + b"\0")
    return whole.hexdigest()


def _module(name: str, module_name: str, base: Path) -> tuple[ModuleType, Path]:
    """The module and its file: from the config's folder first, else an installed one."""
    stem = base.joinpath(*module_name.split("."))
    for path in (stem.with_name(f"{stem.name}.py"), stem / "__init__.py"):
        if path.is_file():
            return _from_file(name, path), path
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise InputError(
                f"encoder.name is {name!r}, and there is neither {stem}.py nor an installed module"
                f" {module_name}"
            ) from None
        raise InputError(f"encoder.name {name!r}: importing it fails: {said(error)}") from error
    except Exception as error:
        raise InputError(f"encoder.name {name!r}: importing it fails: {said(error)}") from error
    if not (file := getattr(module, "__file__", None)):
        raise InputError(f"encoder.name is {name!r}, and {module_name} has no source file")
    return module, Path(file)


def _from_file(name: str, path: Path) -> ModuleType:
    """A name of its own, after its content: a stray train.py there must not become our `train`."""
    private = f"remine_encoder_{source_hash(path)[:16]}"
    if private in sys.modules:
        return sys.modules[private]
    spec = importlib.util.spec_from_file_location(private, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[private] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[private]
        raise InputError(f"encoder.name {name!r}: importing {path} fails: {said(error)}") from error
    return module


@dataclass(frozen=True, kw_only=True)
class CustomTransform:
    """The user's transform over blocks of contents, what it returns checked."""

    name: str
    content: str
    transform: Callable[[list[Any]], Any]

    def __call__(self, contents: Sequence[Any], where: Callable[[int], str]) -> np.ndarray:
        """(rows, ...) of one of DTYPES; numbers of 64 bits become float32."""
        given = _decoded(contents, self.content, where)
        try:
            made = self.transform(given)
            block = np.asarray(made.numpy() if isinstance(made, Tensor) else made)
        except Exception as error:
            raise InputError(
                f"encoder.name {self.name!r}: its transform fails on {where(0)} and the"
                f" {len(given) - 1} after it: {said(error)}"
            ) from error
        if block.dtype == np.float64:
            block = block.astype(np.float32)
        if str(block.dtype) not in DTYPES or block.ndim < 2 or len(block) != len(given):
            raise InputError(
                f"encoder.name {self.name!r}: its transform makes {block.dtype}"
                f" {block.shape} of {len(given)} items; it must make ({len(given)}, ...) of"
                f" {', '.join(DTYPES)}"
            )
        return block


def checked_dimensions(name: str, network: nn.Module, shape: Sequence[int], dtype: str) -> int:
    """What the user's module gives for inputs of `shape`, tried out on two rows of zeros."""
    rows = torch.zeros((2, *shape), dtype=getattr(torch, dtype))
    try:
        with torch.inference_mode():
            out = network.eval()(rows)
    except Exception as error:
        raise InputError(
            f"encoder.name {name!r}: the module fails on inputs of {dtype} (2,"
            f" {', '.join(map(str, shape))}): {said(error)}"
        ) from error
    fits = isinstance(out, Tensor) and out.ndim == 2 and len(out) == 2
    if not fits or not out.is_floating_point() or out.shape[1] < 2:
        what = f"{out.dtype} {tuple(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
        raise InputError(
            f"encoder.name {name!r}: the module makes {what} of 2 items; it must make (2, d)"
            " floating-point numbers, d of 2 or more"
        )
    return int(out.shape[1])


def _decoded(contents: Sequence[Any], content: str, where: Callable[[int], str]) -> list[Any]:
    if content == "vector":
        return list(vector_transform(contents, where))
    if content == "text":
        return list(contents)
    pictures = []
    for row, one in enumerate(contents):
        try:
            pictures.append(open_image(one))
        except InputError as error:
            raise InputError(f"{where(row)}: {error}") from None
    return pictures


def as_transform(name: str, content: str, custom: Custom) -> Transform | None:
    """The user's transform as the stages call it; None where there is none."""
    if custom.transform is None:
        return None
    return CustomTransform(name=name, content=content, transform=custom.transform)


def said(error: Exception) -> str:
    """An error of the user's code in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _kinds(made: Any) -> str:
    if isinstance(made, tuple):
        return "(" + ", ".join(type(one).__name__ for one in made) + ")"
    return type(made).__name__
