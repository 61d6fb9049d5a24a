"""The keys of programs: which are valid now, and how one is made and disabled.

What a client may do is in dialgate.yaml. Its key can be there, too (`key_sha256`), or be made while the gate runs. Both are disabled
in the store, which all gates share.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
import structlog
from msgspec import Meta, Struct

from dialgate.config.clients import Client
from dialgate.config.configuration import Config
from dialgate.core.local_time import day_in
from dialgate.core.model import DAY, Instant
from dialgate.core.refusal import Refused
from dialgate.core.responses import when
from dialgate.core.text_formats import OptionalTimestamp
from dialgate.people.credentials import digest_of
from dialgate.runtime.atomic_write import write_file
from dialgate.store import ClientKey, ClientKeys, KeysOfClients, StoreUnavailable

KeyState: TypeAlias = Literal["valid", "expired", "disabled"]
MOST_VALID: Final = 2  # of one client: the key in use, and the one that will replace it
_FILE: Final = "disabled-keys.json"
_ID: Final = 12  # first characters of the SHA-256
_log = structlog.get_logger(__name__)


class KeyRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key to make."""

    last_day: Annotated[
        date | None,
        Meta(description="Last day on which the key is valid, in UTC. Without it, the key does not expire."),
    ] = None


class KeyInfo(Struct, frozen=True, kw_only=True):
    """A key of a client. `id` is the beginning of its SHA-256, `used_on` the last day of its use, in UTC.

    `origin` is `file` for the key in dialgate.yaml. `made_by`, `made_at` and `last_day` are empty for it.
    """

    id: str
    origin: Literal["file", "made"]
    state: KeyState
    made_at: OptionalTimestamp = ""
    made_by: str = ""
    last_day: date | None = None
    disabled_at: OptionalTimestamp = ""
    disabled_by: str = ""
    used_on: date | None = None


class ClientInfo(Struct, frozen=True, kw_only=True):
    """A client with its keys, oldest first. One that is no longer in dialgate.yaml has no scopes, and its keys are refused."""

    name: str
    controllers: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    keys: tuple[KeyInfo, ...] = ()


class ClientList(Struct, frozen=True):
    clients: list[ClientInfo]


class NewKey(Struct, frozen=True, kw_only=True):
    """A new key. It cannot be shown again: the gate keeps only its SHA-256."""

    client: str
    id: str
    key: str
    last_day: date | None = None


class KeyIndex(Struct, frozen=True, kw_only=True):
    """The clients by the SHA-256 of their valid keys, until an instant. It is replaced, never changed, but for `used`.

    `refused` names the client of each key that has expired or was disabled. `used` collects the keys that were used.
    """

    clients: Mapping[str, Client] = {}
    refused: Mapping[str, tuple[str, ClientKey]] = {}
    until: Instant = 0
    used: set[str] = msgspec.field(default_factory=set)


class KeyDirectory:
    """The keys of all clients. `read` takes over what other gates changed, within a second.

    A gate stores again what an older copy of the store lacks. Disabled keys are also in a file of `data`, which a restart reads. The
    log has a line for each key that is made or disabled.
    """

    def __init__(
        self, store: KeysOfClients, data: Path, clock: Callable[[], Instant], config: Callable[[], Config]
    ) -> None:
        """Read the disabled keys that this node remembers. Raises `StoreUnavailable`."""
        self._store, self._path, self._clock, self._config = store, data / _FILE, clock, config
        self.index = KeyIndex()
        try:
            self._written = self._path.read_bytes() if self._path.exists() else b"[]"
            remembered = msgspec.json.decode(self._written, type=list[ClientKeys])
            self._known = {keys.client: keys for keys in remembered}
        except (OSError, msgspec.DecodeError) as error:
            raise StoreUnavailable(
                f"{self._path} is unreadable ({error}): restore it from a backup"
            ) from error

    # ---- upkeep ------------------------------------------------------------------------------------------------------

    async def read(self) -> None:
        """Read the keys in the store, and store what it lacks. Raises `StoreUnavailable` and `OSError`."""
        if self._clock() >= self.index.until:  # also without the store
            self.reindex()
        stored = await self._store.client_keys()
        self._take(stored.values())
        self._note_uses()
        for name, keys in list(self._known.items()):
            if stored.get(name) != keys:
                await self._store.change_client_keys(name, keys.merged)
        ended = [ended for keys in self._known.values() if (ended := _disabled(keys)).keys]
        disabled = msgspec.json.encode(ended)
        if disabled != self._written and ended:
            await asyncio.to_thread(write_file, self._path, disabled)
            self._written = disabled

    def reindex(self) -> None:
        """Use the present configuration, keys and time. Open connections look their key up again."""
        now, config = self._clock(), self._config()
        owners = {client.name: client for client in config.settings.clients}
        clients, refused = dict(config.keys), dict[str, tuple[str, ClientKey]]()
        until = (now // DAY + 1) * DAY  # when a key counts as used again
        for keys in self._known.values():
            for key in keys.keys:
                if not key.is_valid(now):
                    refused[key.sha256] = keys.client, key
                elif key.made_at and (owner := owners.get(keys.client)):
                    clients.setdefault(key.sha256, owner)
                    until = min(until, key.expires_at or until)
        valid = {digest: client for digest, client in clients.items() if digest not in refused}
        self.index = KeyIndex(clients=valid, refused=refused, until=until)

    def _take(self, versions: Iterable[ClientKeys]) -> None:
        """Use other versions of clients' keys as well."""
        merged = {keys.client: keys.merged(self._known.get(keys.client)) for keys in versions}
        if any(self._known.get(name) != keys for name, keys in merged.items()):
            self._known |= merged
            self.reindex()

    def _note_uses(self) -> None:
        today, clients = self._clock() // DAY, self.index.clients
        for digest in list(self.index.used):
            keys = self._known.get(clients[digest].name, ClientKeys(client=clients[digest].name))
            key = keys.key(digest) or ClientKey(sha256=digest)
            if key.used_day < today:
                used = msgspec.structs.replace(key, used_day=today)
                self._known[keys.client] = keys.merged(ClientKeys(client=keys.client, keys=(used,)))
        self.index.used.clear()

    # ---- administration ----------------------------------------------------------------------------------------------

    def infos(self) -> list[ClientInfo]:
        """Return all clients with their keys."""
        named = {client.name: client for client in self._config().settings.clients}
        gone = (Client(name=name, controllers=(), scopes=()) for name in sorted(self._known.keys() - named))
        infos = [self._info(client) for client in (*named.values(), *gone)]
        return [info for info in infos if info.name in named or info.keys]

    def info(self, name: str) -> ClientInfo:
        """Return a client with its keys. Raises `Refused`."""
        for info in self.infos():
            if info.name == name:
                return info
        raise _unknown()

    def _info(self, client: Client) -> ClientInfo:
        keys = self._known.get(client.name, ClientKeys(client=client.name))
        return ClientInfo(
            name=client.name,
            controllers=client.controllers,
            scopes=client.scopes,
            sources=client.sources,
            keys=tuple(_key_info(key, self._clock()) for key in self._all_keys(keys)),
        )

    def _all_keys(self, keys: ClientKeys) -> tuple[ClientKey, ...]:
        """Return the client's keys: that of dialgate.yaml first, without earlier ones of that file, then those made."""
        refused = self.index.refused  # perhaps under the client's earlier name
        own = {
            digest: keys.key(digest) or refused.get(digest, ("", ClientKey(sha256=digest)))[1]
            for digest, client in self._config().keys.items()
            if client.name == keys.client
        }
        return (*own.values(), *(key for key in keys.keys if key.made_at and key.sha256 not in own))

    async def make(self, by: Client, name: str, request: KeyRequest) -> NewKey:
        """Make a key for a client of dialgate.yaml. Raises `Refused` and `StoreUnavailable`."""
        now, key = self._clock(), secrets.token_urlsafe(32)
        if name not in {client.name for client in self._config().settings.clients}:
            raise _unknown()
        expires_at = _end_of(request.last_day, now) if request.last_day else 0
        new = ClientKey(sha256=digest_of(key), made_at=now, made_by=by.name, expires_at=expires_at)

        def changed(keys: ClientKeys) -> ClientKeys:
            if sum(kept.is_valid(now) for kept in self._all_keys(keys)) >= MOST_VALID:
                raise Refused(
                    "api_key.two_valid",
                    f"The client has {MOST_VALID} valid keys. Disable the one that its program no longer sends, then make another.",
                    "name",
                    409,
                )
            return keys.merged(ClientKeys(client=name, keys=(new,)))

        self._take([await self._store.change_client_keys(name, changed)])
        _log.info(
            "key made", client=name, key=new.sha256[:_ID], last_day=str(request.last_day or ""), by=by.name
        )
        return NewKey(client=name, id=new.sha256[:_ID], key=key, last_day=request.last_day)

    async def disable(self, by: Client, name: str, key_id: str) -> ClientInfo:
        """Refuse a key from now on, wherever it came from. Raises `Refused` and `StoreUnavailable`."""
        now, info = self._clock(), self.info(name)
        if key_id not in {key.id for key in info.keys}:
            text = "The client has no key with this id. `GET /v1/clients` lists its keys."
            raise Refused("api_key.unknown", text, "id", 404)

        def changed(keys: ClientKeys) -> ClientKeys:
            ended = (
                msgspec.structs.replace(key, disabled_at=now, disabled_by=by.name)
                for key in self._all_keys(keys)
                if key.sha256.startswith(key_id)
            )
            return keys.merged(ClientKeys(client=name, keys=tuple(ended)))

        self._take([await self._store.change_client_keys(name, changed)])
        _log.warning("key disabled", client=name, key=key_id, by=by.name)
        return self.info(name)


def _unknown() -> Refused:
    text = "No client has this name. Add it to `clients` in dialgate.yaml, and reload the gate."
    return Refused("api_key.client_unknown", text, "name", 404)


def _disabled(keys: ClientKeys) -> ClientKeys:
    return ClientKeys(client=keys.client, keys=tuple(key for key in keys.keys if key.disabled_at))


def _end_of(day: date, now: Instant) -> Instant:
    if day < day_in("UTC", now):
        raise Refused("request.invalid", "`last_day` has passed. Choose today or a later day.", "last_day")
    return ((day - date(1970, 1, 1)).days + 1) * DAY


def _key_info(key: ClientKey, now: Instant) -> KeyInfo:
    return KeyInfo(
        id=key.sha256[:_ID],
        origin="made" if key.made_at else "file",
        state="disabled" if key.disabled_at else "expired" if key.has_expired(now) else "valid",
        made_at=when(key.made_at),
        made_by=key.made_by,
        last_day=day_in("UTC", key.expires_at - DAY) if key.expires_at else None,
        disabled_at=when(key.disabled_at),
        disabled_by=key.disabled_by,
        used_on=day_in("UTC", key.used_day * DAY) if key.used_day else None,
    )
