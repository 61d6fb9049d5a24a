"""The format of policy cases, and its reader.

A case states a call, what is held about the number and the wanted decision. It lists only what differs from the `base` of its folder.
The reader reports each fault with the file, the line and the name that was probably meant.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final, Protocol

import yaml
from msgspec import Struct, field, structs

from dialgate.config import yaml_file
from dialgate.config.validation_messages import field_names
from dialgate.core import local_time
from dialgate.core.former_names import CurrentNames
from dialgate.core.law import Law
from dialgate.core.model import Call, Facts
from dialgate.core.name_suggestions import did_you_mean
from dialgate.core.reasons import REASONS
from dialgate.core.rules import RULES
from dialgate.tools.policy.case_facts import INSTANTS, CaseFault, merge_values

BASE_FILE: Final = "base.yaml"
_WANTED_INSTANTS: Final = frozenset({"not_before", "valid_until"})
_PATH: Final = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")
# The keys of a case that `each` may name. Its other names are paths into the facts.
_OF_CASE: Final = {"at": "at", "to": "to", "from": "from_", "campaign": "campaign", "place": "place", "declared": "declared"}  # fmt: skip
_NOT_WRITTEN: Final = frozenset({"at", "today", "places"})  # they follow from the call


class Wanted(Struct, forbid_unknown_fields=True, kw_only=True):
    """The wanted decision in full. An empty instant means that the decision has none."""

    decision: str
    """`allow` or `deny`."""
    reasons: list[str] = []
    """Reason codes of the denial, in the order of the rules."""
    basis: str | None = None
    """Legal basis of an allow, such as `consent:c1`."""
    outcomes: dict[str, str] = {}
    """Rules that matter, each with `pass`, `skip` or `deny`."""
    valid_until: str | None = None
    """End of the allow."""
    not_before: str | None = None
    """End of the denial."""
    cites: dict[str, str] = {}
    """Reason codes, each with the severity and the beginning of the cited source, such as `statute GDPR art. 7(1)`."""


class WrittenCase(Struct, forbid_unknown_fields=True, kw_only=True):
    """A case as it stands in a file, before `each` is expanded and `base` is added."""

    about: str
    """One sentence that says what is expected. Reports show it."""
    at: str
    """Time of the call: RFC 3339, or a local time at the `place`, such as `2026-11-24T10:00`."""
    want: str | list[str] | dict[str, Any]
    """The wanted decision: `allow`, or the reason codes of the denial, or a mapping (see below)."""
    campaign: str = ""
    """Campaign of the configuration, whose purpose, sector, controller and caller IDs apply."""
    to: str = ""
    """Called number, or its name in `numbers`."""
    from_: str | None = field(name="from", default=None)
    """Caller ID to show."""
    place: str = ""
    """Where the person is: a time zone, or a region that `zones` or `numbers` names. Local times are those of this place."""
    declared: str = ""
    """Place, such as `US-CA`, that the call lists declare for the number."""
    facts: dict[str, Any] = {}
    """What is held about the number and the call (see below)."""
    law: dict[str, Any] = {}
    """Changes of the country file for this case only: a list of sections replaces the whole list."""
    each: dict[str, list[Any]] | list[dict[str, list[Any]]] = {}
    """Lists of values, each under the path of its fact, with dots. The case is repeated for every combination; a list of mappings is combined mapping by mapping."""
    pending: str = ""
    """Why the law on file cannot express the case yet. A pending case is read, but not checked."""
    traps: list[int] = []
    """Numbers for the reader's own list of difficult questions."""


class CaseBase(Struct, forbid_unknown_fields=True, kw_only=True):
    """The content of `base.yaml`, which the cases of its folder share."""

    numbers: dict[str, str] = {}
    """Telephone numbers by name."""
    base: dict[str, Any] = {}
    """What every case starts from: `to`, `from`, `campaign`, and facts."""
    zones: dict[str, str] = {}
    """Time zones of regions, such as `US-CA: America/Los_Angeles`."""
    cases: list[WrittenCase] = []
    """Cases, if all fit in one file."""


class PolicyCase(Struct, kw_only=True):
    """A case with complete facts, except that the tests of the law build some from parts.

    `to` and `shown` are the called number in E.164 and the caller ID as sent; `names` are those of the controller's campaigns.
    """

    about: str
    at: str
    want: Wanted
    facts: dict[str, Any] = {}
    law: dict[str, Any] = {}
    country: str = "IT"
    file: str = ""
    line: int = 0
    to: str = ""
    shown: str = ""
    pending: str = ""
    names: CurrentNames | None = None


class CallFacts(Struct, kw_only=True):
    """What follows from a call alone. `to` is its number in E.164, or "" if it is no number."""

    facts: dict[str, Any]
    law: Law
    to: str = ""
    names: CurrentNames | None = None


class CallSource(Protocol):
    """Makes the facts of a call: from a configuration, or from a country file alone."""

    def call(self, call: Call, /) -> CallFacts: ...


class CaseFile:
    """One YAML file, read once, with the line of each item."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data, raw, self.problems = yaml_file.read(path)
        self._raw = raw or b""

    @cached_property
    def _root(self) -> yaml.Node | None:
        root: yaml.Node | None = yaml.compose(self._raw, Loader=yaml.CSafeLoader)
        return root

    def line(self, path: str) -> int:
        """Return the line of the value at a path such as `[3].want`, or of the nearest value that contains it."""
        node = self._root
        line = node.start_mark.line + 1 if node else 1
        for key, place in _PATH.findall(path):
            node = _inner(node, key, int(place or 0))
            if node is None:
                break
            line = node.start_mark.line + 1
        return line

    def at(self, path: str, message: str) -> str:
        return f"{self.path}:{self.line(path)}: {message}"


def _inner(node: yaml.Node | None, key: str, place: int) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        return next((value for name, value in node.value if name.value == key), None)
    if isinstance(node, yaml.SequenceNode) and not key and place < len(node.value):
        item: yaml.Node = node.value[place]
        return item
    return None


def read_cases(paths: Iterable[Path], calls: CallSource) -> tuple[list[PolicyCase], list[str]]:
    """Read all cases in files and folders, and return them with a message for each fault."""
    cases: list[PolicyCase] = []
    problems: list[str] = []
    bases: dict[Path, CaseBase] = {}
    for path in case_files(paths):
        file = CaseFile(path)
        problems += (f"{path}: {problem}" for problem in file.problems)
        if file.problems:
            continue
        folder = path.parent
        if folder not in bases:
            bases[folder], faults = _read_base(folder / BASE_FILE)
            problems += faults
        at, items = ("", file.data) if path.name != BASE_FILE else (".cases", (file.data or {}).get("cases"))
        if not isinstance(items or [], list):
            problems.append(
                file.at("", "write a list of cases, each with `about`, `at`, `want` and its call")
            )
            continue
        for place, item in enumerate(items or []):
            found, faults = _read_item(file, f"{at}[{place}]", item, bases[folder], calls)
            cases += found
            problems += faults
    return cases, list(dict.fromkeys(problems))


def case_files(paths: Iterable[Path]) -> list[Path]:
    found = (sorted(path.rglob("*.yaml")) if path.is_dir() else [path] for path in paths)
    return list(dict.fromkeys(itertools.chain.from_iterable(found)))


def _read_base(path: Path) -> tuple[CaseBase, list[str]]:
    if not path.exists():
        return CaseBase(), []
    file = CaseFile(path)
    data = file.data if isinstance(file.data, dict) else {}
    # The cases are read one by one, so that each fault names its line.
    base, faults = yaml_file.convert({**data, "cases": []}, CaseBase)
    return base or CaseBase(), [file.at(_path_of(fault), fault) for fault in faults]


def _path_of(fault: str) -> str:
    """Return the path with which a message of `yaml_file.convert` begins, or the key that it names."""
    path, _, rest = fault.partition(": ")
    key = re.search(r"`([^`]+)`", rest or path)
    return ".".join(filter(None, [path if rest and " " not in path else "", key[1] if key else ""]))


def _read_item(
    file: CaseFile, at: str, item: Any, base: CaseBase, calls: CallSource
) -> tuple[list[PolicyCase], list[str]]:
    written, faults = yaml_file.convert(item, WrittenCase)
    if written is None:
        return [], [file.at(f"{at}.{_path_of(fault)}", fault) for fault in faults]
    try:
        return list(expand(written, base, calls, str(file.path), file.line(at))), []
    except CaseFault as fault:
        return [], [file.at(f"{at}.{fault.path}", str(fault))]


# ---- one case --------------------------------------------------------------------------------------------------------


def expand(
    written: WrittenCase, base: CaseBase, calls: CallSource, file: str, line: int = 0
) -> Iterator[PolicyCase]:
    """Yield the case, once for each combination of `each`. Raises `CaseFault`."""
    usual = base.base.get("campaign", "")
    named = {"campaign"} if isinstance(usual, str) else set()  # otherwise it holds facts of the campaign
    shared = {key: value for key, value in base.base.items() if key not in named}
    if named:
        written = structs.replace(written, campaign=written.campaign or usual)
    for chosen in _combinations(written):
        about = f"{written.about} ({', '.join(map(str, chosen.values()))})" if chosen else written.about
        own = {key: chosen.pop(name) for name, key in _OF_CASE.items() if name in chosen}
        facts = merge_values(shared, written.facts)
        for path, value in chosen.items():
            facts = merge_values(facts, _nested(path.split("."), value))
        yield _case(structs.replace(written, about=about, facts=facts, **own), base, calls, file, line)


def _combinations(written: WrittenCase) -> Iterator[dict[str, Any]]:
    for each in written.each if isinstance(written.each, list) else [written.each]:
        for values in itertools.product(*each.values()):
            yield dict(zip(each, values, strict=True))


def _nested(path: list[str], value: Any) -> Any:
    return {path[0]: _nested(path[1:], value)} if path else value


def _case(written: WrittenCase, base: CaseBase, calls: CallSource, file: str, line: int) -> PolicyCase:
    facts = dict(written.facts)
    usual_to, usual_from = facts.pop("to", ""), facts.pop("from", "")
    to = written.to or (written.place if written.place in base.numbers else usual_to)
    shown = usual_from if written.from_ is None else written.from_
    call_type = facts.get("call_type")
    call = calls.call(
        Call(to=base.numbers.get(to, to), from_=shown, campaign=written.campaign, call_type=call_type)
    )
    law, declared = call.law, written.declared
    zone = base.zones.get(written.place, written.place) or law.zone
    number = call.facts.get("number", {})
    if written.place in law.regions and written.place not in {
        number.get("region"),
        *number.get("places", ()),
    }:
        if number.get("places"):
            raise CaseFault("place", f"{to} is not a number of {written.place}")
        declared = declared or written.place
    facts = merge_values(call.facts, facts)
    if declared:
        facts["listings"] = [{**listing, "place": declared} for listing in facts.get("listings", ())]
    if not written.pending:
        _require_known(facts, "")
    try:
        at = _zoned(written.at, zone)
        facts, want = (
            _zoned_inside(facts, zone, INSTANTS),
            _zoned_inside(written.want, zone, _WANTED_INSTANTS),
        )
    except (ValueError, KeyError) as error:
        raise CaseFault("at", f"{error}; write a time such as 2026-11-24T10:00") from None
    return PolicyCase(
        about=written.about, at=at, want=_wanted(want), facts=facts, law=written.law, country=law.country, file=file, line=line,
        to=call.to, shown=shown, pending=written.pending, names=call.names,
    )  # fmt: skip


def _wanted(want: str | list[str] | dict[str, Any]) -> Wanted:
    if not isinstance(want, dict):
        reasons = [want] if isinstance(want, str) else want
        want = {"decision": "allow"} if reasons == ["allow"] else {"decision": "deny", "reasons": reasons}
    wanted, faults = yaml_file.convert(want, Wanted)
    if wanted is None:
        raise CaseFault("want", "; ".join(faults))
    for names, known, kind in (
        ([wanted.decision], ("allow", "deny"), "decision"),
        ([*wanted.reasons, *wanted.cites], REASONS, "reason code"),
        (wanted.outcomes, [name for name, _ in RULES], "rule"),
        (wanted.outcomes.values(), ("pass", "skip", "deny"), "outcome"),
    ):
        for name in names:
            if name not in known:
                raise CaseFault("want", f"unknown {kind} `{name}`{did_you_mean(name, known)}")
    return wanted


_names_at = cache(lambda path: frozenset(field_names(Facts, path)))


def _require_known(value: Any, path: str) -> None:
    """Raise `CaseFault` for a key that no fact has. Facts themselves ignore such keys, because old programs read new records."""
    if isinstance(value, Mapping):
        known = _names_at(re.sub(r"\[\d+\]", "[", path))
        for name, inner in value.items():
            if not isinstance(name, str):  # YAML reads `on` as true
                raise CaseFault(f"facts{path}", f'a key is read as {name}; put it in quotes, such as "on"')
            if known and name not in known and (path or name != "zones"):
                place = f"facts{path}"
                raise CaseFault(place, f"unknown key `{name}`{did_you_mean(name, known - _NOT_WRITTEN)}")
            _require_known(inner, f"{path}.{name}")
    elif isinstance(value, list | tuple):
        for position, inner in enumerate(value):
            _require_known(inner, f"{path}[{position}]")


def _zoned(text: str, zone: str) -> str:
    """Add the UTC offset of `zone` to a local time. Return any other text, such as `-4d`, unchanged."""
    if not text or text.startswith("-"):
        return text
    at = datetime.fromisoformat(text)
    return at.isoformat() if at.tzinfo else local_time.rfc3339(local_time.instant_in(zone, at))


def _zoned_inside(value: Any, zone: str, names: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return {
            key: _zoned(item, zone)
            if key in names and isinstance(item, str)
            else _zoned_inside(item, zone, names)
            for key, item in value.items()
        }
    return [_zoned_inside(item, zone, names) for item in value] if isinstance(value, list) else value
