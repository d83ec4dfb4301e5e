"""A version as a tree of links under plain names, for people, pandas and DuckDB.

    latest -> views/00000004
    views/00000004/triplets/round=0/part-00000.parquet -> ../../../../objects/<sha256>.parquet

Links only, and only on this machine, also where the store is elsewhere. What of ours reads them
checks them (`checked`), and they can be made again from the version at any time.
"""

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from remine.data.errors import StoreError
from remine.data.store.records import Artifact, FileRef, Version, file_sha256
from remine.data.store.store import Store


def page_of(store: Store, version: Version) -> Path:
    """Path of the report page of `version`, whether or not it has been written."""
    return store.root / "views" / f"{version.number:08d}" / "report.html"


def lay_out(store: Store, version: Version) -> Path:
    """Make the view of `version` and point `latest` at it; returns its folder."""
    return _latest(store, view(store, version))


def view(store: Store, version: Version) -> Path:
    """The folder of `version`'s view, made if it is not there."""
    files = [(Path(name), file) for name, part in version.artifacts.items() for file in part.files]
    return _folder(store, f"{version.number:08d}", files)


def lay_out_artifact(store: Store, artifact: Artifact) -> Path:
    """A view of one artifact alone, named by its kind and digest, and `latest` pointing at it."""
    files = [(Path(), file) for file in artifact.files]
    return _latest(store, _folder(store, f"{artifact.kind}-{artifact.digest[:12]}", files))


def checked(path: Path) -> Path:
    """`path`, a file of a view, after its bytes were checked against the hash that it links to."""
    if path.is_symlink():
        target = path.readlink()
        if not path.is_file() or file_sha256(path) != target.stem:
            raise StoreError(f"{path} is corrupt: its bytes do not match its hash")
    return path


def _folder(store: Store, name: str, files: Sequence[tuple[Path, FileRef]]) -> Path:
    folder = store.root / "views" / name
    if not folder.exists():
        building = store.root / "tmp" / secrets.token_hex(8)
        building.mkdir()
        for below, file in files:
            link = building / below / file.name
            link.parent.mkdir(parents=True, exist_ok=True)
            # As deep below the root in tmp/x as it will be in views/x.
            link.symlink_to(os.path.relpath(store.root / file.object, link.parent))
        building.rename(folder)
    return folder


def _latest(store: Store, folder: Path) -> Path:
    link = store.root / "tmp" / secrets.token_hex(8)
    link.symlink_to(folder.relative_to(store.root))
    link.replace(store.root / "latest")
    return folder
