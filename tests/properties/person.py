"""A model of what a person told one controller, for `test_last_word`.

The model follows the law and not the ledger. A word that permits calls has an end: the person's next word against it,
or its own last day. Words are compared by the time at which they were said. Of two words said at the same time, the one
against calls counts.

Of the consents, contracts or requests with the same id, the one with the latest date counts. With the same date it is the
same word, sent again: it can permit less than before, but not more. Only a rectification changes it otherwise.
"""

from collections.abc import Collection, Iterator
from datetime import date, datetime
from typing import Final
from zoneinfo import ZoneInfo

from msgspec import Struct, structs

from dialgate.core.model import DAY, Instant

NEVER: Final = -1
REQUEST_LASTS: Final = 30 * DAY
ANSWER_LASTS: Final = 15 * DAY  # D.P.R. 26/2022 art. 8 c. 2
BASE: Final = "base"  # the list that the house has from the beginning
TAIL_DAYS: Final = 30  # days for which a contract counts after its end


class Campaign(Struct, frozen=True):
    """A campaign as the controller's file has it now."""

    id: str
    purpose: str
    call_type: str
    goods: str


class Yes(Struct, frozen=True):
    """A consent, given at `at`. Without `goods` it covers all goods. An `opt_in` has no effect until it is confirmed."""

    at: Instant
    purposes: frozenset[str]
    call_types: frozenset[str]
    goods: frozenset[str] = frozenset()
    expires: Instant = 0
    proved: bool = True
    opt_in: bool = False

    def covers(self, campaign: Campaign) -> bool:
        return (
            campaign.purpose in self.purposes
            and campaign.call_type in self.call_types
            and (not self.goods or campaign.goods in self.goods)
        )

    def sent_again(self, again: "Yes") -> "Yes":
        """Return what is left of this consent after its repetition as `again`."""
        return Yes(
            self.at,
            self.purposes & again.purposes or self.purposes,
            self.call_types & again.call_types or self.call_types,
            (self.goods & again.goods or self.goods)
            if self.goods and again.goods
            else self.goods | again.goods,
            min(filter(None, (self.expires, again.expires)), default=0),
            self.proved or again.proved,  # the same consent, whose proof arrived later
            self.opt_in or again.opt_in,
        )


class Wish(Struct, frozen=True):
    """A request to be called about `goods`."""

    at: Instant
    goods: str
    expires: Instant

    def sent_again(self, again: "Wish") -> "Wish":
        return structs.replace(self, expires=min(self.expires, again.expires))


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


class Wrong(Struct):
    """A report that the number is another person's."""

    at: Instant
    lifted: bool = False


def day(at: Instant) -> date:
    return datetime.fromtimestamp(at / 1000, ZoneInfo("Europe/Rome")).date()


class Ledger(Struct):
    """What the controller recorded in favour of calls. An older backup replaces it.

    `said` has each consent by its id and the time that its first entry states, `rectified` those that were rectified.
    `deals` has the contracts by id and first day. `over` has the recorded last day of an id, and the day after which
    another contract with this id must begin. `lists` are the lists in force that name the directory as the origin of the
    number.
    """

    consents: dict[str, Yes] = {}
    said: dict[tuple[str, Instant], Yes] = {}
    rectified: dict[tuple[str, Instant], Yes] = {}
    confirmed: dict[str, Instant] = {}
    requests: dict[str, Wish] = {}
    deals: dict[tuple[str, date], Deal] = {}
    over: dict[str, tuple[date, date]] = {}
    lists: dict[str, bool] = {}

    def copy(self) -> "Ledger":
        return Ledger(**{name: dict(getattr(self, name)) for name in self.__struct_fields__})


class Person:
    """The words of one person. `in_directory` is whether a list in force names the directory as the origin of the number."""

    def __init__(self, *, in_directory: bool) -> None:
        self.ledger = Ledger(lists={BASE: in_directory})
        self.stops: list[Stop] = []
        self.wrong: list[Wrong] = []
        self.withdrawn: dict[str, Instant] = {}
        self.objected: list[Yes] = []  # consents that were withdrawn
        self.consulted_at: Instant = NEVER
        self.enrolled_at: Instant = NEVER
        self.is_enrolled = False

    # ---- words -------------------------------------------------------------------------------------------------------

    def consent(self, key: str, word: Yes) -> None:
        ledger, place = self.ledger, (key, word.at)
        if place in ledger.said:
            word = ledger.rectified.get(place) or ledger.said[place].sent_again(word)
        ledger.said[place] = word
        newest = ledger.consents.get(key)
        if newest is None or word.at >= newest.at:
            ledger.consents[key] = word

    def rectify_consent(self, key: str, word: Yes) -> None:
        """Replace the newest consent. Entries that state what it was replaced for now mean the right one."""
        ledger, wrong = self.ledger, self.ledger.consents[key]
        for place, said in list(ledger.said.items()):
            if place[0] == key and said.at == wrong.at:
                ledger.said[place] = ledger.rectified[place] = word
        place = (key, word.at)
        ledger.said[place] = ledger.rectified[place] = ledger.consents[key] = word

    def confirm(self, key: str, at: Instant) -> None:
        self.ledger.confirmed[key] = max(at, self.ledger.confirmed.get(key, NEVER))

    def withdraw(self, key: str, at: Instant) -> None:
        """Withdraw a consent: what was given until `at`, and the form recorded last, whatever its date."""
        given = self.ledger.consents.get(key)
        self.withdrawn[key] = max(at, given.at if given else NEVER, self.withdrawn.get(key, NEVER))
        self.objected += [
            form
            for (name, _), form in self.ledger.said.items()
            if name == key and form.at <= self.withdrawn[key]
        ]

    def request(self, key: str, word: Wish) -> None:
        earlier = self.ledger.requests.get(key)
        if earlier is None or word.at > earlier.at:
            self.ledger.requests[key] = word
        elif word.at == earlier.at:
            self.ledger.requests[key] = earlier.sent_again(word)

    def deal(self, key: str, starts: date, ends: date | None, now: Instant) -> None:
        """Record a contract. Sent again without its end, it still ends."""
        last, over = self.ledger.over.get(key, (None, date.min))
        deal = self.ledger.deals.get((key, starts), Deal(starts, now))
        ends = _first(deal.ends, ends, last if starts <= over else None)
        self.ledger.deals[key, starts] = structs.replace(deal, ends=ends)

    def end_deal(self, key: str, ends: date) -> None:
        deals = [deal for (name, _), deal in self.ledger.deals.items() if name == key]
        self.ledger.over[key] = ends, max([ends, *(deal.starts for deal in deals)])
        for deal in deals:
            self.rectify_deal(key, deal, _first(deal.ends, ends))

    def rectify_deal(self, key: str, deal: Deal, ends: date | None) -> None:
        self.ledger.deals[key, deal.starts] = structs.replace(deal, ends=ends)

    def newest_deal(self, key: str) -> Deal | None:
        deals = [deal for (name, _), deal in self.ledger.deals.items() if name == key]
        return max(deals, key=lambda deal: deal.starts, default=None)

    def answer(self, at: Instant, *, enrolled: bool) -> None:
        """Answer of the opposition registry to a consultation at `at`."""
        self.is_enrolled, self.consulted_at = enrolled, at
        if enrolled:
            self.enrolled_at = (
                at + DAY
            )  # the registry answers within a day, and reports enrolments until then

    # ---- what follows from them --------------------------------------------------------------------------------------

    def may_be_called(self, campaign: Campaign, campaigns: Collection[Campaign], now: Instant) -> bool:
        """Return whether any word permits the call after every word against it. `campaigns` are the controller's."""
        names = {other.id for other in campaigns}
        said = [
            stop
            for stop in self.stops
            if stop.lifted != "error" and (stop.campaign in {"", campaign.id} or stop.campaign not in names)
        ]
        if any(not stop.lifted for stop in said):
            return False
        stopped = max((stop.at for stop in said), default=NEVER)
        return any(self._standing(campaign, campaigns, stopped, now))

    def _standing(
        self, campaign: Campaign, campaigns: Collection[Campaign], stopped: Instant, now: Instant
    ) -> Iterator[bool]:
        """Yield for each word that permits calls whether it is later than those against it, the last of them at `stopped`."""
        is_answered = self.consulted_at <= now < self.consulted_at + ANSWER_LASTS
        moved = max((wrong.at for wrong in self.wrong if not wrong.lifted), default=NEVER)
        for key, given in self.ledger.consents.items():
            against = max(stopped, moved, self.withdrawn.get(key, NEVER), self.enrolled_at)
            is_given = not given.opt_in or given.at <= self.ledger.confirmed.get(key, NEVER) <= now
            lasts = not given.expires or now < given.expires
            yield (
                given.covers(campaign)
                and given.proved
                and is_given
                and lasts
                and given.at > against
                and is_answered
            )
        if campaign.call_type != "agent":
            return
        for asked in self.ledger.requests.values():
            yield asked.goods == campaign.goods and asked.at > max(stopped, moved) and now < asked.expires
        for deal in self.ledger.deals.values():
            against = max(stopped, moved)
            is_later = against == NEVER or (deal.entered > against and deal.starts > day(against))
            lasts = deal.ends is None or (
                deal.starts <= deal.ends and (day(now) - deal.ends).days <= TAIL_DAYS
            )
            yield campaign.purpose == "sale" and is_later and lasts and deal.starts <= day(now)
        is_open = any(self.ledger.lists.values()) and is_answered and not self.is_enrolled
        yield is_open and stopped == NEVER and not self._has_objected(campaign, campaigns)

    def _has_objected(self, campaign: Campaign, campaigns: Collection[Campaign]) -> bool:
        """Return whether the person withdrew a consent to such calls, also to goods that have another name now."""
        names = {other.goods for other in campaigns}
        return any(
            campaign.purpose in given.purposes
            and (not given.goods or campaign.goods in given.goods or not given.goods <= names)
            for given in self.objected
        )


def _first(*days: date | None) -> date | None:
    return min((day for day in days if day is not None), default=None)
