"""A player of histories: sends each step to the gates, and compares what the second controller hears."""

from itertools import count
from typing import Final

from msgspec import structs

from dialgate.core.model import DAY, Instant
from tests.properties import histories
from tests.properties.histories import UNIT, History, Owner, Turn
from tests.properties.house import AGENCY, House
from tests.properties.party import Party
from tests.properties.person import BASE, Stop
from tests.properties.rows import cell, table

ANSWER_AGES: Final = 10 * DAY  # the registry is asked again before its answer expires


class Play:
    """A history in progress: three parties, of which the third is about a number that only its controller knows."""

    def __init__(self, house: House, history: History) -> None:
        number, twin = next(house.numbers[history.kind])
        is_listed = history.kind == "directory"
        self.house, self.history = house, history
        acme = Party(house, "acme", number, in_directory=is_listed)
        self.acme, self.bolt = acme, Party(house, "bolt", number, in_directory=is_listed, other=acme)
        self.twin = Party(house, "bolt", twin, in_directory=is_listed)
        self.acts = sorted({"acme", *(turn.by for turn in history.turns)})
        self.asked_at: dict[Owner, Instant] = {}
        self.for_all: list[tuple[Stop, Stop]] = []  # stops for everyone, as each controller knows them
        self.lists = (f"{history.kind}-{int(number[-6:])}-{place}" for place in count())
        self.has_copy = False

    def parties(self, owner: Owner) -> list[Party]:
        return [self.acme] if owner == "acme" else [self.bolt, self.twin]

    async def run(self) -> bool:
        """Play the history, and return whether a call was allowed at its end."""
        for turn in self.history.turns:
            await self.play(turn)
            self.compare()
        allowed = [await self.check(owner, asked=True) for owner in self.acts]
        for party in (self.bolt, self.twin) if "bolt" in self.acts else ():
            await party.look(histories.Look("report"))
        self.compare()
        for owner in self.acts:
            await self.retire(owner, every=True)
        if self.house.is_renamed:
            await self.house.rename()
        return any(allowed)

    def compare(self) -> None:
        """Check that the second controller heard the same about both numbers."""
        for one, other in zip(self.bolt.heard, self.twin.heard, strict=True):
            assert one == other, f"a controller learns of another: {other} became {one}"
        self.bolt.heard.clear()
        self.twin.heard.clear()

    async def play(self, turn: Turn) -> None:
        match turn.step:
            case histories.Pass(units=units):
                await self.house.pass_time(units * UNIT)
            case histories.Remove():
                await self.house.remove()
            case histories.Rename():
                await self.house.rename()
            case histories.Restart():
                await self.house.restart()
            case histories.BackUp():
                await self.back_up()
            case histories.Restore() | histories.RestoreLog() as step:
                await self.restore(step)
            case _:
                await self.act(turn)

    async def act(self, turn: Turn) -> None:
        """Play a step of a controller. Most concern one number at a time."""
        match turn.step:
            case histories.Answer(enrolled=enrolled, ahead=ahead):
                await self.answer(turn.by, enrolled=enrolled, ahead=ahead)
            case histories.Check(asked=asked):
                await self.check(turn.by, asked=asked)
            case histories.Load() as step:
                await self.load(step, turn)
            case histories.Retire():
                await self.retire(turn.by)
            case histories.Revoke(scope="everyone"):
                known = len(self.bolt.person.stops)
                for party in (self.bolt, self.twin):
                    await party.play(turn)
                # Copies, because a new consent of one controller lifts the stop for that controller only.
                both = [(stop, structs.replace(stop)) for stop in self.bolt.person.stops[known:]]
                self.acme.person.stops += (copy for _, copy in both)
                self.for_all += both
            case _:
                for party in self.parties(turn.by):
                    await party.play(turn)
                for stop, copy in self.for_all:
                    if stop.lifted == "error":
                        copy.lifted = "error"

    # ---- calls and the registry ----------------------------------------------------------------------------------------

    async def check(self, owner: Owner, *, asked: bool) -> bool:
        if asked and self.house.now - self.asked_at.get(owner, 0) > ANSWER_AGES:
            await self.answer(owner, enrolled=self.parties(owner)[0].person.is_enrolled)
        return any([await party.check() for party in self.parties(owner)])

    async def answer(self, owner: Owner, *, enrolled: bool, ahead: int = 0) -> None:
        parties = self.parties(owner)
        numbers = [party.number for party in parties]
        sent = await self.house.answer(owner, numbers, enrolled=enrolled, ahead=ahead * UNIT)
        if not ahead:
            self.asked_at[owner] = self.house.now
            for party in parties:
                party.person.answer(sent, enrolled=enrolled)

    # ---- call lists ------------------------------------------------------------------------------------------------

    async def load(self, step: histories.Load, turn: Turn) -> None:
        parties, name = self.parties(turn.by), next(self.lists)
        numbers = [party.neighbour if step.neighbour else party.number for party in parties]
        rows = [{"number": cell(number, step.way), "basis": "directory"} for number in numbers]
        file = table(rows, is_xlsx=step.way == "excel")
        client = AGENCY if turn.agency else turn.by
        reply = await self.house.load_list(turn.gate, client, turn.by, name, file, as_json=step.way == "http")
        assert reply.status == 201 or "list.unreadable" in reply.text, reply
        if reply.status == 201 and not step.neighbour:
            for party in parties:
                party.person.ledger.lists[name] = True

    async def retire(self, owner: Owner, *, every: bool = False) -> None:
        """Retire the newest list that this history loaded, or every list."""
        first, *others = [party.person.ledger.lists for party in self.parties(owner)]
        names = [name for name, in_force in first.items() if in_force and name != BASE]
        for name in names if every else names[-1:]:
            reply = await self.house.request(0, owner, "POST", f"/v1/lists/{name}/retire", {})
            assert reply.status == 200, reply
            await self.house.tick()
            for lists in (first, *others):
                lists[name] = False

    # ---- copies --------------------------------------------------------------------------------------------------------

    async def back_up(self) -> None:
        await self.house.back_up()
        self.has_copy = True
        for party in (self.acme, self.bolt, self.twin):
            party.saved = party.person.ledger.copy()

    async def restore(self, step: histories.Restore | histories.RestoreLog) -> None:
        if not self.has_copy:
            return
        if isinstance(step, histories.RestoreLog):
            await self.house.restore_log()
            return
        for owner in self.acts:  # the log proves the stops that a decision saw
            await self.check(owner, asked=True)
        await self.house.restore()
        for party in (self.acme, self.bolt, self.twin):
            assert party.saved is not None
            party.allowed, party.person.ledger = "", party.saved.copy()
