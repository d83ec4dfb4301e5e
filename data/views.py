"""A version as a tree of links under plain names, for people, pandas and DuckDB.

    latest -> views/00000004
    views/00000004/triplets/round=0/part-00000.parquet -> ../../../../objects/<sha256>.parquet

Links only: nothing of ours reads them, and they can be made again from the version at any time.
"""

import os
import secrets
from pathlib import Path

from data.store import Store, Version


def lay_out(store: Store, version: Version) -> Path:
    """Make the view of `version` and point `latest` at it; returns its folder."""
    folder = view(store, version)
    link = store.root / "tmp" / secrets.token_hex(8)
    link.symlink_to(folder.relative_to(store.root))
    link.replace(store.root / "latest")
    return folder


def view(store: Store, version: Version) -> Path:
    """The folder of `version`'s view, made if it is not there."""
    folder = store.root / "views" / f"{version.number:08d}"
    if not folder.exists():
        building = store.root / "tmp" / secrets.token_hex(8)
        building.mkdir()
        for name, artifact in version.artifacts.items():
            for file in artifact.files:
                link = building / name / file.name
                link.parent.mkdir(parents=True, exist_ok=True)
                # As deep below the root in tmp/x as it will be in views/x.
                link.symlink_to(os.path.relpath(store.root / file.object, link.parent))
        building.rename(folder)
    return folder
