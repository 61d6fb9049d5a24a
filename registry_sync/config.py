"""The nightly job's configuration, registries.yaml: schema and loader.

The loader reports all errors at once. Paths are relative to registries.yaml.
"""

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
from dialgate.core import periods
from dialgate.core.model import HOUR, Instant

Hours: TypeAlias = Annotated[float, Meta(gt=0, le=8760)]
Percent: TypeAlias = Annotated[float, Meta(ge=0, le=100)]
Count: TypeAlias = Annotated[int, Meta(ge=0)]
Prefix: TypeAlias = Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,6}$")]
# Without dots, because a dot separates the parts of a file name.
Part: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]

Format: TypeAlias = Literal["tps", "tps_spaced", "us_dnc"]
# The country code for each format with national numbers.
COUNTRY_OF: Final = {"tps": "44", "tps_spaced": "44", "us_dnc": "1"}


class Patience(Strict, frozen=True, kw_only=True):
    """Timeouts and retries of a transfer. The delay doubles after each attempt.

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
    """`kind: folder`: a local folder. Another program or a person exchanges its files with the registry."""

    inbox: str
    """Folder with the registry's receipts and answers, or its lists."""
    outbox: str = ""
    """Folder for packages. Only for registries under `asked`."""
    settle_seconds: Annotated[float, Meta(ge=0, le=86_400)] = 30
    """Seconds without a change after which a file counts as complete."""


class SftpSource(Strict, frozen=True, kw_only=True, tag_field="kind", tag="sftp"):
    """`kind: sftp`: folders on an SFTP server. Set exactly one of the credentials `key_file`, `password_file` and `password_env`."""

    host: str
    """Name or address of the server."""
    user: str
    """User on the server."""
    host_key: str
    """The server's public key, for example `ssh-ed25519 AAAA…`. A server with another key is refused."""
    inbox: str
    """Folder with the registry's receipts and answers, or its lists."""
    outbox: str = ""
    """Folder for packages. Only for registries under `asked`."""
    port: Annotated[int, Meta(ge=1, le=65_535)] = 22
    """Port of the server."""
    key_file: str = ""
    """File with the private key."""
    password_file: str = ""
    """File with the password."""
    password_env: str = ""
    """Environment variable with the password."""
    patience: Patience = Patience()
    """Timeouts and retries."""


class HttpsSource(Strict, frozen=True, kw_only=True, tag_field="kind", tag="https"):
    """`kind: https`: a web folder with an `index.json`; `registry_sync/sources/https.py` describes the requests."""

    url: Annotated[str, Meta(pattern=r"^https://.*/$")]
    """URL of the folder, with a slash at the end."""
    token_file: str = ""
    """File with the bearer token."""
    token_env: str = ""
    """Environment variable with the bearer token."""
    ca_file: str = ""
    """Certificate authority to trust instead of the system's."""
    patience: Patience = Patience()
    """Timeouts and retries."""


Source: TypeAlias = FolderSource | SftpSource | HttpsSource


class QueriedRegistry(Strict, frozen=True, kw_only=True):
    """A registry that answers queries about a controller's numbers. Each entry is for one registry and one controller."""

    registry: Part
    """Id of the registry in the country's file, for example `rpo`."""
    controller: Part
    """Id of the controller. Answers are valid for this controller only."""
    source: Source
    """Transport of packages and answers."""
    look_ahead_hours: Hours = 72
    """A number on a call list is submitted if its answer is missing or expires within this many hours."""
    submit_every_hours: Annotated[float, Meta(ge=0, le=8760)] = 20
    """Hours between submissions."""
    package_numbers: Annotated[int, Meta(ge=1, le=10_000_000)] = 15_000
    """Maximum numbers in a package."""
    numbers_a_run: Count = 0
    """Maximum numbers submitted in one run. 0: no limit."""
    numbers_a_year: Count = 0
    """Maximum numbers submitted in 365 days, according to your tariff. 0: no limit."""
    listed_again_days: Annotated[int, Meta(ge=1, le=3650)] = 30
    """Days after which a listed number is submitted again."""
    answer_hours: Hours = 24
    """Hours within which the registry should answer (D.P.R. 26/2022 art. 8 c. 3). A later answer raises an alarm."""
    give_up_hours: Hours = 96
    """Hours without an answer after which the numbers are submitted again."""
    refused_hours: Hours = 24
    """Hours before the numbers of a refused package are submitted again."""
    receipt: Literal["required", "optional"] = "required"
    """`optional` accepts an answer without the registry's receipt."""
    max_change: Percent = 20
    """Percentage of known answers that may change without a release by two people."""
    consultation_days: Annotated[int, Meta(ge=1, le=366)] = 30
    """Days without a consultation after which there is an alarm (L. 5/2018 art. 1 c. 12)."""
    enrolment_days: Annotated[int, Meta(ge=1, le=3650)] = 365
    """Days without a consultation after which the registry cancels your enrolment (D.P.R. 26/2022 art. 5 c. 2)."""
    enrolment_warning_days: Annotated[int, Meta(ge=1, le=365)] = 60
    """The alarm begins this many days before the enrolment is cancelled."""
    files_days: Annotated[int, Meta(ge=15, le=3650)] = 60
    """Days for which the numbers of an ended package are kept."""
    receipts_days: Annotated[int, Meta(ge=730, le=36_500)] = 1830
    """Days for which the receipt of an ended package is kept."""


class FullListRegistry(Strict, frozen=True, kw_only=True):
    """A registry that publishes full lists. Each entry is for one registry."""

    registry: Part
    """Id of the registry in the country's file."""
    format: Format
    """Format of its files; see `registry_sync/formats/`."""
    source: Source
    """Transport of its files."""
    coverage: tuple[Prefix, ...]
    """Subscribed prefixes in E.164 digits: `["44"]`, `["1407", "1321"]` (for `us_dnc`: 1 and the area code). Numbers outside these prefixes must not be called."""
    max_age_days: Annotated[int, Meta(ge=1, le=366)]
    """Days for which a version may be used."""
    warning_days: Annotated[int, Meta(ge=0, le=365)] = 3
    """The alarm begins this many days before a version becomes too old."""
    max_added: Percent = 10
    """Percentage of an area that may be added at once without a release by two people."""
    max_removed: Percent = 10
    """Percentage of an area that may be removed at once without a release by two people."""


class Registries(Strict, frozen=True, kw_only=True):
    """The configuration of the nightly job, `registry-sync run`. All errors in the file are reported at once."""

    gate: str = "dialgate.yaml"
    """The gate's configuration file. It names controllers, call lists and the snapshot folder."""
    work: str = "../.data/registries"
    """Folder for packages, receipts and the state of each package."""
    kept: Annotated[int, Meta(ge=1, le=100)] = 3
    """Earlier publications to keep for `registry-sync rollback`."""
    every_minutes: Annotated[float, Meta(gt=0, le=1440)] = 30
    """Minutes between runs of `registry-sync run` without `--once`."""
    next_run_hours: Hours = 24
    """Hours until the next run. The alarm `expiring` is raised if a number has no answer that is valid until then, and no query that will return one in time."""
    textfile: str = ""
    """Metrics file for the node exporter, for example `/var/lib/node_exporter/registry_sync.prom`."""
    pushgateway: str = ""
    """Address of a Pushgateway for the metrics."""
    signing_key_file: str = ""
    """Ed25519 key (PEM) to sign publications with: `openssl genpkey -algorithm ed25519`."""
    asked: tuple[QueriedRegistry, ...] = ()
    """Registries that answer queries about your numbers."""
    listed: tuple[FullListRegistry, ...] = ()
    """Registries that publish full lists."""


_OWN_KEYS: Final = frozenset(Registries.__struct_fields__) - frozenset(Settings.__struct_fields__)


class Plan(Struct, frozen=True, kw_only=True):
    """The loaded and checked configuration.

    `validity` maps each registry to the time for which its answers are valid by law, in milliseconds.
    """

    registries: Registries
    folder: Path
    gate: Config
    work: Path
    validity: dict[str, Instant]

    @property
    def snapshots(self) -> Path:
        return self.gate.data / "snapshots"


def load(path: Path) -> Plan:
    """Load registries.yaml and the gate's configuration. If they are invalid, raises ConfigError listing all problems."""
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
        lasts = periods.end(rule.validity, 0)
        shortest = min(lasts, validity.get(rule.id, lasts))
        validity[rule.id] = shortest
    problems += _find_problems(registries, gate, validity, folder)
    if problems:
        raise ConfigError(problems)
    return Plan(
        registries=registries,
        folder=folder,
        gate=gate,
        work=(folder / registries.work).resolve(),
        validity=validity,
    )


def load_gate(path: Path) -> Config:
    """Read the gate's configuration from dialgate.yaml, or find dialgate.yaml through registries.yaml. Raises ConfigError."""
    data = yaml_file.read(path)[0]
    keys = set(data) if isinstance(data, dict) else set[str]()
    if keys & _OWN_KEYS:
        problems: list[str] = []
        registries = _read(path, problems)
        if registries is None or problems:
            raise ConfigError(problems)
        return loader.load(path.resolve().parent / registries.gate)
    if keys and not keys & set(Settings.__struct_fields__):
        raise ConfigError([f"{path.name} is neither a dialgate.yaml nor a registries.yaml"])
    return loader.load(path)


def _problems_of_gate(path: Path) -> list[str]:
    """Return the problems in the gate's configuration, to report them together with those in registries.yaml."""
    data = yaml_file.read(path)[0]
    if not isinstance(data, dict):
        return []
    try:
        loader.load(path.resolve().parent / str(data.get("gate", Registries().gate)))
    except ConfigError as error:
        return error.problems
    return []


def _read(path: Path, problems: list[str]) -> Registries | None:
    data, _, syntax_problems = yaml_file.read(path)
    problems += [f"{path.name}: {problem}" for problem in syntax_problems]
    registries, schema_problems = yaml_file.convert(data or {}, Registries)
    problems += [f"{path.name}: {problem}" for problem in schema_problems]
    return registries


def _find_problems(
    registries: Registries, gate: Config, validity: dict[str, Instant], folder: Path
) -> Iterator[str]:
    names = [f"asked {asked.registry}, {asked.controller}" for asked in registries.asked]
    names += [f"listed {listed.registry}" for listed in registries.listed]
    yield from (
        f"{name}: there are {n} such entries; keep one" for name, n in Counter(names).items() if n > 1
    )
    for asked in registries.asked:
        where = f"asked {asked.registry}, {asked.controller}"
        yield from (f"{where}: {fault}" for fault in _queried_problems(asked, gate, validity))
        yield from (
            f"{where}: source: {fault}" for fault in _source_problems(asked.source, folder, both_ways=True)
        )
    for listed in registries.listed:
        where = f"listed {listed.registry}"
        yield from (f"{where}: {fault}" for fault in _full_list_problems(listed))
        yield from (
            f"{where}: source: {fault}" for fault in _source_problems(listed.source, folder, both_ways=False)
        )
    if registries.signing_key_file:
        yield from _secret_problems("signing_key_file", folder / registries.signing_key_file)


def _queried_problems(asked: QueriedRegistry, gate: Config, validity: dict[str, Instant]) -> Iterator[str]:
    if asked.controller not in gate.controllers:
        yield f"unknown controller. Known controllers: {', '.join(sorted(gate.controllers))}"
    if asked.registry not in validity:
        yield f"no country file contains this registry. Known registries: {', '.join(sorted(validity))}"
    elif asked.look_ahead_hours * HOUR >= validity[asked.registry]:
        yield (
            "look_ahead_hours must be less than the validity of an answer; otherwise every run would submit every number"
        )
    if asked.give_up_hours <= asked.answer_hours:
        yield "give_up_hours must be more than answer_hours"


def _full_list_problems(listed: FullListRegistry) -> Iterator[str]:
    if not listed.coverage:
        yield "coverage is empty; add at least one prefix"
    country = COUNTRY_OF[listed.format]
    for prefix in listed.coverage:
        if not prefix.startswith(country):
            yield f"coverage {prefix!r} must begin with {country}, the country code of {listed.format}"
        elif listed.format == "us_dnc" and len(prefix) != len("1AAA"):
            yield f"coverage {prefix!r} must be 1 and an area code, for example 1407"
    for shorter in listed.coverage:
        if any(other != shorter and other.startswith(shorter) for other in listed.coverage):
            yield f"coverage {shorter!r} includes another prefix; remove one of them"
    if len(set(listed.coverage)) < len(listed.coverage):
        yield "coverage contains a prefix twice; remove one of them"


def _source_problems(source: Source, folder: Path, *, both_ways: bool) -> Iterator[str]:
    if not isinstance(source, HttpsSource):
        if both_ways and not source.outbox:
            yield "outbox is missing; set it to a folder for packages"
        if source.outbox and source.outbox.rstrip("/") == source.inbox.rstrip("/"):
            yield "outbox and inbox must be different folders; otherwise packages would be read as answers"
    if isinstance(source, SftpSource):
        yield from _sftp_problems(source)
    for name in ("key_file", "password_file", "token_file", "ca_file"):
        if value := getattr(source, name, ""):
            yield from _secret_problems(name, folder / value)
    for name in ("password_env", "token_env"):
        if (value := getattr(source, name, "")) and value not in os.environ:
            yield f"{name}: the environment variable {value} is not set"


def _sftp_problems(source: SftpSource) -> Iterator[str]:
    if not source.host_key.startswith(("ssh-", "ecdsa-")):
        yield "host_key must be a public key, for example `ssh-ed25519 AAAA…`; ask the registry for it"
    credentials = (source.key_file, source.password_file, source.password_env)
    if sum(bool(credential) for credential in credentials) != 1:
        yield "set exactly one of key_file, password_file and password_env"


def _secret_problems(name: str, path: Path) -> Iterator[str]:
    if not path.is_file():
        yield f"{name}: {path} is not a file"
    elif name != "ca_file" and path.stat().st_mode & 0o077:
        yield f"{name}: other users can read {path}. Run chmod 600 {path}"


def secret(source: Source, folder: Path) -> str:
    """Return the password or token of a source, or an empty string if none is configured. Raises OSError."""
    for name in ("password_file", "token_file"):
        if value := getattr(source, name, ""):
            return (folder / value).read_text("utf-8").strip()
    for name in ("password_env", "token_env"):
        if value := getattr(source, name, ""):
            return os.environ[value]
    return ""
