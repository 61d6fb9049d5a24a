"""Transport settings for registry files: the `source` of a registry in registries.yaml."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, TypeAlias

from msgspec import Meta

from dialgate.config.fields import Strict
from dialgate.runtime import extras


class Patience(Strict, frozen=True, kw_only=True):
    """Timeouts and retries for a transfer. The delay before a retry doubles after each attempt.

    The actual delay is random, between half of this value and the full value.
    """

    timeout_seconds: Annotated[float, Meta(gt=0, le=3600)] = 60
    """Timeout for a response, in seconds."""
    transfer_seconds: Annotated[float, Meta(gt=0, le=86_400)] = 3600
    """Timeout for the transfer of one file, in seconds."""
    attempts: Annotated[int, Meta(ge=1, le=20)] = 4
    """Maximum number of attempts, including the first, in case of transient failures such as a broken connection or a busy server."""
    retry_seconds: Annotated[float, Meta(gt=0, le=600)] = 2
    """Delay before the second attempt, in seconds."""


class FolderSource(Strict, frozen=True, kw_only=True, tag_field="kind", tag="folder"):
    """A local folder (`kind: folder`).

    Another program or a person exchanges the files in it with the registry.
    """

    inbox: str
    """Folder with the registry's receipts and answers, or its lists."""
    outbox: str = ""
    """Folder for packages. Only for registries under `asked`."""
    settle_seconds: Annotated[float, Meta(ge=0, le=86_400)] = 30
    """Seconds without a change after which a file counts as complete."""


class SftpSource(Strict, frozen=True, kw_only=True, tag_field="kind", tag="sftp"):
    """Folders on an SFTP server (`kind: sftp`).

    Set exactly one of the credentials `key_file`, `password_file` and `password_env`.
    """

    host: str
    """Server name or address."""
    user: str
    """User on the server."""
    host_key: str
    """The server's public key, for example `ssh-ed25519 AAAA…`. A server with another key is refused."""
    inbox: str
    """Folder with the registry's receipts and answers, or its lists."""
    outbox: str = ""
    """Folder for packages. Only for registries under `asked`."""
    port: Annotated[int, Meta(ge=1, le=65_535)] = 22
    """Server port."""
    key_file: str = ""
    """File with the private key."""
    password_file: str = ""
    """File with the password."""
    password_env: str = ""
    """Environment variable with the password."""
    patience: Patience = Patience()
    """Timeouts and retries."""


class HttpsSource(Strict, frozen=True, kw_only=True, tag_field="kind", tag="https"):
    """A web folder with an `index.json` (`kind: https`).

    `registry_sync/sources/https.py` describes the requests.
    """

    url: Annotated[str, Meta(pattern=r"^https://.*/$")]
    """Folder URL, ending with a slash."""
    token_file: str = ""
    """File with the bearer token."""
    token_env: str = ""
    """Environment variable with the bearer token."""
    ca_file: str = ""
    """File with CA certificates to trust instead of the system's."""
    patience: Patience = Patience()
    """Timeouts and retries."""


Source: TypeAlias = FolderSource | SftpSource | HttpsSource


def problems(source: Source, folder: Path, *, both_ways: bool) -> Iterator[str]:
    if not isinstance(source, HttpsSource):
        if both_ways and not source.outbox:
            yield "outbox is missing; set it to a folder for packages"
        if source.outbox and source.outbox.rstrip("/") == source.inbox.rstrip("/"):
            yield "outbox and inbox must be different folders; otherwise packages would be read as answers"
    if isinstance(source, SftpSource):
        yield from _sftp_problems(source)
    for name in ("key_file", "password_file", "token_file", "ca_file"):
        if value := getattr(source, name, ""):
            yield from secret_problems(name, folder / value)
    for name in ("password_env", "token_env"):
        if (value := getattr(source, name, "")) and value not in os.environ:
            yield f"{name}: the environment variable {value} is not set"


def _sftp_problems(source: SftpSource) -> Iterator[str]:
    if not extras.is_installed("sftp"):
        yield "kind sftp needs an extra: run `pip install 'dialgate[sftp]'`"
    if not source.host_key.startswith(("ssh-", "ecdsa-")):
        yield "host_key must be a public key, for example `ssh-ed25519 AAAA…`; ask the registry for it"
    credentials = (source.key_file, source.password_file, source.password_env)
    if sum(bool(credential) for credential in credentials) != 1:
        yield "set exactly one of key_file, password_file and password_env"


def secret_problems(name: str, path: Path) -> Iterator[str]:
    if not path.is_file():
        yield f"{name}: {path} is not a file"
    elif name != "ca_file" and path.stat().st_mode & 0o077:
        yield f"{name}: other users can read {path}. Run chmod 600 {path}"


def secret(source: Source, folder: Path) -> str:
    """Return the password or token for a source, or "" if none is configured. Raises OSError."""
    for name in ("password_file", "token_file"):
        if value := getattr(source, name, ""):
            return (folder / value).read_text("utf-8").strip()
    for name in ("password_env", "token_env"):
        if value := getattr(source, name, ""):
            return os.environ[value]
    return ""
