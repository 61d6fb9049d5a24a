"""The schema and loader of the nightly job's configuration, registries.yaml.

The loader reports all errors at once. Paths are relative to registries.yaml.
"""

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
from dialgate.core.numbering_plan import NumberingPlan, numbering_plan
from registry_sync import source_settings
from registry_sync.formats import layout as layouts
from registry_sync.formats.layout import LAYOUTS, FileLayout
from registry_sync.source_settings import Source

Hours: TypeAlias = Annotated[float, Meta(gt=0, le=8760)]
Percent: TypeAlias = Annotated[float, Meta(ge=0, le=100)]
Count: TypeAlias = Annotated[int, Meta(ge=0)]
Prefix: TypeAlias = Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,6}$")]
# Without dots, because a dot separates the parts of a file name.
Part: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]

QueryFormatName: TypeAlias = Literal["rpo", "csv"]
ListFormatName: TypeAlias = Literal["tps", "tps_spaced", "us_dnc", "csv"]


class QueriedRegistry(Strict, frozen=True, kw_only=True):
    """A registry that answers queries about numbers. Each entry in `asked` configures one registry for one controller."""

    registry: Part
    """Registry ID from the country's file, for example `rpo`."""
    controller: Part
    """Controller ID. Answers are valid for this controller only."""
    source: Source
    """Transport for packages and answers."""
    format: QueryFormatName = "rpo"
    """File format. `rpo`: Italy's registry. `csv`: the layout in `layout`."""
    layout: FileLayout | None = None
    """File layout, for `format: csv`."""
    look_ahead_hours: Hours = 72
    """A number on a call list is submitted if its answer is missing or expires within this many hours."""
    submit_every_hours: Annotated[float, Meta(ge=0, le=8760)] = 20
    """Hours between submissions."""
    package_numbers: Annotated[int, Meta(ge=1, le=10_000_000)] = 15_000
    """Maximum numbers in a package."""
    numbers_a_run: Count = 0
    """Maximum numbers submitted in one run. 0: no limit."""
    numbers_a_year: Count = 0
    """Maximum distinct numbers submitted in a calendar year, according to your tariff's band. To submit one of them again is free. 0: no limit."""
    consultations_a_year: Count = 0
    """Maximum packages submitted in a calendar year, if your tariff limits consultations. 0: no limit."""
    listed_again_days: Annotated[int, Meta(ge=1, le=3650)] = 30
    """Days after which a listed number is submitted again."""
    answer_hours: Hours = 24
    """Hours within which the registry should answer (D.P.R. 26/2022 art. 8 c. 3). A later answer raises an alarm."""
    give_up_hours: Hours = 96
    """Hours without an answer after which the numbers are submitted again."""
    refused_hours: Hours = 24
    """Hours before the numbers from a refused package are submitted again, at most `files_days`."""
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
    """Days for which numbers from an ended package are kept."""
    receipts_days: Annotated[int, Meta(ge=730, le=36_500)] = 1830
    """Days for which the receipt for an ended package is kept."""

    @property
    def used_layout(self) -> FileLayout:
        """The configured layout, or that of the format."""
        return self.layout or LAYOUTS.get(self.format, LAYOUTS["rpo"])


class FullListRegistry(Strict, frozen=True, kw_only=True):
    """A registry that publishes full lists. Each entry in `listed` configures one registry."""

    registry: Part
    """Registry ID from the country's file."""
    format: ListFormatName
    """File format. `tps`, `tps_spaced`: the UK registers' two layouts. `us_dnc`: the US national register. `csv`: the layout in `layout`."""
    source: Source
    """Transport for its files."""
    coverage: tuple[Prefix, ...]
    """Subscribed prefixes in E.164 digits: `["44"]`, `["1407", "1321"]` (for `us_dnc`: 1 and the area code). Numbers outside these prefixes must not be called."""
    max_age_days: Annotated[int, Meta(ge=1, le=366)]
    """Days for which a version may be used."""
    layout: FileLayout | None = None
    """File layout, for `format: csv`."""
    file_name: Annotated[str, Meta(pattern=r"^([^/]*\{date\}[^/]*)?$")] = ""
    """File names. `{date}`: the version date, as YYYYMMDD or YYYY-MM-DD. `{area}`: a prefix of `coverage` without the country code, if each file has one area. `*`: any text. Empty: any .txt, .csv or .zip with a date in its name, which contains all areas. Not for `us_dnc`."""
    warning_days: Annotated[int, Meta(ge=0, le=365)] = 3
    """The alarm begins this many days before a version becomes too old."""
    max_added: Percent = 10
    """Percentage of an area that may be added at once without a release by two people."""
    max_removed: Percent = 10
    """Percentage of an area that may be removed at once without a release by two people."""

    @property
    def used_layout(self) -> FileLayout | None:
        """The configured layout, or that of the format. None for `us_dnc`, and for `csv` without a layout."""
        return self.layout or LAYOUTS.get(self.format)

    @property
    def country(self) -> str:
        without_layout = "US" if self.format == "us_dnc" else ""
        return self.used_layout.country if self.used_layout else without_layout

    @property
    def plan(self) -> NumberingPlan | None:
        return numbering_plan(self.country)


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
    """Hours until the next run. The alarm `expiring` is raised if a number has no answer that is valid until then, and no query for it is under way."""
    textfile: str = ""
    """Metrics file for the node exporter, for example `/var/lib/node_exporter/registry_sync.prom`."""
    pushgateway: str = ""
    """Pushgateway address for the metrics."""
    signing_key_file: str = ""
    """Ed25519 key (PEM) to sign publications with: `openssl genpkey -algorithm ed25519`."""
    asked: tuple[QueriedRegistry, ...] = ()
    """Registries that answer queries about your numbers."""
    listed: tuple[FullListRegistry, ...] = ()
    """Registries that publish full lists."""


_OWN_KEYS: Final = frozenset(Registries.__struct_fields__) - frozenset(Settings.__struct_fields__)


class Plan(Struct, frozen=True, kw_only=True):
    """The loaded and checked configuration.

    `validity` maps each registry to the period for which its answers are legally valid, in milliseconds.
    `zones` maps each registry to the time zone in its country's file. `voiding` contains the registries of
    countries where enrolment voids earlier consents. `about_disconnection` contains the registries that report
    whether a number was disconnected.
    """

    registries: Registries
    folder: Path
    gate: Config
    work: Path
    validity: dict[str, Instant]
    voiding: frozenset[str]
    about_disconnection: frozenset[str]
    zones: dict[str, str]

    @property
    def snapshots(self) -> Path:
        return self.gate.data / "snapshots"


def load(path: Path) -> Plan:
    """Load registries.yaml and the gate's configuration. Raises ConfigError, which lists all problems."""
    problems: list[str] = []
    folder = path.resolve().parent
    registries = _read(path, problems)
    if registries is None:
        raise ConfigError([*problems, *_problems_of_gate(path)])
    try:
        gate = loader.load(folder / registries.gate)
    except ConfigError as error:
        raise ConfigError([*problems, *error.problems]) from None
    validity = _validity(gate)
    problems += _find_problems(registries, gate, validity, folder)
    if problems:
        raise ConfigError(problems)
    return Plan(
        registries=registries,
        folder=folder,
        gate=gate,
        work=(folder / registries.work).resolve(),
        validity=validity,
        voiding=frozenset(
            rule.id
            for law in gate.laws.values()
            if any(section.void_by_enrolment for section in law.consents)
            for rule in law.registries
            if rule.about == "opposition"
        ),
        about_disconnection=_about_disconnection(gate),
        zones={rule.id: law.zone for law in gate.laws.values() for rule in law.registries},
    )


def find_problems(path: Path, gate: Config) -> list[str]:
    """Return the problems in a registries.yaml, checked against the gate's configuration.

    Return an empty list if the file cannot be read.
    """
    if yaml_file.read(path)[0] is None:
        return []
    problems: list[str] = []
    registries = _read(path, problems)
    if registries is not None:
        found = _find_problems(registries, gate, _validity(gate), path.resolve().parent)
        problems += [f"{path.name}: {problem}" for problem in found]
    return problems


def _about_disconnection(gate: Config) -> frozenset[str]:
    rules = (rule for law in gate.laws.values() for rule in law.registries)
    return frozenset(rule.id for rule in rules if rule.about == "disconnection")


def _validity(gate: Config) -> dict[str, Instant]:
    validity: dict[str, Instant] = {}
    for law in gate.laws.values():
        for rule in law.registries:
            lasts = periods.end(rule.validity, 0)
            validity[rule.id] = min(lasts, validity.get(rule.id, lasts))
    return validity


def find_registries(path: Path) -> Path:
    """Return `path` if it is a registries.yaml. For a dialgate.yaml, return the registries.yaml beside it."""
    data = yaml_file.read(path)[0]
    is_own = isinstance(data, dict) and not _OWN_KEYS.isdisjoint(data)
    return path if is_own else path.with_name("registries.yaml")


def load_gate(path: Path) -> Config:
    """Load the gate's configuration from a dialgate.yaml, or from the dialgate.yaml that a registries.yaml names.

    Raises ConfigError.
    """
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
    """Return the problems in the gate's configuration, to report together with the problems in registries.yaml."""
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
        f"{name}: there are {n} entries with this name; keep one"
        for name, n in Counter(names).items()
        if n > 1
    )
    for asked in registries.asked:
        where = f"asked {asked.registry}, {asked.controller}"
        yield from (f"{where}: {fault}" for fault in _queried_problems(asked, gate, validity))
        yield from (f"{where}: {fault}" for fault in _layout_problems(asked))
        yield from (
            f"{where}: source: {fault}"
            for fault in source_settings.problems(asked.source, folder, both_ways=True)
        )
    for listed in registries.listed:
        where = f"listed {listed.registry}"
        yield from (f"{where}: {fault}" for fault in _full_list_problems(listed, validity))
        yield from (f"{where}: {fault}" for fault in _layout_problems(listed))
        yield from (
            f"{where}: source: {fault}"
            for fault in source_settings.problems(listed.source, folder, both_ways=False)
        )
    if registries.signing_key_file:
        yield from source_settings.secret_problems("signing_key_file", folder / registries.signing_key_file)


def _queried_problems(asked: QueriedRegistry, gate: Config, validity: dict[str, Instant]) -> Iterator[str]:
    if asked.controller not in gate.controllers:
        yield f"unknown controller. Known controllers: {', '.join(sorted(gate.controllers))}"
    if asked.registry not in validity:
        yield _unknown_registry(validity)
    elif asked.look_ahead_hours * HOUR >= validity[asked.registry]:
        yield (
            "look_ahead_hours must be less than an answer's validity; otherwise every run would submit every number"
        )
    if asked.registry in _about_disconnection(gate) and (asked.layout is None or asked.layout.date is None):
        yield "queries to this registry contain a day, so `layout` needs a `date` column in `request`"
    country = asked.used_layout.country
    laws = [law for law in gate.laws.values() if any(rule.id == asked.registry for rule in law.registries)]
    if laws and not any(country in law.covered for law in laws):
        yield f"its format is for numbers from {country}, but the registry is in {laws[0].country}; set `format: csv` and a `layout`"
    if asked.give_up_hours <= asked.answer_hours:
        yield "give_up_hours must be more than answer_hours"


def _unknown_registry(validity: dict[str, Instant]) -> str:
    return f"no country file names this registry. Known registries: {', '.join(sorted(validity))}"


def _layout_problems(entry: QueriedRegistry | FullListRegistry) -> Iterator[str]:
    if entry.format == "csv" and entry.layout is None:
        yield "format csv needs a `layout` with the columns of the files, such as {country: BE, number: 1}"
    elif entry.format != "csv" and entry.layout is not None:
        yield f"format {entry.format} has its own layout; remove `layout`, or set `format: csv`"
    elif entry.layout is not None:
        queried = isinstance(entry, QueriedRegistry)
        yield from (f"layout: {problem}" for problem in layouts.find_problems(entry.layout, queried=queried))


def _full_list_problems(listed: FullListRegistry, validity: dict[str, Instant]) -> Iterator[str]:
    if listed.layout and listed.registry not in validity:
        yield _unknown_registry(validity)
    if not listed.coverage:
        yield "coverage is empty; add at least one prefix"
    if listed.file_name and listed.format == "us_dnc":
        yield "file_name: us_dnc has its own file names; remove it"
    plan = listed.plan
    for prefix in listed.coverage if plan else ():
        if plan and not prefix.startswith(plan.country_code):
            yield f"coverage {prefix!r} must begin with {plan.country_code}, the country code of {listed.country}"
        elif listed.format == "us_dnc" and len(prefix) != len("1AAA"):
            yield f"coverage {prefix!r} must be 1 followed by an area code, for example 1407"
    yield from _overlap_problems(listed)


def _overlap_problems(listed: FullListRegistry) -> Iterator[str]:
    for shorter in listed.coverage:
        if any(other != shorter and other.startswith(shorter) for other in listed.coverage):
            yield f"coverage {shorter!r} includes another prefix; remove one of them"
    if listed.layout and listed.layout.date is not None and len(listed.coverage) > 1:
        yield "coverage: a list with a `date` column must have one prefix, such as the country code"
    if len(set(listed.coverage)) < len(listed.coverage):
        yield "coverage contains a prefix twice; remove one of them"
