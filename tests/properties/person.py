"""A model of what a person told one controller, for `test_last_word`.

The model follows the law and not the ledger. A word that permits calls has an end: the person's next word against it,
or its own last day. Words are compared by the time at which they were said. Of two words said at the same time, the one
against calls counts.
"""

from collections.abc import Iterator
from datetime import date, datetime
from typing import Final
from zoneinfo import ZoneInfo

from msgspec import Struct, structs

from dialgate.core.model import DAY, Instant

FIBRE, ROBOT, POLL = "acme-fibre", "acme-robot", "acme-poll"  # sale by an agent, sale by a robot, statistics
CAMPAIGNS: Final = (FIBRE, ROBOT, POLL)
NEVER: Final = -1
REQUEST_LASTS: Final = 30 * DAY
TAIL_DAYS: Final = 30  # days for which a contract counts after its end


class Yes(Struct, frozen=True):
    """A consent or a call request, said at `at`."""

    at: Instant
    covers: tuple[str, ...]  # campaigns
    expires: Instant = 0
    proved: bool = True


class Deal(Struct, frozen=True):
    """A contract with a consent to marketing. `entered` is when it was first recorded."""

    starts: date
    entered: Instant
    ends: date | None = None


class Stop(Struct):
    """A revocation. `campaign` is empty if it concerns every campaign. `lifted` is the ground, if it was lifted."""

    at: Instant
    scope: str
    campaign: str
    channel: str
    lifted: str = ""


def day(at: Instant) -> date:
    return datetime.fromtimestamp(at / 1000, ZoneInfo("Europe/Rome")).date()


class Ledger(Struct):
    """What the controller recorded in favour of calls. An older backup replaces it.

    Of the entries with the same id, the latest counts, and it never covers more than before. `over` has the recorded last day of a contract, and the day
    after which another contract with the same id must begin.
    """

    consents: dict[str, Yes] = {}
    forms: dict[str, tuple[Yes, ...]] = {}  # every consent recorded with an id
    requests: dict[str, Yes] = {}
    deals: dict[str, Deal] = {}
    over: dict[str, tuple[date, date]] = {}
    entered: dict[tuple[str, date], Instant] = {}

    def copy(self) -> "Ledger":
        return Ledger(**{name: dict(getattr(self, name)) for name in self.__struct_fields__})


class Person:
    """The words of one person. `in_directory` is whether a call list names the directory as the origin of the number."""

    def __init__(self, *, in_directory: bool) -> None:
        self.in_directory = in_directory
        self.ledger = Ledger()
        self.stops: list[Stop] = []
        self.withdrawn: dict[str, Instant] = {}
        self.objected: set[str] = set()  # campaigns about which a consent was withdrawn
        self.enrolled_at: Instant = NEVER
        self.is_enrolled = False

    # ---- words -------------------------------------------------------------------------------------------------------

    def consent(self, key: str, word: Yes) -> None:
        self.ledger.consents[key] = _repeat(self.ledger.consents.get(key), word)
        self.ledger.forms[key] = (*self.ledger.forms.get(key, ()), word)

    def withdraw(self, key: str, at: Instant) -> None:
        """Withdraw a consent: what was given until `at`, and the form recorded last, whatever its date."""
        given = self.ledger.consents[key].at
        self.withdrawn[key] = max(at, given, self.withdrawn.get(key, NEVER))
        for form in self.ledger.forms[key]:
            if form.at <= self.withdrawn[key]:
                self.objected.update(form.covers)

    def request(self, key: str, word: Yes) -> None:
        self.ledger.requests[key] = _repeat(self.ledger.requests.get(key), word)

    def deal(self, key: str, starts: date, now: Instant) -> None:
        known = self.ledger.deals.get(key)
        if known is not None and starts < known.starts:
            return
        last, over = self.ledger.over.get(key, (None, date.min))
        entered = self.ledger.entered.setdefault((key, starts), now)
        self.ledger.deals[key] = Deal(starts, entered, None if starts > over else last)

    def end_deal(self, key: str, ends: date) -> None:
        deal = self.ledger.deals[key]
        ends = min(ends, deal.ends or ends)
        self.ledger.over[key] = ends, max(ends, deal.starts)
        self.ledger.deals[key] = structs.replace(deal, ends=ends)

    def answer(self, at: Instant, *, enrolled: bool) -> None:
        """Answer of the opposition registry, which reports enrolments until `at`."""
        self.is_enrolled = enrolled
        if enrolled:
            self.enrolled_at = at

    # ---- what follows from them --------------------------------------------------------------------------------------

    def may_be_called(self, campaign: str, now: Instant) -> bool:
        """Return whether any word permits the call after every word against it."""
        said = [stop for stop in self.stops if stop.campaign in {"", campaign} and stop.lifted != "error"]
        if any(not stop.lifted for stop in said):
            return False
        stopped = max((stop.at for stop in said), default=NEVER)
        return any(self._standing(campaign, stopped, now))

    def _standing(self, campaign: str, stopped: Instant, now: Instant) -> Iterator[bool]:
        """Yield for each word that permits calls whether it is later than those against it, the last of them at `stopped`."""
        for key, given in self.ledger.consents.items():
            against = max(stopped, self.withdrawn.get(key, NEVER), self.enrolled_at)
            yield campaign in given.covers and given.proved and given.at > against and _lasts(given, now)
        for asked in self.ledger.requests.values():
            yield campaign in asked.covers and asked.at > stopped and _lasts(asked, now)
        for deal in self.ledger.deals.values():
            is_later = stopped == NEVER or (deal.entered > stopped and deal.starts > day(stopped))
            lasts = deal.ends is None or (day(now) - deal.ends).days <= TAIL_DAYS
            yield campaign == FIBRE and is_later and lasts and deal.starts <= day(now)
        is_open = self.in_directory and not self.is_enrolled and campaign != ROBOT
        yield is_open and stopped == NEVER and campaign not in self.objected


def _repeat(known: Yes | None, word: Yes) -> Yes:
    """Return what counts of two entries with the same id: the later, or the narrower of two with the same time."""
    if known is None or word.at != known.at:
        return word if known is None or word.at > known.at else known
    return Yes(
        at=word.at,
        covers=tuple(campaign for campaign in known.covers if campaign in word.covers),
        expires=min(filter(None, (known.expires, word.expires)), default=0),
        proved=known.proved or word.proved,
    )


def _lasts(word: Yes, now: Instant) -> bool:
    return not word.expires or now < word.expires
