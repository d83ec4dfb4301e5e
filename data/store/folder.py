"""A store in a folder of a local or network disk.

A file appears by temp -> fsync -> rename -> fsync of its folder: a reader sees all of it or none,
after a power cut too. A number is claimed by link(), which fails where the name is taken. An error
of rename() or link() says nothing certain (a network disk may have done it and lost the answer):
what lies there is read back and compared, and never removed.
"""

import fcntl
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from remine.data.errors import InputError, StoreBusyError, StoreError
from remine.data.store import disk
from remine.data.store.place import Entry
from remine.data.store.read_leases import held, hold
from remine.data.store.records import FileRef, file_sha256

FOLDERS = ("objects", "receipts", "versions", "views", "work", "tmp")


class Folder:
    """A place (data.store.place.Place) that is a folder."""

    def __init__(self, root: Path) -> None:
        """Nothing is touched yet."""
        self.address = self.local = root.absolute()

    def made(self) -> bool:
        """Whether a store was made here."""
        return (self.local / "FORMAT").exists()

    def make(self, marker: bytes) -> None:
        """Make an empty store; refuses where something else lies."""
        self.check()
        # Folders without FORMAT are what a kill leaves between the two steps below.
        for name in FOLDERS:
            disk.mkdir(self.local / name)
        disk.sync(self.local.parent)
        self.write("FORMAT", marker)

    def check(self) -> None:
        """Refuse a place where no store can be made."""
        root = self.local
        if root.exists() and not root.is_dir():
            raise InputError(f"{root} is a file: name an empty or a new folder")
        if root.exists() and {p.name for p in root.iterdir()} - set(FOLDERS):
            raise InputError(f"{root} holds other files: name an empty or a new folder")

    def read(self, name: str) -> bytes:
        """A file's bytes; FileNotFoundError where there is none."""
        return (self.local / name).read_bytes()

    def entries(self, folder: str) -> dict[str, Entry]:
        """The files of one folder by their names in it; none where there is no such folder."""
        found: dict[str, Entry] = {}
        with suppress(FileNotFoundError), os.scandir(self.local / folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        found[entry.name] = Entry(bytes=status.st_size, time=status.st_mtime)
        return found

    def exists(self, name: str) -> bool:
        """Whether a file lies there."""
        return (self.local / name).exists()

    def write(self, name: str, content: bytes) -> None:
        """Put a small file there, over what was there."""
        target = self.local / name
        with disk.temporary(self.local / "tmp") as temp:
            disk.write(temp, content)
            disk.sync(temp)
            try:
                disk.rename(temp, target)
            except OSError:
                if not _reads(target, content):
                    raise
            disk.sync(target.parent)

    def create(self, name: str, content: bytes) -> bytes:
        """Put a small file where none is; what lies there now: `content`, or what was first."""
        target = self.local / name
        with disk.temporary(self.local / "tmp") as temp:
            disk.write(temp, content)
            disk.sync(temp)
            try:
                disk.link(temp, target)
            except OSError:
                if not target.exists():
                    raise
            there = target.read_bytes()
            disk.sync(target.parent)
        return there

    def keep(self, temp: Path, ref: FileRef) -> None:
        """Move the finished file `temp` to where `ref` says, over what was there."""
        disk.chmod(temp, 0o444)
        disk.sync(temp)
        # Replacing an object changes nothing but its inode, and mends a damaged one.
        target = self.local / ref.object
        try:
            disk.rename(temp, target)
        except OSError:
            if not (target.is_file() and file_sha256(target) == ref.sha256):
                raise
        disk.sync(target.parent)

    def fetch(self, ref: FileRef) -> Path:
        """Where the file lies; StoreError where it is missing."""
        path = self.local / ref.object
        try:
            status = path.lstat()
        except FileNotFoundError:
            raise StoreError(f"{path} ({ref.name}) is missing") from None
        if not stat.S_ISREG(status.st_mode):
            # What a link names may change behind the hash; a pipe would never end.
            raise StoreError(f"{path} ({ref.name}) is corrupt: it is no plain file")
        return path

    def touch(self, name: str) -> None:
        """Note that a file was used, where this process may."""
        with suppress(OSError):
            os.utime(self.local / name)

    def move(self, name: str, target: str) -> None:
        """Rename a small file; both names may be there if it is cut short, never neither."""
        disk.mkdir((self.local / target).parent)
        with suppress(FileExistsError):
            disk.link(self.local / name, self.local / target)
        disk.sync((self.local / target).parent)
        self.remove(name)

    def sha256(self, ref: FileRef) -> str:
        """The hash of what lies there now; FileNotFoundError where nothing does."""
        path = self.local / ref.object
        return file_sha256(path) if stat.S_ISREG(path.lstat().st_mode) else "no plain file"

    def remove(self, *names: str) -> None:
        """Remove files; they may be gone."""
        for name in names:
            disk.unlink(self.local / name)
        for folder in {(self.local / name).parent for name in names}:
            disk.sync(folder)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for writing; refuses at once when another process holds it."""
        with (self.local / "lock").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip()
                raise StoreBusyError(
                    f"{self.address} is in use by {holder}: one cycle at a time"
                ) from None
            with suppress(OSError):  # on a full disk it stays empty: `remine gc` must get in
                file.truncate(0)
                os.write(file.fileno(), f"process {os.getpid()}\n".encode())
            clear(self.local / "tmp")
            yield
            file.truncate(0)

    def holder(self) -> str | None:
        """Who holds the folder for writing, as Linux tells it; the lock is not touched."""
        path = self.local / "lock"
        try:
            inode, said = str(path.stat().st_ino), path.read_text(errors="replace").strip()
            locks = Path("/proc/locks").read_text()
        except OSError:
            return None
        # The sixth word is the device and the inode of what is locked; an arrow marks who waits.
        held = (line.split() for line in locks.splitlines() if " FLOCK " in line)
        if any(part[5].rsplit(":", 1)[-1] == inode for part in held if "->" not in part):
            return said or "another process"
        return None

    def check_lock(self) -> None:
        """Nothing takes flock away from a living process."""

    def hold(self, number: int) -> Callable[[], None]:
        """Tell that version `number` is being read; until the function is called, or a kill."""
        return hold(self.local / "readers", number)

    def held(self) -> set[int]:
        """The versions that are being read by a process that lives."""
        return held(self.local / "readers")


def clear(folder: Path) -> None:
    """Remove all that lies in a folder; links are removed, not followed."""
    for left in folder.iterdir():
        shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()


def _reads(path: Path, content: bytes) -> bool:
    with suppress(OSError):
        return path.read_bytes() == content
    return False
