"""What is looked up about a call before the store is read, and how its facts follow from it."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Final, NamedTuple

from msgspec import Struct

from dialgate.config.configuration import Config
from dialgate.config.controllers import Line
from dialgate.core import local_time
from dialgate.core.law import Law
from dialgate.core.location import Addresses, locate
from dialgate.core.model import (
    Call,
    CallType,
    Facts,
    Instant,
    Known,
    Listing,
    Number,
    Place,
    RegistryAnswer,
)
from dialgate.crypto import masking
from dialgate.crypto.keys import Keys, MonthKeys
from dialgate.gate.caller_ids import Presentation

_ONE_DAY: Final = timedelta(days=1)


class FileFacts(Struct, frozen=True):
    """The call lists that contain a number, and each registry's answer about it."""

    listings: tuple[Listing, ...]
    registries: tuple[RegistryAnswer, ...]


class Question(Struct, frozen=True, gc=False):
    """A call with its number parsed, its campaign and caller ID looked up, and what the mapped files say.

    `spoken` is the text that the log stores encrypted: the E.164 number, followed by the received text if it differs.
    `subjects` holds the number's two keys in the ledger: one for this controller, one for all controllers. `shadow_until` is the
    end of shadow mode for this client and campaign, or 0.
    """

    call: Call
    client: str  # name of the API key
    interface: str  # the protocol, such as `http`
    line: Line
    presentation: Presentation
    e164: str
    spoken: str
    number: Number
    zones: tuple[str, ...]
    country: str
    call_type: CallType
    files: FileFacts
    subjects: tuple[bytes, ...]
    key: bytes
    shadow_until: Instant = 0

    @property
    def call_id(self) -> str:
        """The dialer's call id without the called number and any unassigned caller ID, which are personal data."""
        return self._without_numbers(self.call.call_id)

    @property
    def agent(self) -> str:
        """The agent's id, likewise, if the controller records it."""
        agent = self.call.agent
        return self._without_numbers(agent) if agent and self.line.records_agents else ""

    def _without_numbers(self, text: str) -> str:
        call, shown = self.call, self.presentation
        text = masking.without(text, self.e164) if self.e164 else masking.without_raw(text, call.to)
        if shown.fact.assigned or shown.fact.form == "short":
            return text
        return masking.without(text, shown.number) if shown.number else masking.without_raw(text, call.from_)


class _LocalDay(NamedTuple):
    """A calendar day in a time zone. `place` converts instants of that day to local times."""

    start: Instant
    end: Instant
    date: date
    place: Place


class CallTerms:
    """The laws of one configuration and the local days in them, each computed once. Reads no file but the time zones'."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._days: dict[tuple[str, str], _LocalDay] = {}  # by time zone and country of the law

    def prepare(self, at: Instant) -> None:
        """Precompute the local day of `at` in each country, so that no call has to wait for the computation."""
        for law in self.config.laws.values():
            self._day(law.zone, law, at)

    def facts(self, question: Question, known: Known, at: Instant) -> Facts:
        """Return the facts of a call whose number has the stored state `known`."""
        law = self.config.laws[question.country]
        line, files, number, zones = question.line, question.files, question.number, question.zones
        addresses = Addresses.from_listings(files.listings, known)
        if addresses.places:
            number, zones = locate(number, zones, addresses, law)
        return Facts(
            at=at,
            today=self.today(law, at),
            number=number,
            controller=line.controller,
            campaign=line.campaign,
            call_type=question.call_type,
            caller_id=question.presentation.fact,
            known=known,
            places=tuple(self._day(zone, law, at).place for zone in zones),
            listings=files.listings,
            registries=files.registries,
            former_campaigns=line.names.former_campaigns(known),
            former_goods=line.names.former_goods(known),
        )

    def same_until(self, facts: Facts, law: Law) -> Instant:
        """Return the first instant at which a local date in these facts changes."""
        zones = (law.zone, *[place.zone for place in facts.places])
        return min(self._day(zone, law, facts.at).end for zone in zones)

    def today(self, law: Law, at: Instant) -> date:
        return self._day(law.zone, law, at).date

    def _day(self, zone: str, law: Law, at: Instant) -> _LocalDay:
        key = (zone, law.country)
        day = self._days.get(key)
        if day is None or not day.start <= at < day.end:
            place, today = local_time.place(zone, law.day_sets, at), local_time.day_in(zone, at)
            # Where clocks skip an hour at midnight, `place` cannot tell when the next day begins.
            start, end = (local_time.midnight(zone, date_) for date_ in (today, today + _ONE_DAY))
            day = self._days[key] = _LocalDay(start, end, today, place)
        return day


class BatchQuery:
    """A batch's questions and what they share. Answers given before `since` are ignored.

    `subjects` and `keys` are what to read from the store. `month` has the keys of the records, `node_keys` those of ids.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the values that `Gatherer.query` gathers
        self,
        questions: Sequence[Question],
        now: Instant,
        since: Instant,
        terms: CallTerms,
        snapshot: str,
        node_keys: Keys,
        month: MonthKeys,
    ) -> None:
        self.questions, self.now, self.since = questions, now, since
        self.terms, self.snapshot, self.node_keys, self.month = terms, snapshot, node_keys, month
        self.subjects = [subject for question in questions for subject in question.subjects]
        self.keys = [question.key for question in questions if question.key]
