"""A store in an S3-compatible object store, without any rename.

An object is there whole or not at all, and a put that returned is safe, so what a folder needs
temp -> fsync -> rename for is one put. A number is claimed by If-None-Match: *, the lock by
If-Match (data.store.lease). Puts may end without an answer: then what lies there is read back and
compared, and never removed. Files are read through a folder of this machine, where each arrives
under its hash after it was checked, because FAISS, memory maps and Parquet want files.
"""

import base64
import functools
import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from remine.data.errors import InputError, StoreError, UnansweredError
from remine.data.store import disk
from remine.data.store.folder import FOLDERS, clear
from remine.data.store.lease import Lease, ReaderLease, holder, living
from remine.data.store.place import Entry
from remine.data.store.records import FileRef, file_sha256

TRIES = 4
BLOCK = 1 << 20
ONE_PUT = 1 << 30
"""Bytes up to which a file is one request, whose hash the server checks; longer ones are parts."""
CACHE_BYTES = 50_000_000_000
USED = 3_600.0
"""Seconds since its last use that a cached file is never removed: somebody may be opening it."""


class TakenError(Exception):
    """A conditional put found something else there."""


class Bucket:
    """A place (data.store.place.Place) that is a prefix of a bucket."""

    def __init__(self, url: str) -> None:
        """Connects when it is first asked."""
        parts = urlsplit(url)
        self.bucket, self.prefix = parts.netloc, parts.path.strip("/")
        if not self.bucket or not self.prefix or parts.query or parts.fragment:
            raise InputError(f"{url}: name a bucket and a prefix, s3://bucket/prefix")
        self.address = f"s3://{self.bucket}/{self.prefix}"
        self._there: set[str] = set()
        self._lease: Lease | None = None

    @functools.cached_property
    def local(self) -> Path:
        """The folder on this machine, made at its first use."""
        folder = cache_folder() / hashlib.sha256(self.address.encode()).hexdigest()[:16]
        for name in FOLDERS:
            disk.mkdir(folder / name)
        disk.write(folder / "ADDRESS", f"{self.address}\n".encode())
        return folder

    def made(self) -> bool:
        """Whether a store was made here."""
        return self.exists("FORMAT")

    def check(self) -> None:
        """Refuse a prefix where no store can be made."""
        with self._asking():
            found = self._client.list_objects_v2(
                Bucket=self.bucket, Prefix=f"{self.prefix}/", MaxKeys=1
            )
        if found.get("KeyCount"):
            raise InputError(f"{self.address} holds other objects: name a prefix of its own")

    def make(self, marker: bytes) -> None:
        """Make an empty store; refuses a server that does not keep to conditions."""
        self.put("probe", marker)
        for condition in ({"IfNoneMatch": "*"}, {"IfMatch": '"0"'}):
            with suppress(TakenError):
                self.put("probe", marker, **condition)
                raise InputError(
                    f"{self.address}: this server ignores {next(iter(condition))} on puts, so two"
                    " runs could overwrite each other: take another"
                )
        self.remove("probe")
        self.create("FORMAT", marker)

    def read(self, name: str) -> bytes:
        """An object's bytes; FileNotFoundError where there is none."""
        return self.get(name)[0]

    def get(self, name: str) -> tuple[bytes, str]:
        """An object's bytes and its ETag, which another content would not have."""
        with self._asking(name):
            found = self._client.get_object(Bucket=self.bucket, Key=self._key(name))
            return found["Body"].read(), found["ETag"]

    def entries(self, folder: str) -> dict[str, Entry]:
        """The objects of one folder by their names in it."""
        start = self._key(f"{folder}/")
        found: dict[str, Entry] = {}
        with self._asking():
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.bucket, Prefix=start, Delimiter="/"):
                for one in page.get("Contents", ()):
                    entry = Entry(bytes=one["Size"], time=one["LastModified"].timestamp())
                    found[one["Key"].removeprefix(start)] = entry
        return found

    def exists(self, name: str) -> bool:
        """Whether an object lies there."""
        with suppress(FileNotFoundError), self._asking(name):
            self._client.head_object(Bucket=self.bucket, Key=self._key(name))
            return True
        return False

    def write(self, name: str, content: bytes) -> None:
        """Put a small object there, over what was there."""
        for _ in self._attempts(name):
            with suppress(UnansweredError, TakenError):
                self.put(name, content)
                return
            with suppress(FileNotFoundError):
                if self.read(name) == content:
                    return

    def create(self, name: str, content: bytes) -> bytes:
        """Put a small object where none is; what lies there now: `content`, or what was first."""
        for _ in self._attempts(name):
            with suppress(UnansweredError, TakenError):
                self.put(name, content, IfNoneMatch="*")
                return content
            with suppress(FileNotFoundError):
                return self.read(name)  # ours, if only the answer was lost
        raise AssertionError

    def put(self, name: str, content: bytes, **condition: str) -> str:
        """One put; its ETag. TakenError where the condition fails, UnansweredError: unknown."""
        with self._asking(name):
            key = self._key(name)
            put = self._client.put_object
            found = put(Bucket=self.bucket, Key=key, Body=content, **condition)
        return str(found["ETag"])

    def keep(self, temp: Path, ref: FileRef) -> None:
        """Upload the finished file `temp` to where `ref` says; it stays on this machine too."""
        disk.chmod(temp, 0o444)
        key = self._key(ref.object)
        for _ in self._attempts(ref.object):
            # Doing it again changes nothing: the key says what the bytes are.
            with suppress(UnansweredError), self._asking(ref.object), temp.open("rb") as file:
                if ref.bytes > ONE_PUT:
                    self._client.upload_file(str(temp), self.bucket, key)
                else:
                    sha256 = base64.b64encode(bytes.fromhex(ref.sha256)).decode()
                    self._client.put_object(
                        Bucket=self.bucket, Key=key, Body=file, ChecksumSHA256=sha256
                    )
                break
        self._there.add(ref.object)
        disk.rename(temp, self.local / ref.object)

    def fetch(self, ref: FileRef) -> Path:
        """Where the file can be read on this machine; StoreError where it is missing."""
        path = self.local / ref.object
        try:
            first = ref.object not in self._there
            if first:
                # What other machines lack is missing, whatever lies here.
                with self._asking(ref.object):
                    self._client.head_object(Bucket=self.bucket, Key=self._key(ref.object))
            sound = path.is_file() and not path.is_symlink()
            if not sound or (first and file_sha256(path) != ref.sha256):
                self._download(ref, path)
            self._there.add(ref.object)
        except FileNotFoundError:
            raise StoreError(f"{self.address}/{ref.object} ({ref.name}) is missing") from None
        with suppress(OSError):
            if path.stat().st_atime < time.time() - 60:
                status = path.stat()
                os.utime(path, ns=(time.time_ns(), status.st_mtime_ns))
        return path

    def sha256(self, ref: FileRef) -> str:
        """The hash of what the object store holds; FileNotFoundError where it is missing."""
        whole = hashlib.sha256()
        for block in self._blocks(ref.object):
            whole.update(block)
        return whole.hexdigest()

    def touch(self, name: str) -> None:
        """Object stores note no use: what counts is when it was written."""

    def move(self, name: str, target: str) -> None:
        """Rename a small object; both names may be there if it is cut short, never neither."""
        self.create(target, self.read(name))
        self.remove(name)

    def remove(self, *names: str) -> None:
        """Remove objects; they may be gone."""
        for start in range(0, len(names), 1000):
            keys = [{"Key": self._key(name)} for name in names[start : start + 1000]]
            with self._asking():
                found = self._client.delete_objects(
                    Bucket=self.bucket, Delete={"Objects": keys, "Quiet": True}
                )
            if errors := found.get("Errors"):
                raise StoreError(f"s3://{self.bucket}/{errors[0]['Key']}: {errors[0]['Message']}")
        self._there -= set(names)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the store for writing by a lease; refuses at once while another one holds it."""
        with Lease(self) as lease:
            disk.mkdir(self.local / "tmp")
            clear(self.local / "tmp")
            self._lease = lease
            try:
                yield
            finally:
                self._lease = None

    def holder(self) -> str | None:
        """Who holds the lease, while it is good by this machine's clock."""
        return holder(self)

    def check_lock(self) -> None:
        """LostLockError where the lease was lost meanwhile."""
        if self._lease:
            self._lease.check()

    def hold(self, number: int) -> Callable[[], None]:
        """Tell that version `number` is being read; until the function is called, or a while."""
        return ReaderLease(self, number).release

    def held(self) -> set[int]:
        """The versions whose readers were heard of lately."""
        return living(self)

    # ---------------------------------------------------------------------------------------

    @property
    def _client(self) -> Any:
        return client(os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"))

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}"

    def _blocks(self, name: str) -> Iterator[bytes]:
        with self._asking(name):
            body = self._client.get_object(Bucket=self.bucket, Key=self._key(name))["Body"]
            yield from body.iter_chunks(BLOCK)

    def _download(self, ref: FileRef, path: Path) -> None:
        temp = path.parent / f".{secrets.token_hex(8)}"
        try:
            with temp.open("wb") as file:
                for block in self._blocks(ref.object):
                    file.write(block)
            if file_sha256(temp) != ref.sha256:
                raise StoreError(
                    f"{self.address}/{ref.object} ({ref.name}) is corrupt: its bytes do not match"
                    " its hash"
                )
            temp.chmod(0o444)
            temp.replace(path)
        finally:
            temp.unlink(missing_ok=True)
        evict(path.parent, int(os.environ.get("REMINE_CACHE_BYTES", CACHE_BYTES)))

    def _attempts(self, name: str) -> Iterator[int]:
        for number in range(TRIES):
            yield number
            time.sleep(0.1 * 2**number)
        raise StoreError(f"{self.address}/{name}: no answer that says whether it was written")

    @contextmanager
    def _asking(self, name: str = "") -> Iterator[None]:
        """Answers as exceptions that say what to do."""
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        where = f"{self.address}/{name}" if name else self.address
        try:
            yield
        except NoCredentialsError:
            raise InputError(
                f"{self.address}: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY,"
                " or AWS_PROFILE"
            ) from None
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if code == "NoSuchBucket":
                raise InputError(f"{self.address}: no bucket {self.bucket!r}; make it") from None
            if status == 404:
                raise FileNotFoundError(where) from None
            if status in (409, 412):
                raise TakenError(where) from None
            if status >= 500:
                raise UnansweredError(f"{where}: {error}") from None
            raise StoreError(f"{where}: {error}") from None
        except BotoCoreError as error:
            raise UnansweredError(f"{where}: {error}") from None


@functools.cache
def client(endpoint: str | None) -> Any:
    """The one client of this process; threads may share it."""
    try:
        import boto3
        from botocore.config import Config
    except ImportError:
        raise InputError("a store on s3:// needs boto3: pip install 'remine[s3]'") from None
    settings = Config(
        connect_timeout=10, read_timeout=60, retries={"max_attempts": TRIES, "mode": "standard"}
    )
    return boto3.client("s3", endpoint_url=endpoint, config=settings)


def cache_folder() -> Path:
    """Where files of object stores are kept on this machine: REMINE_CACHE, or XDG's cache."""
    if named := os.environ.get("REMINE_CACHE"):
        return Path(named).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "remine"


def evict(folder: Path, limit: int) -> None:
    """Remove the files that were not used for longest, down to `limit` bytes in all.

    Whoever has one open goes on reading it; whoever asks again fetches it again.
    """
    with os.scandir(folder) as entries:
        files = [entry for entry in entries if entry.is_file(follow_symlinks=False)]
        found = sorted((e.stat().st_atime, e.stat().st_size, e.path) for e in files)
    size = sum(bytes_ for _, bytes_, _ in found)
    for used, bytes_, path in found:
        if size <= limit or used > time.time() - USED:
            return
        with suppress(FileNotFoundError):
            Path(path).unlink()
        size -= bytes_
