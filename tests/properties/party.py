"""A controller and a number: what the controller sends about it, and the model of what the person said."""

from collections.abc import Awaitable, Callable
from datetime import date, timedelta
from typing import Any, Final
from urllib.parse import quote

from msgspec import structs

from dialgate.core.model import Instant
from dialgate.ledger.schemas import EntriesRequest, RevocationsRequest
from tests.properties import histories
from tests.properties.histories import UNIT, Owner, Turn
from tests.properties.house import AGENCY, CALLERS, OWNERS, POLL_DAYS, POLL_LIMIT, House
from tests.properties.person import REQUEST_LASTS, Campaign, Ledger, Person, Stop, Wish, Wrong, day
from tests.properties.rows import (
    BROADBAND,
    INSURANCE,
    Row,
    consent_of,
    consent_row,
    date_of,
    file_of,
    instant,
    table,
    when,
)
from tests.properties.sender import Sender

PURPOSE: Final = "a test"
SECTOR: Final = "telecommunications"
PATHS: Final = {"consent": "/v1/consents", "contract": "/v1/contracts", "call_request": "/v1/call-requests"}


class UnlawfulAllow(AssertionError):
    pass


class Party(Sender):
    """A controller and a number: what the controller sends about it, and the model of what its holder said.

    `other` is another controller's party with the same number.
    """

    def __init__(
        self,
        house: House,
        owner: Owner,
        number: str,
        *,
        in_directory: bool,
        other: "Party | None" = None,
    ) -> None:
        super().__init__(house, owner, number)
        self.other = other
        self.person = Person(in_directory=in_directory)
        self.saved: Ledger | None = None
        self.requests: list[str] = []
        self.allowed = ""  # the last allow
        self.polls: list[date] = []  # days
        self.sent: dict[str, list[Row]] = {kind: [] for kind in PATHS}

    # ---- steps ---------------------------------------------------------------------------------------------------------

    async def play(self, turn: Turn) -> None:
        self.client, self.gate = AGENCY if turn.agency else self.owner, turn.gate
        await ACTIONS[type(turn.step)](self, turn.step)

    # ---- consents, contracts, requests -------------------------------------------------------------------------------

    async def record(self, step: histories.Record) -> None:
        rows = [consent_row(consent, self.now) for consent in step.consents]
        if step.neighbour:  # the person did not say it
            ask = EntriesRequest(kind="consent", controller=self.owner, skip_bad=True)
            await self.bring(ask, file_of(rows, step.way, self.neighbour))
        else:
            await self.send("consent", rows, step.way)

    @property
    def neighbour(self) -> str:
        """A landline whose number is this one after Excel has dropped its zero, if this is a mobile number."""
        return self.number.replace("+39", "+390", 1)

    async def send(self, kind: str, rows: list[Row], way: str, *, again: bool = False) -> None:
        """Send consents, contracts or requests, and tell the model."""
        if way == "http":
            for row in rows:
                if await self.write(PATHS[kind], row):
                    self.tell(kind, row)
        else:
            ask = EntriesRequest(kind=kind, controller=self.owner, skip_bad=True)  # type: ignore[arg-type]
            for _ in range(2 if way == "twice" else 1):
                if await self.bring(ask, file_of(rows, way, self.number)):
                    for row in rows:
                        self.tell(kind, row)
        if not again:
            self.sent[kind] += rows

    def tell(self, kind: str, row: Row) -> None:
        """Tell the model what a row says."""
        person, key = self.person, row["id"]
        match kind:
            case "consent":
                person.consent(key, consent_of(row))
            case "contract":
                ends = date.fromisoformat(row["ends"]) if row["ends"] else None
                person.deal(key, date.fromisoformat(row["starts"]), ends, self.now)
            case _:
                at, expires = instant(row["requested_at"]), instant(row["expires_at"])
                person.request(key, Wish(at, row["goods"], min(expires, at + REQUEST_LASTS)))

    async def confirm(self, step: histories.Confirm) -> None:
        at = self.now - step.ago * UNIT
        if await self.write("/v1/consents/confirm", {"id": step.id, "at": when(at)}):
            self.person.confirm(step.id, at)

    async def withdraw(self, step: histories.Withdraw) -> None:
        at = self.now - step.ago * UNIT
        if await self.write("/v1/consents/withdraw", {"id": step.id, "at": when(at)}):
            self.person.withdraw(step.id, at)

    async def request(self, step: histories.Request) -> None:
        at, expires = self.now - step.ago * UNIT, self.now + step.lasts * UNIT
        row = {"id": step.id, "requested_at": when(at), "expires_at": when(expires), "goods": BROADBAND}
        await self.send("call_request", [row | {"proof": "1.pdf"}], "http")

    async def end(self, step: histories.End) -> None:
        ends = day(self.now) - timedelta(step.days)
        if await self.write("/v1/contracts/end", {"id": step.id, "ends": str(ends)}):
            self.person.end_deal(step.id, ends)

    async def send_again(self, step: histories.SendAgain) -> None:
        for kind, rows in self.sent.items():
            if rows:
                await self.send(kind, list(rows), step.way, again=True)

    async def sign(self, step: histories.Sign) -> None:
        today = day(self.now)
        row = {
            "id": step.id,
            "starts": str(today + timedelta(step.days)),
            "ends": "" if step.ends is None else str(today + timedelta(step.ends)),
            "sector": SECTOR,
            "marketing": True,
            "proof": "1.pdf",
        }
        await self.send("contract", [row], step.way)

    async def rectify(self, step: histories.Rectify) -> None:
        """Correct the newest consent or contract with an id, as the person asks."""
        person, key = self.person, step.id
        if step.kind == "contract":
            deal = person.newest_deal(key)
            ends = day(self.now) - timedelta(1)
            if deal and await self.correct("contract", key, str(deal.starts), {"ends": str(ends)}):
                person.rectify_deal(key, deal, ends)
            return
        word = person.ledger.consents.get(key)
        if word is None:
            return
        forms: dict[str, tuple[Row, Row]] = {
            "goods": ({"goods": [INSURANCE]}, {"goods": frozenset({INSURANCE})}),
            "end": ({"expires_at": when(self.now)}, {"expires": self.now}),
            "earlier": ({"collected_at": when(word.at - 6 * UNIT)}, {"at": word.at - 6 * UNIT}),
            "opt_in": ({"double_opt_in": True}, {"opt_in": True}),
        }
        fields, changes = forms[step.what]
        if await self.correct("consent", key, word.at, fields):
            person.rectify_consent(key, structs.replace(word, **changes))

    async def correct(self, kind: str, key: str, dated: str | Instant, fields: Row) -> bool:
        """Send a rectification of the newest entry with this id and date, and return whether it was recorded."""
        reply = await self.say("GET", PATHS[kind], number=self.number, purpose=PURPOSE)
        own = [
            entry["seq"]
            for entry in reply.body["entries"]
            if entry["kind"] == kind and entry["details"]["id"] == key and date_of(entry["details"]) == dated
        ]
        return bool(own) and await self.right("rectification", {"of": own[-1], "fields": fields})

    async def right(self, kind: str, body: dict[str, Any]) -> bool:
        """Open a request of the person, and answer it."""
        path = f"/v1/subjects/{quote(self.number)}"
        opened = await self.say("POST", f"{path}/requests", {"kind": kind, "identified": "code read back"})
        assert opened.status == 201, opened
        self.requests.append(opened.body["id"])
        done = await self.say("POST", f"{path}/{kind}", {"request": opened.body["id"], **body})
        return done.status in {200, 201}

    async def erase(self, _: histories.Erase) -> None:
        at = self.now
        assert await self.right("erasure", {})
        self.person.stops.append(Stop(at, "controller", "", "erasure"))

    # ---- stops ---------------------------------------------------------------------------------------------------------

    async def revoke(self, step: histories.Revoke) -> None:
        """Record a stop. It binds from now on, also if it is dated ahead."""
        campaign = self.campaigns[0].id if step.scope == "campaign" else ""
        at = self.now - step.ago * UNIT
        common: dict[str, Any] = {"scope": step.scope, "channel": step.channel}
        if campaign:
            common["campaign"] = campaign
        client, self.client = self.client, AGENCY if step.scope == "everyone" else self.client
        if step.way == "csv":
            ask = RevocationsRequest(controller=self.owner, **common)
            row = {"number": self.number, "at": when(at) if step.ago else ""}
            # A stop that the same channel has already reported is not entered again, and is lifted with that one.
            is_new = (await self.bring(ask, table([row], is_xlsx=False)))["revoked"] > 0
        else:
            await self.write("/v1/revocations", {**common, "at": when(at)})
            is_new = True
        self.client = client
        if is_new:
            self.person.stops.append(Stop(min(at, self.now), step.scope, campaign, step.channel))

    async def revocations(self) -> list[dict[str, Any]]:
        reply = await self.say("GET", "/v1/revocations", number=self.number, purpose=PURPOSE)
        return reply.body["entries"]  # type: ignore[no-any-return]

    async def lift(self, step: histories.Lift) -> None:
        entries = await self.revocations()
        lifted = {entry["details"]["of"] for entry in entries if entry["kind"] == "lifted"}
        # One for everyone concerns the other controller too, so the first leaves it to the second.
        own = {"acme"} if self.owner == "acme" else {self.owner, "*"}
        left = [
            entry
            for entry in entries
            if entry["kind"] == "revoked" and entry["seq"] not in lifted and entry["controller"] in own
        ]
        if not left:
            return
        entry = left[step.place % len(left)]
        ground = "error" if step.ground == "error" else "new_consent"
        body = {"ground": ground, "reason": "a letter", "controller": self.owner}
        if ground == "new_consent":
            body["consent"] = step.ground
        client, self.client = self.client, AGENCY if entry["controller"] == "*" else self.client
        reply = await self.say("POST", f"/v1/revocations/{entry['seq']}/lift", body)
        self.client = client
        if reply.status == 201:
            self.forget(entry, ground)

    def forget(self, entry: dict[str, Any], ground: str) -> None:
        """Mark the stop that an entry records as lifted."""
        details = entry["details"]
        stated = (
            instant(details["at"]),
            details.get("scope", "controller"),
            details.get("campaign", ""),
            entry["channel"],
        )
        same = [
            stop
            for stop in self.person.stops
            if (stop.at, stop.scope, stop.campaign, stop.channel) == stated and stop.lifted != "error"
        ]
        for stop in sorted(same, key=lambda stop: stop.lifted)[:1]:  # a restore can undo an earlier lift
            stop.lifted = ground

    async def report(self, step: histories.Report) -> None:
        if not self.allowed:
            return
        reply = await self.say("POST", "/v1/outcomes", {"decision_id": self.allowed, "outcome": step.outcome})
        assert reply.status == 200, reply
        if step.outcome == "opt_out":
            self.person.stops.append(Stop(self.now, "controller", "", "call"))
        else:
            self.person.wrong.append(Wrong(self.now))

    async def lift_wrong(self, step: histories.LiftWrong) -> None:
        entries = (await self.say("GET", "/v1/wrong-numbers", number=self.number, purpose=PURPOSE)).body[
            "entries"
        ]
        reports = [entry for entry in entries if entry["kind"] == "wrong_number"]
        if not reports:
            return
        path = f"/v1/wrong-numbers/{reports[-1]['seq']}/lift"
        reply = await self.say("POST", path, {"ground": step.ground, "reason": "read back"})
        if reply.status == 201:
            at = instant(reports[-1]["details"]["at"])
            for wrong in self.person.wrong:
                wrong.lifted = wrong.lifted or wrong.at == at

    # ---- calls and reading ---------------------------------------------------------------------------------------------

    @property
    def campaigns(self) -> list[Campaign]:
        return self.house.campaigns(self.owner)

    async def check(self) -> bool:
        """Check a call of each campaign at each gate, and return whether one was allowed."""
        self.client, allowed = self.owner, False
        sale, poll = CALLERS[self.owner]
        calls = [
            {
                "to": self.number,
                "from": poll if campaign.purpose == "statistics" else sale,
                "campaign": campaign.id,
            }
            for campaign in self.campaigns
        ]
        for gate in range(len(self.house.gates)):
            self.gate = gate
            answers = (await self.say("POST", "/v1/checks", {"calls": calls})).body["answers"]
            for campaign, answer in zip(self.campaigns, answers, strict=True):
                allowed |= self.judge(campaign, answer)
        return allowed

    def judge(self, campaign: Campaign, answer: dict[str, Any]) -> bool:
        """Return whether a call was allowed. Raises `UnlawfulAllow` if it must not be."""
        if answer["decision"] != "allow":
            return False
        self.allowed = answer["decision_id"]
        if not self.person.may_be_called(campaign, self.campaigns, self.now):
            raise UnlawfulAllow(f"{campaign.id} called a person whose last word was stop")
        if campaign.purpose == "statistics":
            self.polls.append(day(self.now))
            recent = [called for called in self.polls if (day(self.now) - called).days < POLL_DAYS]
            if len(recent) > POLL_LIMIT:
                raise UnlawfulAllow(f"{campaign.id} called {len(recent)} times in {POLL_DAYS} days")
        return True

    async def look(self, step: histories.Look) -> None:
        match step.what:
            case "report":
                await self.say("GET", f"/v1/subjects/{quote(self.number)}", purpose=PURPOSE)
            case "portability":
                await self.say("GET", f"/v1/subjects/{quote(self.number)}/portability", purpose=PURPOSE)
            case "simulate":
                body = {"to": self.number, "from": CALLERS[self.owner][0], "campaign": self.campaigns[0].id}
                await self.say("POST", "/v1/simulate", body)
            case _:
                await self.say("GET", f"/v1/{step.what}", number=self.number, purpose=PURPOSE)

    async def pry(self, step: histories.Pry) -> None:
        """Use ids of the other controller. Its party with the other number has none, and sends invented ones."""
        self.client = self.owner
        decision = (self.other.allowed if self.other else "") or "kkkkkkkkllllllllmmmmmmmmnnnnnnnn"
        seq = self.other.seqs[-1] if self.other and self.other.seqs else 2**52 + 12345
        stranger = next(owner for owner in OWNERS if owner != self.owner)
        match step.what:
            case "outcome":
                await self.say("POST", "/v1/outcomes", {"decision_id": decision, "outcome": "opt_out"})
            case "lift":
                await self.say("POST", f"/v1/revocations/{seq}/lift", {"ground": "error", "reason": "typed"})
            case "rectify":
                await self.right("rectification", {"of": seq, "fields": {"goods": []}})
            case "decision":
                await self.say("GET", f"/v1/decisions/{decision}", purpose=PURPOSE)
            case _:
                await self.say(
                    "GET", "/v1/consents", number=self.number, purpose=PURPOSE, controller=stranger
                )


ACTIONS: Final[dict[type, Callable[[Party, Any], Awaitable[None]]]] = {
    histories.Record: Party.record,
    histories.Confirm: Party.confirm,
    histories.Withdraw: Party.withdraw,
    histories.Revoke: Party.revoke,
    histories.Lift: Party.lift,
    histories.Report: Party.report,
    histories.LiftWrong: Party.lift_wrong,
    histories.Sign: Party.sign,
    histories.End: Party.end,
    histories.Request: Party.request,
    histories.Rectify: Party.rectify,
    histories.SendAgain: Party.send_again,
    histories.Erase: Party.erase,
    histories.Look: Party.look,
    histories.Pry: Party.pry,
}
