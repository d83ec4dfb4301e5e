"""A store in a folder of a local or network disk.

A file is written by temp -> fsync -> rename -> fsync of its folder, so that a reader sees all of it
or nothing, even after a power cut. A version number is claimed by link(), which fails if the name
exists. An error from rename() or link() is inconclusive, because a network disk may have carried
out the call and lost the answer. The file is then read back and compared, and never removed.
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
from remine.data.store.read_leases import register_reader, versions_in_use
from remine.data.store.records import FileRef, file_sha256

FOLDERS = ("objects", "receipts", "versions", "views", "work", "tmp")


class Folder:
    """A place in a folder; implements `remine.data.store.place.Place`."""

    def __init__(self, root: Path) -> None:
        """Nothing is read or written yet."""
        self.address = self.local = root.absolute()

    def has_store(self) -> bool:
        """Whether there is a store."""
        return (self.local / "FORMAT").exists()

    def make(self, marker: bytes) -> None:
        """Make an empty store; InputError if the folder holds other files."""
        self.check()
        # FORMAT comes last: folders without it are what a kill between the two steps leaves.
        for name in FOLDERS:
            disk.mkdir(self.local / name)
        disk.sync(self.local.parent)
        self.write("FORMAT", marker)

    def check(self) -> None:
        """Raise InputError if the path is a file or a folder with other files."""
        root = self.local
        if root.exists() and not root.is_dir():
            raise InputError(f"{root} is a file: name an empty or a new folder")
        if root.exists() and {p.name for p in root.iterdir()} - set(FOLDERS):
            raise InputError(f"{root} holds other files: name an empty or a new folder")

    def read(self, name: str) -> bytes:
        """The bytes of a file; FileNotFoundError if it does not exist."""
        return (self.local / name).read_bytes()

    def entries(self, folder: str) -> dict[str, Entry]:
        """The files of a folder by their names in it; empty if the folder does not exist."""
        files: dict[str, Entry] = {}
        with suppress(FileNotFoundError), os.scandir(self.local / folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        files[entry.name] = Entry(bytes=status.st_size, time=status.st_mtime)
        return files

    def exists(self, name: str) -> bool:
        """Whether the file exists."""
        return (self.local / name).exists()

    def write(self, name: str, content: bytes) -> None:
        """Write a small file, replacing any earlier one."""
        target = self.local / name
        with self._temporary(content) as temp:
            try:
                disk.rename(temp, target)
            except OSError:
                if not _has_content(target, content):
                    raise
            disk.sync(target.parent)

    def create(self, name: str, content: bytes) -> bytes:
        """Write a small file unless it exists; returns the content of the file afterwards."""
        target = self.local / name
        with self._temporary(content) as temp:
            try:
                disk.link(temp, target)
            except OSError:
                # The name exists, or an NFS server made the link and lost the answer.
                if not target.exists():
                    raise
            content_now = target.read_bytes()
            disk.sync(target.parent)
        return content_now

    def add_object(self, temp: Path, ref: FileRef) -> None:
        """Move the finished file `temp` to the path of `ref`, replacing any earlier one."""
        disk.chmod(temp, 0o444)
        disk.sync(temp)
        # The path is the hash, so replacing an object changes only its inode, or repairs it.
        target = self.local / ref.object
        try:
            disk.rename(temp, target)
        except OSError:
            if not (target.is_file() and file_sha256(target) == ref.sha256):
                raise
        disk.sync(target.parent)

    def fetch(self, ref: FileRef) -> Path:
        """The path of the file; StoreError if it is missing or is not a regular file."""
        path = self.local / ref.object
        try:
            status = path.lstat()
        except FileNotFoundError:
            raise StoreError(f"{path} ({ref.name}) is missing") from None
        if not stat.S_ISREG(status.st_mode):
            # The target of a link may change after it was hashed; reading a pipe would never end.
            raise StoreError(f"{path} ({ref.name}) is corrupt: it is not a regular file")
        return path

    def touch(self, name: str) -> None:
        """Set the time of last use to now, if this process has permission."""
        with suppress(OSError):
            os.utime(self.local / name)

    def move(self, name: str, target: str) -> None:
        """Rename a small file. If interrupted, both names may exist, but never neither."""
        disk.mkdir((self.local / target).parent)
        with suppress(FileExistsError):
            disk.link(self.local / name, self.local / target)
        disk.sync((self.local / target).parent)
        self.remove(name)

    def sha256(self, ref: FileRef) -> str:
        """The hash of the bytes stored now; FileNotFoundError if the file does not exist."""
        path = self.local / ref.object
        return file_sha256(path) if stat.S_ISREG(path.lstat().st_mode) else "not a regular file"

    def remove(self, *names: str) -> None:
        """Remove files; they need not exist."""
        for name in names:
            disk.unlink(self.local / name)
        # One fsync per folder, however many files were removed from it.
        for folder in {(self.local / name).parent for name in names}:
            disk.sync(folder)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the write lock; StoreBusyError at once if another process holds it."""
        with (self.local / "lock").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip()
                raise StoreBusyError(
                    f"{self.address} is in use by {holder}: one cycle at a time"
                ) from None
            with suppress(OSError):  # on a full disk: `remine gc` must still get the lock
                file.truncate(0)
                os.write(file.fileno(), f"process {os.getpid()}\n".encode())
            clear(self.local / "tmp")
            yield
            file.truncate(0)

    def release_lock(self) -> None:
        """Nothing: the system gives back the lock of a process that ends."""

    def lock_holder(self) -> str | None:
        """The process that holds the write lock, or None; does not take the lock."""
        path = self.local / "lock"
        try:
            inode, name = str(path.stat().st_ino), path.read_text(errors="replace").strip()
            locks = Path("/proc/locks").read_text()
        except OSError:
            return None
        # The sixth word is the device and inode of the locked file; "->" marks a waiting process.
        flocks = (line.split() for line in locks.splitlines() if " FLOCK " in line)
        if any(words[5].rsplit(":", 1)[-1] == inode for words in flocks if "->" not in words):
            return name or "another process"
        return None

    def check_lock(self) -> None:
        """Do nothing: a living process cannot lose a flock."""

    def register_reader(self, number: int) -> Callable[[], None]:
        """Register this process as a reader of a version; returns a function that ends it."""
        return register_reader(self.local / "readers", number)

    def versions_in_use(self) -> set[int]:
        """The versions with a registered reader that is alive."""
        return versions_in_use(self.local / "readers")

    @contextmanager
    def _temporary(self, content: bytes) -> Iterator[Path]:
        """A temporary file with `content`, synced to the disk; removed if it is still there."""
        with disk.temporary(self.local / "tmp") as temp:
            disk.write(temp, content)
            disk.sync(temp)
            yield temp


def clear(folder: Path) -> None:
    """Empty a folder; links are removed, not followed."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _has_content(path: Path, content: bytes) -> bool:
    with suppress(OSError):
        return path.read_bytes() == content
    return False
