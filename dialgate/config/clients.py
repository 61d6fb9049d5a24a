"""The clients in dialgate.yaml, and their index by key and source address."""

import ipaddress
import re
from collections.abc import Collection, Iterable, Iterator
from datetime import date
from itertools import combinations
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta

from dialgate.config.fields import Name, Network, Strict
from dialgate.config.validation_messages import MOST_CHOICES

Scope: TypeAlias = Literal[
    "check", "simulate", "outcome", "revoke", "ledger", "lists", "read", "stream", "subjects", "officer", "watch", "metrics", "admin", "audit",
]  # fmt: skip

PERSON: Final = "person:"  # begins the client of a person who signed in
LOCAL: Final = "cli:"  # begins the client of a request over the gate's socket
_SHA256: Final = re.compile("[0-9a-f]{64}")


class Client(Strict, frozen=True, kw_only=True):
    """A client, identified by a key or by its source address."""

    name: Name
    """Name of the client in records."""
    controllers: tuple[str, ...]
    """Controllers for which the client may send requests."""
    scopes: tuple[Scope, ...]
    """Scopes: what the client may do."""
    key_sha256: str = ""
    """SHA-256 of the client's key. `dialgate key new NAME` creates a key and its SHA-256. Without it, make keys while the gate runs: `dialgate key make NAME` (docs/how-to/rotate-keys.md)."""
    key_sha256_file: str = ""
    """File with the SHA-256 of the key. Use it instead of `key_sha256`."""
    sources: tuple[str, ...] = ()
    """Networks (CIDR) that identify a client which cannot send a key. Two clients may not share an address. If a reverse proxy on this host adds no `X-Forwarded-For`, do not use an address of this host: every request through the proxy would get this client's scopes. A request with that header needs a key. `config check` warns about such an address if the client has other scopes than `check`."""
    calls_per_second: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    """Maximum number of calls per second that the client may check at each gate. Further ones are denied without a decision (`rate.exceeded`; 429 over HTTP). 0: no limit."""
    trunk: bool = False
    """Whether the client is a trunk or proxy that relies on the gate. The shadow mode of a campaign or of the gate does not apply to it, only its own."""
    shadow_until: date | None = None
    """Last day of shadow mode for the client's calls, at most 92 days ahead: they are decided and recorded, but refused only if the person told the caller to stop (docs/how-to/shadow-mode.md)."""
    test_numbers: bool = False
    """Whether test numbers get their fixed answers (docs/reference/test-numbers.md). They are numbers that no network routes; all others are decided as always. Remove it after your tests. Not for a trunk."""

    def actor(self, named: str = "") -> str:
        """Return whom the record names: the person who signed in; for a program, whom it names, or itself."""
        return self.name if self.name.startswith(PERSON) else named or self.name


class ClientIndex:
    """An index of clients by key and by source network, with the `faults` in their definitions."""

    def __init__(self, clients: Iterable[Client], folder: Path, controllers: Collection[str]) -> None:
        """Index `clients`, whose key files are in `folder`.

        `controllers` are the ids that clients may name.
        """
        self.keys: dict[str, Client] = {}
        self.networks: list[tuple[Network, Client]] = []
        self.faults: list[str] = []
        names: set[str] = set()
        for client in clients:
            if client.name in names:
                self._report(client, "is defined twice; give each client a unique name")
            names.add(client.name)
            self._check(client, controllers)
            self._add(client, folder)
        self.faults.extend(
            f"client {one.name}: source {mine} overlaps {theirs} of client {other.name}; an address can identify only one client"
            for (mine, one), (theirs, other) in combinations(self.networks, 2)
            if one is not other and mine.overlaps(theirs)
        )

    def _report(self, client: Client, fault: str) -> None:
        self.faults.append(f"client {client.name}: {fault}")

    def _check(self, client: Client, controllers: Collection[str]) -> None:
        if client.test_numbers and client.trunk:
            self._report(
                client, "has both `trunk` and `test_numbers`; a trunk must not act on answers for tests"
            )
        if client.key_sha256 and client.key_sha256_file:
            self._report(client, "has both key_sha256 and key_sha256_file; remove one of them")
        for fault in missing_controllers(client.controllers, controllers):
            self._report(client, fault)

    def _add(self, client: Client, folder: Path) -> None:
        try:
            digest = _read_key(client, folder)
        except ValueError as error:
            self._report(client, str(error))
            digest = ""
        if digest and digest in self.keys:
            self._report(
                client,
                f"has the same key as {self.keys[digest].name}; create a different key with `dialgate key`",
            )
        if digest:
            self.keys[digest] = client
        networks, faults = parse_networks(client.sources)
        self.networks.extend((network, client) for network in networks)
        for fault in faults:
            self._report(client, f"source {fault}")


def missing_controllers(names: Iterable[str], controllers: Collection[str]) -> Iterator[str]:
    """Yield a message for each name that is not in `controllers`."""
    known = ", ".join(sorted(controllers)[:MOST_CHOICES])
    return (
        f"no such controller: {name}; write the `id` of a file in `controllers`: {known}"
        for name in names
        if name not in controllers
    )


def parse_networks(blocks: Iterable[str]) -> tuple[list[Network], list[str]]:
    """Return the networks in `blocks` (CIDR), and a sentence for each invalid block."""
    networks: list[Network] = []
    faults: list[str] = []
    for block in blocks:
        try:
            networks.append(ipaddress.ip_network(block))
        except ValueError as error:
            faults.append(f"{block!r}: {_explain_network(block, error)}")
    return networks, faults


def _explain_network(block: str, error: ValueError) -> str:
    try:
        meant = ipaddress.ip_network(block, strict=False)
    except ValueError:
        return f"{error}; write an address or a network, for example 10.0.0.0/8"
    return f"{block} has host bits set; write {meant}"


def _read_key(client: Client, folder: Path) -> str:
    """Return the SHA-256 of the client's key, or "" if it has no key. Raises `ValueError`."""
    digest = client.key_sha256
    if client.key_sha256_file:
        try:
            digest = (folder / client.key_sha256_file).read_text("ascii").strip()
        except FileNotFoundError:
            raise ValueError(f"cannot read {client.key_sha256_file}; create it with `dialgate key`") from None
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", "") or "it is not a text file"
            raise ValueError(f"cannot read {client.key_sha256_file}: {why}") from None
    if digest and not _SHA256.fullmatch(digest):
        raise ValueError("the key's SHA-256 must be 64 hexadecimal digits")
    return digest
