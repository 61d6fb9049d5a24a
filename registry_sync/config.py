"""What the operator sets for the nightly job: registries.yaml; typed, frozen, and refused whole when anything in it is
wrong, with every error at once. Paths are relative to the file they stand in."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta, Struct

from dialgate.config import loader, yaml_file
from dialgate.config.configuration import Config, ConfigError
from dialgate.config.fields import Strict
from dialgate.config.settings import Settings
from dialgate.core.model import DAY, HOUR, Instant

Hours: TypeAlias = Annotated[float, Meta(gt=0, le=8760)]
Percent: TypeAlias = Annotated[float, Meta(ge=0, le=100)]
Count: TypeAlias = Annotated[int, Meta(ge=0)]
Prefix: TypeAlias = Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,6}$")]
# It becomes part of a file's name, where a dot separates.
Part: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]

Format: TypeAlias = Literal["tps", "tps_spaced", "us_dnc"]
# How a country's numbers begin, for the formats that carry national numbers.
COUNTRY_OF: Final = {"tps": "44", "tps_spaced": "44", "us_dnc": "1"}


class Patience(Strict, frozen=True, kw_only=True):
    """Timeouts and retries of a transfer. The wait doubles after each attempt, and each is drawn between half of it and the whole."""

    timeout_seconds: Annotated[float, Meta(gt=0, le=3600)] = 60
    """Seconds to wait for a response."""
    transfer_seconds: Annotated[float, Meta(gt=0, le=86_400)] = 3600
    """Seconds for one file."""
    attempts: Annotated[int, Meta(ge=1, le=20)] = 4
    """Attempts after a failure that may pass: a connection that fails or breaks, a busy server."""
    retry_seconds: Annotated[float, Meta(gt=0, le=600)] = 2
    """Seconds until the second attempt."""


class FolderSource(Strict, frozen=True, kw_only=True, tag_field="kind", tag="folder"):
    """`kind: folder`: a folder that somebody else empties and fills."""

    inbox: str
    """Where receipts and answers, or the registry's lists, are put."""
    outbox: str = ""
    """Where packages are put. Only for registries that are asked."""
    settle_seconds: Annotated[float, Meta(ge=0, le=86_400)] = 30
    """Seconds for which a file must not have changed before it is taken."""


class SftpSource(Strict, frozen=True, kw_only=True, tag_field="kind", tag="sftp"):
    """`kind: sftp`: folders on an SFTP server. Give one of the three credentials; a password comes from a file or the environment, never from here."""

    host: str
    """Name or address of the server."""
    user: str
    """User on the server."""
    host_key: str
    """The server's public key, as in `ssh-ed25519 AAAA…`. Any other is refused."""
    inbox: str
    """Where receipts and answers, or the registry's lists, are read."""
    outbox: str = ""
    """Where packages are written. Only for registries that are asked."""
    port: Annotated[int, Meta(ge=1, le=65_535)] = 22
    """Port of the server."""
    key_file: str = ""
    """Private key."""
    password_file: str = ""
    """File that contains the password."""
    password_env: str = ""
    """Environment variable that contains the password."""
    patience: Patience = Patience()
    """Timeouts and retries."""


class HttpsSource(Strict, frozen=True, kw_only=True, tag_field="kind", tag="https"):
    """`kind: https`: a web folder with an `index.json`, described in `registry_sync/sources/https.py`."""

    url: Annotated[str, Meta(pattern=r"^https://.*/$")]
    """Address of the folder, with a slash at the end."""
    token_file: str = ""
    """File that contains the token."""
    token_env: str = ""
    """Environment variable that contains the token."""
    ca_file: str = ""
    """The only certificate authority that is trusted, instead of the machine's."""
    patience: Patience = Patience()
    """Timeouts and retries."""


Source: TypeAlias = FolderSource | SftpSource | HttpsSource


class Asked(Strict, frozen=True, kw_only=True):
    """A registry that answers about the numbers that a controller submits. One entry for each registry and controller."""

    registry: Part
    """The registry, as the country's law names it: `rpo`."""
    controller: Part
    """On whose behalf. Its answers serve no other controller."""
    source: Source
    """Where packages go and answers come from."""
    look_ahead_hours: Hours = 72
    """A number on a call list is submitted when its answer is missing, or ends within this many hours."""
    submit_every_hours: Annotated[float, Meta(ge=0, le=8760)] = 20
    """Hours between submissions."""
    package_numbers: Annotated[int, Meta(ge=1, le=10_000_000)] = 15_000
    """Numbers in a package."""
    numbers_a_run: Count = 0
    """Maximum of numbers submitted in one run. 0: no limit."""
    numbers_a_year: Count = 0
    """Maximum of numbers submitted in 365 days, by your tariff. 0: no limit."""
    listed_again_days: Annotated[int, Meta(ge=1, le=3650)] = 30
    """Days after which a listed number is submitted again."""
    answer_hours: Hours = 24
    """Hours in which the registry answers (D.P.R. 26/2022 art. 8 c. 3). Later is an alarm."""
    give_up_hours: Hours = 96
    """Hours after which the numbers are submitted again."""
    refused_hours: Hours = 24
    """Hours for which the numbers of a refused package rest."""
    receipt: Literal["required", "optional"] = "required"
    """`optional` accepts an answer without the registry's receipt."""
    max_change: Percent = 20
    """Per cent of known answers that may change before two people must release it."""
    consultation_days: Annotated[int, Meta(ge=1, le=366)] = 30
    """Days without a consultation after which there is an alarm (L. 5/2018 art. 1 c. 12)."""
    enrolment_days: Annotated[int, Meta(ge=1, le=3650)] = 365
    """Days after the last consultation at which the registry strikes you off (D.P.R. 26/2022 art. 5 c. 2)."""
    enrolment_warning_days: Annotated[int, Meta(ge=1, le=365)] = 60
    """Days before that from which there is an alarm."""
    files_days: Annotated[int, Meta(ge=15, le=3650)] = 60
    """Days for which the numbers of an ended package are kept."""
    receipts_days: Annotated[int, Meta(ge=730, le=36_500)] = 1830
    """Days for which its receipt is kept."""


class Listed(Strict, frozen=True, kw_only=True):
    """A registry that publishes everybody who is listed. One entry for each registry."""

    registry: Part
    """The registry, as the country's law names it."""
    format: Format
    """Format of its files; see `registry_sync/formats/`."""
    source: Source
    """Where its files come from."""
    coverage: tuple[Prefix, ...]
    """What was subscribed, in E.164 digits: `["44"]`, `["1407", "1321"]` (for `us_dnc` each an area code after the 1). Elsewhere no number is clear."""
    max_age_days: Annotated[int, Meta(ge=1, le=366)]
    """Days for which a version may be used."""
    warning_days: Annotated[int, Meta(ge=0, le=365)] = 3
    """Days before that from which there is an alarm."""
    max_added: Percent = 10
    """Per cent of an area that may be added at once before two people must release it."""
    max_removed: Percent = 10
    """Per cent that may be removed."""


class Registries(Strict, frozen=True, kw_only=True):
    """The nightly job, `registry-sync run`. Every mistake in it is reported at once."""

    gate: str = "dialgate.yaml"
    """The gate's configuration: controllers, call lists, where to publish."""
    work: str = "../.data/registries"
    """Packages, receipts, and the progress of each."""
    kept: Annotated[int, Meta(ge=1, le=100)] = 3
    """Earlier publications that can be published again."""
    every_minutes: Annotated[float, Meta(gt=0, le=1440)] = 30
    """Minutes between runs where the job is its own scheduler."""
    next_run_hours: Hours = 24
    """Hours until the next run. A number whose answer ends before, or that has none, is an alarm, unless its answer is under way or will be by then."""
    textfile: str = ""
    """File for the node exporter, as `/var/lib/node_exporter/registry_sync.prom`."""
    pushgateway: str = ""
    """Address of a Pushgateway."""
    signing_key_file: str = ""
    """Ed25519 key (PEM) to sign publications with: `openssl genpkey -algorithm ed25519`."""
    asked: tuple[Asked, ...] = ()
    """Registries that answer about numbers you submit."""
    listed: tuple[Listed, ...] = ()
    """Registries that publish everybody who is listed."""


_OWN_KEYS: Final = frozenset(Registries.__struct_fields__) - frozenset(Settings.__struct_fields__)


class Plan(Struct, frozen=True, kw_only=True):
    """Everything read, checked and joined. `validity` is, for each registry, how long its answer holds by the law on
    file, in milliseconds."""

    registries: Registries
    folder: Path
    gate: Config
    work: Path
    validity: dict[str, Instant]

    @property
    def snapshots(self) -> Path:
        return self.gate.data / "snapshots"


def load(path: Path) -> Plan:
    """Raises ConfigError with every problem found."""
    problems: list[str] = []
    folder = path.resolve().parent
    registries = _read(path, problems)
    if registries is None:
        raise ConfigError([*problems, *_problems_of_gate(path)])
    try:
        gate = loader.load(folder / registries.gate)
    except ConfigError as error:
        raise ConfigError([*problems, *error.problems]) from None
    rules = [rule for law in gate.laws.values() for rule in law.registries]
    validity: dict[str, Instant] = {}
    for rule in rules:
        shortest = min(rule.validity_days * DAY, validity.get(rule.id, rule.validity_days * DAY))
        validity[rule.id] = shortest
    problems += _faults(registries, gate, validity, folder)
    if problems:
        raise ConfigError(problems)
    return Plan(
        registries=registries,
        folder=folder,
        gate=gate,
        work=(folder / registries.work).resolve(),
        validity=validity,
    )


def gate_of(path: Path) -> Config:
    """Read the gate's configuration from dialgate.yaml, or from the registries.yaml that names it. Raises ConfigError."""
    data = yaml_file.read(path)[0]
    keys = set(data) if isinstance(data, dict) else set[str]()
    if keys & _OWN_KEYS:
        problems: list[str] = []
        registries = _read(path, problems)
        if registries is None or problems:
            raise ConfigError(problems)
        return loader.load(path.resolve().parent / registries.gate)
    if keys and not keys & set(Settings.__struct_fields__):
        raise ConfigError([f"{path.name} is neither a gate's dialgate.yaml nor a registries.yaml"])
    return loader.load(path)


def _problems_of_gate(path: Path) -> list[str]:
    """Return those of the gate's configuration, which a registries.yaml that cannot be used may still name."""
    data = yaml_file.read(path)[0]
    if not isinstance(data, dict):
        return []
    try:
        loader.load(path.resolve().parent / str(data.get("gate", Registries().gate)))
    except ConfigError as error:
        return error.problems
    return []


def _read(path: Path, problems: list[str]) -> Registries | None:
    data, _, found = yaml_file.read(path)
    problems += [f"{path.name}: {problem}" for problem in found]
    read, faults = yaml_file.convert(data or {}, Registries)
    problems += [f"{path.name}: {fault}" for fault in faults]
    return read


def _faults(
    registries: Registries, gate: Config, validity: dict[str, Instant], folder: Path
) -> Iterator[str]:
    names = [f"asked {each.registry}, {each.controller}" for each in registries.asked]
    names += [f"listed {each.registry}" for each in registries.listed]
    yield from (f"{name}: stands twice" for name, times in Counter(names).items() if times > 1)
    for asked in registries.asked:
        where = f"asked {asked.registry}, {asked.controller}"
        yield from (f"{where}: {fault}" for fault in _asked_faults(asked, gate, validity))
        yield from (
            f"{where}: source: {fault}" for fault in _source_faults(asked.source, folder, both_ways=True)
        )
    for listed in registries.listed:
        where = f"listed {listed.registry}"
        yield from (f"{where}: {fault}" for fault in _listed_faults(listed))
        yield from (
            f"{where}: source: {fault}" for fault in _source_faults(listed.source, folder, both_ways=False)
        )
    if registries.signing_key_file:
        yield from _secret_faults("signing_key_file", folder / registries.signing_key_file)


def _asked_faults(asked: Asked, gate: Config, validity: dict[str, Instant]) -> Iterator[str]:
    if asked.controller not in gate.controllers:
        yield f"no such controller; there are {', '.join(sorted(gate.controllers))}"
    if asked.registry not in validity:
        yield f"no country's law asks for this registry; it asks for {', '.join(sorted(validity))}"
    elif asked.look_ahead_hours * HOUR >= validity[asked.registry]:
        yield "look_ahead_hours is no less than an answer holds: every number would be asked about in every run"
    if asked.give_up_hours <= asked.answer_hours:
        yield "give_up_hours must be more than answer_hours"


def _listed_faults(listed: Listed) -> Iterator[str]:
    if not listed.coverage:
        yield "coverage is empty: every number would be outside it"
    country = COUNTRY_OF[listed.format]
    for prefix in listed.coverage:
        if not prefix.startswith(country):
            yield f"coverage {prefix!r} does not begin with {country}, as the numbers of {listed.format} do"
        elif listed.format == "us_dnc" and len(prefix) != len("1AAA"):
            yield f"coverage {prefix!r} is no area code after a 1, as in 1407"
    for shorter in listed.coverage:
        if any(other != shorter and other.startswith(shorter) for other in listed.coverage):
            yield f"coverage {shorter!r} covers another of its prefixes; keep one"
    if len(set(listed.coverage)) < len(listed.coverage):
        yield "coverage names a prefix twice"


def _source_faults(source: Source, folder: Path, *, both_ways: bool) -> Iterator[str]:
    if not isinstance(source, HttpsSource):
        if both_ways and not source.outbox:
            yield "outbox is missing: where are the packages to go?"
        if source.outbox and source.outbox.rstrip("/") == source.inbox.rstrip("/"):
            yield "outbox and inbox are one folder: what was sent would be taken for an answer"
    if isinstance(source, SftpSource):
        yield from _sftp_faults(source)
    for name in ("key_file", "password_file", "token_file", "ca_file"):
        if value := getattr(source, name, ""):
            yield from _secret_faults(name, folder / value)
    for name in ("password_env", "token_env"):
        if (value := getattr(source, name, "")) and value not in os.environ:
            yield f"{name}: the environment has no {value}"


def _sftp_faults(source: SftpSource) -> Iterator[str]:
    if not source.host_key.startswith(("ssh-", "ecdsa-")):
        yield "host_key is no public key, as in `ssh-ed25519 AAAA…`; ask the registry for it"
    if sum(bool(each) for each in (source.key_file, source.password_file, source.password_env)) != 1:
        yield "give one of key_file, password_file and password_env"


def _secret_faults(name: str, path: Path) -> Iterator[str]:
    if not path.is_file():
        yield f"{name}: {path} is no file"
    elif name != "ca_file" and path.stat().st_mode & 0o077:
        yield f"{name}: {path} can be read by others than its owner: chmod 600 {path}"


def secret(source: Source, folder: Path) -> str:
    """The password or token, or nothing. Raises OSError."""
    for name in ("password_file", "token_file"):
        if value := getattr(source, name, ""):
            return (folder / value).read_text("utf-8").strip()
    for name in ("password_env", "token_env"):
        if value := getattr(source, name, ""):
            return os.environ[value]
    return ""
