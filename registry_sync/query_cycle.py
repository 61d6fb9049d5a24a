"""The cycle with a registry that answers about the numbers one controller submits (Italy: DPR 26/2022 art. 8).

In this order, each step durable before the next: what an earlier run had begun to submit is submitted; what came back is
verified, published, noted; what is due is packed and submitted. A crash anywhere, and the next run goes on from there.

A package that was handed over as NAME.zip is answered by files whose names begin with `NAME.`: `NAME.receipt.txt`, whose
first line is the registry's receipt, `NAME.refused.txt` with the reason, and any other .txt or .zip with the answer.
"""

from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import msgspec
import numpy as np

from dialgate.core.ledger_events import ConsentsVoided
from dialgate.core.model import DAY, HOUR, Instant
from dialgate.crypto.keys import Keys
from dialgate.lists.number_set import distinct
from dialgate.lists.snapshot import Consultation
from dialgate.observability.service_log import blanked
from dialgate.runtime.atomic_write import publish_file, remove_on_exit
from dialgate.store import Ledger
from registry_sync import (
    alarm_policy,
    answer_merge,
    consent_voiding,
    consultations,
    import_checks,
    publication,
    query_schedule,
    release_holds,
)
from registry_sync.answer_merge import Answered, Current
from registry_sync.config import Asked
from registry_sync.formats import rpo
from registry_sync.formats.text import FaultyFile, Numbers
from registry_sync.import_checks import Refused, utc
from registry_sync.publication import Press
from registry_sync.query_packages import OPEN, REQUEST, Package, Shelf
from registry_sync.query_schedule import Terms
from registry_sync.run_report import Alarm, Kind, Summary
from registry_sync.sources import Source, SourceFailed

# Told what begins and its size; gives back what to tell of how much is done.
Bar: TypeAlias = Callable[[str, int], Callable[[int], None]]

RECEIPT: Final = "receipt.txt"
LONGEST_RECEIPT: Final = 256
YEAR: Final = 365 * DAY


class Desk(NamedTuple):
    """What a cycle works with. `wanted`: the numbers of the call lists that may be called soon, rising. `keeps_listed`:
    an exception lets calls rest on an answer *listed*, which must then be as fresh as a *clear*. `retention_at`: when to judge
    what is past its time."""

    asked: Asked
    shelf: Shelf
    press: Press
    store: Ledger
    keys: Keys
    wanted: Numbers
    validity: Instant
    keeps_listed: bool
    next_run: Instant
    retention_at: Instant
    clock: Callable[[], Instant]
    bar: Bar


class Reply(NamedTuple):
    package: Package
    answered: Answered


class Cycle:
    def __init__(self, desk: Desk) -> None:
        self._desk, self._asked, self._shelf = desk, desk.asked, desk.shelf
        self._alarms: list[Alarm] = []
        self._current: Current | None = None
        self._in_turn = np.empty(0, np.uint64)
        self._dry = False
        self._summary = Summary(registry=desk.asked.registry, controller=desk.asked.controller)
        age = desk.validity if desk.keeps_listed else desk.asked.listed_again_days * DAY
        look_ahead = int(desk.asked.look_ahead_hours * HOUR)
        self._terms = Terms(desk.validity, look_ahead, age - look_ahead if desk.keeps_listed else age)

    async def run(self, source: Source, *, dry: bool = False) -> Summary:
        """`dry`: what came is fetched and judged, nothing submitted or published, but counted. Raises Refused, FaultyFile,
        DamagedFile, OSError, StoreUnavailable; what was durable before stays."""
        self._dry = dry
        if not dry:
            self._shelf.tidy(self._desk.retention_at, self._asked.files_days, self._asked.receipts_days)
            await self._through(self._go_on, source)
        await self._through(self._collect, source)
        if not dry:
            self._give_up()
        chosen = self._choose()
        if dry:
            self._add(submitted=len(chosen))
        elif len(chosen):
            await self._through(lambda source: self._submit_new(chosen, source), source)
        self._judge()
        return msgspec.structs.replace(self._summary, alarms=tuple(self._alarms))

    async def _through(self, step: Callable[[Source], Awaitable[None]], source: Source) -> None:
        try:
            await step(source)
        except SourceFailed as failed:
            self._alarm("source_failed", str(failed))

    def _alarm(self, kind: Kind, text: str) -> None:
        alarm = Alarm(registry=self._asked.registry, controller=self._asked.controller, kind=kind, text=text)
        if alarm not in self._alarms:
            self._alarms.append(alarm)

    def _known(self) -> Current:
        if self._current is None:
            registry, controller = self._asked.registry, self._asked.controller
            self._current = publication.current(self._desk.press.folder, registry, controller)
        return self._current

    def _add(self, **counts: int) -> None:
        added = {name: getattr(self._summary, name) + count for name, count in counts.items()}
        self._summary = msgspec.structs.replace(self._summary, **added)

    # ---- submitting --------------------------------------------------------------------------------------------------

    async def _go_on(self, source: Source) -> None:
        for package in self._shelf.all():
            if package.state in {"prepared", "uploaded"}:
                await self._submit(package, source)

    async def _submit(self, package: Package, source: Source) -> None:
        """Never twice: once `uploaded` is noted, whether the last step was done is asked of the other side."""
        file = self._shelf.folder(package) / REQUEST
        if package.state == "prepared":
            await source.stage(package.file_name, file)
            package = self._shelf.note(package, "uploaded", submitted_at=self._desk.clock())
        if await source.staged(package.file_name):
            await source.hand_over(package.file_name, file)
        self._shelf.note(package, "submitted")
        self._add(submitted=package.numbers)

    def _choose(self) -> Numbers:
        """What is due and may be spent, the most pressing first."""
        packages = self._shelf.all()
        now = self._desk.clock()
        held = [each for each in packages if each.state in OPEN or alarm_policy.rests(each, self._asked, now)]
        found = query_schedule.due(
            self._desk.wanted, self._shelf.numbers(held), self._known(), self._terms, now
        )
        self._add(due=len(found))
        allowed = self._allowance(packages, now)
        if len(found) > allowed:
            self._alarm(
                "spending_limit",
                f"{len(found):,} numbers are due and {allowed:,} may be asked about: raise numbers_a_run or"
                " numbers_a_year, or call fewer",
            )
        newest = max((each.prepared_at for each in packages), default=0)
        turn = int(newest + self._asked.submit_every_hours * HOUR)
        if self._dry or now < turn <= now + self._desk.next_run:
            self._in_turn = found[:allowed]
        return found[:allowed] if now >= turn else found[:0]

    def _allowance(self, packages: list[Package], now: Instant) -> int:
        spent = sum(
            each.numbers for each in packages if each.state != "refused" and now - each.prepared_at < YEAR
        )
        limits = [len(self._desk.wanted)]
        if self._asked.numbers_a_run:
            limits.append(self._asked.numbers_a_run)
        if self._asked.numbers_a_year:
            limits.append(max(0, self._asked.numbers_a_year - spent))
        return min(limits)

    async def _submit_new(self, chosen: Numbers, source: Source) -> None:
        size = self._asked.package_numbers
        done = self._desk.bar(f"submitting to {self._asked.registry}", len(chosen))
        for begin in range(0, len(chosen), size):
            some = np.sort(chosen[begin : begin + size])
            await self._submit(self._shelf.prepare(some, self._desk.clock()), source)
            done(len(some))

    # ---- collecting --------------------------------------------------------------------------------------------------

    async def _collect(self, source: Source) -> None:
        marks = await source.names()
        replies = []
        for package in self._shelf.all():
            start = f"{package.id}."
            came = {name.removeprefix(start): marks[name] for name in marks if name.startswith(start)}
            known = bool(package.faulty) and package.faulty == _named(came)
            waits = package.state in {"submitted", "expired"} and self._shelf.has_numbers(package)
            if came and waits and not known:
                reply = await self._reply(package, came, source)
                if reply is not None:
                    replies.append(reply)
        if replies:
            await self._take(replies)

    async def _reply(self, package: Package, came: dict[str, str], source: Source) -> Reply | None:
        """What answers a package, verified; or None, after noting why not. `came`: what follows the package's name in
        those of the files, with their marks."""
        try:
            package = await self._receipt(package, came, source)
            answers = [each for each in came if each != RECEIPT and each.endswith((".txt", ".zip"))]
            refusals = [each for each in answers if each.startswith("refused")]
            if refusals:
                await self._refused(package, refusals[0], source)
                return None
            if not answers:
                return None
            if not package.receipt and self._asked.receipt == "required":
                self._alarm(
                    "receipt_missing", f"{package.id} is answered, and {package.id}.{RECEIPT} is missing"
                )
                return None
            return await self._first_good(package, answers, source)
        except (FaultyFile, UnicodeDecodeError) as error:
            fault = str(error) if isinstance(error, FaultyFile) else f"{package.id}: no plain text"
            self._shelf.note(package, package.state, fault, faulty=_named(came))
            return None

    async def _receipt(self, package: Package, came: dict[str, str], source: Source) -> Package:
        if package.receipt or RECEIPT not in came:
            return package
        lines = (await self._text(package, RECEIPT, source)).split("\n")
        receipt = lines[0].strip()
        if not receipt or len(receipt) > LONGEST_RECEIPT or not receipt.isprintable():
            raise FaultyFile(f"{package.id}.{RECEIPT}: its first line is no receipt")
        if other := [each.id for each in self._shelf.all() if each.receipt == receipt]:
            raise FaultyFile(f"{package.id}.{RECEIPT}: this is the receipt of {other[0]}")
        return self._shelf.note(package, package.state, receipt=receipt, fault=package.fault)

    async def _refused(self, package: Package, name: str, source: Source) -> None:
        reason = blanked(" ".join((await self._text(package, name, source)).split())[:200])
        self._shelf.note(package, "refused", ended_at=self._desk.clock(), fault=reason or "no reason given")

    async def _text(self, package: Package, name: str, source: Source) -> str:
        return (await self._fetch(package, name, source)).read_text("utf-8")

    async def _fetch(self, package: Package, name: str, source: Source) -> Path:
        path = self._shelf.folder(package) / name
        with remove_on_exit(path.with_name(f".{name}")) as new:
            await source.fetch(f"{package.id}.{name}", new)
            publish_file(new, path)
        return path

    async def _first_good(self, package: Package, names: list[str], source: Source) -> Reply | None:
        """Newest name first: a registry that sends a better one adds to the name. Raises FaultyFile with the fault of the
        last that was tried."""
        fault: FaultyFile | None = None
        for name in sorted(names, reverse=True):
            try:
                return Reply(package, self._verified(package, await self._fetch(package, name, source)))
            except FaultyFile as error:
                fault = fault or error
        assert fault is not None, "there is at least one name"
        raise fault

    def _verified(self, package: Package, path: Path) -> Answered:
        folder = self._shelf.folder(package)
        request = rpo.read_request(folder / REQUEST, lambda _: None)
        if request.sha256 != package.sha256:
            raise FaultyFile(f"{package.id}/{REQUEST}: not what was submitted")
        answer = rpo.read_answer(path, lambda _: None)
        answers = rpo.match(request, answer)
        now = self._desk.clock()
        consultation = consultations.consultation_of(
            self._asked.registry,
            self._asked.controller,
            package.submitted_at,
            package.receipt or package.id,
            (request, answer, answers),
        )
        consultation = msgspec.structs.replace(consultation, answered_at=now, imported_at=now)
        return Answered(consultation, answers.numbers, answers.listed)

    # ---- publishing --------------------------------------------------------------------------------------------------

    async def _take(self, replies: list[Reply]) -> None:
        with publication.locked(self._desk.press.folder):
            self._current = None
            old = self._known()
            taken = self._admitted(replies, old)
            known = {each.id for each in old.contents.consultations}
            news = [reply.answered for reply in taken if reply.answered.consultation.id not in known]
            merged = answer_merge.merge(old, news)
            self._add(newly_listed=merged.newly_listed, newly_clear=merged.newly_clear)
            if self._dry:
                self._add(answered=sum(len(each.numbers) for each in news))
                return
            if news:
                version = publication.publish_answers(self._desk.press, merged, self._desk.clock()).version
                self._current = Current(merged.contents, merged.numbers, merged.tags)
                self._summary = msgspec.structs.replace(self._summary, published=version)
        listed = [reply.answered.numbers[reply.answered.listed] for reply in taken]
        if taken:
            every = distinct(np.concatenate(listed))
            holders = await consent_voiding.holders(
                self._desk.store, self._desk.keys, self._asked.controller, every
            )
            for reply, some in zip(taken, listed, strict=True):
                await self._finish(reply, np.intersect1d(some, holders))

    def _admitted(self, replies: list[Reply], old: Current) -> list[Reply]:
        """Those that change no more than is usual, or were released; also those that are published already. A few
        numbers prove nothing in a package, but do together."""
        found = [answer_merge.changes(old, reply.answered) for reply in replies]
        known = sum(each.known for each in found)
        turned = sum(each.newly_listed + each.newly_clear for each in found)
        upheaval = bool(import_checks.upheaval(turned, known, self._asked.max_change))
        few = 1 if upheaval else import_checks.FEW
        return [
            reply
            for reply, changes in zip(replies, found, strict=True)
            if self._is_admitted(reply, old, changes, few)
        ]

    def _is_admitted(self, reply: Reply, old: Current, changes: answer_merge.Changes, few: int) -> bool:
        package, new = reply.package, reply.answered.consultation
        try:
            # Two questions of ours have receipts of their own, so that the same text twice is no old answer made new.
            if import_checks.already_imported(new, old.contents.consultations, same_answer=True):
                return True
            others = publication.consultations_of_others(
                self._desk.press.folder, self._asked.registry, self._asked.controller
            )
            import_checks.refuse_foreign(new, others, same_answer=True)
            turned = changes.newly_listed + changes.newly_clear
            why = import_checks.upheaval(turned, changes.known, self._asked.max_change, few)
            if why and not self._dry:
                why = f"{package.id}: {why}"
                release_holds.demand(self._desk.press.folder, self._subject(new), why, self._desk.clock())
        except release_holds.Held as held:
            self._alarm("held", str(held))
            self._shelf.note(package, package.state, "held")
        except Refused as refused:
            # Without the receipt: the next run reads it again, for its file may have been put right.
            self._shelf.note(package, package.state, str(refused), receipt="")
        else:
            return True
        return False

    def _subject(self, consultation: Consultation) -> tuple[str, ...]:
        return self._asked.registry, self._asked.controller, consultation.id

    async def _finish(self, reply: Reply, voided: Numbers) -> None:
        """Published is published: this may come a second time, after a crash. `voided`: numbers whose consents end."""
        consultation = reply.answered.consultation
        event = ConsentsVoided(
            before=consultation.submitted_at, registry=self._asked.registry, receipt=consultation.receipt
        )
        desk, now = self._desk, self._desk.clock()
        written = await consent_voiding.void(
            desk.store, desk.keys, self._asked.controller, voided, event, now
        )
        self._shelf.note(reply.package, "answered", ended_at=now, consultation=consultation.id)
        release_holds.forget(desk.press.folder, self._subject(consultation))
        self._add(voided=written, answered=len(reply.answered.numbers))

    # ---- judging -----------------------------------------------------------------------------------------------------

    def _give_up(self) -> None:
        now, asked = self._desk.clock(), self._asked
        for package in self._shelf.all():
            age = now - package.submitted_at
            if package.state == "submitted" and age > asked.give_up_hours * HOUR:
                self._shelf.note(package, "expired", ended_at=now, fault=package.fault)

    def _judge(self) -> None:
        now = self._desk.clock()
        packages = self._shelf.all()
        for package in packages:
            for kind, text in alarm_policy.faults(package, self._asked, now):
                self._alarm(kind, text)
        known = self._known()
        newest = max((each.submitted_at for each in known.contents.consultations), default=0)
        self._summary = msgspec.structs.replace(
            self._summary,
            consulted_at=newest,
            numbers=len(known.numbers),
            waiting=sum(package.state in OPEN for package in packages),
        )
        awaited = [each for each in packages if alarm_policy.awaited(each, self._asked, now)]
        self._judge_answers(awaited, now + self._desk.next_run)
        under_way = bool(awaited) or (self._dry and len(self._in_turn) > 0)
        for kind, text in alarm_policy.standing(newest, self._asked, now, under_way=under_way):
            self._alarm(kind, text)

    def _judge_answers(self, awaited: list[Package], before: Instant) -> None:
        """An answer that ends is no matter for a person while the next is on its way, or asked for in time."""
        ending = query_schedule.ending(self._desk.wanted, self._known(), self._terms, before)
        if len(ending):
            ending = np.setdiff1d(ending, np.append(self._shelf.numbers(awaited), self._in_turn))
        if len(ending):
            text = f"{len(ending):,} numbers on call lists have no answer that holds until {utc(before)}"
            self._alarm("expiring", f"{text}, and none is on its way")


def _named(came: dict[str, str]) -> str:
    """These very files; nothing where one of them has no mark by which it would be known again."""
    return sha256(msgspec.json.encode(sorted(came.items()))).hexdigest() if all(came.values()) else ""
