"""The inventory of all data about one number in this gate's files, for one controller.

The functions read the decision log, call lists and registry answers from disk. Never run them on the event
loop.
"""

from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from msgspec import structs

from dialgate.audit.legal_holds import HoldRefused
from dialgate.audit.number_history import FoundDecision, Inquiry
from dialgate.cluster.personal_data import DecisionLine, FromRegistry, OnList, Share, WaitingLetter, Why
from dialgate.config.configuration import Config
from dialgate.core.local_time import rfc3339
from dialgate.core.model import RESULT_RANK, Attempt, OutcomeRecord, Result
from dialgate.core.struct_copies import copy_fields
from dialgate.crypto.keys import Keys
from dialgate.decision_log.records import Record
from dialgate.ledger.dead_letters import DeadLetters
from dialgate.ledger.view_schemas import HistoryEntry
from dialgate.lists.manifest import SnapshotMissing
from dialgate.lists.number_set import DamagedFile, NumberSet
from dialgate.lists.snapshot import Snapshot
from dialgate.store import CallList, StoreUnavailable


class Person(NamedTuple):
    """A data subject of one controller. `number` is in E.164."""

    config: Config
    controller: str
    number: str
    keys: Keys

    @property
    def regions(self) -> str:
        """The regions in which numbers without a country code are read."""
        owner = self.config.controllers.get(self.controller)
        return owner.dial_regions() if owner else ""

    @property
    def inquiry(self) -> Inquiry:
        return Inquiry(self.config.data, self.keys, self.config.shipped)


class NewHolder(NamedTuple):
    """The time of the last wrong-number report in force, or "", and the ids of the decisions whose calls led to reports."""

    since: str
    calls: frozenset[str]


def new_holder(history: Sequence[HistoryEntry]) -> NewHolder:
    lifted = {entry.details["of"] for entry in history if entry.kind == "number_confirmed"}
    reports = [entry for entry in history if entry.kind == "wrong_number" and entry.seq not in lifted]
    since = max((report.at for report in reports), default="")
    return NewHolder(since, frozenset(report.details["decision"] for report in reports))


def from_time(share: Share, start: str) -> Share:
    """Return the part of `share` after `start`, with all decisions, call lists and registry answers."""
    requests = [case for case in share.requests if case.received_at > start]
    current = {case.id for case in requests}
    return structs.replace(
        share,
        restricted=[entry for entry in share.restricted if entry.at > start],
        letters=[letter for letter in share.letters if letter.received_at > start],
        lookups=[lookup for lookup in share.lookups if lookup.at > start],
        requests=requests,
        attachments=[file for file in share.attachments if file.request in current],
    )


def records(person: Person) -> list[Record]:
    """Return the records of `found`."""
    return [decision.record for decision in found(person)]


def found(person: Person) -> list[FoundDecision]:
    """Return the decisions about calls to the number for the controller, newest first.

    The result includes decisions from retired months that are under a legal hold. A decision about an unknown campaign
    has no controller. The decision is included if its client has access to this controller and no other.

    Raises `StoreUnavailable` if the legal holds cannot be read, and `LogDamaged`.
    """
    controllers_of = {client.name: client.controllers for client in person.config.settings.clients}
    own = (person.controller,)

    def concerns(record: Record) -> bool:
        owner = record.facts.controller.id
        return owner == person.controller or (not owner and controllers_of.get(record.client) == own)

    try:
        return person.inquiry.find(person.number, concerns)
    except HoldRefused as refused:
        raise StoreUnavailable(f"legal holds: {refused}") from refused


def decisions(records: Iterable[Record], attempts: tuple[Attempt, ...]) -> list[DecisionLine]:
    results = {attempt.decision: attempt.result for attempt in attempts}
    return [_line(record, results.get(record.id)) for record in records]


def _line(record: Record, result: Result | None) -> DecisionLine:
    facts, decision = record.facts, record.decision
    return DecisionLine(
        id=record.id,
        at=rfc3339(record.at),
        decision="allow" if decision.allow else "deny",
        campaign=facts.campaign.id,
        purpose=facts.campaign.purpose,
        caller_id=record.caller_id,
        basis=decision.basis,
        result=result or "",
        asked_by=record.client,
        reasons=[Why(code=reason.code, law=reason.law, text=reason.text) for reason in decision.reasons],
        profiling=facts.campaign.profiling,
        shadow=record.shadow,
    )


def profiling_campaigns(config: Config, controller: str, share: Share) -> list[str]:
    """Return the campaigns for which the person was, or can be, selected by profiling (GDPR 15(1)(h)).

    These are the campaigns of the person's decisions and lists for which a record or the configuration says so.
    """
    recorded = {line.campaign for line in share.decisions if line.profiling}
    named = {line.campaign for line in share.decisions}.union(*(entry.campaigns for entry in share.lists))
    profile = {campaign.id for campaign in config.controllers[controller].campaigns if campaign.profiling}
    return sorted(recorded | (named & profile))


def add_results(lines: Iterable[DecisionLine], reports: Iterable[OutcomeRecord]) -> list[DecisionLine]:
    """Return the lines with the results in `reports`, which logs contain longer than the store keeps attempts.

    If several results were reported for a call, the stricter one counts.
    """
    results: dict[str, Result] = {}
    for report in reports:
        ranked = results.get(report.decision, "pending"), report.result
        results[report.decision] = max(ranked, key=RESULT_RANK.__getitem__)
    return [structs.replace(line, result=results.get(line.id, line.result)) for line in lines]


def on_lists(person: Person, records: list[CallList]) -> list[OnList]:
    """Return the lists that contain the number, including retired lists whose files still exist."""
    lists = []
    for record in records:
        basis = tag(person.config.data / "lists" / record.file, person.number)
        # In a damaged file, the index may be beyond the last basis.
        if record.controller == person.controller and 0 <= basis < len(record.bases):
            lists.append(
                OnList(
                    list=record.id,
                    campaigns=record.campaigns,
                    basis=record.bases[basis],
                    origin=record.origin,
                    loaded_at=rfc3339(record.loaded_at),
                    retired_at=rfc3339(record.retired_at) if record.retired_at else "",
                )
            )
    return lists


def letters(person: Person, waiting: DeadLetters) -> list[WaitingLetter]:
    return [
        WaitingLetter(
            webhook=letter.webhook,
            received_at=rfc3339(letter.received_at),
            of_one=letter.of_one,
            body=letter.body.decode(errors="replace") if letter.of_one else "",
        )
        for _, letter in waiting.about(person.controller, person.number, person.regions)
    ]


def tag(path: Path, number: str) -> int:
    """Return the number's tag in a list file.

    Return -1 if the number is not in the file, or if the file is missing or damaged.
    """
    try:
        with closing(NumberSet.open(path)) as numbers:
            return numbers.tag(int(number.removeprefix("+")))
    except (FileNotFoundError, DamagedFile):
        return -1


def from_registries(person: Person) -> list[FromRegistry]:
    try:
        snapshot = Snapshot.open(person.config.data / "snapshots")
    except (SnapshotMissing, DamagedFile):
        return []
    names = {rule.id for law in person.config.laws.values() for rule in law.registries}
    with closing(snapshot):
        answers = [
            snapshot.answer(name, person.controller, int(person.number.removeprefix("+")))
            for name in sorted(names)
        ]
    return [
        copy_fields(
            answer,
            FromRegistry,
            consulted_at=rfc3339(answer.consulted_at),
            listed_since=rfc3339(answer.since) if answer.since else "",
        )
        for answer in answers
        if answer.answer in {"listed", "clear"}
    ]
