"""The saves of a round that a killed run resumes from."""

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from remine.data.store.disk import sync

Parts = Mapping[str, bytes]
"""The files of a save by name."""


@dataclass(frozen=True)
class Saves:
    """Saves in a folder, each a folder of its own, named by its step and the hash of its content.

    A folder gets that name after its files are on disk, so that a kill leaves no partial save.
    """

    folder: Path

    def write(self, step: int, parts: Parts) -> None:
        """Write the save of `step`, and remove earlier ones."""
        temp = self.folder / "saving"
        temp.mkdir(parents=True, exist_ok=True)
        for leftover in temp.iterdir():  # of a run that was killed here
            leftover.unlink()
        for name, content in parts.items():
            (temp / name).write_bytes(content)
            sync(temp / name)
        earlier_saves = self._saves()
        temp.rename(self.folder / f"{step:08d}-{_hash(parts)}")
        sync(self.folder)
        for save in earlier_saves:
            shutil.rmtree(save)

    def newest(self) -> Parts:
        """The newest intact save; empty if there is none."""
        for save in reversed(self._saves()):
            parts = {path.name: path.read_bytes() for path in save.iterdir()}
            # A save whose content does not have the hash in its name is damaged: try an older one.
            if save.name.endswith(_hash(parts)):
                return parts
        return {}

    def _saves(self) -> list[Path]:
        """Oldest first."""
        return sorted(self.folder.glob("0*-*"))


def _hash(parts: Parts) -> str:
    combined_hash = hashlib.sha256()
    for name in sorted(parts):
        combined_hash.update(hashlib.sha256(parts[name]).digest())
    return combined_hash.hexdigest()
