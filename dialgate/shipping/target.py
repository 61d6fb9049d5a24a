"""Targets for shipped logs: a folder or an object storage bucket.

Files are written atomically and never replaced. The files of an open segment grow instead. In a bucket, a growing file `NAME`
consists of objects `NAME.OFFSET`, one for each part, because an object cannot grow.
"""

import configparser
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from hashlib import file_digest, sha256
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias
from urllib.parse import urlsplit

from dialgate.config.shipping import S3, Shipping, folder_of
from dialgate.decision_log.segment import unavailable
from dialgate.runtime.atomic_write import replace_file, sync_folder
from dialgate.runtime.extras import require

Content: TypeAlias = bytes | Path
_Source: TypeAlias = BytesIO | BufferedReader
_CHUNK: Final = 1 << 20
_RETRY_TIMEOUT: Final = timedelta(seconds=60)
_GROWING: Final = (".ndjson", ".checkpoints")
# An object of a growing file: the file's name, and its offset in the file.
PART: Final = re.compile(r"(.*\.(?:ndjson|checkpoints))\.(\d{16})")


class TargetFailed(Exception):
    """Raised if a file cannot be sent now. Sending is retried later.

    The target contains either the whole file or none of it.
    """


class StorageRefused(Exception):
    """Raised for a problem that an operator must solve. There is no retry."""


class Target(Protocol):
    interval: float  # seconds between rounds of shipping

    def put(self, name: str, content: Content) -> bool:
        """Write a file durably. Return False if the target already has this file with this content.

        `name` may contain slashes. A file that is the beginning of this one is completed. Raises `TargetFailed`,
        `StorageRefused` if the existing file differs, and `FileNotFoundError` if the source file no longer exists.
        """

    def size(self, name: str) -> int:
        """Return the size of a growing file, 0 if it does not exist. Raises `TargetFailed`."""

    def extend(self, name: str, offset: int, content: bytes) -> None:
        """Append to a growing file, whose size is `offset`, durably. Raises `TargetFailed`."""

    def remove(self, name: str) -> None:
        """Remove a growing file, because its content has arrived in another one. Raises `TargetFailed`."""


def open_target(shipping: Shipping, config: Path) -> Target:
    if shipping.to.startswith(S3):
        return Objects(shipping, config)
    return TargetFolder(folder_of(shipping, config))


class TargetFolder:
    """A target that is a folder.

    `root` is not created, because an unmounted share would then look like an empty target. Files are readable
    by the owner only, as in the log folder.
    """

    interval = 10.0

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, name: str, content: Content) -> bool:
        path = self._root / name
        with _open(content) as source, _as_failure(path):
            if path.exists():
                size = path.stat().st_size
                with path.open("rb") as existing:
                    _refuse_unless_same(str(path), file_digest(existing, "sha256").digest(), source, size)
                if source.seek(0, os.SEEK_END) == size:
                    return False
                source.seek(0)
            self._make_folder(path)
            with replace_file(path) as file:
                shutil.copyfileobj(source, file, _CHUNK)
        return True

    def _make_folder(self, path: Path) -> None:
        if not self._root.is_dir():
            raise TargetFailed(f"{self._root} does not exist: mount it or create it")
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in _up_to(path.parent, self._root):
            sync_folder(folder)

    def size(self, name: str) -> int:
        path = self._root / name
        return path.stat().st_size if path.exists() else 0

    def extend(self, name: str, offset: int, content: bytes) -> None:
        path = self._root / name
        with _as_failure(path):
            self._make_folder(path)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.seek(offset)
                file.write(content)
                file.flush()
                os.fsync(fd)
            if not offset:
                sync_folder(path.parent)

    def remove(self, name: str) -> None:
        with _as_failure(self._root / name):
            (self._root / name).unlink(missing_ok=True)


@contextmanager
def _as_failure(path: Path) -> Iterator[None]:
    """Raise `TargetFailed` for an error of the file system."""
    try:
        yield
    except OSError as error:
        raise TargetFailed(str(unavailable(path, error))) from error


def _up_to(folder: Path, root: Path) -> Iterator[Path]:
    while folder != root:
        yield folder
        folder = folder.parent
    yield root


class Objects:
    """A target that is an S3-compatible bucket.

    Each file is sent in one conditional request (If-None-Match), which the server rejects if the object exists.
    """

    interval = 60.0  # each request is paid for

    def __init__(self, shipping: Shipping, config: Path) -> None:
        require("s3", f"Shipping to {shipping.to}")
        import obstore  # noqa: PLC0415 - in an extra
        from obstore.store import S3Store  # noqa: PLC0415 - as above

        split = urlsplit(shipping.to)
        options: dict[str, Any] = {"region": shipping.region or None, "endpoint": shipping.endpoint or None}
        if shipping.credentials_file:
            options |= credentials(config / shipping.credentials_file)
        self._obstore, self._proved = obstore, False
        try:
            self._store = S3Store(
                split.netloc,
                prefix=split.path.strip("/") or None,
                checksum_algorithm="SHA256",  # required by object lock
                client_options={
                    "allow_http": shipping.endpoint.startswith("http://"),
                    "connect_timeout": "10s",
                    "timeout": "10m",
                },
                retry_config={"max_retries": 3, "retry_timeout": _RETRY_TIMEOUT},
                **{name: value for name, value in options.items() if value},
            )
        except obstore.exceptions.BaseError as error:
            raise StorageRefused(f"{shipping.to}: {_summary(error)}") from error

    def put(self, name: str, content: Content) -> bool:
        with _open(content) as source, self._as_failure(name):
            created = self._create(name, source)
            if created and not self._proved and self._create(name, source):
                raise StorageRefused(
                    f"{name}: the server replaced the object despite If-None-Match. Use another server"
                )
            self._proved = True
            if not created:
                _refuse_unless_same(name, self._digest(name), source)
        if name.endswith(_GROWING):
            self.remove(name)
        return created

    def _create(self, name: str, source: _Source) -> bool:
        source.seek(0)
        try:
            self._obstore.put(self._store, name, source, mode="create", use_multipart=False)
        except self._obstore.exceptions.AlreadyExistsError:
            return False
        return True

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Return the size of each object, by name, in alphabetical order. Raises `TargetFailed`."""
        with self._as_failure(folder):
            pages = list(self._obstore.list(self._store, prefix=folder or None))
        return dict(sorted((item["path"], item["size"]) for page in pages for item in page))

    def read(self, name: str) -> Iterator[bytes]:
        """Yield the content of an object. Raises `TargetFailed`."""
        with self._as_failure(name):
            yield from map(bytes, self._obstore.get(self._store, name).stream(_CHUNK))

    @contextmanager
    def _as_failure(self, name: str) -> Iterator[None]:
        """Raise `TargetFailed` for an error of the storage or the network."""
        try:
            yield
        except (self._obstore.exceptions.BaseError, OSError) as error:
            raise TargetFailed(f"{name}: {_summary(error)}") from error

    def _parts(self, name: str) -> dict[str, int]:
        sizes = self.sizes(str(Path(name).parent))
        return {part: size for part, size in sizes.items() if part.rpartition(".")[0] == name}

    def size(self, name: str) -> int:
        return sum(self._parts(name).values())

    def extend(self, name: str, offset: int, content: bytes) -> None:
        self.put(f"{name}.{offset:016}", content)

    def remove(self, name: str) -> None:
        """Remove the objects of a growing file. If the credentials forbid it, they stay, and readers ignore them."""
        with self._as_failure(name), suppress(self._obstore.exceptions.PermissionDeniedError):
            if parts := list(self._parts(name)):
                self._obstore.delete(self._store, parts)

    def _digest(self, name: str) -> bytes:
        digest = sha256()
        for part in self.read(name):
            digest.update(part)
        return digest.digest()


def credentials(path: Path) -> dict[str, str]:
    """Read a credentials file as written by `aws configure`. Raises `StorageRefused`, without quoting the file."""
    read = configparser.ConfigParser(interpolation=None)
    try:
        if path.stat().st_mode & 0o077:
            raise StorageRefused(f"{path} can be read by users other than its owner: chmod 600 {path}")
        read.read_string(path.read_text("utf-8"))
        section = read["default"]
        keys = {
            "access_key_id": section["aws_access_key_id"],
            "secret_access_key": section["aws_secret_access_key"],
        }
    except (OSError, ValueError, KeyError, configparser.Error):
        wanted = "a section [default] with aws_access_key_id and aws_secret_access_key"
        raise StorageRefused(f"{path} cannot be read, or lacks {wanted}") from None
    token = section.get("aws_session_token")
    return keys | ({"session_token": token} if token else {})


def _open(content: Content) -> _Source:
    return BytesIO(content) if isinstance(content, bytes) else content.open("rb")


def _refuse_unless_same(name: str, existing: bytes, source: _Source, size: int = -1) -> None:
    """Raise `StorageRefused` unless the file whose SHA-256 is `existing` has the content, or its first `size` bytes."""
    source.seek(0)
    own, left = sha256(), size
    while left and (part := source.read(_CHUNK if left < 0 else min(left, _CHUNK))):
        own.update(part)
        left -= len(part) if left > 0 else 0
    if own.digest() != existing:
        raise StorageRefused(
            f"{name} exists at the target and differs from the local log; nothing was replaced. To find out whether the local"
            " log or the target was modified, run `dialgate log verify` here and `dialgate log verify --data` on a copy of the target"
        )


def _summary(error: Exception) -> str:
    """Return an error's message, without the debug output that the client appends."""
    return " ".join(str(error).partition("\n\nDebug source")[0].split())[:500]
