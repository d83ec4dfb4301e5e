"""A version as a tree of links with plain names, for people, pandas and DuckDB.

    latest -> views/00000004
    served -> views/00000003     the version that the latest chooses to serve
    views/00000004/triplets/round=0/part-00000.parquet -> ../../../../objects/<sha256>.parquet

Views exist only on this machine, even for a store in a bucket. They can be made again from the
version at any time. Our own code reads a file of a view only through `verified_path`.
"""

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from remine.data.errors import InputError, StoreError
from remine.data.store.pins import chosen_version
from remine.data.store.records import Artifact, FileRef, Version, file_sha256
from remine.data.store.store import Store


def page_of(store: Store, version: Version) -> Path:
    """Path of the report page of `version`, whether or not it has been written."""
    return store.root / "views" / f"{version.number:08d}" / "report.html"


def lacks_page(store: Store, version: Version) -> bool:
    """Whether the page of `version` should be on this machine and is not.

    Pages of a remote store are on the machine that ran the cycle, which may be another one.
    """
    return not store.remote and not page_of(store, version).exists()


def check_latest(store: Store) -> None:
    """Check that `latest` and `served` can be replaced.

    Raises:
        InputError: One is a folder, as in a store that was copied by following its links.
    """
    folders = [store.root / name for name in ("latest", "served")]
    folders = [path for path in folders if path.is_dir() and not path.is_symlink()]
    if folders:
        listing = ", ".join(map(str, [*folders, store.root / "views"]))
        raise InputError(
            f"{folders[0]} is a folder and not a link: the store was copied by following links;"
            f" remove {listing}, which are made again"
        )


def lay_out(store: Store, version: Version) -> Path:
    """Make the view of `version`, and link `latest` to it and `served` to the one that it chooses.

    Returns:
        The folder of the view of `version`.
    """
    _link(store, view(store, chosen_version(store, version)), "served")
    return _link(store, view(store, version), "latest")


def view(store: Store, version: Version) -> Path:
    """The folder of the view of `version`, which is made if it does not exist."""
    files = [(Path(name), file) for name, part in version.artifacts.items() for file in part.files]
    return _make_view(store, f"{version.number:08d}", files)


def lay_out_artifact(store: Store, artifact: Artifact) -> Path:
    """Make a view of one artifact, named by its kind and digest, and link `latest` to it."""
    files = [(Path(), file) for file in artifact.files]
    folder = _make_view(store, f"{artifact.kind}-{artifact.digest[:12]}", files)
    return _link(store, folder, "latest")


def verified_path(path: Path) -> Path:
    """`path`, a file of a view, after its bytes were compared with the hash that it links to."""
    if path.is_symlink():
        target = path.readlink()
        if not path.is_file() or file_sha256(path) != target.stem:
            raise StoreError(f"{path} is corrupt: its bytes do not match its hash")
    return path


def _make_view(store: Store, name: str, files: Sequence[tuple[Path, FileRef]]) -> Path:
    folder = store.root / "views" / name
    if not folder.exists():
        building = store.root / "tmp" / secrets.token_hex(8)
        building.mkdir()
        for subfolder, file in files:
            link = building / subfolder / file.name
            link.parent.mkdir(parents=True, exist_ok=True)
            # tmp/x is as deep below the root as views/x, so the relative target stays right.
            link.symlink_to(os.path.relpath(store.root / file.object, link.parent))
        folder.parent.mkdir(exist_ok=True)
        building.rename(folder)
    return folder


def _link(store: Store, folder: Path, name: str) -> Path:
    # A link cannot be overwritten in place, but renaming a new one over it is atomic.
    link = store.root / "tmp" / secrets.token_hex(8)
    link.symlink_to(folder.relative_to(store.root))
    link.replace(store.root / name)
    return folder
