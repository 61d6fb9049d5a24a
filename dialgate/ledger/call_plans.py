"""Plans of calls: for each number, the times in a period at which a call would be permitted, and the reasons at other times.

A plan assumes that nothing is stored but what is stored now. It ends no later than the period, and lasts only until the next
entry, attempt, registry answer or configuration.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import pairwise
from typing import IO, Final, Literal, NamedTuple

import msgspec
from msgspec import Struct, field

from dialgate.core.local_time import local_rfc3339
from dialgate.core.model import UTC_PLACE, Facts, Instant
from dialgate.core.text_formats import ReasonCode, Timestamp
from dialgate.ledger.export_requests import PlanFormat
from dialgate.ledger.timelines import Moment
from dialgate.runtime import csv_text

COLUMNS: Final = ("number", "zone", "from", "until", "verdict", "code")
MEDIA: Final[Mapping[PlanFormat, str]] = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
}
_NUMBER: Final = "\x00"  # in the place of the number in the text of a plan, which many numbers share
_NUMBER_IN_JSON: Final = msgspec.json.encode(_NUMBER).decode()[1:-1]
_PLAIN: Final = re.compile(r"\+[1-9][0-9]{6,14}").fullmatch


class CallPlan(NamedTuple):
    """When calls to a number are permitted.

    Each span is its beginning and the first reason code for a denial, or "" if calls are permitted. It lasts until the next
    one begins, or until the end of the period. `zone` is the time zone of the called person, the first if there are several.
    """

    zone: str
    spans: tuple[tuple[Instant, str], ...]

    @property
    def is_open(self) -> bool:
        """Whether a call is permitted at the beginning of the period."""
        return not self.spans[0][1]

    @property
    def opens(self) -> Literal["now", "later", "never"]:
        """When calls are permitted first: at the beginning of the period, later, or not in it."""
        if self.is_open:
            return "now"
        return "never" if all(code for _, code in self.spans) else "later"


class CallWindow(Struct, frozen=True):
    """A time in which a call is permitted. `until` is not included."""

    from_: Timestamp = field(name="from")
    until: Timestamp


class DeniedTime(Struct, frozen=True):
    """A time in which a call is denied, with the first reason. `until` is not included."""

    from_: Timestamp = field(name="from")
    until: Timestamp
    code: ReasonCode


class NumberPlan(Struct, frozen=True):
    """The plan of a number, with times in `zone`. `now` says whether a call is permitted at the beginning of the period."""

    number: str
    zone: str
    now: bool
    windows: list[CallWindow]
    denied: list[DeniedTime]


class CallPlans(Struct, frozen=True):
    """The plans of a list's numbers, in the order of the list."""

    campaign: str
    at: Timestamp
    until: Timestamp
    plans: list[NumberPlan]


def plan_of(facts: Facts, moments: Sequence[Moment]) -> CallPlan:
    spans = list[tuple[Instant, str]]()
    for at, decision in moments:
        code = "" if decision.allow else decision.reasons[0].code
        if not spans or spans[-1][1] != code:
            spans.append((at, code))
    return CallPlan(next((place.zone for place in facts.places), UTC_PLACE.zone), tuple(spans))


def _times(plan: CallPlan, until: Instant) -> Iterator[tuple[str, str, str]]:
    """Yield the beginning, the end and the code of each span."""
    texts = [local_rfc3339(at, plan.zone) for at, _ in plan.spans] + [local_rfc3339(until, plan.zone)]
    for (begins, ends), (_, code) in zip(pairwise(texts), plan.spans, strict=True):
        yield begins, ends, code


def _as_json(plan: CallPlan, until: Instant) -> str:
    times = list(_times(plan, until))
    number_plan = NumberPlan(
        number=_NUMBER,
        zone=plan.zone,
        now=plan.is_open,
        windows=[CallWindow(begins, ends) for begins, ends, code in times if not code],
        denied=[DeniedTime(begins, ends, code) for begins, ends, code in times if code],
    )
    return msgspec.json.encode(number_plan).decode()


def _as_csv(plan: CallPlan, until: Instant) -> str:
    rows = (
        f"{_NUMBER},{plan.zone},{begins},{ends},{'deny' if code else 'allow'},{code}\n"
        for begins, ends, code in _times(plan, until)
    )
    return "".join(rows)


class PlanWriter:
    """A writer of plans in one format, which hashes what it writes."""

    def __init__(self, file: IO[bytes], form: PlanFormat, head: CallPlans, until: Instant) -> None:
        self._file, self._form, self._until = file, form, until
        self._digest, self._separator = sha256(), ""
        self._is_csv = form == "csv"
        if form == "csv":
            self._write(",".join(COLUMNS) + "\n")
        elif form == "json":
            self._write(msgspec.json.encode(head).decode().removesuffix("]}"))

    def write(self, numbers: Iterable[tuple[str, int]], plans: Sequence[CallPlan]) -> None:
        """Write the plan of each number, by its index in `plans`. What is no number in E.164 may be any text."""
        render, placeholder = (_as_csv, _NUMBER) if self._is_csv else (_as_json, _NUMBER_IN_JSON)
        texts = [render(plan, self._until) for plan in plans]
        lines = [
            texts[index].replace(placeholder, number if _PLAIN(number) else self._cell(number))
            for number, index in numbers
        ]
        if self._form == "json" and lines:
            self._write(self._separator + ",".join(lines))
            self._separator = ","
        else:
            self._write("".join(lines) if self._is_csv else "".join([line + "\n" for line in lines]))

    def close(self) -> str:
        """Write the end, and return the hash of the file."""
        if self._form == "json":
            self._write("]}")
        return self._digest.hexdigest()

    def _cell(self, text: str) -> str:
        return csv_text.line([text], ",") if self._is_csv else msgspec.json.encode(text).decode()[1:-1]

    def _write(self, text: str) -> None:
        content = text.encode()
        self._digest.update(content)
        self._file.write(content)
