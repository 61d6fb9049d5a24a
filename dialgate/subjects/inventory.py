"""Everything that is held about one number on behalf of one controller, found in the files where it lies.

Reads the decision log, call lists and registry answers from the disk, so it is not for the event loop.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from dialgate.cluster.personal_data import DecisionLine, FromRegistry, OnList, Why
from dialgate.config.configuration import Config
from dialgate.core.local_time import rfc3339
from dialgate.core.model import Attempt, Result
from dialgate.decision_log.chains import Chains
from dialgate.decision_log.records import Record
from dialgate.lists.number_set import DamagedFile, NumberSet
from dialgate.lists.snapshot import Snapshot, SnapshotMissing
from dialgate.store import CallList


class Held(NamedTuple):
    """`number` in E.164; `hashes` are its pseudonyms in the decision log, one for each live month."""

    config: Config
    controller: str
    number: str
    hashes: tuple[bytes, ...]


def records(held: Held) -> list[Record]:
    """The decisions about it that are this controller's, newest first. A call for a campaign that nobody has is its
    controller's if its client asks for no other."""
    bound = {client.name: client.controllers for client in held.config.settings.clients}
    own = (held.controller,)
    return [
        record
        for _, record in Chains(held.config.data).about(held.hashes)
        if record.facts.controller.id == held.controller
        or (not record.facts.controller.id and bound.get(record.client) == own)
    ]


def decisions(found: Iterable[Record], attempts: tuple[Attempt, ...]) -> list[DecisionLine]:
    results = {attempt.decision: attempt.result for attempt in attempts}
    return [_line(record, results.get(record.id)) for record in found]


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
        reasons=[Why(code=each.code, law=each.law, text=each.text) for each in decision.reasons],
    )


def on_lists(held: Held, records: list[CallList]) -> list[OnList]:
    """Retired ones too, as long as their files are kept."""
    found = []
    for record in records:
        place = tag(held.config.data / "lists" / record.file, held.number)
        if record.controller == held.controller and 0 <= place < len(record.bases):  # else it is damaged
            found.append(
                OnList(
                    list=record.id,
                    campaigns=record.campaigns,
                    basis=record.bases[place],
                    origin=record.origin,
                    loaded_at=rfc3339(record.loaded_at),
                    retired_at=rfc3339(record.retired_at) if record.retired_at else "",
                )
            )
    return found


def tag(path: Path, number: str) -> int:
    """-1: not on it, or the file is gone or damaged, so that nobody can be called from it either."""
    try:
        numbers = NumberSet.open(path)
    except (FileNotFoundError, DamagedFile):
        return -1
    try:
        return numbers.tag(int(number.removeprefix("+")))
    finally:
        numbers.close()


def from_registries(held: Held) -> list[FromRegistry]:
    try:
        snapshot = Snapshot.open(held.config.data / "snapshots")
    except (SnapshotMissing, DamagedFile):
        return []
    names = {rule.id for law in held.config.laws.values() for rule in law.registries}
    try:
        answers = [
            snapshot.answer(name, held.controller, int(held.number.removeprefix("+")))
            for name in sorted(names)
        ]
    finally:
        snapshot.close()
    return [
        FromRegistry(
            registry=each.registry,
            answer=each.answer,
            consulted_at=rfc3339(each.consulted_at),
            consultation=each.consultation,
        )
        for each in answers
        if each.answer in {"listed", "clear"}
    ]
