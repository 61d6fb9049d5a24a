"""Dialers and webhooks receive every revocation that binds their controllers, in order, and resume after a break."""

import asyncio
import base64
import hmac
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from aiohttp import ClientResponse, web

from dialgate.config import loader, webhook_targets
from dialgate.config.clients import Client
from dialgate.config.configuration import ConfigError
from dialgate.config.webhook_targets import Subscriber
from dialgate.core.model import HOUR
from dialgate.interfaces.webhooks import deliveries
from dialgate.ledger.schemas import RevocationRequest
from tests.support import redis_servers, world
from tests.support.ledger import ledger_of
from tests.support.world import CLEAR, KEY, LISTED, NOW, World, write_folder

SECRET = b"0123456789abcdef0123456789abcdef"
WRITTEN = f"whsec_{base64.b64encode(SECRET).decode()}\n"
STREAM = {"Authorization": "Bearer key-of-the-stream"}
CLIENTS = [world.client("tests", KEY, *world.SCOPES), world.client("dialer", "key-of-the-stream", "stream")]


async def revoke(running: World, number: str = CLEAR, **more: Any) -> int:
    async with running.client.post(
        "/v1/revocations", json={"number": number, "channel": "call", **more}
    ) as answer:
        assert answer.status == 201, await answer.text()
        return int((await answer.json())["seq"])


# ---- the stream ------------------------------------------------------------------------------------------------------


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[World]:
    limits = {"idle_seconds": 3.0}
    async with world.running(tmp_path, clients=CLIENTS, limits=limits) as running:
        yield running


@asynccontextmanager
async def streamed(running: World, query: str = "") -> AsyncIterator[ClientResponse]:
    async with running.client.get(f"/v1/revocations/stream{query}", headers=STREAM) as answer:
        assert answer.status == 200, await answer.text()
        yield answer


async def line(answer: ClientResponse) -> dict[str, Any]:
    response: dict[str, Any] = json.loads(await answer.content.readline())
    return response


async def test_a_revocation_is_sent_to_all_streams(running: World) -> None:
    async with streamed(running) as answer:
        assert await line(answer) == {"seq": 0}
        seq = await revoke(running)
        response = await line(answer)
        assert response.pop("at").startswith("2026-11-24T09:00:00")
        assert response == {
            "seq": seq, "kind": "revoked", "controller": "acme", "number": CLEAR, "scope": "controller", "channel": "call",
        }  # fmt: skip
        lift = {"ground": "error", "reason": "another's"}
        async with running.client.post(f"/v1/revocations/{seq}/lift", json=lift) as lifted:
            assert lifted.status == 201
        response = await line(answer)
        assert (response["kind"], response["of"], response["number"]) == ("lifted", seq, CLEAR)


async def test_a_stream_resumes_after_the_last_sequence(running: World) -> None:
    first, second = await revoke(running), await revoke(running, LISTED)
    async with streamed(running, f"?after={first}") as answer:
        assert (await line(answer))["seq"] == second
        assert await line(answer) == {"seq": second}
    async with streamed(running, "?after=0") as answer:
        assert [(await line(answer))["seq"] for _ in range(2)] == [first, second]
    async with streamed(running) as answer:
        assert await line(answer) == {"seq": second}


async def test_a_stream_begins_again_after_a_sequence_beyond_the_newest(running: World) -> None:
    """The sequence is from before the restore of an older backup. The revocations since then have lower ones."""
    first, second = await revoke(running), await revoke(running, LISTED)
    async with streamed(running, f"?after={second + 1}") as answer:
        assert [(await line(answer))["seq"] for _ in range(2)] == [first, second]


async def test_revocations_at_another_gate_are_sent(tmp_path: Path) -> None:
    store = {"url": redis_servers.alone(), "name": tmp_path.name, "patience": 5}
    async with world.running(tmp_path, clients=CLIENTS, store=store) as running, streamed(running) as answer:
        await line(answer)
        async with ledger_of(running.app.config, lambda: NOW) as another:
            await another.revocations.revoke(
                Client(name="c", controllers=("acme",), scopes=()), RevocationRequest(number=CLEAR)
            )
        assert (await line(answer))["number"] == CLEAR


async def test_a_silent_stream_is_kept_alive(running: World) -> None:
    async with streamed(running) as answer:
        assert [await line(answer) for _ in range(2)] == [{"seq": 0}] * 2


async def test_a_stream_ends_when_its_key_is_removed(running: World) -> None:
    async with streamed(running) as answer:
        await line(answer)
        file = running.folder / "dialgate.yaml"
        file.write_text(file.read_text().replace("- stream", "- check"))
        running.app.reload(loader.load(file))
        assert (await line(answer))["error"]["code"] == "auth.scope"
        assert await answer.content.readline() == b""


async def test_a_stream_ends_when_the_gate_stops(tmp_path: Path) -> None:
    async with world.running(tmp_path, clients=CLIENTS) as running:
        answer = await running.client.get("/v1/revocations/stream", headers=STREAM)
        await line(answer)
        stopped = asyncio.get_running_loop().time()
    answer.close()
    # Otherwise the server would have waited for the stream.
    assert asyncio.get_running_loop().time() - stopped < 5


@pytest.mark.parametrize("query", ["?after=-1", "?after=x", "?since=1"])
async def test_an_invalid_stream_request_is_refused(running: World, query: str) -> None:
    async with running.client.get(f"/v1/revocations/stream{query}", headers=STREAM) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (400, "request.invalid")


async def test_a_stream_needs_its_scope(running: World) -> None:
    async with running.client.get("/v1/revocations/stream") as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (403, "auth.scope")


async def test_a_stream_has_the_revocations_of_its_controllers_and_of_everyone(tmp_path: Path) -> None:
    path = write_folder(tmp_path)
    partner = (
        (tmp_path / "controllers/acme.yaml")
        .read_text()
        .replace("acme", "partner")
        .replace("844123456", "844123457")
    )
    (tmp_path / "controllers/partner.yaml").write_text(partner)
    async with ledger_of(loader.load(path), lambda: NOW) as registrar:
        every = Client(name="c", controllers=("acme", "partner"), scopes=("admin",))
        for controller, number, scope in (
            ("acme", CLEAR, "controller"),
            ("partner", LISTED, "controller"),
            ("acme", LISTED, "everyone"),
        ):
            stop = RevocationRequest(controller=controller, number=number, scope=scope)  # type: ignore[arg-type] # a table of texts
            await registrar.revocations.revoke(every, stop)
        response = {name: (await registrar.notices.after(0, [name]))[0] for name in ("acme", "partner")}
        assert {name: [notice.seq for notice in found] for name, found in response.items()} == {
            "acme": [1, 3],
            "partner": [2, 3],
        }
        assert response["partner"][1].controller == "*"


# ---- webhooks --------------------------------------------------------------------------------------------------------


class Receiver:
    """A server that responds with `statuses`, then 204, and records what it receives."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.texts: list[str] = []
        self.rejects = False
        self.got: asyncio.Queue[tuple[web.Request, bytes]] = asyncio.Queue()

    async def take(self, request: web.Request) -> web.Response:
        status = self.statuses.pop(0) if self.statuses else 204
        body = await request.read()
        await self.got.put((request, body))
        if self.rejects:
            return web.Response(text=INVALID if FOREIGN.encode() in body else ADDED)
        if self.texts:
            return web.Response(status=200, text=self.texts.pop(0))
        return web.Response(status=status, headers={"Location": "/elsewhere"} if status == 302 else None)

    async def next(self) -> tuple[web.Request, dict[str, Any]]:
        request, body = await asyncio.wait_for(self.got.get(), 10)
        signed = b"%b.%b.%b" % (
            request.headers["webhook-id"].encode(), request.headers["webhook-timestamp"].encode(), body,
        )  # fmt: skip
        wanted = base64.b64encode(hmac.digest(SECRET, signed, sha256)).decode()
        assert request.headers["webhook-signature"] == f"v1,{wanted}"
        return request, json.loads(body)

    async def numbers(self) -> list[str]:
        return [revocation["number"] for revocation in (await self.next())[1]["revocations"]]


@asynccontextmanager
async def listening() -> AsyncIterator[tuple[Receiver, str]]:
    receiver, app = Receiver(), web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield receiver, f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    finally:
        await runner.cleanup()


def hook(url: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": "crm", "url": url, "controllers": ["acme"], "secret_file": "secret", "retry_seconds": 0.01, **changes,
    }  # fmt: skip


@asynccontextmanager
async def telling(folder: Path, url: str, **changes: Any) -> AsyncIterator[World]:
    (folder / "secret").write_text(WRITTEN)
    async with world.running(folder, subscribers=[hook(url, **changes)]) as running, delivering(running):
        yield running


@asynccontextmanager
async def delivering(running: World) -> AsyncIterator[None]:
    """Deliver the revocations that are recorded from now on."""
    await running.app.registrar.notices.delivery("crm")
    task = asyncio.create_task(deliveries.run(running.app, running.hand))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(met: Callable[[], bool], running: World) -> None:
    async with asyncio.timeout(30):
        while not met():
            await running.app.registrar.notices.wait(0.01)


async def test_a_webhook_gets_signed_revocations_in_order(tmp_path: Path) -> None:
    async with listening() as (receiver, url), telling(tmp_path, url) as running:
        await revoke(running)
        request, body = await receiver.next()
        assert request.method == "POST"
        assert [(revocation["number"], revocation["kind"]) for revocation in body["revocations"]] == [
            (CLEAR, "revoked")
        ]
        await revoke(running, LISTED)
        assert await receiver.numbers() == [LISTED]
        await until(lambda: running.sample("dialgate_webhook_behind", webhook="crm") == 0, running)
        assert running.sample("dialgate_webhook_messages_total", webhook="crm", result="delivered") == 2


@pytest.mark.parametrize("status", [302, 400, 410, 500, 503])
async def test_a_message_is_repeated_until_it_is_accepted(tmp_path: Path, status: int) -> None:
    async with listening() as (receiver, url), telling(tmp_path, url) as running:
        receiver.statuses = [status, status]
        await revoke(running)
        sent = [await receiver.next() for _ in range(3)]
        assert len({request.headers["webhook-id"] for request, _ in sent}) == 1
        await revoke(running, LISTED)
        assert await receiver.numbers() == [LISTED]
        assert running.sample("dialgate_webhook_messages_total", webhook="crm", result="failed") == 2


async def test_the_position_of_a_webhook_survives_a_restart(tmp_path: Path) -> None:
    async with listening() as (receiver, url), telling(tmp_path, url) as running:
        await revoke(running)
        await receiver.next()
        held = await running.app.registrar.notices.delivery("crm")
        while not held.seq:  # until the position is stored, after the message was received
            held = await running.app.registrar.notices.delivery("crm")
        assert (held.seq, held.tries, held.dead) == (1, 0, 0)
    async with ledger_of(loader.load(tmp_path / "dialgate.yaml"), lambda: NOW) as stopped:
        assert (await stopped.notices.delivery("crm")).seq == 1


async def test_a_message_that_is_given_up_is_counted_and_the_next_is_sent(tmp_path: Path) -> None:
    async with listening() as (receiver, url), telling(tmp_path, url, give_up_hours=1) as running:
        receiver.statuses = [500, 500]
        await revoke(running)
        await receiver.next()
        await until(
            lambda: running.sample("dialgate_webhook_messages_total", webhook="crm", result="failed") == 1,
            running,
        )
        running.hand.at += HOUR
        await receiver.next()
        await revoke(running, LISTED)
        assert LISTED in await receiver.numbers()
        await until(lambda: running.sample("dialgate_webhook_dead_letters", webhook="crm") == 1, running)
        held = await running.app.registrar.notices.delivery("crm")
        assert (held.dead, held.dead_after) == (1, 0)


async def test_an_unreachable_webhook_delays_no_other(tmp_path: Path) -> None:
    async with telling(tmp_path, "http://127.0.0.1:1/") as running:
        await revoke(running)
        await until(
            lambda: (
                (running.sample("dialgate_webhook_messages_total", webhook="crm", result="failed") or 0) > 1
            ),
            running,
        )
        assert running.app.gate.readiness() == {}
        assert (await running.app.registrar.notices.delivery("crm")).seq == 0


async def test_a_removed_webhook_gets_no_more_messages(tmp_path: Path) -> None:
    async with listening() as (receiver, url), telling(tmp_path, url) as running:
        await revoke(running)
        await receiver.next()
        file = tmp_path / "dialgate.yaml"
        text = file.read_text()
        file.write_text(text.replace("name: crm", "name: other"))
        running.app.reload(loader.load(file))
        running.app.registrar.notices.wake()
        await until(lambda: running.sample("dialgate_webhook_behind", webhook="other") == 0, running)
        await revoke(running, LISTED)
        request, _ = await receiver.next()
        assert request.headers["webhook-id"].startswith("other-")


DIALERS = {
    "vicidial": (
        {
            "source": "dialgate", "user": "api", "pass": WRITTEN.strip(), "function": "add_dnc_phone",
            "phone_number": "0612345678", "campaign_id": "FIBRE",
        },
        "SUCCESS: add_dnc_phone DNC NUMBER HAS BEEN ADDED - 0612345678|FIBRE|api|\n",
        "ERROR: add_dnc_phone DNC NUMBER ALREADY EXISTS - 0612345678|FIBRE|api|\n",
        "ERROR: add_dnc_phone USER DOES NOT HAVE PERMISSION - 0612345678|FIBRE|api|\n",
    ),
    "goautodial": (
        {
            "goUser": "api", "goPass": WRITTEN.strip(), "goAction": "goActionDNC", "responsetype": "json",
            "phone_numbers": "0612345678", "campaign_id": "FIBRE", "stage": "ADD",
        },
        '{"result": "success"}',
        '{"result": "Error: 0612345678 already exists."}',
        '{"result": "Error: permission denied for 0612345678"}',
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", DIALERS)
async def test_a_number_is_added_to_a_dialers_list_until_it_succeeds(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted, added, there, refused = DIALERS[kind]
    dialer = {"kind": kind, "user": "api", "cut": "39", "campaigns": {"acme-fibre": "FIBRE"}}
    async with listening() as (receiver, url), telling(tmp_path, url, **dialer) as running:
        receiver.texts = [refused, added, there, added, added]
        seq = await revoke(running, scope="campaign", campaign="acme-fibre")
        for _ in range(2):  # refused, then repeated
            request, body = await asyncio.wait_for(receiver.got.get(), 10)
            assert dict(parse_qsl(body.decode())) == wanted
            assert request.query_string == ""
        await revoke(running, scope="campaign", campaign="acme-fibre")  # the number is on the list already
        await asyncio.wait_for(receiver.got.get(), 10)
        await revoke(running, LISTED, campaign="acme-fibre")  # the default scope is `controller`
        _, body = await asyncio.wait_for(receiver.got.get(), 10)
        everything = dict(parse_qsl(body.decode()))["campaign_id"]
        assert everything == ("SYSTEM_INTERNAL" if kind == "vicidial" else "INTERNAL")
        lift = {"ground": "error", "reason": "another's"}
        async with running.client.post(f"/v1/revocations/{seq}/lift", json=lift) as lifted:
            assert lifted.status == 201
        await until(lambda: running.sample("dialgate_webhook_behind", webhook="crm") == 0, running)
        assert receiver.got.empty(), "what is lifted stays on the dialer's list"
        assert running.sample("dialgate_webhook_dead_letters", webhook="crm") == 0
    assert "0612345678" not in "".join(capsys.readouterr())


FOREIGN = "4930123456"
VICIDIAL = {"kind": "vicidial", "user": "api", "cut": "39", "give_up_hours": 1}
INVALID = f"ERROR: add_dnc_phone PHONE NUMBER IS NOT VALID - {FOREIGN}|SYSTEM_INTERNAL|api\n"
ADDED = DIALERS["vicidial"][1]


async def added_number(receiver: Receiver) -> str:
    _, body = await asyncio.wait_for(receiver.got.get(), 10)
    return dict(parse_qsl(body.decode()))["phone_number"]


async def test_a_rejected_number_delays_no_other_and_is_given_up_alone(tmp_path: Path) -> None:
    async with listening() as (receiver, url), telling(tmp_path, url, **VICIDIAL) as running:
        receiver.rejects = True
        await revoke(running, f"+{FOREIGN}")
        await revoke(running, CLEAR)
        numbers = [await added_number(receiver) for _ in range(3)]
        assert sorted(numbers) == ["0612345678", FOREIGN, FOREIGN]
        await until(lambda: running.sample("dialgate_webhook_behind", webhook="crm") == 1, running)
        assert running.sample("dialgate_webhook_dead_letters", webhook="crm") == 0
        running.hand.at += HOUR
        await until(lambda: running.sample("dialgate_webhook_dead_letters", webhook="crm") == 1, running)
        await until(lambda: running.sample("dialgate_webhook_behind", webhook="crm") == 0, running)
        delivery = await running.app.registrar.notices.delivery("crm")
        assert (delivery.seq, delivery.rejected, delivery.dead_after) == (2, (), 0)


async def test_a_dialer_that_rejects_every_number_stops_the_delivery(tmp_path: Path) -> None:
    slowly = {**VICIDIAL, "retry_seconds": 1}
    async with listening() as (receiver, url), telling(tmp_path, url, **slowly) as running:
        receiver.texts = [DIALERS["vicidial"][3]] * 9_999
        for place in range(102):
            await revoke(running, f"+390612340{place:03}")
        labels = {"webhook": "crm", "result": "failed"}
        await until(lambda: (running.sample("dialgate_webhook_messages_total", **labels) or 0) > 100, running)
        delivery = await running.app.registrar.notices.delivery("crm")
        assert (delivery.seq, len(delivery.rejected)) == (100, 100)
        receiver.texts = [ADDED] * 9_999
        await until(lambda: running.sample("dialgate_webhook_behind", webhook="crm") == 0, running)
        delivery = await running.app.registrar.notices.delivery("crm")
        assert (delivery.seq, delivery.rejected, delivery.dead) == (102, (), 0)


async def test_a_rejected_number_is_kept_while_the_dialer_fails(tmp_path: Path) -> None:
    async with listening() as (receiver, url), telling(tmp_path, url, **VICIDIAL) as running:
        receiver.texts = [INVALID]
        await revoke(running, f"+{FOREIGN}")
        await added_number(receiver)
        receiver.statuses = [503] * 5
        await revoke(running, CLEAR)
        for _ in range(5):
            await added_number(receiver)
        receiver.texts = [ADDED] * 9
        await until(lambda: running.sample("dialgate_webhook_behind", webhook="crm") == 0, running)
        delivery = await running.app.registrar.notices.delivery("crm")
        assert (delivery.rejected, delivery.dead) == ((), 0)


@pytest.mark.parametrize(
    ("changes", "secret", "problem"),
    [
        ({"url": "http://example.com/"}, WRITTEN, "url must be https"),
        ({"url": "ftp://example.com/"}, WRITTEN, "url is invalid"),
        ({"url": "https://user:word@example.com/"}, WRITTEN, "url is invalid"),
        ({"controllers": ["nobody"]}, WRITTEN, "no such controller: nobody"),
        ({"secret_file": "none"}, WRITTEN, "cannot read none"),
        ({"kind": "vicidial"}, WRITTEN, "set `user` for a dialer"),
        ({"user": "api"}, WRITTEN, "remove it for a webhook"),
        ({"kind": "vicidial", "user": "api"}, "\n", "the user's password"),
        ({}, "whsec_c2hvcnQ=", "24 to 64 bytes in base64"),
        ({}, base64.b64encode(SECRET).decode(), "24 to 64 bytes in base64"),
        ({}, "whsec_***", "24 to 64 bytes in base64"),
    ],
)
def test_an_insecure_webhook_is_refused(
    tmp_path: Path, changes: dict[str, Any], secret: str, problem: str
) -> None:
    (tmp_path / "secret").write_text(secret)
    path = write_folder(tmp_path, subscribers=[hook("https://example.com/hook") | changes])
    with pytest.raises(ConfigError) as refused:
        loader.load(path)
    assert [text for text in refused.value.problems if problem in text]


def test_two_webhooks_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(WRITTEN)
    path = write_folder(tmp_path, subscribers=[hook("https://example.com/1"), hook("https://example.com/2")])
    with pytest.raises(ConfigError, match="is defined twice"):
        loader.load(path)


def test_the_signature_is_that_of_the_standard() -> None:
    """The example is from the documentation of Standard Webhooks."""
    secret = webhook_targets.secret_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    response = webhook_targets.headers(
        secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    assert response["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert Subscriber(name="a", url="https://a", controllers=(), secret_file="s").give_up_hours == 72
