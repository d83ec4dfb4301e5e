"""Encoders from a function of the user: `encoder.name = "module:function"`.

The function takes no arguments and returns a torch module, or (module, transform):

    def build():
        network = torch.nn.Sequential(...)
        return network, transform

    def transform(contents):
        return numpy.stack([...])

- The transform turns a list of contents into one array (rows, ...) of uint8, int32, int64 or
  float32, with the same shape for every row, or into a dict of such arrays. Contents are texts,
  decoded pictures (`PIL.Image`, upright, eight bits per channel) or (d,) float32 vectors. Without
  a transform the module gets the inputs of remine's built-in encoders: pictures as uint8
  (channels, height, width) of data.image_size, hashed grams of texts, vectors.
- The module turns a tensor of such rows, (m, ...), or a dict of them, into (m, d) features of any
  length; remine normalises them. Outside training it is set to `eval()`.
- The function is called with torch's generator seeded by the run's seed, which determines random
  weights. A frozen network is created with seed 0 every time and must get the same weights.

The module is a file in the config's folder (`nets:build` is nets.py or nets/__init__.py there,
`my.nets:build` is my/nets.py) or an installed module. Its imports must be installed. Its source is
hashed into every stage key, so that changed code starts from a fresh encoder. Weights that it loads
by itself are not hashed and must not change.
"""

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from remine.data.errors import InputError
from remine.data.items.inputs import Omissions, Transform, vector_transform
from remine.data.items.pictures import decode_image
from remine.data.items.tensors import as_records, blank

DTYPES = ("uint8", "int32", "int64", "float32")


@dataclass(frozen=True, kw_only=True)
class CustomNetwork:
    """The return value of the user's function, and the hash of its source."""

    module: nn.Module
    transform: Callable[[list[Any]], Any] | None
    source: str

    @property
    def parts(self) -> tuple[nn.Module, str]:
        """The module and the hash of its source."""
        return self.module, self.source


def load_custom(name: str, base: Path, seed: int = 0) -> CustomNetwork:
    """Call the user's function.

    Args:
        name: "module:function".
        base: folder in which the module is looked up first.
        seed: of torch's generator during the call; its state is restored after it.

    Raises:
        InputError: there is no such function, it fails, or it returns something else.

    """
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
            result = function()
    except Exception as error:
        raise InputError(
            f"encoder.name {name!r}: the function fails: {error_line(error)}"
        ) from error
    is_pair = isinstance(result, tuple) and len(result) == 2
    network, transform = result if is_pair else (result, None)
    if not isinstance(network, nn.Module) or not (transform is None or callable(transform)):
        raise InputError(
            f"encoder.name {name!r}: the function returns {_type_names(result)}; it must return a"
            " torch module, or (module, transform)"
        )
    return CustomNetwork(module=network, transform=transform, source=source_hash(path))


def source_hash(path: Path) -> str:
    """SHA-256 of a module's file, or of all Python files of a package with their names."""
    files = sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]
    combined_hash = hashlib.sha256()
    for file in files:
        name = file.relative_to(path.parent).as_posix()
        combined_hash.update(name.encode() + b"\0" + file.read_bytes() + b"\0")
    return combined_hash.hexdigest()


def _module(name: str, module_name: str, base: Path) -> tuple[ModuleType, Path]:
    """The module and its file: from the config's folder, else an installed one."""
    stem = base.joinpath(*module_name.split("."))
    for path in (stem.with_name(f"{stem.name}.py"), stem / "__init__.py"):
        if path.is_file():
            return _from_file(name, path), path
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # Otherwise the module exists and one of its own imports is missing.
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise InputError(
                f"encoder.name is {name!r}, and there is neither {stem}.py nor an installed module"
                f" {module_name}"
            ) from None
        raise InputError(
            f"encoder.name {name!r}: importing it fails: {error_line(error)}"
        ) from error
    except Exception as error:
        raise InputError(
            f"encoder.name {name!r}: importing it fails: {error_line(error)}"
        ) from error
    if not (file := getattr(module, "__file__", None)):
        raise InputError(f"encoder.name is {name!r}, and {module_name} has no source file")
    return module, Path(file)


def _from_file(name: str, path: Path) -> ModuleType:
    """Import a file under a private name derived from its content.

    So it cannot be confused with an installed module of the same name, or with an earlier version.
    """
    module_name = f"remine_encoder_{source_hash(path)[:16]}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Registered before it is executed, as the import system does: dataclasses look it up.
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[module_name]
        raise InputError(
            f"encoder.name {name!r}: importing {path} fails: {error_line(error)}"
        ) from error
    return module


@dataclass(frozen=True, kw_only=True)
class CustomTransform:
    """The user's transform of blocks of contents, with a check of its result."""

    name: str
    content: str
    transform: Callable[[list[Any]], Any]
    omissions: Omissions = field(default_factory=Omissions)

    def __call__(self, contents: Sequence[Any], location: Callable[[int], str]) -> np.ndarray:
        """Transform a block of contents.

        Args:
            contents: as stored: encoded pictures, texts or vectors.
            location: from the number of an item to the file and row for an error message.

        Returns:
            (rows, ...) of one of DTYPES, or (rows,) records of such arrays by name; float64 is cast
            to float32.

        Raises:
            InputError: the transform fails, or returns another dtype or number of rows.

        """
        items, notes = _decode(contents, self.content, location)
        self.omissions.add(len(items), notes)
        try:
            result = self.transform(items)
            arrays = {k: _array(v) for k, v in _by_name(result).items()}
        except Exception as error:
            raise InputError(
                f"encoder.name {self.name!r}: its transform fails on {location(0)} and the"
                f" {len(items) - 1} after it: {error_line(error)}"
            ) from error
        for name, block in arrays.items():
            if str(block.dtype) not in DTYPES or block.ndim < 2 or len(block) != len(items):
                part = f" as {name!r}" if name else ""
                raise InputError(
                    f"encoder.name {self.name!r}: its transform makes {block.dtype}"
                    f" {block.shape}{part} of {len(items)} items; it must make ({len(items)}, ...)"
                    f" of {', '.join(DTYPES)}"
                )
        return as_records(arrays) if "" not in arrays else arrays[""]


def _by_name(result: Any) -> dict[str, Any]:
    """The arrays of a transform; the name of a single one is empty."""
    if not isinstance(result, Mapping):
        return {"": result}
    if not result or not all(isinstance(k, str) and k.isidentifier() for k in result):
        raise ValueError(f"a dict of arrays needs names that are identifiers, got {list(result)}")
    return dict(result)


def _array(value: Any) -> np.ndarray:
    array = np.asarray(value.numpy() if isinstance(value, Tensor) else value)
    return array.astype(np.float32) if array.dtype == np.float64 else array


def output_dimensions(name: str, network: nn.Module, shape: Sequence[int], dtype: str) -> int:
    """Number of dimensions that the user's module returns, from a test on two rows of zeros.

    Args:
        name: of the encoder, for error messages.
        network: the user's module; set to `eval()`.
        shape: of one input.
        dtype: of the inputs, as a card has it.

    Raises:
        InputError: the module fails, or its result is not (2, d) floating-point numbers.

    """
    rows = blank(2, shape, dtype)
    try:
        with torch.inference_mode():
            out = network.eval()(rows)
    except Exception as error:
        raise InputError(
            f"encoder.name {name!r}: the module fails on inputs of {dtype} (2,"
            f" {', '.join(map(str, shape))}): {error_line(error)}"
        ) from error
    fits = isinstance(out, Tensor) and out.ndim == 2 and len(out) == 2
    if not fits or not out.is_floating_point() or out.shape[1] < 2:
        is_tensor = isinstance(out, Tensor)
        description = f"{out.dtype} {tuple(out.shape)}" if is_tensor else type(out).__name__
        raise InputError(
            f"encoder.name {name!r}: the module makes {description} of 2 items; it must make (2, d)"
            " floating-point numbers, d of 2 or more"
        )
    return int(out.shape[1])


def _decode(
    contents: Sequence[Any], content: str, location: Callable[[int], str]
) -> tuple[list[Any], list[str]]:
    """Texts, pictures or vectors as the user's transform gets them, and what was not read."""
    if content == "vector":
        return list(vector_transform(contents, location)), []
    if content == "text":
        return list(contents), []
    pictures, omissions = [], []
    for row, encoded_picture in enumerate(contents):
        try:
            picture, notes = decode_image(encoded_picture)
        except InputError as error:
            raise InputError(f"{location(row)}: {error}") from None
        pictures.append(picture)
        omissions += notes
    return pictures, omissions


def as_transform(name: str, content: str, custom: CustomNetwork) -> Transform | None:
    """The user's transform as the stages call it; None if there is none."""
    if custom.transform is None:
        return None
    return CustomTransform(name=name, content=content, transform=custom.transform)


def error_line(error: Exception) -> str:
    """Describe an error of the user's code in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _type_names(result: Any) -> str:
    if isinstance(result, tuple):
        return "(" + ", ".join(type(part).__name__ for part in result) + ")"
    return type(result).__name__
