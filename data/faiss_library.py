"""FAISS, imported after torch. Import it from here: `from remine.data.faiss_library import faiss`.

Each of the two brings an OpenMP runtime. Imported in the other order, the process can crash in it.
This module costs the import of torch (more than a second): commands that must answer at once import
it inside functions.
"""

import torch  # noqa: F401  # isort: skip
import faiss  # noqa: TID251

__all__ = ["faiss"]
