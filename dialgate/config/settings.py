"""What the operator sets: dialgate.yaml, one file per country, one per controller; typed, frozen, and refused whole
when anything in it is wrong, with every error at once."""

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import date
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, Struct

from dialgate.config import retention_terms, url_secrets, webhook_targets, yaml_file
from dialgate.config.listeners import (
    FastAgi,
    Limits,
    Listen,
    Operations,
    Seconds,
    Sip,
    Strict,
    Uploads,
    sip_faults,
)
from dialgate.config.log_settings import ServiceLog, TracesTo
from dialgate.config.shipping import Shipping
from dialgate.config.shipping import faults as shipping_faults
from dialgate.config.storage_periods import Storage
from dialgate.config.webhook_dialects import Profile, WebhookError, parse_profile
from dialgate.config.webhook_targets import Hook, Webhook
from dialgate.core import phone
from dialgate.core.law import Law, LawError, parse_law
from dialgate.core.model import Callee, CallerId, CallType, Campaign, Controller, Purpose

Scope: TypeAlias = Literal[
    "check", "simulate", "outcome", "revoke", "ledger", "lists", "read", "stream", "subjects", "watch", "metrics", "admin",
]  # fmt: skip
Name: TypeAlias = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
Url: TypeAlias = Annotated[str, Meta(pattern=r"^https?://[^/?#@]+/?$")]
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_T = TypeVar("_T")
_SHA256 = re.compile("[0-9a-f]{64}")
_ID = re.compile(rb"^id:[ \t]*[\"']?([^\s\"'#]+)", re.MULTILINE)
_COUNTRY = re.compile("[A-Z]{2}")
_MISTAKEN = {"UK": "GB", "EL": "GR", "ITA": "IT", "ITALY": "IT", "ITALIA": "IT"}
# The bans of whole trades are about these; a campaign without a sector would escape them.
_OFFERS = frozenset({"sale", "advertising"})
ONE_PROCESS = "the embedded store counts attempts for one process; set `store` to a Redis, or `workers` to 1"


class ConfigError(Exception):
    """The configuration cannot be used. `problems` holds one sentence each, with file and key."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Client(Strict, frozen=True, kw_only=True):
    """Who may ask what. The key is stored as its SHA-256 (`key_sha256`), inline or in a file of its own; a client that
    cannot send a header is known by its source address instead (`sources`: CIDR blocks)."""

    name: Name
    controllers: tuple[str, ...]
    scopes: tuple[Scope, ...]
    key_sha256: str = ""
    key_sha256_file: str = ""
    sources: tuple[str, ...] = ()


class SharedStore(Strict, frozen=True, kw_only=True):
    """One Redis for several gates. `url_file` holds the URL where it has a password in it. `replicas`: how many must have
    an entry of the ledger on their disks before it is acknowledged. `patience`: seconds that one round trip may last."""

    url: str = ""
    url_file: str = ""
    name: Name = "dialgate"
    replicas: Annotated[int, Meta(ge=0, le=16)] = 0
    patience: Seconds = 1


class Settings(Strict, frozen=True, kw_only=True):
    """Paths are relative to the file they stand in."""

    data: str = "../.data"
    countries: str = "countries"
    controllers: str = "controllers"
    webhooks: str = "webhooks"
    listen: Listen = Listen()
    limits: Limits = Limits()
    operations: Operations | None = None
    uploads: Uploads = Uploads()
    fastagi: FastAgi | None = None
    sip: Sip | None = None
    clients: tuple[Client, ...] = ()
    subscribers: tuple[Webhook, ...] = ()
    node: Name = "gate"
    workers: Annotated[int, Meta(ge=1, le=64)] = 1
    batch_calls: Annotated[int, Meta(ge=1, le=4096)] = 256
    answer_seconds: Seconds = 900
    permit_seconds: Annotated[int, Meta(ge=1, le=60)] = 10
    remember_hours: Annotated[int, Meta(ge=24, le=720)] = 24
    store: SharedStore | None = None
    peers: Mapping[Name, Url] = {}
    store_patience: Seconds = 0.1
    # Below the 10 s for which a command waits for a gate: one that has not confirmed by then denies until it has.
    upkeep_stale_seconds: Annotated[float, Meta(ge=2, le=8)] = 3
    log_segment_mb: Annotated[int, Meta(ge=1, le=4096)] = 64
    log_segment_hours: Annotated[int, Meta(ge=0, le=8784)] = 24
    storage: Storage = Storage()
    snapshot_key: Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")] = ""
    snapshot_behind_minutes: Annotated[float, Meta(ge=0, le=100_000)] = 0
    checkpoint_seconds: Seconds = 60
    timestamp_url: str = ""
    timestamp_url_file: str = ""
    timestamp_roots: str = ""
    timestamp_seconds: Seconds = 3_600
    log_archive_hours: Annotated[float, Meta(ge=0, le=8784)] = 1
    retention: tuple[retention_terms.Retention, ...] = ()
    shipping: Shipping | None = None
    service_log: ServiceLog = ServiceLog()
    traces: TracesTo | None = None


class CampaignFile(Strict, frozen=True, kw_only=True):
    """`dial_region` is the country in which a number without a country code is read; absent, such a number is refused.
    `trunk_country` is where the trunk enters the network. `sector` is one of the country's `sectors`; an offer (sale or
    advertising) must have one."""

    id: Name
    purpose: Purpose
    trunk_country: str
    caller_ids: tuple[str, ...]
    sector: str = ""
    goods: str = ""
    call_type: CallType = "automated"
    callee: Callee = "consumer"
    starts: date | None = None
    ends: date | None = None
    paused: bool = False
    dial_region: str = ""
    profiling: bool = False


class ControllerFile(Strict, frozen=True, kw_only=True):
    """`adheres_to`: the codes of conduct that bind it, of the countries' `codes`. `sistan`, `consent_after_listing`: see
    `model.Controller`. `contact` and `officer`: how a data subject reaches the controller and its data protection officer
    (GDPR 13(1)(a) and (b)); access reports show them."""

    id: Name
    name: str
    country: str
    campaigns: tuple[CampaignFile, ...]
    adheres_to: tuple[str, ...] = ()
    sistan: bool = False
    consent_after_listing: bool = False
    contact: str = ""
    officer: str = ""


_NO_COUNTRY = "ZZ"  # stands in for a controller's country that cannot be read
# Values for required keys that cannot be read, so that the rest is checked; none of them causes a fault of its own.
_STAND_INS: yaml_file.StandIns = {
    (Client, "name"): yaml_file.ByPlace,
    (Client, "controllers"): (),
    (Client, "scopes"): (),
    (CampaignFile, "id"): yaml_file.ByPlace,
    (CampaignFile, "purpose"): "service",
    (CampaignFile, "trunk_country"): "IT",
    (CampaignFile, "caller_ids"): ("+390844123456",),
    (ControllerFile, "id"): yaml_file.ByPlace,
    (ControllerFile, "name"): yaml_file.ByPlace,
    (ControllerFile, "country"): _NO_COUNTRY,
    (ControllerFile, "campaigns"): (),
}


class Line(Struct, frozen=True, kw_only=True):
    """A campaign as the gate uses it: its facts, its controller's, and the caller IDs assigned to it in E.164."""

    campaign: Campaign
    controller: Controller
    controller_name: str
    home: str
    dial_region: str
    caller_ids: dict[str, CallerId]


class Config(Struct, frozen=True, kw_only=True):
    """Everything read, checked and joined. `hash` names the whole, file by file: see `kept`. `contents` maps hashes to
    bytes, so that what a record refers to can be kept; `law_hash` names each country's file."""

    settings: Settings
    path: Path
    folder: Path
    data: Path
    laws: dict[str, Law]
    law_hash: dict[str, str]
    controllers: dict[str, ControllerFile]
    lines: dict[str, Line]
    keys: dict[str, Client]
    networks: tuple[tuple[Network, Client], ...]
    webhooks: dict[str, Profile]
    contents: dict[str, bytes]
    hash: str
    hooks: tuple[Hook, ...] = ()
    proxies: tuple[Network, ...] = ()

    @property
    def shared(self) -> bool:
        """Whether it serves several controllers, whose counts are not each other's to see."""
        return len(self.controllers) > 1

    def line_of(self, campaign: str, client: Client) -> Line | None:
        """None where this client has no such campaign: that another has one is not told either."""
        line = self.lines.get(campaign)
        return line if line is not None and line.controller.id in client.controllers else None

    def campaigns_of(self, client: Client) -> list[str]:
        return [name for name, line in self.lines.items() if line.controller.id in client.controllers]


def fixed_at_start(config: Config) -> dict[str, object]:
    """Return the settings that a gate reads when it starts, and never after."""
    told = config.settings
    doors = {"fastagi": told.fastagi, "sip": told.sip, "operations": told.operations}
    where = {name: (door.host, door.port) if door is not None else None for name, door in doors.items()}
    same = {"store": told.store, "node": told.node, "listen": told.listen, "uploads": told.uploads}
    return {"data": config.data, **same, **where}


def load(path: Path) -> Config:
    """Raises `ConfigError` with every problem found."""
    return _Reader(path).config()


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = path.resolve().parent
        self.problems: list[str] = []
        self.contents: dict[str, bytes] = {}
        self.entries: list[bytes] = []
        # Where a file was refused, what it would have named is not said to be missing.
        self.laws_whole = self.controllers_whole = True
        self.refused_controllers: set[str] = set()
        self.countries_folder = ""

    def config(self) -> Config:
        settings = self._read(self.path, Settings)
        if settings is None:
            self._read_the_rest()
            raise ConfigError(self.problems)
        laws, hashes = self._laws(self.folder / settings.countries)
        controllers = self._controllers(self.folder / settings.controllers, laws)
        lines = self._lines(controllers, laws)
        keys, networks = self._clients(settings, controllers)
        proxies = tuple(self._parsed("listen: trusted_proxies", settings.listen.trusted_proxies))
        webhooks = self._webhooks(self.folder / settings.webhooks)
        self._check(settings, laws)
        hooks = tuple(self._hooks(settings, controllers))
        if self.problems:
            raise ConfigError(self.problems)
        entries = {_digest(entry): entry for entry in self.entries}
        digest = _digest(listing := "\n".join(sorted(entries)).encode())
        return Config(
            settings=settings,
            path=self.path.resolve(),
            folder=self.folder,
            data=(self.folder / settings.data).resolve(),
            laws=laws,
            law_hash=hashes,
            controllers=controllers,
            lines=lines,
            keys=keys,
            networks=networks,
            proxies=proxies,
            webhooks=webhooks,
            contents={**self.contents, **entries, digest: listing},
            hash=digest,
            hooks=hooks,
        )

    def _check(self, settings: Settings, laws: dict[str, Law]) -> None:
        """Check keys against each other."""
        if settings.listen.tls_key and not settings.listen.tls_certificate:
            self.problems.append("listen: tls_key without tls_certificate; the gate would speak plain HTTP")
        self.problems.extend(sip_faults(settings.sip, {each.name: each.sources for each in settings.clients}))
        if settings.workers > 1 and settings.store is None:
            self.problems.append(f"workers: {ONE_PROCESS}")
        if settings.peers and settings.store is None:
            self.problems.append(
                "peers: only gates that share a `store` ask each other; give one, or leave them out"
            )
        self.problems.extend(f"{self.path.name}: {fault}" for fault in url_secrets.faults(settings))
        if settings.timestamp_url and settings.timestamp_url_file:
            self.problems.append("timestamp_url: give either this or `timestamp_url_file`")
        self.problems.extend(retention_terms.faults(settings.retention, laws))
        store = settings.store or SharedStore()
        self.problems.extend(shipping_faults(settings.shipping, (store.url, store.url_file)))

    def _read_the_rest(self) -> None:
        """Find the problems of the other files as well, where the first can be parsed but not used."""
        data = yaml_file.read(self.path)[0]
        if isinstance(data, dict):
            names = {
                name: str(data.get(name, getattr(Settings(), name)))
                for name in ("countries", "controllers", "webhooks")
            }
            laws, _ = self._laws(self.folder / names["countries"])
            self._lines(self._controllers(self.folder / names["controllers"], laws), laws)
            self._webhooks(self.folder / names["webhooks"])

    def _load(self, path: Path) -> tuple[Any, str] | None:
        data, raw, problems = yaml_file.read(path)
        self.problems.extend(f"{self._named(path)}: {problem}" for problem in problems)
        if raw is None:
            return None
        digest = _digest(raw)
        self.contents[digest] = raw
        self.entries.append(f"{path.name} {digest}".encode())
        return data, digest

    def _read(self, path: Path, kind: type[_T]) -> _T | None:
        loaded = self._load(path)
        if loaded is None:
            return None
        read, faults = yaml_file.convert(loaded[0] or {}, kind)
        self.problems.extend(f"{self._named(path)}: {fault}" for fault in faults)
        name = "" if path == self.path else _lost_name(path)
        return yaml_file.salvage(loaded[0] or {}, kind, _STAND_INS, name) if faults else read

    def _named(self, path: Path) -> str:
        """Return the file's path as an operator knows it: from the folder of dialgate.yaml, if it lies there."""
        full = path.resolve()
        return str(full.relative_to(self.folder)) if full.is_relative_to(self.folder) else str(path)

    def _files(self, folder: Path) -> list[Path]:
        found = sorted(folder.glob("*.yaml"))
        if not found:
            self.problems.append(f"{folder.name}/: no *.yaml file in this folder")
        return found

    def _laws(self, folder: Path) -> tuple[dict[str, Law], dict[str, str]]:
        self.countries_folder = self._named(folder)
        laws: dict[str, Law] = {}
        hashes: dict[str, str] = {}
        for path in self._files(folder):
            loaded = self._load(path)
            if loaded is None:
                self.laws_whole = False
                continue
            law, faults = _law(loaded[0])
            self.problems.extend(f"{self._named(path)}: {fault}" for fault in faults)
            if law is None:
                self.laws_whole = False
                continue
            if law.country in laws:
                self.problems.append(f"{self._named(path)}: a second law for {law.country}")
            laws[law.country] = law
            hashes[law.country] = loaded[1]
        return laws, hashes

    def _controllers(self, folder: Path, laws: dict[str, Law]) -> dict[str, ControllerFile]:
        controllers: dict[str, ControllerFile] = {}
        for path in self._files(folder):
            read = self._read(path, ControllerFile)
            if read is None or read.id == _lost_name(path):
                self._note_refused(path)
            if read is None:
                continue
            name = self._named(path)
            if read.id in controllers:
                self.problems.append(f"{name}: a second controller {read.id}")
            if read.country != _NO_COUNTRY:
                self.problems.extend(f"{name}: country {fault}" for fault in self._no_law(read.country, laws))
            self.problems.extend(
                f"{name}: adheres to {code!r}, which is not among the `codes` of any country"
                for code in read.adheres_to
                if self.laws_whole and not any(code in law.codes for law in laws.values())
            )
            controllers[read.id] = read
        return controllers

    def _note_refused(self, path: Path) -> None:
        """Note the id that a refused file seems to give, so that a client which names it is not reported too."""
        with suppress(OSError):
            if found := _ID.search(path.read_bytes()):
                self.refused_controllers.add(found[1].decode("utf-8", "replace"))
                return
        self.controllers_whole = False

    def _no_law(self, country: str, laws: dict[str, Law]) -> Iterator[str]:
        if country in laws:
            return
        meant = _MISTAKEN.get(country.upper(), country.upper())
        if meant in laws:
            yield f"{country} has no file among the countries; write {meant}"
        elif meant not in phone.COUNTRIES or meant != country:
            yield _no_country(country)
        elif self.laws_whole:
            there = f"there is one for {', '.join(laws)}" if laws else "there is none for any country"
            yield f"{country} has no file among the countries; {there} in {self.countries_folder}/"

    def _webhooks(self, folder: Path) -> dict[str, Profile]:
        """None, where there is no such folder."""
        profiles: dict[str, Profile] = {}
        for path in self._files(folder) if folder.is_dir() else []:
            loaded = self._load(path)
            if loaded is None:
                continue
            name = self._named(path)
            read, faults = yaml_file.convert(loaded[0] or {}, Profile)
            if read is None:
                self.problems.extend(f"{name}: {fault}" for fault in faults)
                continue
            try:
                profile = parse_profile(loaded[0])
            except WebhookError as error:
                self.problems.extend(f"{name}: {problem}" for problem in error.problems)
                continue
            if profile.id in profiles:
                self.problems.append(f"{name}: a second profile {profile.id}")
            profiles[profile.id] = profile
        return profiles

    def _lines(self, controllers: dict[str, ControllerFile], laws: dict[str, Law]) -> dict[str, Line]:
        lines: dict[str, Line] = {}
        presented: dict[str, set[str]] = {}
        for controller in controllers.values():
            for campaign in controller.campaigns:
                if campaign.id in lines:
                    self.problems.append(
                        f"campaign {campaign.id}: stands twice; give every campaign its own id"
                    )
                self.problems.extend(
                    f"campaign {campaign.id}: {fault}" for fault in _faults(campaign, laws.values())
                )
                lines[campaign.id] = self._line(controller, campaign)
                for number in lines[campaign.id].caller_ids:
                    presented.setdefault(number, set()).add(controller.id)
        for line in lines.values():
            for number, shown in line.caller_ids.items():
                line.caller_ids[number] = msgspec.structs.replace(shown, shared=len(presented[number]) > 1)
        return lines

    def _line(self, controller: ControllerFile, campaign: CampaignFile) -> Line:
        caller_ids: dict[str, CallerId] = {}
        for raw in campaign.caller_ids:
            shown = phone.parse_caller_id(raw, campaign.dial_region or controller.country)
            readable = shown.form in {"number", "short"}
            if not readable and (controller.country != _NO_COUNTRY or raw.startswith("+")):
                self.problems.append(f"campaign {campaign.id}: caller ID {raw!r} is no number")
            caller_ids[shown.number] = msgspec.structs.replace(shown, assigned=True)
        fields = {name: getattr(campaign, name) for name in Campaign.__struct_fields__ if name != "known"}
        return Line(
            campaign=Campaign(**fields),
            controller=Controller(
                id=controller.id,
                adheres_to=controller.adheres_to,
                sistan=controller.sistan,
                consent_after_listing=controller.consent_after_listing,
            ),
            controller_name=controller.name,
            home=controller.country,
            dial_region=campaign.dial_region,
            caller_ids=caller_ids,
        )

    def _clients(
        self, settings: Settings, controllers: dict[str, ControllerFile]
    ) -> tuple[dict[str, Client], tuple[tuple[Network, Client], ...]]:
        keys: dict[str, Client] = {}
        networks: list[tuple[Network, Client]] = []
        names: set[str] = set()
        for client in settings.clients:
            self._check_client(client, names, controllers)
            digest = self._key(client)
            if digest and digest in keys:
                self.problems.append(f"client {client.name}: shares its key with {keys[digest].name}")
            if digest:
                keys[digest] = client
            networks.extend((network, client) for network in self._networks(client))
        self.problems.extend(
            f"client {one.name}: source {mine} overlaps {theirs} of client {other.name}; an address is one client's"
            for (mine, one), (theirs, other) in combinations(networks, 2)
            if one is not other and mine.overlaps(theirs)
        )
        return keys, tuple(networks)

    def _check_client(self, client: Client, names: set[str], controllers: dict[str, ControllerFile]) -> None:
        if client.name in names:
            self.problems.append(f"client {client.name}: stands twice")
        names.add(client.name)
        if not (client.key_sha256 or client.key_sha256_file or client.sources):
            self.problems.append(f"client {client.name}: has neither a key nor a source address")
        if client.key_sha256 and client.key_sha256_file:
            self.problems.append(f"client {client.name}: has key_sha256 and key_sha256_file; keep one")
        self.problems.extend(
            f"client {client.name}: no such controller: {name}"
            for name in self._missing(client.controllers, controllers)
        )

    def _missing(self, names: Iterable[str], controllers: dict[str, ControllerFile]) -> list[str]:
        known = controllers.keys() | self.refused_controllers
        return [name for name in names if self.controllers_whole and name not in known]

    def _hooks(self, settings: Settings, controllers: dict[str, ControllerFile]) -> Iterator[Hook]:
        names = [hook.name for hook in settings.subscribers]
        for hook in settings.subscribers:
            faults = [f"no such controller: {name}" for name in self._missing(hook.controllers, controllers)]
            if names.count(hook.name) > 1:
                faults.append("stands twice")
            faults += filter(None, [webhook_targets.fault_of(hook)])
            try:
                secret = (self.folder / hook.secret_file).read_text("ascii")
                yield Hook(hook, webhook_targets.secret_of(secret, hook.kind))
            except (OSError, UnicodeDecodeError):
                faults.append(f"cannot read {hook.secret_file}")
            except ValueError as error:
                faults.append(str(error))
            self.problems.extend(f"subscriber {hook.name}: {fault}" for fault in faults)

    def _key(self, client: Client) -> str:
        digest = client.key_sha256
        if client.key_sha256_file:
            try:
                digest = (self.folder / client.key_sha256_file).read_text("ascii").strip()
            except FileNotFoundError:
                self.problems.append(
                    f"client {client.name}: cannot read {client.key_sha256_file}; make it with `dialgate key`"
                )
                return ""
            except (OSError, UnicodeDecodeError) as error:
                why = getattr(error, "strerror", "") or "it is no text"
                self.problems.append(f"client {client.name}: cannot read {client.key_sha256_file}: {why}")
                return ""
        if digest and not _SHA256.fullmatch(digest):
            self.problems.append(f"client {client.name}: the key's SHA-256 must be 64 hexadecimal digits")
            return ""
        return digest

    def _networks(self, client: Client) -> Iterator[Network]:
        return self._parsed(f"client {client.name}: source", client.sources)

    def _parsed(self, name: str, networks: Iterable[str]) -> Iterator[Network]:
        for network in networks:
            try:
                yield ipaddress.ip_network(network)
            except ValueError as error:
                self.problems.append(f"{name} {network!r}: {_no_network(network, error)}")


def _faults(campaign: CampaignFile, laws: Iterable[Law]) -> Iterator[str]:
    """`sector` is held to every country's list: a campaign may call abroad, where that country's bans hold."""
    for key in ("trunk_country", "dial_region"):
        value = getattr(campaign, key)
        if value not in phone.COUNTRIES and (value or key == "trunk_country"):
            yield f"{key} {_no_country(value)}"
    if not campaign.caller_ids:
        yield "caller_ids is empty; name the numbers that its calls may show"
    if campaign.starts is not None and campaign.ends is not None and campaign.ends < campaign.starts:
        yield f"ends on {campaign.ends}, before it starts"
    for law in laws:
        names = f"{law.country}: {', '.join(law.sectors)}"
        if not law.sectors or campaign.sector in law.sectors:
            continue
        if campaign.sector:
            yield f"sector {campaign.sector!r} is none of those of {names}"
        elif campaign.purpose in _OFFERS:
            yield f"an offer needs a sector, one of those of {names}"


def _no_country(value: str) -> str:
    meant = _MISTAKEN.get(value.upper(), value.upper())
    advice = f"write {meant}" if meant in phone.COUNTRIES else "write the two capitals of ISO 3166, as in IT"
    return f"{value!r} is no country; {advice}"


def _lost_name(path: Path) -> str:
    """Return the name that stands in for the id of a file from which it cannot be read."""
    return f"{path.stem}-yaml"


def _no_network(text: str, error: ValueError) -> str:
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return f"{error}; write an address or a network, as in 10.0.0.0/8"
    return f"{text} has host bits set; write {meant}"


def _law(data: Any) -> tuple[Law | None, list[str]]:
    """Return the law, or every fault in it. Where its shape is wrong, what remains is checked for other faults, unless
    the sectors or the codes that its sections refer to are among what is wrong."""
    read, faults = yaml_file.convert(data, Law)
    rest = data if read is not None else yaml_file.remainder(data, Law)
    country = data.get("country") if isinstance(data, dict) else None
    if isinstance(country, str) and not _COUNTRY.fullmatch(country):
        faults.append(f"country {_no_country(country)}")
    if read is not None or not any(fault.startswith(("sectors", "codes")) for fault in faults):
        try:
            read = parse_law(rest)
        except LawError as error:
            faults += [] if rest is yaml_file.LOST else error.problems
    return None if faults else read, faults


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
