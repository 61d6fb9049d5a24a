"""Erasure (GDPR 17) by all gates that share a store.

`dialgate.subjects.erasure` decides what is erased and what is kept.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from weakref import WeakValueDictionary

import structlog
from msgspec import Struct, field, structs

from dialgate.audit.legal_holds import UnderHold
from dialgate.cluster.peer_questions import FindPersonalData, RemoveFromLists
from dialgate.cluster.peers import Peers
from dialgate.cluster.personal_data import Share, merge_shares
from dialgate.cluster.shared_holds import SharedHolds
from dialgate.config.clients import Client
from dialgate.core.ledger_events import Draft, Entry, Lifted, Revoked
from dialgate.core.local_time import rfc3339
from dialgate.core.model import Instant
from dialgate.core.refusal import Refused
from dialgate.core.request_deadlines import Answered, Erased, Executed
from dialgate.crypto.keys import Keys
from dialgate.crypto.masking import Masker
from dialgate.crypto.nonces import nonces
from dialgate.ledger.registrar import Registrar
from dialgate.ledger.schemas import Receipt
from dialgate.store import LedgerAndDocuments
from dialgate.store.subjects import Restricted, SubjectStore
from dialgate.subjects import erasure, inventory
from dialgate.subjects.deadlines import Deadlines
from dialgate.subjects.list_removal import NotRemoved, remove_from_lists, unreadable_lists
from dialgate.subjects.schemas import Erasure, ErasurePreview, ErasureRequest

_log = structlog.get_logger(__name__)


class ClusterErasure(Struct, kw_only=True, eq=False):
    """The erasure service of one gate.

    `share` returns the data about a number that only this gate has.
    """

    registrar: Registrar
    keys: Keys
    store: LedgerAndDocuments
    clock: Callable[[], Instant]
    file: SubjectStore
    deadlines: Deadlines
    holds: SharedHolds
    peers: Peers
    share: Callable[[str, str], Awaitable[Share]]
    nonces: Iterator[bytes] = field(default_factory=nonces)
    locks: WeakValueDictionary[bytes, asyncio.Lock] = field(default_factory=WeakValueDictionary)

    async def erase(self, client: Client, number: str, ask: ErasureRequest) -> Erasure:
        """Erase the data about a number (GDPR 17), except data that must be kept as proof.

        A suppression entry takes effect first. Then the ledger entries that permit calls are erased. Entries that a
        gate needs as proof, or that are under a legal hold, are kept. Finally the number is removed from call lists.

        Repeat the erasure if it was interrupted or a gate did not respond. Until every gate has responded, nothing
        that may be evidence is destroyed, and the request counts as not carried out. It stays open, for the answer to the person.
        """
        owner, e164 = self.registrar.access.person(client, ask.controller, number)
        subject = self.keys.subject(owner.id, e164)
        async with self.locks.setdefault(subject, asyncio.Lock()):
            return await self._erase(client, owner.id, e164, ask)

    async def _erase(self, client: Client, controller: str, number: str, ask: ErasureRequest) -> Erasure:
        subject = self.keys.subject(controller, number)
        case = await self.deadlines.find_open(ask.request, "erasure", subject)
        receipt = await self._suppress(self._suppression(client, controller, number, ask), case.at)
        shown = structs.replace(receipt, seq=self.registrar.ids.entry_id(receipt.seq))
        # After the suppression no gate allows calls to this number, so the gates' responses stay valid.
        holds = await self.holds.sync()
        peers = await self.peers.ask(FindPersonalData(controller, number))
        share = merge_shares([await self.share(controller, number), *peers.answers.values()])
        is_held = number in holds.numbers
        missing, lists = peers.missing, [entry.list for entry in share.lists]
        history = await self.store.history(subject)
        entries = [entry for entry in history if entry.seq != receipt.seq]
        if missing:
            items = erasure.describe_postponed(entries, lists, self._name_of, missing)
            return Erasure(request=ask.request, suppression=shown, items=items, missing=missing)
        if not is_held:
            lists, missing = await self._remove_from_all_lists(RemoveFromLists(controller, number))
        if missing:
            items = erasure.describe_postponed(entries, (), self._name_of, missing)
        else:
            items = await self._erase_entries(subject, entries, share, is_held=is_held)
        items += erasure.describe_files(lists, share.registries, len(share.decisions), is_held=is_held)
        if not missing:
            items += erasure.describe_letters(share.letters, is_held=is_held)
            kept = await self._lists_under_hold(controller, lists) if is_held else ()
            result = Executed(
                what=_summary(items),
                actor=client.actor(ask.actor),
                entries=(receipt.seq,),
                lists=kept,
                items=self._stored(items, controller, number),
            )
            await self.deadlines.add_step(case, result)
        return Erasure(request=ask.request, suppression=shown, items=items, missing=missing)

    async def _lists_under_hold(self, controller: str, lists: list[str]) -> tuple[str, ...]:
        """Return the lists from which the number is removed once the hold is lifted: those with the number, and those that cannot be read now."""
        unreadable = await unreadable_lists(self.store, self.registrar.config.data / "lists", controller)
        return tuple(dict.fromkeys([*lists, *unreadable]))

    async def preview(self, controller: str, number: str) -> ErasurePreview:
        """Return what an erasure would do now. The caller must record the look-up first."""
        subject, now = self.keys.subject(controller, number), self.clock()
        holds = await self.holds.sync()
        peers = await self.peers.ask(FindPersonalData(controller, number))
        share = merge_shares([await self.share(controller, number), *peers.answers.values()])
        is_held, entries = number in holds.numbers, await self.store.history(subject)
        days = self.registrar.config.storage(now).restricted_days
        _, restricted = erasure.split_entries(entries, share.used, now, days, is_held=is_held)
        items = erasure.describe_entries(entries, restricted, self._name_of, is_held=is_held)
        lists = [entry.list for entry in share.lists]
        items += erasure.describe_files(lists, share.registries, len(share.decisions), is_held=is_held)
        items += erasure.describe_letters(share.letters, is_held=is_held)
        return ErasurePreview(items=items, missing=peers.missing)

    async def finish_postponed(self, holds: UnderHold) -> None:
        """Remove numbers from the call lists that a legal hold kept during an erasure, if the hold was lifted.

        A removal that needs a gate which does not respond, or a list that is damaged, is left to the next call. Raises `StoreUnavailable`.
        """
        for event, lists in await self.deadlines.postponed_erasures():
            if holds.concerns(event.controller, event.subject):
                continue
            number = self.keys.ledger.unseal(event.sealed)
            question = RemoveFromLists(event.controller, number, lists)
            names, missing = await self._remove_from_all_lists(question)
            if missing:
                _log.error("a postponed erasure waits", request=event.id, missing=missing)
                continue
            what = f"removed from {len(names)} call lists after the legal hold was lifted"
            step = (Answered if event.closes else Executed)(what=what, actor="retention")
            with suppress(Refused):  # another run has removed the request
                await self.deadlines.add_step(event, step)

    async def _suppress(self, draft: Draft, since: Instant) -> Receipt:
        """Append a suppression, unless one for the same request is already in force.

        `since` is the time at which the request was received.
        """
        history = await self.store.history(draft.subject)
        lifted = {entry.event.of for entry in history if isinstance(entry.event, Lifted)}
        for entry in history:
            event = entry.event
            same = (
                isinstance(event, Revoked) and event.scope == "controller" and entry.channel == draft.channel
            )
            if same and entry.proof == draft.proof and entry.at >= since and entry.seq not in lifted:
                await self.store.append([])  # makes it durable, in case its writer was interrupted
                return Receipt(entry.seq, rfc3339(entry.at))
        (seq,) = await self.store.append([draft])
        return Receipt(seq, rfc3339(draft.at))

    async def _erase_entries(
        self, subject: bytes, entries: list[Entry], share: Share, *, is_held: bool
    ) -> list[Erased]:
        """Erase or restrict ledger entries, and describe what was done.

        The result includes entries that an earlier, interrupted erasure restricted.
        """
        now = self.clock()
        days = self.registrar.config.storage(now).restricted_days
        erased, restricted = erasure.split_entries(entries, share.used, now, days, is_held=is_held)
        await self.file.restrict(
            [
                Restricted.seal(entry, until, self.keys.ledger, next(self.nonces))
                for entry, until in restricted
            ]
        )
        await self.store.remove([entry.seq for entry in (*erased, *(entry for entry, _ in restricted))])
        before = [(row.unseal(self.keys.ledger), row.until) for row in await self.file.restricted(subject)]
        seqs = {entry.seq for entry in entries}
        earlier = [
            (entry, until) for entry, until in before if entry.seq not in seqs and (is_held or until > now)
        ]
        every = [*(entry for entry, _ in earlier), *entries]
        return erasure.describe_entries(every, [*earlier, *restricted], self._name_of, is_held=is_held)

    async def _remove_from_all_lists(self, question: RemoveFromLists) -> tuple[list[str], dict[str, str]]:
        """Remove the number from the lists of all gates.

        Return the names of the lists that contained the number. Also return each gate that did not respond, or whose list is
        damaged, with the reason. The other gates are asked first: where their list is intact, it replaces a damaged one here.
        """
        peers = await self.peers.ask(question)
        names, missing = set[str]().union(*peers.answers.values()), dict(peers.missing)
        try:
            names.update(await self.remove_from_lists(question))
        except (NotRemoved, OSError) as error:
            missing[self.registrar.config.settings.node] = str(error)
        return sorted(names), missing

    def _stored(self, items: list[Erased], controller: str, number: str) -> tuple[Erased, ...]:
        """Return the items to keep with the request: without the names of erased data, and with the number masked."""
        masker = Masker(self.keys, controller)
        return tuple(
            structs.replace(
                item,
                name=""
                if item.done == "erased" and item.what != "call list"
                else masker.text(item.name, number),
            )
            for item in items
        )

    def _name_of(self, entry: Entry) -> str:
        name: str = Masker(self.keys, entry.controller).unseal(getattr(entry.event, "id", ""))
        return name or f"entry {self.registrar.ids.entry_id(entry.seq)}"

    def _suppression(self, client: Client, controller: str, number: str, ask: ErasureRequest) -> Draft:
        now = self.clock()
        ask = Masker(self.keys, controller).mask(ask, number)
        return Draft(
            at=now,
            controller=controller,
            subject=self.keys.subject(controller, number),
            event=Revoked(at=now),
            actor=client.actor(ask.actor),
            channel="erasure",
            proof=ask.proof or f"request:{ask.request}",
            sealed=self.keys.ledger.seal(number, next(self.nonces)),
        )

    async def remove_from_lists(self, question: RemoveFromLists) -> list[str]:
        """Remove the number from this gate's call lists and dead letters, unless it is under a legal hold on this gate.

        Return the names of the lists that contained the number. Raises `NotRemoved`.
        """
        if question.number in (await self.holds.sync()).numbers:
            raise NotRemoved("the number was put under a legal hold meanwhile: send the erasure again")
        person = inventory.Person(self.registrar.config, question.controller, question.number, self.keys)
        erase = self.registrar.dead_letters.erase
        await asyncio.to_thread(erase, person.controller, person.number, person.regions)
        names = await remove_from_lists(
            self.store,
            self.registrar.config.data / "lists",
            question.controller,
            question.number,
            only=question.lists,
            alone=not self.peers.urls,
        )
        if names:
            self.registrar.changed.set()
        return names


def _summary(items: Iterable[Struct]) -> str:
    counts = Counter(str(getattr(item, "done", "")) for item in items)
    return ", ".join(f"{counts[name]} {name}" for name in ("erased", "restricted", "kept"))
