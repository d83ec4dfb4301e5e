"""The files of a model: a folder, or a name on the Hugging Face hub; and the hash of them."""

import hashlib
import importlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from remine.data.errors import InputError
from remine.train.encoders.weights_packages import package_folder

WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".model")
"""Endings of weights and of some tokenizers; other endings that count are in `TEXTS`."""
TEXTS = (".json", ".txt", ".jinja")
IGNORED = ("onnx", "openvino", "coreml", "gguf", ".git", ".cache")
"""Folders of a model that hold its weights again, for other programs."""
HUB_SECONDS = 10.0
"""Patience with the hub's first answer."""


def model_folder(name: str, base: Path) -> Path:
    """The folder of the model of an encoder's name.

    A name on the hub is looked up in the local cache when there is no network.

    Args:
        name: "minilm", st:PATH or hf:PATH.
        base: The folder at which relative paths start.

    Raises:
        InputError: There is no such folder, and no such model on the hub or no network.

    """
    if name == "minilm":
        return package_folder(name)
    model = name.partition(":")[2]
    path = base / Path(model).expanduser()
    if path.is_dir():
        return path
    if not is_hub_name(model):
        raise InputError(f"encoder.name is {name!r}, and {path} is not a folder")
    return _downloaded(name, model)


def is_hub_name(model: str) -> bool:
    """Whether a name may be one on the hub: NAME or OWNER/NAME, perhaps with @REVISION."""
    parts = model.partition("@")[0].split("/")
    return len(parts) <= 2 and all(p and p.strip(".~") == p for p in parts) and "\\" not in model


def _downloaded(name: str, model: str) -> Path:
    hub: Any = imported("huggingface_hub", name, "huggingface_hub")
    repository, _, revision = model.partition("@")
    if name.startswith("st:") and "/" not in repository:
        repository = f"sentence-transformers/{repository}"
    options: dict[str, Any] = {
        "revision": revision or None,
        "ignore_patterns": [*(f"{folder}/*" for folder in IGNORED), "*.msgpack", "*.h5", "*.ot"],
        "etag_timeout": HUB_SECONDS,
    }
    try:
        if os.environ.get("HF_HUB_OFFLINE", "0").upper() not in ("1", "TRUE", "YES", "ON"):
            return Path(hub.snapshot_download(repository, **options))
    except Exception as error:  # noqa: BLE001 - whatever a network can do
        reason = _reason(error)
    else:
        reason = "HF_HUB_OFFLINE is set"
    try:
        return Path(hub.snapshot_download(repository, local_files_only=True, **options))
    except Exception:  # noqa: BLE001
        raise InputError(
            f"encoder.name is {name!r}, no folder, and from the hub it cannot be had ({reason}):"
            " give the path of a folder, or run it once where there is a network"
        ) from None


def _reason(error: Exception) -> str:
    """Why the hub did not answer, from the first error of the chain."""
    first: BaseException = error
    while first.__cause__ or first.__context__:
        first = first.__cause__ or first.__context__ or first
    lines = str(first).strip().splitlines()
    return f"{type(first).__name__}: {lines[0][:120]}" if lines else type(first).__name__


def files_hash(folder: Path) -> str:
    """SHA-256 over names and contents of the files that decide what a model computes."""
    files = [
        (path.relative_to(folder).as_posix(), path.stat())
        for path in sorted(folder.rglob("*"))
        if _counts(path, folder)
    ]
    identity = tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in files)
    return _files_hash(folder, identity)


@lru_cache(maxsize=32)
def _files_hash(folder: Path, identity: tuple[tuple[str, int, int], ...]) -> str:
    """The hash; read once as long as sizes and times are the same."""
    total = hashlib.sha256()
    for name, _, _ in identity:
        with (folder / name).open("rb") as file:
            total.update(f"{name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\0".encode())
    return total.hexdigest()


def _counts(path: Path, folder: Path) -> bool:
    parts = path.relative_to(folder).parts
    if any(part in IGNORED for part in parts[:-1]) or not path.is_file():
        return False
    if path.suffix == ".bin" and path.with_name("model.safetensors").exists():
        return False  # the same weights in torch's format, which is not read then
    return path.suffix in (*WEIGHTS, *TEXTS)


def imported(module: str, name: str, install: str) -> ModuleType:
    """Import a library that an encoder needs; its warnings at import are not ours to answer.

    Args:
        module: Its name in Python.
        name: The encoder's, for the message.
        install: Arguments for `pip install`.

    Raises:
        InputError: It is not installed, or importing it fails.

    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and module.startswith(error.name):
            raise InputError(
                f"encoder.name is {name!r}, and {module.partition('.')[0]} is not installed:"
                f" pip install {install}"
            ) from None
        raise InputError(
            f"encoder.name is {name!r}, and importing {module} fails: {error}"
        ) from None


@contextmanager
def one_line_errors(name: str, part: str = "which") -> Iterator[None]:
    """Errors of a library that loads a model as one line, and none of its warnings.

    Args:
        name: The encoder's name.
        part: What does not load.

    Raises:
        InputError: Anything went wrong inside.

    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a library raises
        lines = [line for line in str(error).strip().splitlines() if line.strip()]
        reason = f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
        raise InputError(f"encoder.name is {name!r}, {part} does not load: {reason}") from None


def quiet_transformers(name: str) -> Any:
    """The library transformers, without its progress bars and hints."""
    transformers: Any = imported("transformers", name, "transformers")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers
