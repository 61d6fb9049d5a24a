"""Property test of the ledger and the gate: a person whose last word was stop is not called.

Hypothesis generates histories of one person: consents, withdrawals, revocations, contracts, call requests, registry
answers, the daily removal, and restores of an older ledger. Each history is played on a real gate with its store on
disk. Then each campaign calls the person. If the model in `person` knows no word that permits a call, the gate must
deny the call. The gate may deny more. Some histories must end with an allow, so that the test can fail.

Each history uses its own number, so the same gate serves all histories. DIALGATE_HISTORIES sets the number of random
histories. Without this variable, the histories are the same in each run.
"""

import asyncio
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import msgspec
from hypothesis import HealthCheck, Phase, given, settings
from prometheus_client import CollectorRegistry

from dialgate.app import App
from dialgate.config import loader
from dialgate.core.ledger_events import Entry, Lifted, Revoked
from dialgate.core.model import DAY, HOUR, Call, Instant
from dialgate.core.refusal import Refused
from dialgate.ledger import schemas
from dialgate.ledger.consent_voiding import Enrolled, void_consents
from dialgate.lists.snapshot import Consultation
from dialgate.lists.tabular import of_lines
from registry_sync import publication
from registry_sync.publication import PublishTarget
from tests.properties.histories import (
    COVERS,
    UNIT,
    Answer,
    BackUp,
    Check,
    Consent,
    End,
    Lift,
    OptOut,
    Pass,
    Record,
    Remove,
    Request,
    Restore,
    Revoke,
    Sign,
    Step,
    Withdraw,
    histories,
)
from tests.properties.person import (
    CAMPAIGNS,
    FIBRE,
    POLL,
    REQUEST_LASTS,
    ROBOT,
    Ledger,
    Person,
    Stop,
    Yes,
    day,
)
from tests.support import world, yaml_files
from tests.support.world import CALLER, Hand

HISTORIES: Final = int(os.environ.get("DIALGATE_HISTORIES", "0"))
FEW: Final = 20  # histories in CI
ANSWER_AGES: Final = 10 * DAY  # the registry is asked again before its answer expires
KEPT_DAYS: Final = 2
POLLSTER: Final = "+390843123456"
LANDLINES: Final = [f"+3906{number}" for number in range(12340000, 12346000)]
MOBILES: Final = [f"+39328{number}" for number in range(9840000, 9846000)]

# ---- the gate --------------------------------------------------------------------------------------------------------


class House:
    """A gate that serves all histories, and is opened again after each restore."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data, self.hand = folder, folder / "data", Hand()
        storage = {
            "daily": False,
            "consents_days": KEPT_DAYS,
            "contracts_days": KEPT_DAYS,
            "call_requests_days": 1,
        }
        client = world.client("tests", world.KEY, *world.SCOPES, "admin")
        path = world.write_folder(folder, clients=[client], storage=storage, log_segment_hours=0)
        _permit_more_calls(folder)
        self.config = loader.load(path)
        self.numbers = {True: iter(LANDLINES), False: iter(MOBILES)}
        self.app: App

    async def open(self) -> None:
        self.app = await App.open(self.config, registry=CollectorRegistry(), clock=self.hand)
        self.client = self.app.config.settings.clients[0]

    async def load(self) -> None:
        await self.open()
        for basis, numbers in (("directory", LANDLINES), ("consent", MOBILES)):
            fields = {"id": basis, "campaigns": CAMPAIGNS, "basis": basis}
            fields |= {"collected_by": "Acme", "collected_on": "2026-10-01"}
            ask = msgspec.convert(fields, schemas.ListRequest)
            await self.app.registrar.call_lists.load_list(self.client, ask, of_lines(numbers))
        await self.app.tick(patience=None)

    async def back_up(self) -> None:
        """Copy the store of the stopped gate. A copy of the open file would release SQLite's locks in this process."""
        await self.app.close()
        shutil.copy(self.data / "store.db", self.folder / "older.db")
        await self.open()

    async def restore(self) -> None:
        await self.app.close()
        for name in ("store.db", "store.db-wal", "store.db-shm", "ledger.durable"):
            (self.data / name).unlink(missing_ok=True)
        shutil.copy(self.folder / "older.db", self.data / "store.db")
        await self.open()


def _permit_more_calls(folder: Path) -> None:
    """Change the sample so that no rule denies calls but those about the person's words."""
    law = yaml_files.read(folder / "countries/it.yaml")
    yaml_files.write(folder / "countries/it.yaml", law | {"limits": []})
    owner = yaml_files.read(folder / "controllers/acme.yaml")
    (fibre,) = owner["campaigns"]
    robot = fibre | {"id": ROBOT, "call_type": "automated"}
    poll = fibre | {"id": POLL, "purpose": "statistics", "goods": "", "caller_ids": [POLLSTER]}
    changes = {"campaigns": [fibre, robot, poll], "consent_after_listing": True}
    yaml_files.write(folder / "controllers/acme.yaml", owner | changes)


# ---- playing a history -----------------------------------------------------------------------------------------------


class History:
    def __init__(self, house: House, *, in_directory: bool) -> None:
        self.house, self.person = house, Person(in_directory=in_directory)
        self.number = next(house.numbers[in_directory])
        self.saved: Ledger | None = None
        self.allowed = ""  # the last allow
        self.answered_at = 0

    @property
    def now(self) -> Instant:
        return self.house.hand.at

    async def play(self, step: Step) -> None:
        match step:
            case Record():
                await self.record(step)
            case Revoke():
                await self.revoke(step)
            case Lift():
                await self.lift(step)
            case Answer():
                await self.answer(enrolled=step.enrolled)
            case OptOut():
                await self.opt_out()
            case Withdraw() | Sign() | End() | Request():
                with suppress(Refused):  # there is no such consent or contract
                    await self.enter(step)
            case Pass():
                self.house.hand.at += step.units * UNIT
            case _:
                await self.keep(step)

    async def keep(self, step: Check | Remove | BackUp | Restore) -> None:
        match step:
            case Check():
                await self.check()
            case Remove():
                self.house.hand.at += KEPT_DAYS * DAY + 1
                world.confirm_clock(self.house.data, self.now)
                await self.house.app.subjects.retire(self.now, drop=True)
            case BackUp():
                await self.house.back_up()
                self.saved = self.person.ledger.copy()
            case Restore():
                await self.restore()

    async def enter(self, step: Withdraw | Sign | End | Request) -> None:
        person, today = self.person, day(self.now)
        common: dict[str, Any] = {"number": self.number, "id": step.id, "proof": "1.pdf"}
        record = self.house.app.registrar.consents.record
        match step:
            case Withdraw():
                at = self.now - step.ago * UNIT
                await record(self.house.client, schemas.WithdrawalRequest(**common, at=when(at)))
                person.withdraw(step.id, at)
            case Sign():
                starts, sector = today + timedelta(step.days), "telecommunications"
                ask = schemas.ContractRequest(**common, starts=starts, sector=sector, marketing=True)
                await record(self.house.client, ask)
                person.deal(step.id, starts, self.now)
            case End():
                ends = today - timedelta(step.days)
                await record(self.house.client, schemas.ContractEndRequest(**common, ends=ends))
                person.end_deal(step.id, ends)
            case Request():
                at, expires = self.now - step.ago * UNIT, self.now + step.lasts * UNIT
                times: dict[str, Any] = {"requested_at": when(at), "expires_at": when(expires)}
                await record(
                    self.house.client, schemas.CallRequestRequest(**common, **times, goods="broadband")
                )
                person.request(step.id, Yes(at, (FIBRE,), min(expires, at + REQUEST_LASTS)))

    async def record(self, step: Record) -> None:
        """Record the consents, or import them."""
        rows = [consent_fields(consent, self.number, self.now) for consent in step.consents]
        consents_ = self.house.app.registrar.consents
        if step.imported:
            header = list(rows[0])
            lines = [header, *([row[name] for name in header] for row in rows)]
            text = "\n".join(";".join(cells) for cells in lines)
            for _ in range(step.imported):
                ask = schemas.EntriesRequest(kind="consent")
                await consents_.record_all(self.house.client, ask, BytesIO(text.encode()))
        else:
            for row in rows:
                fields: dict[str, Any] = {name: text for name, text in row.items() if text}
                fields |= {name: row[name].split() for name in ("purposes", "call_types")}
                fields["goods"] = [row["goods"]] if row["goods"] else []
                await consents_.record(self.house.client, msgspec.convert(fields, schemas.ConsentRequest))
        for given_ in step.consents:
            at, covers = self.now - given_.ago * UNIT, COVERS[given_.covers]
            expires = self.now + given_.lasts * UNIT if given_.lasts else 0
            self.person.consent(given_.id, Yes(at, covers, expires, proved=given_.covers != "unproved"))

    async def revoke(self, step: Revoke) -> None:
        at, campaign = self.now - step.ago * UNIT, FIBRE if step.scope == "campaign" else ""
        revocations = self.house.app.registrar.revocations
        common: dict[str, Any] = {"scope": step.scope, "campaign": campaign}
        stop = Stop(at, step.scope, campaign, step.channel)
        if step.imported:
            text = f"number;at\n{self.number};{when(at).isoformat() if step.ago else ''}\n"
            ask = schemas.RevocationsRequest(**common, channel=step.channel)
            report = await revocations.revoke_all(self.house.client, ask, BytesIO(text.encode()))
            if not report.revoked:  # a revocation from this channel has at least the same effect
                return
        else:
            one = schemas.RevocationRequest(number=self.number, **common, channel=step.channel, at=when(at))
            await revocations.revoke(self.house.client, one)
        self.person.stops.append(stop)

    async def lift(self, step: Lift) -> None:
        entries = await self.entries()
        lifted = {entry.event.of for entry in entries if isinstance(entry.event, Lifted)}
        left = [entry for entry in entries if isinstance(entry.event, Revoked) and entry.seq not in lifted]
        if not left:
            return
        entry = left[step.place % len(left)]
        ground: Any = "error" if step.ground == "error" else "new_consent"
        consent = "" if ground == "error" else step.ground
        ask = schemas.LiftRequest(controller="acme", ground=ground, reason="a letter", consent=consent)
        try:
            await self.house.app.registrar.revocations.lift(self.house.client, entry.seq, ask)
        except Refused:
            return
        same = [stop for stop in self.person.stops if _is_same(stop, entry) and stop.lifted != "error"]
        for stop in sorted(same, key=lambda stop: stop.lifted)[:1]:  # a restore can undo an earlier lift
            stop.lifted = ground

    async def entries(self) -> list[Entry]:
        subject = self.house.app.registrar.access.keys.subject
        owners = [subject(owner, self.number) for owner in ("acme", "*")]
        return [entry for owner in owners for entry in await self.house.app._store.history(owner)]

    async def answer(self, *, enrolled: bool) -> None:
        """Publish an answer that was given an hour ago, to a query that was sent a day before."""
        self.house.hand.at += UNIT  # a later query than the last one
        data, answered = self.house.data, self.now - HOUR
        consultation = Consultation(
            id=f"at-{self.now}",
            submitted_at=answered - DAY,
            answered_at=answered,
            imported_at=self.now,
            receipt="TICKET-1",
            request_sha256="0" * 64,
            answer_sha256="0" * 64,
            lines=1,
            listed=int(enrolled),
            clear=int(not enrolled),
        )
        folder = data / "snapshots"
        with publication.lock_folder(folder):
            merged = world.merge_answers(folder, {self.number: enrolled}, consultation)
            publication.publish_answers(PublishTarget(folder=folder), merged, self.now)
        if enrolled:
            said = Enrolled(
                controller="acme",
                registry="rpo",
                listed_by=consultation.listed_by,
                receipt="TICKET-1",
                actor="registry-sync",
                numbers=[int(self.number)],
            )
            await void_consents(self.house.app._store, self.house.app.registrar.access.keys, said, self.now)
        await self.house.app.tick(patience=None)
        self.answered_at = self.now
        self.person.answer(answered, enrolled=enrolled)

    async def opt_out(self) -> None:
        if self.allowed:
            ask = schemas.OutcomeRequest(decision_id=self.allowed, outcome="opt_out")
            await self.house.app.registrar.outcomes.result(self.house.client, ask)
            self.person.stops.append(Stop(self.now, "controller", "", "call"))

    async def restore(self) -> None:
        if self.saved is not None:
            await self.check()
            await self.house.restore()
            self.allowed = ""
            self.person.ledger = self.saved.copy()

    async def check(self) -> dict[str, str]:
        """Check a call of each campaign, and return the answers' reasons, or the bases of allows."""
        if self.now - self.answered_at > ANSWER_AGES:
            await self.answer(enrolled=self.person.is_enrolled)
        answers: dict[str, str] = {}
        for campaign in CAMPAIGNS:
            from_ = POLLSTER if campaign == POLL else CALLER
            call = Call(to=self.number, from_=from_, campaign=campaign, client=self.house.client.name)
            answer = await self.house.app.gate.check(call, self.house.client)
            if answer.decision == "allow":
                self.allowed = answer.decision_id
            answers[campaign] = answer.decision
            said = self.person.may_be_called(campaign, self.now)
            assert said or answer.decision == "deny", f"{campaign} called a person whose last word was stop"
        return answers


def _is_same(stop: Stop, entry: Entry) -> bool:
    event = entry.event
    assert isinstance(event, Revoked)
    stated = event.at, event.scope, event.campaign, entry.channel
    return (stop.at, stop.scope, stop.campaign, stop.channel) == stated


def when(at: Instant) -> datetime:
    return datetime.fromtimestamp(at / 1000, UTC)


def consent_fields(consent: Consent, number: str, now: Instant) -> dict[str, str]:
    """Return the cells of a consent in a file."""
    return {
        "number": number,
        "id": consent.id,
        "collected_at": when(now - consent.ago * UNIT).isoformat(),
        "purposes": "statistics" if consent.covers == "poll" else "sale",
        "call_types": "agent automated" if consent.covers in {"robot", "unproved"} else "agent",
        "goods": {"poll": "", "other goods": "insurance"}.get(consent.covers, "broadband"),
        "expires_at": when(now + consent.lasts * UNIT).isoformat() if consent.lasts else "",
        "artefact": "" if consent.covers == "unproved" else "1.wav",
        "artefact_sha256": "a" * 64,
    }


async def play(house: House, *, in_directory: bool, steps_: Sequence[Step]) -> bool:
    """Play a history, and return whether a call was allowed at its end."""
    history = History(house, in_directory=in_directory)
    for step in steps_:
        await history.play(step)
    return "allow" in (await history.check()).values()


def test_a_person_whose_last_word_was_stop_is_not_called(tmp_path: Path) -> None:
    played, allowed = 0, 0

    @settings(
        max_examples=HISTORIES or FEW,
        derandomize=not HISTORIES,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink] if HISTORIES else [Phase.generate],
    )
    @given(histories)
    def run(history: tuple[bool, list[Step]]) -> None:
        nonlocal played, allowed
        allowed += runner.run(play(house, in_directory=history[0], steps_=history[1]))
        played += 1

    with asyncio.Runner() as runner:
        house = House(tmp_path)
        runner.run(house.load())
        try:
            run()
        finally:
            runner.run(house.app.close())
    assert allowed * 10 >= played, f"{allowed} of {played} histories end with an allow"
