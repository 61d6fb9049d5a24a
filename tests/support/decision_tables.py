"""The decision tables in `tests/cases/grid/*.yaml`: exactly one row answers each combination of words on the table's axes.

A table names its axes and their words. `words.yaml` defines the facts for each word; a table may define words of its own.
A row lists the words that it covers on some axes, and covers every word on the others. It gives the answer (`allow`, or the reason
codes of the denial) and the law behind it. On an axis of instants a row may give `from` and `until` instead: days in Italy, both
included. The answers are read from the law and written by hand.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from datetime import date
from functools import cached_property, reduce
from typing import Any

from msgspec import Struct

from dialgate.core.decision import decide
from dialgate.core.law import Law
from dialgate.core.local_time import day_in
from dialgate.core.model import Decision, Facts
from dialgate.tools.policy import case_facts
from tests.support import casebook, yaml_files

FOLDER = casebook.FOLDER / "grid"
WORDS = FOLDER / "words.yaml"
_NOT_AXES = {"from", "until", "answer", "law"}

Axes = dict[str, dict[str, Any]]


class GridError(ValueError):
    """The error for an invalid table: an unknown word, or a combination with no answer or several answers."""


class Words(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The words on all axes, with their facts.

    `axes` maps each axis to its words, and each word to its facts. `usual` holds the default word of each axis.
    """

    axes: Axes
    usual: dict[str, str]

    def replaced(self, own: Axes) -> "Words":
        """Return a copy in which axes defined by a table replace those with the same name."""
        return Words(axes={**self.axes, **own}, usual=self.usual)

    def facts(self, axis: str, word: str) -> dict[str, Any]:
        try:
            facts: dict[str, Any] = self.axes[axis][word]
        except KeyError:
            raise GridError(f"{axis}: {word!r} is unknown; add it to words.yaml") from None
        return facts


class Question(Struct, frozen=True, kw_only=True, dict=True):
    """One combination of words. `values` holds the facts for each word, in the order in which they are merged."""

    words: dict[str, str]
    values: list[dict[str, Any]]

    @cached_property
    def data(self) -> dict[str, Any]:
        """The facts, as parsed from YAML."""
        return reduce(case_facts.merge_values, self.values, casebook.BASE)

    @cached_property
    def facts(self) -> Facts:
        return case_facts.build_facts(self.data, self.data["at"], casebook.law_of("IT"))

    @cached_property
    def day(self) -> date:
        return day_in(casebook.law_of("IT").zone, case_facts.instant(self.data["at"]))

    def __str__(self) -> str:
        return ", ".join(self.words.values())


class Row(Struct, frozen=True, kw_only=True):
    """A row of a table. `answer` holds the reason codes of a denial, and is empty for a permitted call."""

    file: str
    table: str
    text: str
    answer: frozenset[str]
    law: str
    questions: tuple[Question, ...]

    def differences(self, law: Law) -> Iterator[str]:
        """Yield each combination that is decided differently under `law`."""
        for question in self.questions:
            decision = decide(question.facts, law)
            reasons = _reasons(decision)
            if reasons != self.answer or decision.allow != (not self.answer):
                yield f"{question}: {_text(reasons)}, not {_text(self.answer)} [{self.law}]"


def _reasons(decision: Decision) -> frozenset[str]:
    return frozenset(reason.code for reason in decision.reasons)


def _text(reasons: Iterable[str]) -> str:
    return " + ".join(sorted(reasons)) or "allow"


def read_words() -> Words:
    data = casebook.plain(yaml_files.read(WORDS))
    return Words(axes=data["axes"], usual=data["usual"])


def read_rows() -> Iterator[Row]:
    """Yield the rows of every table in every file."""
    words = read_words()
    for path in sorted(FOLDER.glob("*.yaml")):
        if path != WORDS:
            for table in casebook.plain(yaml_files.read(path)):
                yield from table_rows(path.stem, table, words)


def table_rows(file: str, table: dict[str, Any], words: Words) -> list[Row]:
    """Build the rows of one table.

    Raises `GridError` if a word or an axis is unknown, if a row is invalid, or if a combination has no row or several
    rows.
    """
    where = f"{file}: {table['table']}"
    words = words.replaced(table.get("words", {}))
    axes = {axis: _words_of(axis, named, words) for axis, named in table["axes"].items()}
    questions = [
        _question(dict(zip(axes, combination, strict=True)), table.get("given", {}), words)
        for combination in itertools.product(*axes.values())
    ]
    answered: defaultdict[int, list[Question]] = defaultdict(list)
    problems, times = [], Counter[str]()
    for place, row in enumerate(table["rows"]):
        problems += [f"{_row_text(row)}: {problem}" for problem in _row_problems(row, axes)]
        answered[place] = _select_questions(questions, row)
        times.update(map(str, answered[place]))
        if not answered[place]:
            problems.append(f"{_row_text(row)}: answers nothing")
    problems += [
        f"{question}: {times[str(question)]} rows" for question in questions if times[str(question)] != 1
    ]
    if problems:
        raise GridError("\n  ".join([where, *problems]))
    return [
        Row(
            file=file,
            table=table["table"],
            text=_row_text(row),
            answer=frozenset(_list(row["answer"])) - {"allow"},
            law=row.get("law", table.get("law", "")),
            questions=tuple(answered[place]),
        )
        for place, row in enumerate(table["rows"])
    ]


def _words_of(axis: str, named: Any, words: Words) -> list[str]:
    """Return the words that a table names on an axis.

    `all` means every word on the axis. If a word is added to the axis, the table's rows must cover the new word too.
    """
    if named == "all":
        return list(words.axes[axis])
    for word in named:
        words.facts(axis, word)
    return list(named)


def _question(chosen: dict[str, str], given: dict[str, str], words: Words) -> Question:
    complete = {**words.usual, **given, **chosen}
    values = [words.facts(axis, complete.pop(axis)) for axis in words.axes if axis in complete]
    if complete:
        raise GridError(f"{', '.join(complete)}: unknown axis; add it to words.yaml")
    return Question(words=chosen, values=values)


def _row_problems(row: dict[str, Any], axes: dict[str, list[str]]) -> Iterator[str]:
    for axis in row.keys() - _NOT_AXES:
        unknown = set(_list(row[axis])) - set(axes.get(axis, ()))
        if axis not in axes:
            yield f"{axis!r} is not an axis of the table; if it is part of a word with a comma, quote the word"
        elif unknown:
            yield f"{axis}: {', '.join(map(repr, unknown))} is not a word of this axis in the table"
    if "answer" not in row or not _list(row["answer"]):
        yield "`answer` is missing"


def _select_questions(questions: Iterable[Question], row: dict[str, Any]) -> list[Question]:
    named = {axis: set(_list(words)) for axis, words in row.items() if axis not in _NOT_AXES}
    found = [
        question
        for question in questions
        if all(question.words.get(axis) in words for axis, words in named.items())
    ]
    if "from" in row or "until" in row:
        begins, ends = row.get("from", "0001-01-01"), row.get("until", "9999-12-31")
        return [question for question in found if begins <= question.day.isoformat() <= ends]
    return found


def _row_text(row: dict[str, Any]) -> str:
    asked = [
        f"{axis} {named}" if axis in _NOT_AXES else "/".join(_list(named))
        for axis, named in row.items()
        if axis not in {"answer", "law"}
    ]
    return f"{', '.join(asked) or 'always'} -> {' + '.join(_list(row.get('answer', '?')))}"


def _list(value: Any) -> list[str]:
    return list(map(str, value if isinstance(value, list) else [value]))
