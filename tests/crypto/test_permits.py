"""Tests of permits. If the dialer requests a permit, the response for a permitted call contains one.

Kamailio accepts each permit once, only for the permit's own call, and only before the permit expires.
"""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from msgspec.structs import replace

from dialgate.config import loader
from dialgate.core.local_time import rfc3339
from dialgate.core.model import DAY, SECOND, Instant
from dialgate.core.responses import Answer
from dialgate.crypto.keys import KeysUnusable
from dialgate.crypto.permit import Permit, add_permit, token
from dialgate.crypto.permit_key import PermitKey
from dialgate.interfaces.webhooks import deliveries
from tests.support import kamailio_world, world, yaml_files
from tests.support.kamailio_world import Sip, user_of
from tests.support.world import CALL, CALLER, CLEAR, LISTED, NOW, Hand, World

ANSWER = Answer(
    decision="allow", decision_id="a-1", to=CLEAR, from_=CALLER, valid_until=rfc3339(NOW + 60 * SECOND)
)


@pytest.fixture
def key(tmp_path: Path) -> PermitKey:
    return PermitKey.open(tmp_path / "permit.json", NOW)


def verify(permit: str, public: str) -> dict[str, Any]:
    """Verify a permit with the public key (PEM), as Kamailio does, and return its claims.

    Raises `InvalidSignature`, or `ValueError` for a text that is not a token.
    """
    content, _, signature = permit.rpartition(".")
    header, claims = (decode(part) for part in content.split("."))
    raw = decode(signature)
    if len(raw) != 64:
        raise ValueError("the signature must have 64 bytes")
    key = load_pem_public_key(public.encode())
    assert isinstance(key, EllipticCurvePublicKey)
    der = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    key.verify(der, content.encode(), ECDSA(SHA256()))
    assert json.loads(header) == {"alg": "ES256"}
    verified: dict[str, Any] = json.loads(claims)
    return verified


def decode(part: str) -> bytes:
    return base64.b64decode(part + "=" * (-len(part) % 4), b"-_", validate=True)


def test_a_permit_contains_the_allowed_call_and_its_validity(key: PermitKey) -> None:
    permit = add_permit(ANSWER, key.sign, 10, NOW).permit
    wanted = {"jti": "a-1", "to": CLEAR, "from": CALLER, "iat": NOW // SECOND, "exp": NOW // SECOND + 10}
    assert verify(permit, key.public) == wanted


def test_a_permit_never_outlives_the_allow(key: PermitKey) -> None:
    brief = replace(ANSWER, valid_until=rfc3339(NOW + 3 * SECOND))
    assert verify(add_permit(brief, key.sign, 10, NOW).permit, key.public)["exp"] == NOW // SECOND + 3
    over = replace(ANSWER, valid_until=rfc3339(NOW))
    denied = replace(ANSWER, decision="deny", valid_until="")
    for answer in (over, denied, replace(ANSWER, decision_id="")):
        assert add_permit(answer, key.sign, 10, NOW) == answer


def test_a_permit_with_a_changed_byte_is_invalid(key: PermitKey, tmp_path: Path) -> None:
    whole = add_permit(ANSWER, key.sign, 10, NOW).permit
    (tmp_path / "other").mkdir()
    other = PermitKey.open(tmp_path / "other" / "permit.json", NOW)
    with pytest.raises(InvalidSignature):
        verify(whole, other.public)
    for at in range(len(whole)):
        for letter in "A.=!":
            changed = whole[:at] + letter + whole[at + 1 :]
            if changed == whole or at == len(whole) - 1:  # the last letter has two bits to spare
                continue
            with pytest.raises((InvalidSignature, ValueError)):
                verify(changed, key.public)


def test_the_key_is_created_once_and_kept(key: PermitKey, tmp_path: Path) -> None:
    path = tmp_path / "permit.json"
    assert PermitKey.open(path, NOW + DAY).public == key.public
    assert key.public.startswith("-----BEGIN PUBLIC KEY-----")
    stored = json.loads(path.read_text())
    path.write_text(json.dumps({**stored, "private": "A" * 43 + "="}))
    with pytest.raises(KeysUnusable, match="not a P-256 key"):
        PermitKey.open(path, NOW)
    path.chmod(0o640)
    with pytest.raises(KeysUnusable, match="chmod 600"):
        PermitKey.open(path, NOW)


async def ask(made: World, **more: Any) -> dict[str, Any]:
    async with made.client.post("/v1/check", json=CALL | more) as answer:
        response: dict[str, Any] = await answer.json()
        return response


async def test_a_permit_is_returned_only_on_request_and_only_with_an_allow(running: World) -> None:
    key = PermitKey.open(running.folder / "data" / "permit.json", NOW)
    assert "permit" not in await ask(running)
    response = await ask(running, permit=True)
    assert verify(response["permit"], key.public)["jti"] == response["decision_id"]
    assert "permit" not in await ask(running, permit=True, to=LISTED)
    for form in ("permit=true", "permit=1"):
        asked = {**CALL, **dict([form.split("=")])}
        async with running.client.post("/v1/check.form", data=asked) as answer:
            (permit,) = parse_qs(await answer.text())["permit"]
            assert verify(permit, key.public)["to"] == CLEAR
    async with running.client.post("/v1/check.txt", data={**CALL, "permit": "true"}) as answer:
        assert await answer.text() == "allow"
        assert verify(answer.headers["Dialgate-Permit"], key.public)["from"] == CALLER
    async with running.client.post("/v1/simulate", json=CALL | {"permit": True}) as answer:
        assert answer.status == 400


# ---- at the trunk ----------------------------------------------------------------------------------------------------


def now() -> Instant:
    return time.time_ns() // 1_000_000


@asynccontextmanager
async def live(folder: Path, gate: str = "", **more: str) -> AsyncIterator[tuple[Sip, World]]:
    """Run a gate and Kamailio, both with the real clock. `gate`: another URL for Kamailio to ask."""
    hand = Hand(now())
    async with world.running(folder, hand) as made:
        world.publish_answers(folder / "data", {CLEAR: False, LISTED: True}, hand.at - DAY)
        await world.load_list(made)
        key = folder / "permit.pem"
        key.write_text(PermitKey.open(folder / "data" / "permit.json", hand.at).public)
        asked = gate or f"http://127.0.0.1:{made.port}"
        async with kamailio_world.standing(
            folder, asked, folder / "data", WITH_PERMITS="", PERMIT_KEY=f'"{key}"', **more
        ) as sip:
            while (
                now() // SECOND <= hand.at // SECOND + 1
            ):  # a permit of Kamailio's first second is not honoured
                await sip.dialer.invite(method="OPTIONS").send().final()
            hand.at = now()
            yield sip, made
            sip.prove()


async def permit(made: World, **more: Any) -> str:
    made.hand.at = now()
    response = await ask(made, permit=True, **more)
    return str(response["permit"])


NOWHERE = "http://127.0.0.1:9"


async def test_a_permit_is_accepted_once_without_asking_the_gate(tmp_path: Path) -> None:
    """Kamailio's gate is down, so only a permit can allow the call."""
    async with live(tmp_path, NOWHERE) as (sip, made):
        shown = await permit(made)
        assert (await sip.dialer.call(X_Dialgate_Permit=shown)).status == 200
        assert (await sip.dialer.call(X_Dialgate_Permit=shown)).status == 500
        (invite,) = sip.at_the_trunks
        assert user_of(invite.uri) == CLEAR
        assert invite.get("X-Dialgate-Permit") == ""


async def test_a_permit_is_valid_only_for_its_own_call(tmp_path: Path) -> None:
    async with live(tmp_path, NOWHERE) as (sip, made):
        shown = await permit(made)
        assert (await sip.dialer.call(LISTED, X_Dialgate_Permit=shown)).status == 500
        other = '"x" <sip:+390844123457@x>;tag=other'
        assert (await sip.dialer.call(From=other, X_Dialgate_Permit=shown)).status == 500
        assert (await sip.dialer.call(Privacy="id", X_Dialgate_Permit=shown)).status == 500
        forged = shown[:-8] + ("A" * 8)
        assert (await sip.dialer.call(X_Dialgate_Permit=forged)).status == 500
        head, claims, _ = shown.split(".")
        for bad in (f"{head}.{claims}.", "..", shown + ".x", "x" * 2000, f"eyJhbGciOiJub25lIn0.{claims}."):
            assert (await sip.dialer.call(X_Dialgate_Permit=bad)).status == 500
        assert (
            await sip.dialer.invite(more=f"X-Dialgate-Permit: {shown}\r\n" * 2).send_and_ack()
        ).status == 500
        assert sip.at_the_trunks == []
        assert (await sip.dialer.call(X_Dialgate_Permit=shown)).status == 200


async def test_an_expired_early_or_foreign_permit_is_invalid(tmp_path: Path) -> None:
    async with live(tmp_path, NOWHERE) as (sip, _):
        at = now() // SECOND
        ours = PermitKey.open(tmp_path / "data" / "permit.json", 0)
        (tmp_path / "theirs").mkdir()
        theirs = PermitKey.open(tmp_path / "theirs" / "permit.json", 0)
        good = Permit(decision="a-1", to=CLEAR, from_=CALLER, issued=at, expires=at + 10)
        bad = [
            (ours, replace(good, issued=at - 5, expires=at)),
            (ours, replace(good, issued=at - 60)),
            (ours, replace(good, issued=at + 30, expires=at + 40)),
            (ours, replace(good, issued=0, expires=at + 10_000)),
            (ours, replace(good, decision="")),
            (ours, replace(good, to=CLEAR[1:])),
            (theirs, good),
        ]
        for key, claims in bad:
            shown = token(claims, key.sign)
            assert (await sip.dialer.call(X_Dialgate_Permit=shown)).status == 500, claims
        assert sip.at_the_trunks == []


@asynccontextmanager
async def subscribed(sip: Sip, made: World) -> AsyncIterator[None]:
    """Send revocations to Kamailio, as in the README."""
    path, url = made.folder / "dialgate.yaml", f"http://127.0.0.1:{sip.operations}/revocations"
    (made.folder / "kamailio.secret").write_text(f"whsec_{base64.b64encode(b'k' * 32).decode()}")
    hook = {"name": "kamailio", "url": url, "controllers": ["acme"], "secret_file": "kamailio.secret"}
    yaml_files.write(path, yaml_files.read(path) | {"subscribers": [hook]})
    made.app.reload(loader.load(path))
    task = asyncio.create_task(deliveries.run(made.app, now))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_revocation_overrides_an_earlier_permit(tmp_path: Path) -> None:
    """Kamailio has received the revocation and asks the gate, which denies."""
    async with live(tmp_path) as (sip, made), subscribed(sip, made):
        shown = await permit(made)
        stop = {"number": CLEAR, "channel": "mail", "proof": "mail/1"}
        async with made.client.post("/v1/revocations", json=stop) as answer:
            assert answer.status == 201
        async with asyncio.timeout(5):
            while not made.sample("dialgate_webhook_messages_total", webhook="kamailio", result="delivered"):
                await sip.dialer.invite(method="OPTIONS").send().final()
        refused = await sip.dialer.call(X_Dialgate_Permit=shown)
        assert refused.status == 608
        assert "revocation.revoked" in refused.get("Reason")
        assert sip.at_the_trunks == []


async def test_a_call_without_a_permit_is_refused_if_permits_are_required(tmp_path: Path) -> None:
    async with live(tmp_path, PERMIT_ONLY="") as (sip, made):
        refused = await sip.dialer.call()
        assert (refused.status, "permit.missing" in refused.get("Reason")) == (608, True)
        assert (await sip.dialer.call(X_Dialgate_Permit=await permit(made))).status == 200
        assert len(sip.at_the_trunks) == 1
