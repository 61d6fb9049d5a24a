"""From a question to facts: everything a rule may know, looked up once, before any rule runs.

Rules never look anything up; this is where it is done. Nothing here decides, and nothing here knows the clock.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import date
from functools import cache
from pathlib import Path

import structlog
from msgspec import Struct, structs

from dialgate import calllist, localtime, phone
from dialgate.keys import Keys
from dialgate.law import Law
from dialgate.model import (
    STRICTNESS,
    Call,
    CallerId,
    CallType,
    Campaign,
    Controller,
    Facts,
    Instant,
    Kind,
    Known,
    Listing,
    Number,
    Place,
    RegistryAnswer,
)  # fmt: skip
from dialgate.numberset import DamagedFile, NumberSet
from dialgate.settings import Client, Config, Line
from dialgate.snapshot import Snapshot
from dialgate.store import CallerIdProof, CallList

_EPOCH = date(1970, 1, 1).toordinal()
_REMEMBERED = 10_000
_RAW_LENGTH = 64
# What may hold a telephone number, in a place where none belongs.
_DIGITS = re.compile(r"\+?\d{6,}")
_NOT_DIGITS = re.compile(r"[^0-9]")
_TAIL = 7  # digits at the end of a number that give it away, however it begins
_log = structlog.get_logger(__name__)


class Question(Struct, frozen=True, gc=False):
    """A call as it was understood. `spoken` is what is sealed in the record: the number, and what was received where
    that differs. `subjects` name it in the ledger: for this controller, and for every controller."""

    call: Call
    line: Line
    e164: str
    spoken: str
    number: Number
    zones: tuple[str, ...]
    country: str
    call_type: CallType
    subjects: tuple[bytes, ...]
    key: bytes


class _Loaded(Struct, frozen=True):
    record: CallList
    numbers: NumberSet
    listings: tuple[Listing, ...]


class Gatherer:
    """Holds what is looked up: one configuration, one snapshot, the call lists, the caller-ID proofs. Each is replaced
    whole, by assignment; a batch in flight keeps what it began with."""

    def __init__(self, config: Config, keys: Keys) -> None:
        self.config = config
        self.keys = keys
        self.snapshot: Snapshot | None = None
        self._lists: dict[tuple[str, str], _Loaded] = {}
        self._by_campaign: dict[str, tuple[_Loaded, ...]] = {}
        self._proofs: dict[tuple[str, str], CallerIdProof] = {}
        self._caller_ids: dict[tuple[str, str, str], CallerId] = {}
        # Each with the span of its local day, for which it is good.
        self._places: dict[tuple[str, str], tuple[Instant, Instant, Place]] = {}
        self._days: dict[str, tuple[Instant, Instant, date]] = {}
        self._registries = {
            country: tuple(dict.fromkeys(registry.id for registry in law.registries))
            for country, law in config.laws.items()
        }

    def configured(self, config: Config) -> "Gatherer":
        """A gatherer for another configuration that shares what was loaded."""
        fresh = Gatherer(config, self.keys)
        fresh.snapshot = self.snapshot
        fresh._lists, fresh._proofs = self._lists, self._proofs
        fresh._arrange()
        return fresh

    def prepare(self, at: Instant) -> None:
        """Look up the day that `at` lies in, so that no call has to wait for calendars."""
        for law in self.config.laws.values():
            self._today(law, at)
            self._place(law.zone, law, at)

    # ---- what is looked up -------------------------------------------------------------------------------------------

    def load_lists(self, records: Iterable[CallList], folder: Path) -> None:
        """Open what is new, drop what was retired; reads every byte of it, so not for the event loop. A list that is
        damaged is left out: its numbers are then on no list, which is a deny."""
        current = {(record.controller, record.id): record for record in records if not record.retired_at}
        loaded = {
            key: old for key, old in self._lists.items() if key in current and current[key] == old.record
        }
        if loaded.keys() == current.keys() == self._lists.keys():
            return
        for key, record in current.items():
            if key not in loaded:
                opened = _open_list(record, folder)
                if opened is not None:
                    loaded[key] = opened
        self._lists = loaded
        self._arrange()

    def _arrange(self) -> None:
        """A list serves the campaigns that it was loaded for, as long as they are its controller's."""
        self._by_campaign = {
            name: tuple(
                each
                for each in self._lists.values()
                if name in each.record.campaigns and each.record.controller == line.controller.id
            )
            for name, line in self.config.lines.items()
        }

    def load_proofs(self, proofs: Sequence[CallerIdProof]) -> None:
        fresh = {(proof.controller, proof.caller_id): proof for proof in proofs}
        if fresh != self._proofs:
            self._proofs = fresh
            self._caller_ids = {}

    # ---- one question ------------------------------------------------------------------------------------------------

    def read(self, call: Call, client: Client) -> Question:
        line = self.config.lines.get(call.campaign)
        known_line = line is not None and line.controller.id in client.controllers
        if line is None or not known_line:
            line = self._stranger(call, client)
        try:
            parsed = phone.parse(call.to, line.dial_region)
        except phone.NotANumber as problem:
            return self._unreadable(call, line, str(problem))
        return Question(
            call=call,
            line=line,
            e164=parsed.e164,
            spoken=parsed.e164 if parsed.e164 == call.to else f"{parsed.e164} {_printable(call.to)}",
            number=_number(parsed.kind, parsed.region),
            zones=parsed.zones,
            country=parsed.region if parsed.region in self.config.laws else line.home,
            call_type=_stricter(call.call_type, line.campaign.call_type),
            subjects=self._subjects(line, parsed.e164) if known_line else (),
            key=self._key(call),
        )

    def _subjects(self, line: Line, e164: str) -> tuple[bytes, ...]:
        return self.keys.subject(line.controller.id, e164), self.keys.subject("*", e164)

    def _stranger(self, call: Call, client: Client) -> Line:
        """The strictest campaign there is, in the country of the client's controller."""
        owner = next((self.config.controllers[name] for name in client.controllers), None)
        home = owner.country if owner else next(iter(self.config.laws))
        return Line(
            campaign=Campaign(id=_DIGITS.sub("#", _printable(call.campaign)), known=False),
            controller=Controller(id=""),
            controller_name="",
            home=home,
            dial_region="",
            caller_ids={},
        )

    def _unreadable(self, call: Call, line: Line, problem: str) -> Question:
        return Question(
            call=call,
            line=line,
            e164="",
            spoken=_printable(call.to),
            number=Number(kind="invalid", problem=problem),
            zones=(),
            country=line.home,
            call_type=_stricter(call.call_type, line.campaign.call_type),
            subjects=(),
            key=self._key(call),
        )

    def _key(self, call: Call) -> bytes:
        """Names the question: client, call id and content. Keyed, since the content holds the called number."""
        if not call.call_id:
            return b""
        parts = (call.client, call.call_id, call.to, call.from_, call.campaign, call.call_type or "")
        return self.keys.subject("?", "\0".join(parts).encode("utf-8", "backslashreplace").decode())

    # ---- its facts ---------------------------------------------------------------------------------------------------

    def facts(
        self,
        question: Question,
        known: Known,
        listings: tuple[Listing, ...],
        registries: tuple[RegistryAnswer, ...],
        at: Instant,
    ) -> Facts:
        law = self.config.laws[question.country]
        line = question.line
        return Facts(
            at=at,
            today=self._today(law, at),
            number=question.number,
            controller=line.controller,
            campaign=line.campaign,
            call_type=question.call_type,
            caller_id=self._caller_id(question),
            known=known,
            places=tuple(self._place(zone, law, at) for zone in question.zones),
            listings=listings,
            registries=registries,
        )

    def _today(self, law: Law, at: Instant) -> date:
        known = self._days.get(law.country)
        if known is None or not known[0] <= at < known[1]:
            place = localtime.place(law.zone, law.holidays, at)
            day = place.local(at)[0]
            known = (place.instant(day, 0), place.instant(day + 1, 0), date.fromordinal(_EPOCH + day))
            self._days[law.country] = known
        return known[2]

    def _place(self, zone: str, law: Law, at: Instant) -> Place:
        key = (zone, law.country)
        known = self._places.get(key)
        if known is None or not known[0] <= at < known[1]:
            place = localtime.place(zone, law.holidays, at)
            day = place.local(at)[0]
            known = self._places[key] = (place.instant(day, 0), place.instant(day + 1, 0), place)
        return known[2]

    def _caller_id(self, question: Question) -> CallerId:
        line = question.line
        key = (
            question.call.from_,
            line.controller.id,
            line.campaign.id,
        )  # a stranger's guess is not the owner's
        shown = self._caller_ids.get(key)
        if shown is None:
            if len(self._caller_ids) >= _REMEMBERED:
                self._caller_ids.clear()
            shown = self._caller_ids[key] = self._look_up_caller_id(question)
        return shown

    def _look_up_caller_id(self, question: Question) -> CallerId:
        line = question.line
        shown = phone.parse_caller_id(question.call.from_, line.dial_region or line.home)
        shown = line.caller_ids.get(shown.number, shown)
        proof = self._proofs.get((line.controller.id, shown.number))
        if proof is None or not proof.answered:
            return shown
        return structs.replace(shown, proved_at=proof.at, proof=f"{proof.kind}:{proof.evidence}")

    def files(self, question: Question) -> tuple[tuple[Listing, ...], tuple[RegistryAnswer, ...]]:
        """What the mapped files say: on which lists the number stands, and what each registry answered."""
        if not question.subjects:
            return (), ()
        number = int(question.e164.removeprefix("+"))  # a short number has none
        listings = []
        for each in self._by_campaign.get(question.line.campaign.id, ()):
            tag = each.numbers.tag(number)
            if tag >= 0:
                listings.append(each.listings[tag])
        snapshot, controller = self.snapshot, question.line.controller.id
        if snapshot is None:
            return tuple(listings), ()
        answers = [snapshot.answer(name, controller, number) for name in self._registries[question.country]]
        return tuple(listings), tuple(answers)


@cache
def _number(kind: Kind, region: str) -> Number:
    return Number(kind=kind, region=region)


def _stricter(asked: CallType | None, declared: CallType) -> CallType:
    """A call may tighten what its campaign declares, never loosen it."""
    return asked if asked is not None and STRICTNESS[asked] > STRICTNESS[declared] else declared


def without_number(text: str, e164: str) -> str:
    """A client's own words, as they may be stored: should the called number stand in them, it is taken out."""
    tail = e164[-_TAIL:]
    if not tail or tail not in _NOT_DIGITS.sub("", text):
        return text
    left = _DIGITS.sub("#", text)
    return "#" if tail in _NOT_DIGITS.sub("", left) else left


def _printable(text: str) -> str:
    """What a client sent, as it may be stored: short, and in ASCII whatever it was."""
    return text[:_RAW_LENGTH].encode("ascii", "backslashreplace").decode()


def _open_list(record: CallList, folder: Path) -> _Loaded | None:
    path = folder / record.file
    try:
        whole = calllist.sha256_of(path) == record.sha256
        numbers = NumberSet.open(path)
    except (DamagedFile, OSError) as error:
        _log.error("call list left out", list=record.id, problem=str(error))
        return None
    if not whole:
        _log.error(
            "call list left out", list=record.id, problem=f"{path.name} is not the file that was loaded"
        )
        return None
    listings = tuple(Listing(list=record.id, basis=basis, origin=record.origin) for basis in record.bases)
    return _Loaded(record, numbers, listings)
