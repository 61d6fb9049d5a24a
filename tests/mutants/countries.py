"""Mutants of country files, and a search for the mutants that no case or decision table detects.

Keys, types and vocabularies come from the `Section` classes, so that new keys are covered automatically. Sources are
quotations and are not changed.
"""

import copy
import functools
import itertools
import re
import sys
import time
import types
import typing
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar, get_args, get_origin

import msgspec
from msgspec import Struct

from dialgate.core import local_time, periods
from dialgate.core.decision import decide
from dialgate.core.law import FIRST_APPLIES, SECTIONS, Law, parse_law
from dialgate.core.law_scope import Scope
from dialgate.core.law_sections import LawError, Section
from dialgate.core.model import CallType, Decision, Facts, Purpose
from dialgate.core.windows import WEEKDAYS
from dialgate.tools.policy import case_file
from dialgate.tools.policy.case_facts import merge_values
from dialgate.tools.policy.case_file import Wanted
from dialgate.tools.policy.checking import differences
from tests.mutants import survivors
from tests.mutants.survivors import Mutant
from tests.support import casebook, country_cases, decision_tables

ONE_DAY = timedelta(days=1)
# Keys without legal effect.
_WORDS = {"source", "name"}
# Keys of every section.
_COMMON = set(Section.__struct_encode_fields__)

_Path: TypeAlias = tuple[str | int, ...]


class Change(NamedTuple):
    """A mutant with `data`, the changed country file."""

    mutant: Mutant
    data: dict[str, Any]


class _Edit(NamedTuple):
    """A new value and its `path`, relative to the file, a list of sections, or a section."""

    text: str
    path: _Path
    value: Any


# ---- changes ---------------------------------------------------------------------------------------------------------


def changes(file: str, data: dict[str, Any]) -> Iterator[Change]:
    """Yield all mutants of a country file. Raises ValueError if two of them have the same name."""
    names: set[Mutant] = set()
    for where, path, edit in _edits(data):
        mutant = Mutant(file, where, edit.text)
        if mutant in names:
            raise ValueError(f"two mutants have the name {mutant}")
        names.add(mutant)
        yield Change(mutant, _edited(data, (*path, *edit.path), edit.value))


def _edits(data: dict[str, Any]) -> Iterator[tuple[str, _Path, _Edit]]:
    for edit in _general(data):
        yield "the country", (), edit
    for name in SECTIONS:
        sections = data.get(name, [])
        for index, section in enumerate(sections):
            where = place(name, section)
            yield where, (name,), _Edit("section removed", (), sections[:index] + sections[index + 1 :])
            if name in FIRST_APPLIES and index + 1 < len(sections):
                swapped = [*sections[:index], sections[index + 1], section, *sections[index + 2 :]]
                yield where, (name,), _Edit("put after the next section", (), swapped)
            kind = _section_class(name)
            for edit in _of_keys(kind, section, data):
                yield where, (name, index), edit


def place(name: str, section: dict[str, Any]) -> str:
    """Name a section by its kind, first day, source and places, because later versions of the file keep these."""
    places = ", ".join(section.get("places", ()))
    return f"{name} from {section['from']}, {section['source']}{f' ({places})' if places else ''}"


def _general(data: dict[str, Any]) -> Iterator[_Edit]:
    yield _Edit("zone: UTC", ("zone",), "UTC")
    for name, days in data["day_sets"].items():
        if not days.get("subdivision"):
            other = "FR" if data["country"] != "FR" else "IT"
            yield _Edit(f"{name}.library: another", ("day_sets", name, "library"), other)
        for day in days.get("added", []):
            less = _without(days["added"], day)
            yield _Edit(f"{name}.added: without {day}", ("day_sets", name, "added"), less)


def _section_class(name: str) -> type[Section]:
    (kind, _) = get_args(typing.get_type_hints(Law)[name])
    return typing.cast("type[Section]", kind)


def _of_keys(kind: type[Struct], values: dict[str, Any], data: dict[str, Any]) -> Iterator[_Edit]:
    """Yield the changes to each key, including omitted keys with a default.

    If a section is only cited, its omitted keys are skipped, because such a section cannot allow a call.
    """
    is_rule = "cited_for" not in values or bool(set(values) - _COMMON)
    for field in msgspec.structs.fields(kind):
        key, default = field.encode_name, None if field.default is msgspec.NODEFAULT else field.default
        if key not in _WORDS and (is_rule or key in values) and (key not in _WRITTEN or key in values):
            yield from _of_value(
                key, _plain_type(field.type), values.get(key, default), data, is_written=key in values
            )


def _of_value(key: str, hint: Any, value: Any, data: dict[str, Any], *, is_written: bool) -> Iterator[_Edit]:
    if get_origin(hint) is tuple:
        yield from _of_tuple(key, get_args(hint)[0], list(value or ()), data)
    elif get_origin(hint) is dict:
        for day, windows in value.items():
            yield _Edit(f"{key}: without {day}", (key,), {name: value[name] for name in value if name != day})
            for edit in _of_tuple(day, str, windows, data):
                yield _Edit(edit.text, (key, *edit.path), edit.value)
    elif get_origin(hint) is Literal:
        for other in get_args(hint):
            if (
                other != value
                and (key != "severity" or "recommendation" in (value, other))
                and other != "gate"
            ):
                yield _Edit(f"{key}: {other}", (key,), other)
    elif hint is bool:
        yield _Edit(f"{key}: {str(not value).lower()}", (key,), not value)
    elif is_written:
        yield from _of_scalar(key, hint, value)


def _of_scalar(key: str, hint: Any, value: Any) -> Iterator[_Edit]:
    if hint is int:
        for other in (value - 1, value + 1):
            yield _Edit(f"{key}: {other}", (key,), other)
    elif hint is date:
        for other in (value - ONE_DAY, value + ONE_DAY):
            yield _Edit(f"{key}: {other}", (key,), other)
    elif isinstance(value, str) and periods.is_period(value):
        number = re.sub(r"\D", "", value)
        for other in (int(number) - 1, int(number) + 1):
            changed = value.replace(number, str(other))
            yield _Edit(f"{key}: {changed}", (key,), changed)
    elif isinstance(hint, type) and issubclass(hint, Struct):
        yield from _inside(key, hint, value, {})
    else:
        yield _Edit(f"{key}: another", (key,), f"{value}x")


def _of_tuple(key: str, of: Any, entries: list[Any], data: dict[str, Any]) -> Iterator[_Edit]:
    if isinstance(of, type) and issubclass(of, Struct):
        yield from _of_structs(key, of, entries, data)
        return
    for entry in entries:
        yield _Edit(f"{key}: without {entry}", (key,), _without(entries, entry))
        if _is_day(key):
            yield from _moved_windows(key, entries, entry)
        elif key == "prefixes":
            yield from _other_prefixes(key, entries, entry)
    for word in _vocabulary(key, of, data):
        if word not in entries and key not in _ADDED_HARMLESSLY and (entries or key not in _SCOPES):
            yield _Edit(f"{key}: and {word}", (key,), [*entries, word])
        elif not entries and key in _SCOPES:
            # An absent scope means all; this change excludes one value.
            everything = _vocabulary(key, of, data)
            yield _Edit(f"{key}: all but {word}", (key,), _without(everything, word))


def _of_structs(key: str, of: type[Struct], entries: list[Any], data: dict[str, Any]) -> Iterator[_Edit]:
    names = Counter(entry.get("name") for entry in entries)
    for index, entry in enumerate(entries):
        name = f"{key} {entry.get('name', index)}"
        if names[entry.get("name")] > 1:
            name += f" {entry.get('prefix', index)}"
        yield _Edit(f"{name} removed", (key,), entries[:index] + entries[index + 1 :])
        for edit in _inside(name, of, entry, data):
            yield _Edit(edit.text, (key, index, *edit.path[1:]), edit.value)


_SCOPES = {"purposes", "call_types", "callees"}
_WRITTEN = {
    "counting",
    "not_sistan",
    "not_traits",
    "places",
    "kinds",
    "dial_modes",
    "unless",
    "renewal",
    "requires",
    "required",
    "country",
    "holder",
    "in_directory",
    "exclusive",
    "serves",
    "other_proofs",
}  # keys that are changed only where a section has them
_ADDED_HARMLESSLY = {"cited_for", "separate"}  # only the citation changes, or a consent covers less


def _vocabulary(key: str, of: Any, data: dict[str, Any]) -> list[str]:
    of = _plain_type(of)
    if get_origin(of) is Literal:
        without_effect = {"invalid", "emergency"} | (set() if data.get("relations") else {"relation"})
        return [word for word in get_args(of) if word not in without_effect]
    if key in {"sectors", "traits", "not_traits"}:
        return list(data.get(key.removeprefix("not_"), []))
    if key == "places":
        return list(data.get("regions", []))
    if _is_day(key):
        return ["03:00-04:00"]
    return []


def _is_day(key: str) -> bool:
    return key.partition("-")[0] in {*WEEKDAYS, "holiday", "pre_holiday"}


def _other_prefixes(key: str, entries: list[str], prefix: str) -> Iterator[_Edit]:
    for other in (prefix[:-1], f"{prefix}0", f"{prefix}5"):
        replaced = [other if entry == prefix else entry for entry in entries]
        yield _Edit(f"{key}: {other} instead of {prefix}", (key,), replaced)


def _moved_windows(key: str, entries: list[str], window: str) -> Iterator[_Edit]:
    for side, minutes in ((0, -1), (0, 1), (1, -1), (1, 1)):
        times = window.split("-")
        hours, past = map(int, times[side].split(":"))
        moved = hours * 60 + past + minutes
        if 0 <= moved <= 24 * 60:
            times[side] = f"{moved // 60:02}:{moved % 60:02}"
            other = "-".join(times)
            yield _Edit(f"{key}: {other}", (key,), [other if entry == window else entry for entry in entries])


def _inside(name: str, kind: type[Struct], value: dict[str, Any], data: dict[str, Any]) -> Iterator[_Edit]:
    """Yield the changes to the nested mapping at key `name`, with paths that begin with this key."""
    for edit in _of_keys(kind, value, data):
        yield _Edit(f"{name}.{edit.text}", (name, *edit.path), edit.value)


def _plain_type(hint: Any) -> Any:
    """Strip `Annotated` and `| None` from a type."""
    if get_origin(hint) is typing.Annotated:
        return _plain_type(get_args(hint)[0])
    if get_origin(hint) in (typing.Union, types.UnionType):
        return _plain_type(get_args(hint)[0])
    return hint


def _without(values: Iterable[Any], value: Any) -> list[Any]:
    return [item for item in values if item != value]


def _edited(data: Any, path: _Path, value: Any) -> Any:
    """Return a copy with the value at `path` replaced. Other uses of the same YAML alias are not changed."""
    if not path:
        return value
    made = copy.copy(data)
    first, *rest = path
    made[first] = _edited(made[first] if rest else None, tuple(rest), value)
    return made


# ---- detection -------------------------------------------------------------------------------------------------------


class Example(Struct, frozen=True):
    """The facts of a case, or of one combination of a table.

    `usual` is the law without a mutant. `own` holds the changes that the case makes to the country file.
    """

    about: str
    facts: Facts
    usual: Law
    own: dict[str, Any]
    is_as_wanted: Callable[[Decision], bool]

    def fails(self, data: dict[str, Any], law: Law) -> bool:
        if self.own:
            try:
                law = parse_law(merge_values(data, self.own))
            except LawError:
                return True
        return not self.is_as_wanted(decide(_recompute_places(self.facts, self.usual, law), law))


class Notice:
    """The examples of a country, which detect changes to its country file.

    Only examples to which a changed section applies are decided again. An example that detects a change moves to the
    front, together with the other examples of its scope: a few examples detect most changes, and the next change is
    often in the same section.
    """

    def __init__(self, country: str) -> None:
        self._usual = casebook.law_of(country)
        self._own: list[Example] = []
        self._alike: dict[Scope, list[Example]] = {}
        for example in _examples(country):
            if example.own:
                self._own.append(example)
            else:
                self._alike.setdefault(Scope.from_facts(example.facts, self._usual.sectors), []).append(
                    example
                )

    def notices(self, data: dict[str, Any], *, everything: bool = False) -> str:
        """Return the first example that fails, or an empty string.

        With `everything`, examples to which no changed section applies are decided too.
        """
        try:
            law = parse_law(data)
        except LawError as error:
            return f"invalid country file: {error}"
        concerned: Iterable[list[Example]] = (
            self._alike.values() if everything else _concerned(self._alike, self._usual, law)
        )
        for examples in itertools.chain(concerned, [self._own]):
            for index, example in enumerate(examples):
                if example.fails(data, law):
                    examples.insert(0, examples.pop(index))
                    if not example.own:
                        scope = Scope.from_facts(example.facts, self._usual.sectors)
                        self._alike = {scope: self._alike[scope], **self._alike}
                    return example.about
        return ""


@functools.cache
def notice_of(country: str) -> Notice:
    return Notice(country)


_Any = TypeVar("_Any")


def _concerned(alike: dict[Scope, list[_Any]], usual: Law, law: Law) -> Iterator[list[_Any]]:
    """Yield the lists of calls whose decisions can differ between `law` and `usual`.

    `alike` holds one list for each scope.
    """
    differences = [_difference(getattr(law, name), getattr(usual, name)) for name in SECTIONS]
    moved = (law.zone, law.day_sets) != (usual.zone, usual.day_sets)
    for scope, several in alike.items():
        if moved or any(_binding(new, scope) != _binding(old, scope) for new, old in differences):
            yield several


def _difference(
    new: Sequence[Section], old: Sequence[Section]
) -> tuple[Sequence[Section], Sequence[Section]]:
    """Return both lists without their common beginning and end."""
    while new and old and new[0] == old[0]:
        new, old = new[1:], old[1:]
    while new and old and new[-1] == old[-1]:
        new, old = new[:-1], old[:-1]
    return new, old


def _binding(sections: Sequence[Section], scope: Scope) -> list[Section]:
    return [section for section in sections if section.binds(scope)]


def _examples(country: str) -> Iterator[Example]:
    for case in _cases(country):
        if not case.pending:
            about, facts, law = f"{case.file}: {case.about}", casebook.facts_of(case), casebook.case_law(case)
            yield Example(about, facts, law, case.law, functools.partial(_is_as_wanted, case.want))
    if country == "IT":
        usual = casebook.law_of(country)
        for row in decision_tables.read_rows():
            for question in row.questions:
                about = f"{row.file}: {row.table}: {row.text}"
                yield Example(about, question.facts, usual, {}, functools.partial(_has_reasons, row.answer))


def _cases(country: str) -> tuple[case_file.PolicyCase, ...]:
    return casebook.all_cases() if country == "IT" else country_cases.cases_of(country)


def _has_reasons(wanted: frozenset[str], decision: Decision) -> bool:
    return decision.allow != bool(wanted) and {reason.code for reason in decision.reasons} == wanted


def _is_as_wanted(want: Wanted, decision: Decision) -> bool:
    return not differences(want, decision)


def _recompute_places(facts: Facts, usual: Law, law: Law) -> Facts:
    """Return the facts of the call under `law`.

    If `law` and `usual` have a different zone or different day sets, recompute the day and the places.
    """
    if (law.zone, law.day_sets) == (usual.zone, usual.day_sets):
        return facts
    places = tuple(local_time.place(place.zone, law.day_sets, facts.at) for place in facts.places)
    return msgspec.structs.replace(facts, today=local_time.day_in(law.zone, facts.at), places=places)


# ---- effect of a survivor --------------------------------------------------------------------------------------------


class Effect(NamedTuple):
    """The effect of a change.

    - `LOOSER`: a denied call becomes allowed. `example` holds the reasons for the denial and the facts of the call.
    - `stricter`: an allowed call becomes denied, and no denied call becomes allowed.
    - `other words`: every verdict stays the same, but other parts of a decision change.
    """

    word: Literal["LOOSER", "stricter", "other words", "no effect seen"]
    example: str = ""


class Probes:
    """The facts of the cases, combined with every purpose and call type, and the decision on each combination."""

    def __init__(self, country: str) -> None:
        self._usual = casebook.law_of(country)
        self._alike: dict[Scope, list[tuple[Facts, Decision]]] = {}
        for facts in _probes(country):
            scope = Scope.from_facts(facts, self._usual.sectors)
            self._alike.setdefault(scope, []).append((facts, decide(facts, self._usual)))

    def effect(self, data: dict[str, Any]) -> Effect:
        law = parse_law(data)
        is_stricter = is_different = False
        for facts, before in itertools.chain.from_iterable(_concerned(self._alike, self._usual, law)):
            after = decide(_recompute_places(facts, self._usual, law), law)
            if after.allow and not before.allow:
                reasons = ", ".join(reason.code for reason in before.reasons)
                return Effect("LOOSER", f"{reasons}: {_text(facts)}")
            is_stricter |= before.allow and not after.allow
            is_different |= after != before
        return Effect("stricter" if is_stricter else "other words" if is_different else "no effect seen")


def _probes(country: str) -> Iterator[Facts]:
    replace = msgspec.structs.replace
    seen = set[bytes]()
    for case in _cases(country):
        if case.pending or case.law or "/shared/" in case.file or case.file.endswith("/scopes"):
            continue  # shared cases and those about scopes enumerate purposes and call types themselves
        facts = casebook.facts_of(case)
        for purpose in get_args(Purpose):
            for call_type in get_args(CallType):
                campaign = replace(facts.campaign, purpose=purpose, call_type=call_type)
                probe = replace(facts, campaign=campaign, call_type=call_type)
                name = msgspec.json.encode(probe)
                if name not in seen:
                    seen.add(name)
                    yield probe


def _text(facts: Facts) -> str:
    kept = msgspec.to_builtins(facts)
    kept.pop("places", None)
    return msgspec.json.encode(kept).decode()


# ---- a run -----------------------------------------------------------------------------------------------------------


class Run(NamedTuple):
    tried: list[Change]
    survived: list[Change]


def run(names: Iterable[str], judged: Collection[Mutant] = (), step: int = 1) -> Run:
    """Try every mutant of these country files, or one in `step`, except the mutants in `judged`.

    The gate denies all calls under a draft until an operator accepts the draft. Therefore a mutant of a draft counts as
    a survivor only if it allows a call that the draft denies. The calls come from the case book, and are tried with
    every purpose and call type.
    """
    tried: list[Change] = []
    survived: list[Change] = []
    for country in names:
        data = casebook.law_data(country)
        notice = notice_of(country)
        failed = notice.notices(data, everything=True)
        if failed:
            raise RuntimeError(f"fails without a mutant: {failed}")
        made = list(changes(f"config/countries/{country.lower()}.yaml", data))[::step]
        unnoticed = [
            change for change in made if change.mutant not in judged and not notice.notices(change.data)
        ]
        if data.get("draft"):
            probes = Probes(country)
            unnoticed = [change for change in unnoticed if probes.effect(change.data).word == "LOOSER"]
        tried += made
        survived += unnoticed
    return Run(tried, survived)


def countries(*, drafts: bool) -> list[str]:
    """Return the countries with a finished file; with `drafts`, also those with a draft."""
    names = sorted(path.stem.upper() for path in casebook.COUNTRIES.glob("*.yaml"))
    return [name for name in names if drafts or not casebook.law_data(name).get("draft")]


def main() -> int:
    tried, survived = run(sys.argv[1:] or countries(drafts=True))
    known = survivors.read()
    surviving = {change.mutant for change in survived}
    files = {change.mutant.file for change in tried}
    unlisted = sorted(surviving - known.keys())
    outdated = sorted(mutant for mutant in known.keys() - surviving if mutant.file in files)
    print(
        f"{len(tried)} mutants of country files, {len(survived)} survived, {len(unlisted)} of them without a judgement"
        f" ({time.process_time():.0f} s of processor time)"
    )
    if unlisted:
        probes = {
            country: Probes(country) for country in {Path(mutant.file).stem.upper() for mutant in unlisted}
        }
        print(
            "\nLOOSER: the mutant allows a call that the file denies; write a case. Add the others with a judgement to survivors.yaml.\n"
        )
        for change in survived:
            if change.mutant in unlisted:
                effect = probes[Path(change.mutant.file).stem.upper()].effect(change.data)
                print(
                    f"{effect.word}: {change.mutant}",
                    f"  {effect.example}" * bool(effect.example),
                    sep="\n",
                    flush=True,
                )
        print(survivors.as_entries(unlisted))
    for mutant in outdated:
        print(f"killed; remove it from survivors.yaml: {mutant}")
    return int(bool(unlisted or outdated))


if __name__ == "__main__":
    sys.exit(main())
