"""Erasure (GDPR 17), by every gate on the store: see `dialgate.subjects.erasure` for what goes and what stays."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Protocol
from weakref import WeakValueDictionary

from msgspec import Struct, field, structs

from dialgate.cluster.peer_questions import FindPersonalData, RemoveFromLists
from dialgate.cluster.peers import Peers
from dialgate.cluster.personal_data import Share, merge_shares
from dialgate.cluster.shared_holds import SharedHolds
from dialgate.config.clients import Client
from dialgate.core.ledger_events import Draft, Entry, Lifted, Revoked
from dialgate.core.local_time import rfc3339
from dialgate.core.model import Instant
from dialgate.core.request_deadlines import Answered
from dialgate.crypto.keys import Keys, nonces
from dialgate.crypto.masking import Masker
from dialgate.ledger.registrar import Registrar
from dialgate.ledger.schemas import Receipt
from dialgate.store import CallLists, Ledger
from dialgate.store.sqlite_subjects import SubjectStore
from dialgate.subjects import erasure
from dialgate.subjects.deadlines import Deadlines
from dialgate.subjects.list_removal import off_lists
from dialgate.subjects.schemas import Erased, Erasure, ErasureRequest


class ErasureStore(Ledger, CallLists, Protocol):
    """The parts of the store that an erasure changes."""


class Erasing(Struct, kw_only=True, eq=False):
    """Of one gate. `share`: what it alone holds about a controller's number."""

    registrar: Registrar
    keys: Keys
    store: ErasureStore
    clock: Callable[[], Instant]
    file: SubjectStore
    deadlines: Deadlines
    holds: SharedHolds
    peers: Peers
    share: Callable[[str, str], Awaitable[Share]]
    nonces: Iterator[bytes] = field(default_factory=nonces)
    turns: WeakValueDictionary[bytes, asyncio.Lock] = field(default_factory=WeakValueDictionary)

    async def erase(self, client: Client, number: str, ask: ErasureRequest) -> Erasure:
        """GDPR 17. The suppression binds first, then goes what no gate on the store needs as proof or holds, and the files follow.
        Should it break off in between, or a gate not be heard, it may be asked again: until then nothing that may be evidence is
        destroyed, and the request stays open."""
        owner, e164 = self.registrar.access.person(client, ask.controller, number)
        subject = self.keys.subject(owner.id, e164)
        async with self.turns.setdefault(subject, asyncio.Lock()):
            return await self._erase(client, owner.id, e164, ask)

    async def _erase(self, client: Client, controller: str, number: str, ask: ErasureRequest) -> Erasure:
        subject = self.keys.subject(controller, number)
        begun = await self.deadlines.opened(ask.request, "erasure", subject)
        receipt = await self._suppressed(self._suppression(client, controller, number, ask), begun.at)
        shown = structs.replace(receipt, seq=self.registrar.ids.entry_id(receipt.seq))
        # After the suppression: no gate allows a call from then on, so the answers stay true.
        holds, deaf = await self.holds.find_everywhere()
        peers = await self.peers.ask(FindPersonalData(controller, number))
        share = merge_shares([await self.share(controller, number), *peers.answers.values()])
        held = any(hold.number == number for hold in holds)
        missing, lists = peers.missing | deaf, [entry.list for entry in share.lists]
        entries = [each for each in await self.store.history(subject) if each.seq != receipt.seq]
        if missing:
            items = erasure.put_off(entries, lists, self._named, missing)
            return Erasure(request=ask.request, suppression=shown, items=items, missing=missing)
        if not held:
            lists, missing = await self._off_every_list(controller, number)
        if missing:
            items = erasure.put_off(entries, (), self._named, missing)
        else:
            items = await self._ledger_erased(subject, entries, share, held=held)
        items += erasure.about_files(lists, share.registries, len(share.decisions), held=held)
        if not missing:
            answered = Answered(what=_summary(items), actor=ask.actor or client.name, entries=(receipt.seq,))
            await self.deadlines.take(begun, answered)
        return Erasure(request=ask.request, suppression=shown, items=items, missing=missing)

    async def _suppressed(self, draft: Draft, since: Instant) -> Receipt:
        """Once for a request, which came in at `since`; anew where that was lifted."""
        history = await self.store.history(draft.subject)
        lifted = {entry.event.of for entry in history if isinstance(entry.event, Lifted)}
        for entry in history:
            event = entry.event
            same = (
                isinstance(event, Revoked) and event.scope == "controller" and entry.channel == draft.channel
            )
            if same and entry.proof == draft.proof and entry.at >= since and entry.seq not in lifted:
                await self.store.append([])  # durable: whoever wrote it may not have been told so
                return Receipt(entry.seq, rfc3339(entry.at))
        (seq,) = await self.store.append([draft])
        return Receipt(seq, rfc3339(draft.at))

    async def _ledger_erased(
        self, subject: bytes, entries: list[Entry], share: Share, *, held: bool
    ) -> list[Erased]:
        """With what was put out of use before, by a call that broke off."""
        now, days = self.clock(), self.registrar.config.settings.storage.restricted_days
        goes, restricted = erasure.split(entries, share.used, now, days, held=held)
        await self.file.restrict(
            [erasure.sealed(*each, self.keys.ledger, next(self.nonces)) for each in restricted]
        )
        await self.store.remove([entry.seq for entry in (*goes, *(entry for entry, _ in restricted))])
        before = [
            (erasure.opened(each, self.keys.ledger), each.until)
            for each in await self.file.restricted(subject)
        ]
        known = {entry.seq for entry in entries}
        earlier = [each for each in before if each[0].seq not in known and each[1] > now]
        every = [*(entry for entry, _ in earlier), *entries]
        return erasure.told(every, [*earlier, *restricted], self._named, held=held)

    async def _off_every_list(self, controller: str, number: str) -> tuple[list[str], dict[str, str]]:
        """The names of those it was on, everywhere; and of each gate that was not heard, why."""
        names = set(await self.off_lists(controller, number))
        peers = await self.peers.ask(RemoveFromLists(controller, number))
        return sorted(names.union(*peers.answers.values())), peers.missing

    def _named(self, entry: Entry) -> str:
        name: str = Masker(self.keys, entry.controller).shown(getattr(entry.event, "id", ""))
        return name or f"entry {self.registrar.ids.entry_id(entry.seq)}"

    def _suppression(self, client: Client, controller: str, number: str, ask: ErasureRequest) -> Draft:
        now = self.clock()
        ask = Masker(self.keys, controller).masked(ask, number)
        return Draft(
            at=now,
            controller=controller,
            subject=self.keys.subject(controller, number),
            event=Revoked(at=now),
            actor=ask.actor or client.name,
            channel="erasure",
            proof=ask.proof or f"request:{ask.request}",
            sealed=self.keys.ledger.seal(number, next(self.nonces)),
        )

    async def off_lists(self, controller: str, number: str) -> list[str]:
        """It is taken off the call lists whose files are here, unless it is under a legal hold here. The names of those it was on."""
        if number in (await self.holds.under()).numbers:
            return []
        names = await off_lists(self.store, self.registrar.config.data / "lists", controller, number)
        if names:
            self.registrar.changed.set()
        return names


def _summary(items: Iterable[Struct]) -> str:
    done = [str(getattr(each, "done", "")) for each in items]
    return ", ".join(f"{done.count(name)} {name}" for name in ("erased", "restricted", "kept"))
