"""The look-ups for a call, whose results are its `Question`.

They precede the read of the store. `CallTerms.facts` makes the `Facts` that rules see from a question and the number's stored
state. This module decides nothing and does not read the clock.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import structlog
from msgspec import Struct, structs
from numpy.typing import NDArray

from dialgate.config.clients import Client
from dialgate.config.configuration import Config
from dialgate.config.controllers import Line
from dialgate.core import phone
from dialgate.core.caller_id_choice import Pool, judge_pool
from dialgate.core.model import (
    AUTO,
    STRICTNESS,
    Call,
    CallType,
    Campaign,
    Controller,
    Instant,
    Known,
    Listing,
    Number,
    RegistryAnswer,
)
from dialgate.crypto import masking
from dialgate.crypto.keys import Keys
from dialgate.gate.binding_law import BindingLaws
from dialgate.gate.caller_ids import CallerIdFacts, Presentation
from dialgate.gate.counted_campaigns import CountedCampaigns
from dialgate.gate.question import BatchQuery, CallTerms, FileFacts, Question
from dialgate.lists import call_list
from dialgate.lists.number_set import DamagedFile, Numbers, NumberSet, longest_prefixes
from dialgate.lists.snapshot import Snapshot
from dialgate.store import CallerIdProof, CallList

_RAW_LENGTH = 64
_REMEMBERED = 4_096  # pools of caller IDs
_log = structlog.get_logger(__name__)


class _Files(Struct, frozen=True):
    """The call lists and registry snapshots for a campaign's calls to one country.

    Each file has at most one row for a number. `facts` caches one object for each combination of rows.
    """

    places: tuple[Callable[[int], int], ...]
    columns: "tuple[Callable[[Numbers], NDArray[np.int32]], ...]"  # as `places`, of sorted numbers
    listings: tuple[tuple[Listing, ...], ...]
    answers: tuple[tuple[RegistryAnswer, ...], ...]
    facts: dict[tuple[int, ...], FileFacts] = {}

    def look_up(self, number: int) -> FileFacts:
        places = tuple([place(number) for place in self.places])
        facts = self.facts.get(places)
        return facts if facts is not None else self._collect(places)

    def _collect(self, places: tuple[int, ...]) -> FileFacts:
        lists = len(self.listings)
        facts = self.facts[places] = FileFacts(
            tuple(on[at] for on, at in zip(self.listings, places[:lists], strict=True) if at >= 0),
            tuple(answers[at] for answers, at in zip(self.answers, places[lists:], strict=True)),
        )
        return facts


_NO_FACTS = FileFacts((), ())


class _Loaded(Struct, frozen=True):
    record: CallList
    numbers: NumberSet
    listings: tuple[Listing, ...]


Lists: TypeAlias = Mapping[tuple[str, str], _Loaded]  # by controller and id


class Gatherer:
    """A component that looks up the facts for calls.

    Its sources are replaced, never modified. A batch in progress therefore keeps the sources that it started with.
    """

    def __init__(self, config: Config, keys: Keys) -> None:
        self.config, self.keys = config, keys
        self.terms = CallTerms(config)
        self._snapshot: Snapshot | None = None
        self._files: dict[tuple[str, str], _Files] = {}
        self._lists: Lists = {}
        self._left_out: dict[str, str] = {}
        self._by_campaign: dict[str, tuple[_Loaded, ...]] = {}
        self._caller_ids = CallerIdFacts(config.laws.values())
        # By the ids of objects, which the values keep alive.
        self._pools: dict[tuple[object, ...], tuple[Pool, Question]] = {}
        self.counted = CountedCampaigns(config)
        self._laws = BindingLaws(config)
        self._hashes = {name: keys.keyed(name) for name in config.controllers}
        self._hash_for_all, self._hash_of_requests = keys.keyed("*"), keys.keyed("?")
        self._registries = {
            country: tuple(dict.fromkeys(registry.id for registry in law.registries))
            for country, law in config.laws.items()
        }

    def configured(self, config: Config) -> "Gatherer":
        """Return a gatherer for another configuration, with the same snapshot, lists and proofs."""
        fresh = Gatherer(config, self.keys)
        fresh._snapshot = self._snapshot
        fresh._lists = self._lists
        fresh.load_proofs(tuple(self.proofs.values()))
        fresh._index_by_campaign()
        fresh.counted = self.counted.configured(config)
        return fresh

    @property
    def snapshot(self) -> Snapshot | None:
        return self._snapshot

    def use_snapshot(self, snapshot: Snapshot) -> None:
        """Use another snapshot from the next batch on."""
        self._snapshot, self._files = snapshot, {}

    def open_lists(self, records: Iterable[CallList], folder: Path) -> Lists:
        """Open the new lists in `records`, and return all lists that are not retired.

        Reading a new file is slow, so call this in a thread. Then call `use_lists` in the event loop. A damaged list is
        skipped. Its numbers are denied unless another list or a legal basis, such as a consent, permits the call.
        """
        lists_in_use, lists, left_out = self._lists, dict[tuple[str, str], _Loaded](), dict[str, str]()
        for record in records:
            if record.retired_at:
                continue
            key = (record.controller, record.id)
            old = lists_in_use.get(key)
            result = old if old is not None and old.record == record else _open_list(record, folder)
            if isinstance(result, str):
                left_out[record.id] = result
            else:
                lists[key] = result
        new = left_out.items() - self._left_out.items()
        for name, problem in new:  # once each, although this runs every second
            _log.error("call list skipped", list=name, problem=problem)
        self._left_out = left_out
        return lists

    def drop_lists(self, records: Iterable[CallList]) -> None:
        """Stop using retired and deleted lists. A replaced list stays in use until its new file is open."""
        current = {(record.controller, record.id) for record in records if not record.retired_at}
        self.use_lists({key: list_ for key, list_ in self._lists.items() if key in current})

    def use_lists(self, lists: Lists) -> None:
        """Use `lists` from the next batch on. Call this in the event loop."""
        if lists != self._lists:
            self._lists = lists
            self._index_by_campaign()

    def _index_by_campaign(self) -> None:
        self._files, self._by_campaign = {}, {}
        for loaded in self._lists.values():
            for name in dict.fromkeys(loaded.record.campaigns):
                line = self.config.lines.get(name)
                if line is not None and line.controller.id == loaded.record.controller:
                    self._by_campaign[name] = (*self._by_campaign.get(name, ()), loaded)

    @property
    def proofs(self) -> Mapping[tuple[str, str], CallerIdProof]:
        return self._caller_ids.proofs

    def load_proofs(self, proofs: Sequence[CallerIdProof]) -> None:
        before = self.proofs
        self._caller_ids.load_proofs(proofs)
        if self.proofs is not before:
            self._pools = {}

    # ---- one question ------------------------------------------------------------------------------------------------

    def query(self, now: Instant, since: Instant, questions: Sequence[Question]) -> BatchQuery:
        """Return the values from which a batch is decided at `now`. Raises `KeyRetired` and `KeysUnusable`."""
        snapshot = self._snapshot.version if self._snapshot else ""
        questions = [self.choose_caller_id(q, now) if q.call.from_ == AUTO else q for q in questions]
        return BatchQuery(questions, now, since, self.terms, snapshot, self.keys, self.keys.month(now))

    def read(self, call: Call, client: Client, interface: str = "") -> Question:
        own = self.config.line_of(call.campaign, client)
        line = (
            self.counted.lines.get(call.campaign, own)
            if own
            else unknown_campaign(_printable(masking.blank_numbers(call.campaign)), client, self.config)
        )
        shown, key = self._caller_ids.look_up(call.from_, line), self._key(call, client.name, call.from_)
        call_type = stricter(call.call_type, line.campaign.call_type)
        try:
            parsed = phone.parse(call.to, line.dial_region)
        except phone.NotANumber as problem:
            number, e164, zones = Number(kind="invalid", problem=str(problem)), "", tuple[str, ...]()
            country = line.home
        else:
            number, e164, zones = self._laws.number(parsed), parsed.e164, parsed.zones
            country = self._laws.country_of(parsed.region, line.home)
        is_known = bool(own and e164)
        return Question(
            call=call,
            client=client.name,
            interface=interface,
            line=line,
            presentation=shown,
            e164=e164,
            spoken=e164 if e164 == call.to else _spoken(e164, call.to),
            number=number,
            zones=zones,
            country=country,
            call_type=call_type,
            files=self._look_up(line, country, e164) if is_known else _NO_FACTS,
            subjects=self._subjects(line, e164) if is_known else (),
            key=key,
            # A pause is the supervisor's own stop, so shadow mode does not let its calls through.
            shadow_until=0
            if line.campaign.paused_at
            else self.config.shadow.until(client, own.campaign.id if own else ""),
        )

    def choose_caller_id(self, question: Question, at: Instant) -> Question:
        """Return the question with a caller ID of its campaign, if the call leaves the choice to the gate.

        A call without a known campaign gets none. If the choice has changed since an equal request, the request is a new call: an
        answer is repeated only with the caller ID that was checked.
        """
        if question.call.from_ != AUTO or not question.line.caller_ids:
            return question
        key = (id(question.line), id(question.number), question.zones, id(question.files), question.call_type)
        pool, _ = self._pools.get(key, (None, None))
        if pool is None or not pool.since <= at < pool.until:
            if len(self._pools) >= _REMEMBERED:
                self._pools.clear()
            pool = self.judge_pool(question, at, self.terms)
            if question.subjects:
                self._pools[key] = pool, question
        shown = pool.choose(question.subjects[0] if question.subjects else b"")
        return structs.replace(
            question,
            presentation=Presentation(shown, shown.number, sealed=False),
            key=self._key(question.call, question.client, f"{AUTO} {shown.number}"),
        )

    def judge_pool(self, question: Question, at: Instant, terms: CallTerms) -> Pool:
        """Judge the caller IDs of the question's campaign for calls from `at`."""
        line, law = question.line, self.config.laws[question.country]
        facts = terms.facts(question, Known(), at)
        shown = [self._caller_ids.look_up(number, line).fact for number in line.caller_ids]
        return judge_pool(shown, facts, law, terms.same_until(facts, law))

    def _subjects(self, line: Line, e164: str) -> tuple[bytes, ...]:
        number = e164.encode()
        return self._hashes[line.controller.id].digest(number), self._hash_for_all.digest(number)

    def _key(self, call: Call, client: str, shown: str) -> bytes:
        """Return a keyed hash that identifies repetitions of a request, or b"" if the call has no id."""
        if not call.call_id:
            return b""
        parts = (client, call.call_id, call.to, shown, call.campaign, call.call_type or "")
        return self._hash_of_requests.digest("\0".join(parts).encode("utf-8", "backslashreplace"))

    def registry_answers(self, country: str, controller: str, e164: str) -> tuple[RegistryAnswer, ...]:
        """Return the answers that the registries of `country` gave to a controller about a number."""
        if self._snapshot is None:
            return ()
        answer, number = self._snapshot.answer, int(e164)
        return tuple(answer(name, controller, number) for name in self._registries[country])

    def columns(self, question: Question, numbers: Numbers) -> "list[NDArray[np.int32]]":
        """Return columns about sorted numbers that `phone` parses like that of `question`.

        Numbers with equal rows have equal numbers and files in their questions.
        """
        files = self._files_for(question.line, question.country)
        prefixes = [prefix.removeprefix("+") for prefix in self._laws.prefixes]
        return [longest_prefixes(numbers, prefixes), *(column(numbers) for column in files.columns)]

    def _look_up(self, line: Line, country: str, e164: str) -> FileFacts:
        return self._files_for(line, country).look_up(int(e164))

    def _files_for(self, line: Line, country: str) -> _Files:
        key = (line.campaign.id, country)
        files = self._files.get(key)
        if files is None:
            files = self._files[key] = self._files_of(line, country)
        return files

    def _files_of(self, line: Line, country: str) -> _Files:
        lists = self._by_campaign.get(line.campaign.id, ())
        registries = (
            [self._snapshot.answers_for(name, line.controller.id) for name in self._registries[country]]
            if self._snapshot
            else []
        )
        return _Files(
            places=(*(list_.numbers.tag for list_ in lists), *(registry.place for registry in registries)),
            columns=(
                *(list_.numbers.tags_of for list_ in lists),
                *(registry.places for registry in registries),
            ),
            listings=tuple(list_.listings for list_ in lists),
            answers=tuple(registry.answers for registry in registries),
        )


def unknown_campaign(name: str, client: Client, config: Config) -> Line:
    """Return a placeholder for a campaign that the client may not use, in the country of the client's controller."""
    owner = next((config.controllers[owner] for owner in client.controllers), None)
    return Line(
        campaign=Campaign(id=name, known=False),
        controller=Controller(id=""),
        controller_name="",
        home=owner.country if owner else next(iter(config.laws)),
        dial_region="",
        caller_ids={},
    )


def _spoken(e164: str, to: str) -> str:
    return f"{e164} {_printable(to)}" if e164 else _printable(to)


def stricter(requested: CallType | None, declared: CallType) -> CallType:
    """Return the stricter call type. A call may tighten its campaign's type but not relax it."""
    return requested if requested is not None and STRICTNESS[requested] > STRICTNESS[declared] else declared


def _printable(text: str) -> str:
    """Return a client's text, shortened and escaped to ASCII for the log."""
    return text[:_RAW_LENGTH].encode("ascii", "backslashreplace").decode()


def _open_list(record: CallList, folder: Path) -> _Loaded | str:
    """Open a call list. Return the reason as text if it cannot be used."""
    path = folder / record.file
    try:
        is_intact = call_list.sha256_of(path) == record.sha256
        numbers = NumberSet.open(path)
    except (DamagedFile, OSError) as error:
        return str(error)
    if not is_intact:
        return f"{path.name} was modified after it was loaded; load the list again"
    tags = len(record.bases)
    rows = zip(record.bases, record.stated or (False,) * tags, record.places or ("",) * tags, strict=True)
    listings = tuple(
        Listing(list=record.id, basis=basis, origin=record.origin, stated=stated, place=place)
        for basis, stated, place in rows
    )
    return _Loaded(record, numbers, listings)
