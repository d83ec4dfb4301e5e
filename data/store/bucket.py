"""A store in an S3-compatible object store.

A put is atomic and durable once it returned, so one put does what a folder needs temp -> fsync ->
rename for. A version number is claimed by a put with If-None-Match: *, the lock by If-Match
(`lease`). A put may end without an answer. The object is then read back and compared, and never
removed. FAISS, memory maps and Parquet need files, so objects are downloaded to a cache folder on
this machine, where each is stored under its hash after it has been verified.
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
from remine.data.store.lease import Lease, ReaderLease, lock_holder, versions_in_use
from remine.data.store.place import Entry
from remine.data.store.records import FileRef, file_sha256

TRIES = 4
"""Attempts at a request whose outcome is unknown."""
BLOCK = 1 << 20
"""Bytes read from the network at a time."""
SINGLE_PUT_BYTES = 1 << 30
"""Up to this size a file is one request, whose hash the server checks; above it, several parts."""
CACHE_BYTES = 50_000_000_000
"""Default size of the cache on this machine; the variable REMINE_CACHE_BYTES overrides it."""
RECENT_SECONDS = 3_600.0
"""A cached file used within this time is never removed, because a process may be opening it."""


class ConditionFailedError(Exception):
    """The condition of a put did not hold."""


class Bucket:
    """A place under a prefix of a bucket; implements `remine.data.store.place.Place`."""

    def __init__(self, url: str) -> None:
        """Parse the URL; the connection is made at the first request."""
        parts = urlsplit(url)
        self.bucket, self.prefix = parts.netloc, parts.path.strip("/")
        if not self.bucket or not self.prefix or parts.query or parts.fragment:
            raise InputError(f"{url}: name a bucket and a prefix, s3://bucket/prefix")
        self.address = f"s3://{self.bucket}/{self.prefix}"
        self._present: set[str] = set()  # objects known to exist in the bucket
        self._lease: Lease | None = None

    @functools.cached_property
    def local(self) -> Path:
        """The cache folder on this machine, made when it is first used."""
        folder = cache_folder() / hashlib.sha256(self.address.encode()).hexdigest()[:16]
        for name in FOLDERS:
            disk.mkdir(folder / name)
        disk.write(folder / "ADDRESS", f"{self.address}\n".encode())
        return folder

    def has_store(self) -> bool:
        """Whether there is a store."""
        return self.exists("FORMAT")

    def check(self) -> None:
        """Raise InputError if there are other objects under the prefix."""
        with self._translate_errors():
            listing = self._client.list_objects_v2(
                Bucket=self.bucket, Prefix=f"{self.prefix}/", MaxKeys=1
            )
        if listing.get("KeyCount"):
            raise InputError(f"{self.address} holds other objects: use an empty prefix")

    def make(self, marker: bytes) -> None:
        """Make an empty store; InputError if the server ignores conditions on puts."""
        self.put("probe", marker)
        # Both puts must fail: the object exists, and "0" is not its ETag.
        for condition in ({"IfNoneMatch": "*"}, {"IfMatch": '"0"'}):
            with suppress(ConditionFailedError):
                self.put("probe", marker, **condition)
                raise InputError(
                    f"{self.address}: this server ignores {next(iter(condition))} on puts, so two"
                    " runs could overwrite each other: use another server"
                )
        self.remove("probe")
        self.create("FORMAT", marker)

    def read(self, name: str) -> bytes:
        """The bytes of an object; FileNotFoundError if it does not exist."""
        return self.get(name)[0]

    def get(self, name: str) -> tuple[bytes, str]:
        """The bytes of an object and its ETag, which changes with the content."""
        with self._translate_errors(name):
            response = self._client.get_object(Bucket=self.bucket, Key=self._key(name))
            return response["Body"].read(), response["ETag"]

    def entries(self, folder: str) -> dict[str, Entry]:
        """The objects of a folder by their names in it."""
        start = self._key(f"{folder}/")
        entries: dict[str, Entry] = {}
        with self._translate_errors():
            # The delimiter leaves out objects in subfolders.
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.bucket, Prefix=start, Delimiter="/"):
                for item in page.get("Contents", ()):
                    entry = Entry(bytes=item["Size"], time=item["LastModified"].timestamp())
                    entries[item["Key"].removeprefix(start)] = entry
        return entries

    def exists(self, name: str) -> bool:
        """Whether the object exists."""
        with suppress(FileNotFoundError), self._translate_errors(name):
            self._client.head_object(Bucket=self.bucket, Key=self._key(name))
            return True
        return False

    def write(self, name: str, content: bytes) -> None:
        """Put a small object, replacing any earlier one."""
        for _ in self._attempts(name):
            with suppress(UnansweredError, ConditionFailedError):
                self.put(name, content)
                return
            # The put may have taken effect although its answer was lost.
            with suppress(FileNotFoundError):
                if self.read(name) == content:
                    return

    def create(self, name: str, content: bytes) -> bytes:
        """Put a small object unless it exists; returns the content of the object afterwards."""
        for _ in self._attempts(name):
            with suppress(UnansweredError, ConditionFailedError):
                self.put(name, content, IfNoneMatch="*")
                return content
            with suppress(FileNotFoundError):
                return self.read(name)  # our own content if only the answer was lost
        raise AssertionError

    def put(self, name: str, content: bytes, **condition: str) -> str:
        """Put an object with at most one request; returns its ETag.

        Args:
            name: The name of the object.
            content: Its bytes.
            condition: `IfNoneMatch="*"` or `IfMatch=etag`.

        Raises:
            ConditionFailedError: The condition does not hold.
            UnansweredError: The server gave no answer, so the outcome is unknown.
        """
        with self._translate_errors(name):
            response = self._client.put_object(
                Bucket=self.bucket, Key=self._key(name), Body=content, **condition
            )
        return str(response["ETag"])

    def add_object(self, temp: Path, ref: FileRef) -> None:
        """Upload the finished file `temp` to the path of `ref`, and move it into the cache."""
        disk.chmod(temp, 0o444)
        key = self._key(ref.object)
        for _ in self._attempts(ref.object):
            # Repeating the request is harmless, because the key is the hash of the bytes.
            with (
                suppress(UnansweredError),
                self._translate_errors(ref.object),
                temp.open("rb") as file,
            ):
                if ref.bytes > SINGLE_PUT_BYTES:
                    self._client.upload_file(str(temp), self.bucket, key)
                else:
                    sha256 = base64.b64encode(bytes.fromhex(ref.sha256)).decode()
                    self._client.put_object(
                        Bucket=self.bucket, Key=key, Body=file, ChecksumSHA256=sha256
                    )
                break
        self._present.add(ref.object)
        disk.rename(temp, self.local / ref.object)

    def fetch(self, ref: FileRef) -> Path:
        """The path of the file on this machine; StoreError if it is missing in the bucket."""
        path = self.local / ref.object
        try:
            is_first_use = ref.object not in self._present
            if is_first_use:
                # A file in the cache is not enough: other machines need the object, too.
                with self._translate_errors(ref.object):
                    self._client.head_object(Bucket=self.bucket, Key=self._key(ref.object))
            # Another process may have written a damaged file, so the first use here verifies it.
            is_cached = path.is_file() and not path.is_symlink()
            if not is_cached or (is_first_use and file_sha256(path) != ref.sha256):
                self._download(ref, path)
            self._present.add(ref.object)
        except FileNotFoundError:
            raise StoreError(f"{self.address}/{ref.object} ({ref.name}) is missing") from None
        # `evict` goes by the access time, which many systems do not update by themselves.
        with suppress(OSError):
            if path.stat().st_atime < time.time() - 60:
                status = path.stat()
                os.utime(path, ns=(time.time_ns(), status.st_mtime_ns))
        return path

    def sha256(self, ref: FileRef) -> str:
        """The hash of the bytes in the bucket; FileNotFoundError if the object does not exist."""
        sha256 = hashlib.sha256()
        for block in self._blocks(ref.object):
            sha256.update(block)
        return sha256.hexdigest()

    def touch(self, name: str) -> None:
        """Do nothing: object stores keep no time of last use, only the time of writing."""

    def move(self, name: str, target: str) -> None:
        """Rename a small object. If interrupted, both names may exist, but never neither."""
        self.create(target, self.read(name))
        self.remove(name)

    def remove(self, *names: str) -> None:
        """Remove objects; they need not exist."""
        for start in range(0, len(names), 1000):  # the most keys that one request may have
            keys = [{"Key": self._key(name)} for name in names[start : start + 1000]]
            with self._translate_errors():
                response = self._client.delete_objects(
                    Bucket=self.bucket, Delete={"Objects": keys, "Quiet": True}
                )
            if errors := response.get("Errors"):
                raise StoreError(f"s3://{self.bucket}/{errors[0]['Key']}: {errors[0]['Message']}")
        self._present -= set(names)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the write lock; StoreBusyError if another process holds it."""
        with Lease(self) as lease:
            disk.mkdir(self.local / "tmp")
            clear(self.local / "tmp")
            self._lease = lease
            try:
                yield
            finally:
                self._lease = None

    def release_lock(self) -> None:
        """Let the lease expire now."""
        if self._lease:
            self._lease.release()

    def lock_holder(self) -> str | None:
        """The process that holds the lock, or None if it has expired by this machine's clock."""
        return lock_holder(self)

    def check_lock(self) -> None:
        """Raise LostLockError if this process has lost the lock that it took."""
        if self._lease:
            self._lease.check()

    def register_reader(self, number: int) -> Callable[[], None]:
        """Register a reader of a version; returns a function that ends the registration.

        After a kill the registration ends when it is no longer renewed.
        """
        return ReaderLease(self, number).release

    def versions_in_use(self) -> set[int]:
        """The versions whose readers renewed their registration recently."""
        return versions_in_use(self)

    # ---------------------------------------------------------------------------------------

    @property
    def _client(self) -> Any:
        return client(os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"))

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}"

    def _blocks(self, name: str) -> Iterator[bytes]:
        with self._translate_errors(name):
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
            # No fsync: after a power cut a damaged cache file is detected and downloaded again.
            temp.chmod(0o444)
            temp.replace(path)
        finally:
            temp.unlink(missing_ok=True)
        evict(path.parent, int(os.environ.get("REMINE_CACHE_BYTES", CACHE_BYTES)))

    def _attempts(self, name: str) -> Iterator[int]:
        """Yield for each attempt, with growing pauses; StoreError after the last."""
        for number in range(TRIES):
            yield number
            time.sleep(0.1 * 2**number)
        raise StoreError(f"{self.address}/{name}: the server did not confirm that it was written")

    @contextmanager
    def _translate_errors(self, name: str = "") -> Iterator[None]:
        """Raise errors of boto3 as the exceptions that the methods of `Place` promise."""
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        address = f"{self.address}/{name}" if name else self.address
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
                raise InputError(
                    f"{self.address}: there is no bucket {self.bucket!r}; create it"
                ) from None
            if status == 404:
                raise FileNotFoundError(address) from None
            if status in (409, 412):
                raise ConditionFailedError(address) from None
            if status >= 500:
                raise UnansweredError(f"{address}: {error}") from None
            raise StoreError(f"{address}: {error}") from None
        except BotoCoreError as error:
            raise UnansweredError(f"{address}: {error}") from None


@functools.cache
def client(endpoint: str | None) -> Any:
    """The client of this process for an endpoint; threads may share it."""
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
    """The folder for cached objects on this machine: REMINE_CACHE, or XDG's cache folder."""
    if folder := os.environ.get("REMINE_CACHE"):
        return Path(folder).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "remine"


def evict(folder: Path, limit: int) -> None:
    """Remove the least recently used files of the cache until it has at most `limit` bytes.

    A process that has such a file open can still read it; the next `fetch` downloads it again.
    """
    with os.scandir(folder) as entries:
        files = [entry for entry in entries if entry.is_file(follow_symlinks=False)]
        by_age = sorted((e.stat().st_atime, e.stat().st_size, e.path) for e in files)
    total = sum(size for _, size, _ in by_age)
    for last_use, size, path in by_age:
        if total <= limit or last_use > time.time() - RECENT_SECONDS:
            return
        with suppress(FileNotFoundError):
            Path(path).unlink()
        total -= size
