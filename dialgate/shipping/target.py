"""Where closed segments go: a folder, or a bucket of object storage. Whole or not at all, and never twice under one name."""

import configparser
import shutil
from collections.abc import Iterator
from datetime import timedelta
from hashlib import file_digest, sha256
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias
from urllib.parse import urlsplit

from dialgate.config.shipping import S3, Shipping, folder_of
from dialgate.decision_log.segment import unavailable
from dialgate.runtime.atomic_write import replace_file, sync_folder

Content: TypeAlias = bytes | Path
_Source: TypeAlias = BytesIO | BufferedReader
_AT_ONCE: Final = 1 << 20
_RETRYING: Final = timedelta(seconds=60)


class TargetFailed(Exception):
    """Not now; what was to be put there is not there, or whole. Tried again later."""


class Refused(Exception):
    """It will not go on by itself: a person must look."""


class Target(Protocol):
    def put(self, name: str, content: Content) -> bool:
        """Whole and durable on return; False where it was there already. `name` holds slashes. Raises `TargetFailed`;
        `Refused` where something else stands there; `FileNotFoundError` where the content's own file has gone."""


def opened(shipping: Shipping, config: Path) -> Target:
    """Raises `Refused`."""
    if shipping.to.startswith(S3):
        return Objects(shipping, config)
    return Folder(folder_of(shipping, config))


class Folder:
    """`root` is not made: a share that is not mounted must not be taken for an empty one. What is put there is its owner's
    alone, as in the log's own folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, name: str, content: Content) -> bool:
        path = self._root / name
        with _opened(content) as source:
            try:
                return self._put(path, source)
            except OSError as error:
                raise TargetFailed(str(unavailable(path, error))) from error

    def _put(self, path: Path, source: _Source) -> bool:
        if not self._root.is_dir():
            raise TargetFailed(f"{self._root} is not there: mount what it is on, or make it")
        if path.exists():
            with path.open("rb") as there:
                _refuse_unless_same(str(path), file_digest(there, "sha256").digest(), source)
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_file(path) as file:
            shutil.copyfileobj(source, file, _AT_ONCE)
        for folder in _up_to(path.parent, self._root):
            sync_folder(folder)
        return True


def _up_to(folder: Path, root: Path) -> Iterator[Path]:
    while folder != root:
        yield folder
        folder = folder.parent
    yield root


class Objects:
    """S3, or what speaks as it does. One request for each object, which the server refuses where there is one (If-None-Match)."""

    def __init__(self, shipping: Shipping, config: Path) -> None:
        try:
            import obstore  # noqa: PLC0415 - an extra, for who ships to object storage
            from obstore.store import S3Store  # noqa: PLC0415
        except ImportError:
            raise Refused(f"{shipping.to} needs a client: pip install 'dialgate[s3]'") from None
        split = urlsplit(shipping.to)
        options: dict[str, Any] = {"region": shipping.region or None, "endpoint": shipping.endpoint or None}
        if shipping.credentials_file:
            options |= credentials(config / shipping.credentials_file)
        self._obstore, self._proved = obstore, False
        try:
            self._store = S3Store(
                split.netloc,
                prefix=split.path.strip("/") or None,
                checksum_algorithm="SHA256",  # what object lock asks for
                client_options={
                    "allow_http": shipping.endpoint.startswith("http://"),
                    "connect_timeout": "10s",
                    "timeout": "10m",
                },
                retry_config={"max_retries": 3, "retry_timeout": _RETRYING},
                **{name: value for name, value in options.items() if value},
            )
        except obstore.exceptions.BaseError as error:
            raise Refused(f"{shipping.to}: {_words(error)}") from error

    def put(self, name: str, content: Content) -> bool:
        with _opened(content) as source:
            try:
                made = self._made(name, source)
                if made and not self._proved and self._made(name, source):
                    raise Refused(
                        f"{name}: the server replaced it though it was told not to (If-None-Match); use another"
                    )
                self._proved = True
                if not made:
                    _refuse_unless_same(name, self._digest(name), source)
            except (self._obstore.exceptions.BaseError, OSError) as error:
                raise TargetFailed(f"{name}: {_words(error)}") from error
        return made

    def _made(self, name: str, source: _Source) -> bool:
        source.seek(0)
        try:
            self._obstore.put(self._store, name, source, mode="create", use_multipart=False)
        except self._obstore.exceptions.AlreadyExistsError:
            return False
        return True

    def _digest(self, name: str) -> bytes:
        digest = sha256()
        for part in self._obstore.get(self._store, name).stream(_AT_ONCE):
            digest.update(part)
        return digest.digest()


def credentials(path: Path) -> dict[str, str]:
    """Of a file as `aws configure` writes it. Raises `Refused`; what stands in the file is never said."""
    read = configparser.ConfigParser(interpolation=None)
    try:
        if path.stat().st_mode & 0o077:
            raise Refused(f"{path} can be read by others than its owner: chmod 600 {path}")
        read.read_string(path.read_text("utf-8"))
        section = read["default"]
        found = {
            "access_key_id": section["aws_access_key_id"],
            "secret_access_key": section["aws_secret_access_key"],
        }
    except (OSError, ValueError, KeyError, configparser.Error):
        wanted = "a section [default] with aws_access_key_id and aws_secret_access_key"
        raise Refused(f"{path} cannot be read, or has not {wanted}") from None
    token = section.get("aws_session_token")
    return found | ({"session_token": token} if token else {})


def _opened(content: Content) -> _Source:
    return BytesIO(content) if isinstance(content, bytes) else content.open("rb")


def _refuse_unless_same(name: str, there: bytes, source: _Source) -> None:
    source.seek(0)
    if file_digest(source, "sha256").digest() != there:
        raise Refused(
            f"{name} is there already and is not what the log holds; nothing was replaced. Find out which of the two was"
            " changed: `dialgate log verify` here, `dialgate log verify --data` on a copy of what is there"
        )


def _words(error: Exception) -> str:
    """The client's words end with its own state."""
    return " ".join(str(error).partition("\n\nDebug source")[0].split())[:500]
