"""Shadow mode: what the gate would refuse is let through and recorded as such, stops bind, and nothing else changes."""

import random
import shutil
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import redis.asyncio
from prometheus_client import CollectorRegistry

from dialgate.app import App
from dialgate.audit.search import DecisionQuery, search
from dialgate.client import Dialgate
from dialgate.config import loader
from dialgate.core import local_time
from dialgate.core.model import DAY, HOUR, MINUTE, SECOND, SHADOW
from dialgate.decision_log.archive import closed_segments
from dialgate.decision_log.archive.packing import pack
from dialgate.decision_log.chains import Chains
from dialgate.decision_log.span import LogSpan
from tests.support import pbx, world, yaml_files
from tests.support.world import CALL, CALLER, CLEAR, KEY, LISTED, NOW, SCOPES, Hand, World, ask

LAST_DAY = date(2026, 11, 30)
END = local_time.midnight("Europe/Rome", date(2026, 12, 1))
FOREIGN = "+390612345678"  # a caller ID that is not the campaign's
SHADOW_CLIENT = world.client("tests", KEY, *SCOPES) | {"shadow_until": LAST_DAY}
TRUNK = world.client("trunk", "key-of-the-trunk", "check") | {"trunk": True}
HISTORIES, STEPS = 12, 40


async def check(gate: World, **changes: str) -> dict[str, Any]:
    answer: dict[str, Any] = await gate.post("/v1/check", CALL | changes, 200)
    return answer


def marks(gate: World) -> list[tuple[bool, bool]]:
    return [(record.decision.allow, record.shadow) for record in gate.records()]


async def attempts(app: App) -> list[str]:
    """Return the bases of the counted attempts, oldest first."""
    pages = [page async for page in app._store.counted_attempts()]
    counted = [one.attempt for page in pages for one in page]
    return [attempt.basis for attempt in sorted(counted, key=lambda attempt: (attempt.at, attempt.decision))]


async def test_a_refused_call_goes_on_and_its_record_says_so(
    tmp_path: Path, store_settings: dict[str, Any]
) -> None:
    async with world.running(tmp_path, shadow_until=LAST_DAY, **store_settings) as gate:
        await world.load_list(gate)
        refused, allowed = await check(gate, to=LISTED), await check(gate)
        assert (refused["decision"], refused["would"], refused["to"]) == ("allow", "deny", LISTED)
        assert [reason["code"] for reason in refused["reasons"]] == ["registry.listed"]
        assert (refused["reason_class"], "valid_until" in refused) == ("number", True)
        assert (allowed["decision"], allowed["would"], "reasons" in allowed) == ("allow", "allow", False)
        assert marks(gate) == [(False, True), (True, True)]
        labels = {"campaign": "acme-fibre", "code": "registry.listed"}
        assert gate.sample("dialgate_shadow_denials_total", **labels) == 1
        counted = {"decision": "allow", "code": "", "campaign": "acme-fibre", "interface": "http"}
        assert gate.sample("dialgate_decisions_total", **counted) == 2
        found = await gate.output("log", "search", "--shadow", "--verdict", "deny", "--json")
        assert refused["decision_id"] in found
        assert allowed["decision_id"] not in found


async def test_a_stop_binds_at_once(tmp_path: Path, store_settings: dict[str, Any]) -> None:
    async with world.running(tmp_path, shadow_until=LAST_DAY, **store_settings) as gate:
        first = await check(gate, to=LISTED, call_id="one")
        await gate.post("/v1/outcomes", {"decision_id": first["decision_id"], "outcome": "opt_out"}, 200)
        for call_id in ("one", "two"):
            answer = await check(gate, to=LISTED, call_id=call_id)
            assert (answer["decision"], answer.get("would")) == ("deny", None)
            assert "revocation.revoked" in [reason["code"] for reason in answer["reasons"]]
        assert [record.shadow for record in gate.records()] == [True, False, False]


async def test_it_ends_to_the_second_also_for_a_repeated_request(
    tmp_path: Path, store_settings: dict[str, Any]
) -> None:
    hand = Hand(END - SECOND)
    async with world.running(tmp_path, hand, shadow_until=LAST_DAY, **store_settings) as gate:
        last = await check(gate, to=LISTED, call_id="one")
        assert (last["decision"], last["valid_until"]) == ("allow", local_time.rfc3339(END))
        assert await check(gate, to=LISTED, call_id="one") == last
        hand.at = END
        for call_id in ("one", "two"):
            answer = await check(gate, to=LISTED, call_id=call_id)
            assert (answer["decision"], answer.get("would"), answer.get("valid_until")) == (
                "deny",
                None,
                None,
            )
        assert marks(gate) == [(False, True), (False, False)]  # the repeated request has one record


async def test_a_refusal_from_before_shadow_mode_is_kept(tmp_path: Path) -> None:
    async with world.running(tmp_path) as gate:
        refused = await check(gate, to=LISTED, call_id="one")
        settings = yaml_files.read(gate.folder / "dialgate.yaml") | {"shadow_until": LAST_DAY}
        yaml_files.write(gate.folder / "dialgate.yaml", settings)
        gate.app.reload(loader.load(gate.folder / "dialgate.yaml"))
        assert await check(gate, to=LISTED, call_id="one") == refused
        assert (await check(gate, to=LISTED, call_id="two"))["decision"] == "allow"


async def test_recovery_restores_the_mark_of_attempts_and_answers(
    tmp_path: Path, store_settings: dict[str, Any]
) -> None:
    path = world.write_folder(tmp_path, shadow_until=LAST_DAY, **store_settings)
    world.publish_answers(tmp_path / "data", world.ANSWERS, NOW - DAY)

    async def opened(at: int) -> App:
        return await App.open(loader.load(path), registry=CollectorRegistry(), clock=Hand(at))

    app = await opened(NOW)
    await app.close()
    older = tmp_path / "older.db"
    if not store_settings:
        shutil.copy(tmp_path / "data/store.db", older)
    app = await opened(NOW)
    first = await ask(app, "one", LISTED)
    await ask(app, "two", "not a number")
    await app.close()
    if store_settings:
        async with redis.asyncio.Redis.from_url(store_settings["store"]["url"]) as server:
            async for key in server.scan_iter(f"*{store_settings['store']['name']}*"):
                await server.delete(key)
    else:
        shutil.copy(older, tmp_path / "data/store.db")
        for name in ("store.db-wal", "store.db-shm"):
            (tmp_path / "data" / name).unlink(missing_ok=True)
    app = await opened(NOW + MINUTE)
    try:
        assert await attempts(app) == [SHADOW]
        again = await ask(app, "one", LISTED)
        assert (again.decision, again.would, again.decision_id) == ("allow", "deny", first.decision_id)
    finally:
        await app.close()


async def test_enforced_decisions_count_what_shadow_mode_let_through(
    tmp_path: Path, store_settings: dict[str, Any]
) -> None:
    settings: dict[str, Any] = {"clients": [SHADOW_CLIENT, TRUNK], "shadow_until": LAST_DAY}
    async with world.running(tmp_path, **settings, **store_settings) as gate:
        await world.load_list(gate)
        for _ in range(5):
            answer = await check(gate, **{"from": FOREIGN})
            assert (answer["decision"], answer["would"]) == ("allow", "deny")
        assert await attempts(gate.app) == [SHADOW] * 5
        assert (await check(gate))["would"] == "allow"
        enforced = await gate.post("/v1/check", CALL, 200, Authorization="Bearer key-of-the-trunk")
        assert (enforced["decision"], "would" in enforced) == ("deny", False)
        assert [reason["code"] for reason in enforced["reasons"]] == ["frequency.exceeded"]


async def test_a_campaign_in_shadow_mode_is_no_other_clients_affair(tmp_path: Path) -> None:
    def add_bolt(folder: Path) -> None:
        acme = yaml_files.read(folder / "controllers/acme.yaml")
        (campaign, *_) = acme["campaigns"]
        bolt = campaign | {"id": "bolt-fibre", "shadow_until": LAST_DAY}
        yaml_files.write(folder / "controllers/bolt.yaml", acme | {"id": "bolt", "campaigns": [bolt]})

    async with world.running(tmp_path, prepare=add_bolt) as gate:
        foreign, unknown = await check(gate, campaign="bolt-fibre"), await check(gate, campaign="none")
        assert foreign["decision"] == unknown["decision"] == "deny"
        assert "would" not in foreign | unknown
        assert foreign["reasons"] == unknown["reasons"]


@pytest.mark.parametrize(
    ("to", "from_", "decision"),
    [
        ("0000000", CALLER, "allow"),  # no number that exists
        ("1234,sofia/gateway/other/+390612345678", CALLER, "deny"),
        ("+39061234567&PJSIP/1", CALLER, "deny"),
        (CLEAR, "anonymous", "allow"),
        (CLEAR, "+39]sofia/1", "deny"),
    ],
)
async def test_only_digits_that_the_gate_cannot_read_go_on(
    tmp_path: Path, to: str, from_: str, decision: str
) -> None:
    async with world.running(tmp_path, shadow_until=LAST_DAY) as gate:
        answer = await check(gate, to=to, **{"from": from_})
        assert answer["decision"] == decision
        if decision == "allow":
            assert (answer["to"], answer["from"]) == (to, from_)
        assert [record.shadow for record in gate.records()] == [decision == "allow"]


async def test_no_record_no_call(tmp_path: Path) -> None:
    async with world.running(tmp_path, shadow_until=LAST_DAY) as gate:
        await gate.app._store.close()
        async with gate.client.post("/v1/check", json=CALL | {"to": LISTED}) as response:
            answer = await response.json()
        assert (response.status, answer["decision"], "would" in answer) == (503, "deny", False)


async def test_every_interface_lets_the_call_go_on_and_says_would(tmp_path: Path) -> None:
    async with world.running(tmp_path, shadow_until=LAST_DAY) as gate:
        query = {"to": LISTED, "from": CALLER, "campaign": "acme-fibre"}
        async with gate.client.get("/v1/check.txt", params=query) as response:
            assert (await response.text(), response.headers["Dialgate-Would"]) == ("allow", "deny")
        async with gate.client.get("/v1/check.form", params=query) as response:
            text = await response.text()
            assert "decision=allow" in text
            assert "would=deny" in text
            assert "reason=registry.listed" in text
        httapi = await _text(gate, "/v1/freeswitch/httapi", query)
        assert "<dg_would>deny</dg_would>" in httapi
        assert "hangup" not in httapi
        assert httapi.endswith("<dg_decision>allow</dg_decision></variables></document>")
        plan = {**query, "bridge": "sofia/gateway/trunk", "section": "dialplan"}
        assert f"sofia/gateway/trunk/{LISTED}" in await _text(gate, "/v1/freeswitch/dialplan", plan)
        answers = await gate.post("/v1/checks", {"calls": [CALL | {"to": LISTED}]}, 200)
        assert [(one["decision"], one["would"]) for one in answers["answers"]] == [("allow", "deny")]
        async with Dialgate(f"http://127.0.0.1:{gate.port}", KEY, clock=lambda: NOW / 1000) as client:
            verdict = await client.check(to=LISTED, from_=CALLER, campaign="acme-fibre")
            assert (verdict.allow, verdict.would, verdict.to) == (True, "deny", LISTED)
            unread = await client.check(to="0000000", from_=CALLER, campaign="acme-fibre")
            assert (unread.allow, unread.would, unread.to) == (True, "deny", "0000000")


async def _text(gate: World, path: str, fields: dict[str, str]) -> str:
    async with gate.client.post(path, params=fields) as response:
        return await response.text()


async def test_asterisk_and_a_webhook_go_on_and_say_would(tmp_path: Path) -> None:
    async with pbx.run_gate(tmp_path, shadow_until=LAST_DAY) as asterisk:
        for script in ("check", "vicidial"):
            variables = (await asterisk.run_check(LISTED, script=script)).variables
            told = {name: variables.get(f"DG_{name}") for name in ("DECISION", "WOULD", "REASON")}
            if script == "check":
                assert told == {"DECISION": "allow", "WOULD": "deny", "REASON": "registry.listed"}
            assert "DIALSTATUS" not in variables
    webhooks = tmp_path / "hooks"
    (webhooks / "webhooks").mkdir(parents=True)
    shutil.copy(world.CONFIG / "webhooks/generic.yaml", webhooks / "webhooks/generic.yaml")
    async with world.running(webhooks, shadow_until=LAST_DAY) as gate:
        body = {"to": LISTED, "from": CALLER, "campaign": "acme-fibre"}
        answer = await gate.post("/v1/webhooks/generic", body, 200)
        assert (answer["allowed"], answer["decision"], answer["would"]) == (True, "allow", "deny")


async def test_archives_keep_the_mark_and_older_ones_have_none(tmp_path: Path) -> None:
    async with world.running(tmp_path, shadow_until=LAST_DAY, log_segment_hours=1) as gate:
        await world.load_list(gate)
        await check(gate, to=LISTED)
        await check(gate)
        gate.hand.at += 2 * HOUR
        await check(gate)
        (segment, *_) = closed_segments(tmp_path / "data/log", gate.hand.at)
        pack(segment)

    def found(*, shadow: bool) -> list[tuple[str, bool]]:
        hits = search(Chains(tmp_path / "data"), DecisionQuery(shadow=shadow), LogSpan())
        return [(hit.decision, hit.shadow) for hit in hits]

    assert found(shadow=True) == found(shadow=False) == [("deny", True), ("allow", True), ("allow", True)]
    (packed,) = (tmp_path / "data/log").glob("*.parquet")
    older = pq.read_table(packed).drop_columns(["shadow"])
    pq.write_table(older.replace_schema_metadata(pq.read_metadata(packed).metadata), packed)
    assert found(shadow=False) == [("deny", False), ("allow", False), ("allow", True)]
    assert found(shadow=True) == [("allow", True)]


async def test_what_a_citizen_reads_is_true(tmp_path: Path) -> None:
    clients = [world.client("tests", KEY, *SCOPES, "subjects", "watch")]
    async with world.running(tmp_path, shadow_until=LAST_DAY, clients=clients) as gate:
        answer = await check(gate, to=LISTED)
        await gate.post("/v1/outcomes", {"decision_id": answer["decision_id"], "outcome": "answered"}, 200)
        report = await gate.get("/v1/report?day=2026-11-24&format=json")
        assert [report[name] for name in ("asked", "denied", "let_through")] == [1, 1, 1]
        assert report["outcomes"] == {"answered": 1}
        for language, words in (("en", "would have refused"), ("it", "avrebbe negato")):
            account = await gate.get(f"/v1/decisions/{answer['decision_id']}?language={language}")
            assert (account["decision"], account["shadow"]) == ("deny", True)
            assert words in account["words"][0]


# ---- random histories ------------------------------------------------------------------------------------------------


class Pair:
    """A gate in shadow mode and an enforcing one, which get the same requests at the same times."""

    def __init__(self, shadow: World, enforcing: World, draw: random.Random) -> None:
        self.gates, self.draw = (shadow, enforcing), draw
        self.ids = list[tuple[str, dict[str, str], int]]()
        self.real = list[tuple[str, str]]()
        self.let_through = list[str]()
        self.denied = set[str]()

    async def check(self, body: dict[str, str]) -> None:
        one, other = [await gate.post("/v1/check", body, 200) for gate in self.gates]
        would = one.get("would", one["decision"])
        assert (would, one.get("reasons")) == (other["decision"], other.get("reasons")), body
        reasons = [reason["code"] for reason in other.get("reasons", ())]
        is_stop = "revocation.revoked" in reasons
        assert one["decision"] == ("deny" if is_stop else "allow"), (body, one, other)
        if would == "allow":
            self.real.append((one["decision_id"], other["decision_id"]))
        elif not is_stop:
            self.let_through.append(one["decision_id"])

    async def outcome(self) -> None:
        results = ["not_dialled", "no_answer", "answered", "abandoned", "refused"]
        result = self.draw.choice(results)
        if self.real and self.draw.random() < 0.6:
            pair = self.real.pop()
            for gate, id_ in zip(self.gates, pair, strict=True):
                await gate.post("/v1/outcomes", {"decision_id": id_, "outcome": result}, 200)
        elif self.let_through:
            body = {"decision_id": self.let_through.pop(), "outcome": result}
            await self.gates[0].post("/v1/outcomes", body, 200)

    async def play(self, numbers: list[str]) -> None:
        draw, hands = self.draw, [gate.hand for gate in self.gates]
        for step in range(STEPS):
            match draw.choices(["check", "again", "outcome", "time", "stop"], [10, 2, 4, 3, 0.3])[0]:
                case "check":
                    body = CALL | {"to": draw.choice(numbers), "from": draw.choice([CALLER, CALLER, FOREIGN])}
                    body |= {"call_type": draw.choice(["agent", "agent", "automated"])}
                    body |= {"call_id": f"{id(self)}-{step}"} if draw.random() < 0.5 else {}
                    self.ids.append((body.get("call_id", ""), body, hands[0].at))
                    await self.check(body)
                case "again":
                    recent = [body for id_, body, at in self.ids if id_ and hands[0].at - at < 10 * MINUTE]
                    if recent and not self.real and not self.let_through:
                        await self.check(recent[-1])
                case "outcome":
                    await self.outcome()
                case "time":
                    passed = draw.choice([MINUTE, HOUR, 5 * HOUR])
                    for hand in hands:
                        hand.at += passed
                case "stop":
                    number = draw.choice(numbers)
                    for gate in self.gates:
                        await gate.post("/v1/revocations", {"number": number, "channel": "call"})


def _numbers(history: int) -> Iterator[str]:
    """Yield the numbers of a history: two that may be called, one that is enrolled, one that is on no list."""
    for place in range(4):
        yield f"+39061234{1000 + 4 * history + place}"


async def test_a_shadow_gate_decides_like_an_enforcing_one(
    tmp_path: Path, store_settings: dict[str, Any]
) -> None:
    histories = [list(_numbers(place)) for place in range(HISTORIES)]
    answers = {number: place == 2 for numbers in histories for place, number in enumerate(numbers)}
    draw = random.Random(54)
    modes: dict[str, dict[str, Any]] = {"shadow": {"shadow_until": date(2026, 12, 31)}, "enforcing": {}}
    async with AsyncExitStack() as stack:
        gates = []
        for name, changes in modes.items():
            store = store_settings and {
                "store": store_settings["store"] | {"name": f"{tmp_path.name}-{name}"}
            }
            running = world.running(tmp_path / name, Hand(), answers=answers, **changes, **store)
            gate = await stack.enter_async_context(running)
            await world.load_numbers(gate.app, [number for numbers in histories for number in numbers[:3]])
            await gate.app.tick(patience=None)
            gates.append(gate)
        let_through = 0
        for numbers in histories:
            for gate in gates:
                gate.hand.at = max(gate.hand.at, NOW)
            pair = Pair(gates[0], gates[1], draw)
            await pair.play(numbers)
        for gate in gates:
            assert len(gate.records()) > HISTORIES
        let_through = sum(mark == (False, True) for mark in marks(gates[0]))
        assert let_through > HISTORIES
        assert [record.decision.allow for record in gates[0].records()] == [
            record.decision.allow for record in gates[1].records()
        ]
