"""Offline hard-negative mining that keeps up with the model.

import remine

version = remine.run("products.toml")               # a cycle: embed, index, mine, train
version = remine.open("runs/products")              # or what is served now
version.search(text="red shoe", k=5).to_pandas()    # nearest items
version.triplets(kind="hard").to_pandas()           # what was mined
version.encoder().encode(["red shoe"])              # the trained model, for new data

remine.mine(vectors, labels)                        # mining alone, on arrays
remine.compare("products.toml").verdict()           # does offline mining pay on this data?
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remine.flows.api.actions import compare, run
    from remine.flows.api.ready_encoder import ReadyEncoder
    from remine.flows.api.store_version import StoreVersion
    from remine.flows.api.store_version import open_store as open  # noqa: A004, F401
    from remine.mining.config import MiningConfig
    from remine.mining.miner import Mined, mine

__all__ = [
    "Mined",
    "MiningConfig",
    "ReadyEncoder",
    "StoreVersion",
    "compare",
    "mine",
    "run",
]
__version__ = "0.2.0"

_NAMES = {
    "open": ("remine.flows.api.store_version", "open_store"),
    "run": ("remine.flows.api.actions", "run"),
    "compare": ("remine.flows.api.actions", "compare"),
    "mine": ("remine.mining.miner", "mine"),
    "Mined": ("remine.mining.miner", "Mined"),
    "MiningConfig": ("remine.mining.config", "MiningConfig"),
    "ReadyEncoder": ("remine.flows.api.ready_encoder", "ReadyEncoder"),
    "StoreVersion": ("remine.flows.api.store_version", "StoreVersion"),
}
"""Where each public name is; loaded at its first use, so that `import remine` takes no time.

`open` is not in `__all__`: `from remine import *` must not replace the built-in function.
"""


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, member = _NAMES[name]
    return getattr(importlib.import_module(module), member)


def __dir__() -> list[str]:
    return sorted([*globals(), *_NAMES])
