"""Evidence: one file is enough to verify a decision without this package, and a changed bundle is refused.

DIALGATE_FLIPS sets how many bytes of a bundle are changed, one at a time; 0 for every byte.
"""

import asyncio
import json
import os
import random
import re
import subprocess
import venv
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import date
from importlib.metadata import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509 import load_pem_x509_certificates
from msgspec import structs

from dialgate.audit import evidence
from dialgate.audit.evidence_sources import Sources
from dialgate.audit.legal_holds import Holds
from dialgate.core.model import DAY, HOUR
from dialgate.crypto.keys import Keys
from dialgate.crypto.log_signing import Signer, renew
from dialgate.decision_log import DecisionLog, chains, last_checkpoint, make_checkpoint, segments
from dialgate.decision_log.chains import Chains
from dialgate.decision_log.inclusion_proofs import NoEvidence
from dialgate.decision_log.records import Reader
from dialgate.decision_log.timestamps import Stamper
from dialgate.store.sqlite import SqliteStore
from dialgate.tools.verifier import verify_evidence
from dialgate.tools.verifier.verify_evidence import EvidenceRefused, verify
from tests.decision_log.test_timestamps import authority, serving
from tests.support import sample_log, world
from tests.support.commands import run_command
from tests.support.world import CALL, CLEAR, LISTED, NOW, World

FLIPS = int(os.environ.get("DIALGATE_FLIPS", "1500"))
__all__ = ["authority"]

VERIFIER = Path(verify_evidence.__file__)
SHOWN = VERIFIER.read_bytes()
MOBILE = "+393289876543"


async def ask(world: World, **changes: str) -> dict[str, Any]:
    async with world.client.post("/v1/check", json={**CALL, **changes}) as answer:
        response: dict[str, Any] = await answer.json()
        assert answer.status == 200, response
        return response


async def pass_checkpoint_interval(world: World) -> None:
    world.hand.at += 60_001
    await world.app.tick()


@asynccontextmanager
async def sources(world: World) -> AsyncIterator[Sources]:
    data = world.app.config.data
    store = SqliteStore.open(data / "store.db")
    signer = Signer.open(data / "signing.json", NOW)
    try:
        yield Sources.for_log(Chains(data), Keys.open(data / "keys.json").log, signer=signer, store=store)
    finally:
        await store.close()


async def evidence_of(world: World, decision: str) -> bytes:
    async with sources(world) as opened:
        return await evidence.bundle_decision(opened, decision, NOW)


async def evidence_about(world: World, *numbers: str) -> bytes:
    async with sources(world) as opened:
        return await evidence.bundle_numbers(opened, numbers, NOW)


def body_of(bundle: bytes) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(bundle)["evidence"]
    return body


async def test_deny_is_proved_with_law_receipt_and_reason(running: World) -> None:
    response = await ask(running, to=LISTED)
    await pass_checkpoint_interval(running)
    bundle = await evidence_of(running, response["decision_id"])
    line, signed = verify(bundle)
    assert response["decision_id"] in line
    for part in ("deny", LISTED, "registry.listed", "D.P.R. 26/2022", "receipt TICKET-1"):
        assert part in line, part
    body = body_of(bundle)
    assert [len(body[name]) for name in ("decisions", "entries", "checkpoints")] == [1, 2, 1]
    assert any("country: IT" in text for text in body["kept"].values())
    assert body["manifest"]["files"][0]["registry"] == "rpo"
    assert signed.startswith(f"signed by {next(iter(body['keys']))}")


async def test_a_call_in_shadow_mode_is_proved_as_refused_and_let_through(tmp_path: Path) -> None:
    async with world.running(tmp_path, shadow_until=date(2026, 11, 30)) as gate:
        response = await ask(gate, to=LISTED)
        await pass_checkpoint_interval(gate)
        bundle = await evidence_of(gate, response["decision_id"])
    (line, _) = verify(bundle)
    assert "deny, but the gate was in shadow mode and the call was allowed to go on" in line


CONSENT = {
    "number": CLEAR, "controller": "acme", "id": "c-1", "collected_at": "2026-11-23T10:00:00Z",
    "purposes": ["sale"], "goods": ["broadband"], "call_types": ["agent"], "artefact": "forms/c-1.pdf", "artefact_sha256": "ab" * 32,
    "proof": "forms/c-1.pdf", "certificate_url": "https://cert.trustedform.com/0f3a", "certificate_claim": "claim-77",
    "crm_reference": "contact 4711", "attested_by": "Anna Bo, sales", "attested_at": "2026-11-23T10:00:01Z",
}  # fmt: skip


async def consents_of(world: World, decision: str) -> list[tuple[str, int]]:
    (finding,) = body_of(await evidence_of(world, decision))["decisions"]
    return [(consent["artefact"], consent["recorded_at"]) for consent in finding["consents"]]


async def test_allow_is_proved_with_its_consent(running: World) -> None:
    await running.post("/v1/consents", CONSENT)
    response = await ask(running)
    await pass_checkpoint_interval(running)
    bundle = await evidence_of(running, response["decision_id"])
    (line, _) = verify(bundle)
    assert "allow" in line
    others = (
        ", certificate https://cert.trustedform.com/0f3a claim claim-77, CRM record contact 4711 attested by Anna Bo, sales"
        " 2026-11-23 10:00:01.000+00:00"
    )
    assert f"forms/c-1.pdf {'ab' * 32}{others}, recorded 2026-11-24 09:00:00.000+00:00" in line
    body = body_of(bundle)
    consent = body["decisions"][0]["consents"][0]
    for name in (
        "recorded_at",
        "certificate_url",
        "certificate_claim",
        "crm_reference",
        "attested_by",
        "attested_at",
    ):
        del consent[name]
    (older, _) = verify(sign_as_forger(body))
    assert older.endswith(f"forms/c-1.pdf {'ab' * 32}")


async def test_consent_is_shown_as_it_was_at_the_call_even_after_an_erasure(tmp_path: Path) -> None:
    clients = [world.client("tests", world.KEY, *world.SCOPES, "subjects")]
    answers = {MOBILE: False}
    async with world.running(tmp_path, clients=clients, answers=answers, answered_at=NOW - HOUR) as gate:
        await gate.post("/v1/lists", {**world.LIST, "numbers": [MOBILE]})
        await gate.app.tick()
        await gate.post("/v1/consents", {**CONSENT, "number": MOBILE})
        call = (await ask(gate, to=MOBILE))["decision_id"]
        known = [("forms/c-1.pdf", NOW)]
        gate.hand.at += DAY
        await gate.post("/v1/consents", {**CONSENT, "number": MOBILE, "artefact": "later.pdf"})
        await pass_checkpoint_interval(gate)
        assert await consents_of(gate, call) == known
        person = f"/v1/subjects/{quote(MOBILE)}"
        case = await gate.post(f"{person}/requests", {"kind": "erasure", "identified": "code"})
        await gate.post(f"{person}/erasure", {"request": case["id"]}, 200)
        assert await consents_of(gate, call) == known


async def test_list_of_numbers_includes_those_without_decisions(running: World) -> None:
    responses = [await ask(running, call_id=str(number)) for number in range(3)]
    await pass_checkpoint_interval(running)
    responses.append(await ask(running, to=LISTED))
    await pass_checkpoint_interval(running)
    bundle = await evidence_about(running, CLEAR, LISTED, "+390612345670")
    lines = verify(bundle)
    assert [line for line in lines if line.startswith("+")] == [
        f"{CLEAR}: 3 decisions",
        f"{LISTED}: 1 decisions",
        "+390612345670: 0 decisions",
    ]
    for response in responses:
        assert any(response["decision_id"] in line for line in lines)
    assert len(body_of(bundle)["checkpoints"]) == 2, "each decision by the first checkpoint that covers it"


async def test_old_decision_is_proved_by_the_keys_of_its_day(
    running: World,
) -> None:
    first = await ask(running)
    await pass_checkpoint_interval(running)
    renew(running.app.config.data / "signing.json", NOW)
    for number in range(40):
        await ask(running, call_id=str(number), to=LISTED)
        if not number % 7:
            await pass_checkpoint_interval(running)
    bundle = await evidence_of(running, first["decision_id"])
    assert first["decision_id"] in verify(bundle)[0]
    newer, older = (
        verify_evidence.key_name(bytes.fromhex(json.loads(bundle)["key"])),
        next(iter(body_of(bundle)["keys"])),
    )
    assert newer != older
    assert verify(bundle, frozenset({newer, older}))
    with pytest.raises(EvidenceRefused, match="not among the keys"):
        verify(bundle, frozenset({newer}))


async def test_uncovered_or_unknown_decision_gives_no_evidence(running: World) -> None:
    first = await ask(running)
    await pass_checkpoint_interval(running)
    second = await ask(running, to=LISTED)
    log = first["decision_id"].partition("-")[0]
    for decision in ("", "x", f"{log}-9", f"{log}-0", f"{log}-1", "00000000-2"):  # entry 1 is grounds
        with pytest.raises(NoEvidence, match="there is no decision"):
            await evidence_of(running, decision)
    with pytest.raises(NoEvidence, match="not covered by a signed checkpoint yet"):
        await evidence_of(running, second["decision_id"])


async def test_log_that_contradicts_its_checkpoint_gives_no_evidence(running: World) -> None:
    response = await ask(running)
    await pass_checkpoint_interval(running)
    path = segments(running.app.config.data / "log")[-1][1]
    path.write_bytes(path.read_bytes().replace(b'"allow":true', b'"allow":false'))
    with pytest.raises(NoEvidence, match="does not match its checkpoint"):
        await evidence_of(running, response["decision_id"])


async def test_number_of_a_retired_month_is_not_shown(running: World) -> None:
    response = await ask(running)
    await pass_checkpoint_interval(running)
    keys = Keys.open(running.app.config.data / "keys.json")
    keys.month(NOW + 10 * DAY)
    keys.retire("2026-11")
    bundle = await evidence_of(running, response["decision_id"])
    assert body_of(bundle)["decisions"][0]["number"] is None
    assert "a number whose keys are destroyed" in verify(bundle)[0]


async def report(world: World, decision: str, outcome: str) -> None:
    body = {"decision_id": decision, "outcome": outcome}
    async with world.client.post("/v1/outcomes", json=body) as answer:
        assert answer.status in {200, 201}, await answer.text()


async def test_outcome_is_proved_if_a_checkpoint_covers_it(running: World) -> None:
    response = await ask(running)
    await pass_checkpoint_interval(running)
    for outcome in ("no_answer", "answered"):
        await report(running, response["decision_id"], outcome)
        if outcome == "no_answer":
            await pass_checkpoint_interval(running)
    bundle = await evidence_of(running, response["decision_id"])
    line = verify(bundle)[0]
    assert "outcome no_answer, reported 2026-11-" in line
    assert "answered, reported" not in line.replace("no_answer", "")
    assert body_of(bundle)["covered"] == body_of(bundle)["decisions"][0]["outcomes"][0]
    await pass_checkpoint_interval(running)
    assert "outcome answered, reported" in verify(await evidence_about(running, CLEAR))[0]


def report_elsewhere(world: World, decision: str) -> str:
    """Write outcomes of a decision to the second worker's log. Return the name of that log."""
    data = world.app.config.data
    keys, folder = Keys.open(data / "keys.json", 2), chains.folder(data, 2)
    with closing(DecisionLog.open(folder, log=keys.log, now=NOW, gate={})) as log:
        for result in ("no_answer", "answered"):
            entry = sample_log.outcome(log.next_seq, decision, NOW)
            log.write([msgspec.json.encode(structs.replace(entry, result=result))])
    make_checkpoint(folder, log=keys.log, signer=Signer.open(data / "signing.json", NOW), now=NOW)
    return keys.log


async def test_outcome_in_another_workers_log_is_proved(running: World) -> None:
    response = await ask(running)
    await report(running, response["decision_id"], "busy")
    await pass_checkpoint_interval(running)
    log = report_elsewhere(running, response["decision_id"])
    bundle = await evidence_of(running, response["decision_id"])
    line = verify(bundle)[0]
    assert re.findall(r"outcome (\w+), reported [^;(]+(?:\((.*?)\))?", line) == [
        ("busy", ""),
        ("no_answer", f"record 1 in log {log}"),
        ("answered", f"record 2 in log {log}"),
    ]
    (part,) = body_of(bundle)["elsewhere"]
    forgeries = [
        ({"log": "00000000"}, "belongs to another log"),
        ({"checkpoints": body_of(bundle)["checkpoints"]}, "belongs to another log"),
        (
            {"entries": [{**part["entries"][0], "path": []}, part["entries"][1]]},
            "not in the log that was signed",
        ),
    ]
    for changed, why in forgeries:
        with pytest.raises(EvidenceRefused, match=why):
            verify(sign_as_forger({**body_of(bundle), "elsewhere": [part | changed]}))
    other = await ask(running, to=LISTED)
    await pass_checkpoint_interval(running)
    body = {**body_of(await evidence_of(running, other["decision_id"])), "elsewhere": [part]}
    with pytest.raises(EvidenceRefused, match="belongs to another decision"):
        verify(sign_as_forger(body))


async def test_list_of_numbers_is_limited_to_the_dates(running: World) -> None:
    responses = []
    for number in range(3):
        responses.append((await ask(running, call_id=str(number)))["decision_id"])
        await pass_checkpoint_interval(running)
    async with sources(running) as opened:
        records = [Reader(opened.folder).find(int(response.rpartition("-")[2])) for response in responses]
        first, second, third = (record.at for record in records if record)
        since, until = (
            await evidence_between(opened, second, third),
            await evidence_between(opened, None, second),
        )
    assert [decision["id"] for decision in body_of(since)["decisions"]] == responses[1:2]
    assert [decision["id"] for decision in body_of(until)["decisions"]] == responses[:1]
    assert first < second
    assert verify(since)[1].startswith(f"{CLEAR}: 1 decisions from 2026-11-2")
    assert " before 2026-11-" in verify(since)[1]
    assert verify(until)[1].startswith(f"{CLEAR}: 1 decisions before 2026-11-2")
    assert "no other decisions about these numbers" in verify(until)[2]


async def evidence_between(opened: Sources, since: int | None, until: int | None) -> bytes:
    return await evidence.bundle_numbers(opened, [CLEAR], NOW, since, until)


async def test_held_decision_of_a_retired_month_is_proved_with_its_number(running: World) -> None:
    response = await ask(running)
    await pass_checkpoint_interval(running)
    data = running.app.config.data
    keys = Keys.open(data / "keys.json")
    keys.month(NOW + 10 * DAY)
    holds = Holds(data, keys)
    holds.add(CLEAR, at=NOW, by="dpo", reason="a case")
    holds.keep(lambda _: [response["decision_id"]], lambda: keys.retire("2026-11"))
    bundle = await evidence_about(running, CLEAR, LISTED)
    lines = verify(bundle)
    assert f"to {CLEAR};" in lines[0]
    assert [line for line in lines if line.startswith("+")] == [
        f"{CLEAR}: 1 decisions",
        f"{LISTED}: 0 decisions",
    ]
    assert evidence.numbers_in(bundle) == {CLEAR}


async def test_time_stamp_is_shown_and_checked_up_to_its_root(running: World, authority: Path) -> None:
    """Each decision is proved by the first checkpoint that covers it.

    If a time-stamped checkpoint follows within a day of that checkpoint, the time-stamped checkpoint is used instead.
    """
    response = await ask(running)
    await pass_checkpoint_interval(running)
    await ask(running, to=LISTED)
    await pass_checkpoint_interval(running)
    log = running.app.config.data / "log"
    async with serving(authority) as url:
        stamper = Stamper(log, url, authority / "root.pem", DAY)
        assert await asyncio.to_thread(stamper.stamp, NOW)
    later = await ask(running, to=LISTED, call_id="later")
    await pass_checkpoint_interval(running)
    bundle = await evidence_of(running, response["decision_id"])
    newest = body_of(bundle)
    stamp, signed = verify(bundle)[1:]
    assert "time stamp from CN=Stamps" in stamp
    assert "NOT CHECKED" in stamp
    assert "have no time stamp" not in signed
    root, other = (
        load_pem_x509_certificates((authority / f"{name}.pem").read_bytes()) for name in ("root", "other")
    )
    assert "NOT CHECKED" not in verify(bundle, roots=root)[1]
    with pytest.raises(EvidenceRefused, match="not issued under any of the roots"):
        verify(bundle, roots=other)
    response = newest["stamps"][0]["response"]
    for other_response, why in ((flip_signature(response), "is not valid"), ("", "wrong structure")):
        forged = newest | {"stamps": [{"checkpoint": 0, "response": other_response}]}
        with pytest.raises(EvidenceRefused, match=why):
            verify(sign_as_forger(forged), roots=root)
    without = await evidence_of(running, later["decision_id"])
    assert "1 of 1 checkpoints have no time stamp" in verify(without)[-1]
    body = {**body_of(without), "stamps": newest["stamps"]}
    with pytest.raises(EvidenceRefused, match="belongs to another checkpoint"):
        verify(sign_as_forger(body))


def flip_signature(response: str) -> str:
    """Flip one bit of the signature, which is at the end of the response."""
    raw = bytearray(b64decode(response))
    raw[-1] ^= 1
    return b64encode(raw).decode()


# ---- what a bundle leaves out ----------------------------------------------------------------------------------------

STRANGER = "beta"  # another tenant
SHOWN_HASHES = "of 4 configuration files 2 are shown only by their hash"


@asynccontextmanager
async def two_tenants(folder: Path) -> AsyncIterator[World]:
    """Run a gate whose configuration contains another tenant's client and controller."""
    other = {
        "name": f"dialer-of-{STRANGER}",
        "controllers": [STRANGER],
        "scopes": ["check"],
        "sources": ["10.9.8.7/32"],
    }
    clients = [world.client("tests", world.KEY, *world.SCOPES), other]
    async with world.running(folder / "gate", clients=clients, prepare=add_stranger) as gate:
        yield gate


def add_stranger(folder: Path) -> None:
    text = (folder / "controllers/acme.yaml").read_text()
    text = text.replace("acme", STRANGER).replace("Acme", "Beta").replace("0844123456", "0844999999")
    (folder / f"controllers/{STRANGER}.yaml").write_text(text)


async def test_bundle_contains_nothing_of_another_tenant(
    tmp_path: Path,
) -> None:
    async with two_tenants(tmp_path) as gate:
        response = await ask(gate, to=LISTED)
        await pass_checkpoint_interval(gate)
        bundle = await evidence_of(gate, response["decision_id"])
    for secret in (STRANGER.encode(), b"10.9.8.7", b"clients"):
        assert secret not in bundle.lower()
    body = body_of(bundle)
    assert body["format"] == 2
    assert any("country: IT" in text for text in body["kept"].values())
    assert any("id: acme" in text for text in body["kept"].values())
    assert verify(bundle)[-1].endswith(SHOWN_HASHES)


async def test_bundle_lists_registry_answers_of_its_controller_only(running: World) -> None:
    world.publish_answers(running.app.config.data, {CLEAR: False}, NOW - DAY, controller=STRANGER)
    await running.app.tick()
    response = await ask(running, to=LISTED)
    await pass_checkpoint_interval(running)
    bundle = await evidence_of(running, response["decision_id"])
    assert [file["controller"] for file in body_of(bundle)["manifest"]["files"]] == ["acme"]
    assert STRANGER.encode() not in bundle


# ---- forgeries -------------------------------------------------------------------------------------------------------


async def test_any_changed_byte_is_refused(running: World) -> None:
    response = await ask(running)
    await report(running, response["decision_id"], "answered")
    await pass_checkpoint_interval(running)
    bundle = await evidence_of(running, response["decision_id"])
    assert "outcome answered" in verify(bundle)[0]
    framed = [*range(260), len(bundle) - 2, len(bundle) - 1]
    places = [*framed, *random.sample(range(260, len(bundle)), FLIPS)] if FLIPS else range(len(bundle))
    for at in places:
        changed = bytearray(bundle)
        changed[at] ^= 1 << random.randrange(8)
        with pytest.raises(EvidenceRefused):
            verify(bytes(changed))
    for other in (bundle + b"\n", bundle[:-1], b" " + bundle, b"", bundle * 2):
        with pytest.raises(EvidenceRefused):
            verify(other)


def sign_as_forger(body: dict[str, Any]) -> bytes:
    """Sign the body with another key, as a forger would."""
    key = Ed25519PrivateKey.generate()
    text = json.dumps(body, separators=(",", ":")).encode()
    signature = key.sign(b"dialgate evidence\n" + text).hex().encode()
    public = key.public_key().public_bytes_raw().hex().encode()
    return b'{"signature":"%b","key":"%b","evidence":%b}\n' % (signature, public, text)


def other_record(body: dict[str, Any]) -> None:
    entry = body["entries"][1]
    entry["body"] = re.sub('"allow":true', '"allow":false', entry["body"])


def other_law(body: dict[str, Any]) -> None:
    digest = next(digest for digest, text in body["kept"].items() if "country: IT" in text)
    body["kept"][digest] += "\n"


def law_outside(body: dict[str, Any]) -> None:
    (entry,) = (digest for digest, text in body["kept"].items() if text.startswith("it.yaml "))
    del body["kept"][entry]


FORGERIES: dict[str, tuple[Any, str]] = {
    "a law outside the configuration": (law_outside, "is not in its configuration"),
    "another record": (other_record, "not in the log that was signed"),
    "another law": (other_law, "a kept text does not have the hash"),
    "no law": (lambda body: body["kept"].clear(), "is missing"),
    "another's receipt": (
        lambda body: body["decisions"][0]["consultations"][0].update(id="x"),
        "a receipt is not named",
    ),
    "another id": (lambda body: body["decisions"][0].update(id="9f2c01ab-7"), "has the wrong id"),
    "another checkpoint": (lambda body: body["checkpoints"][0].update(signature="00" * 64), "is not valid"),
    "a record too few": (lambda body: body["entries"].pop(), "wrong structure"),
    "another's outcome": (
        lambda body: body["decisions"][0].update(outcomes=[body["decisions"][0]["seq"]]),
        "an outcome belongs to another decision",
    ),
    "an answer too few": (
        lambda body: body["asked"].append({"number": CLEAR, "decisions": ["x"]}),
        "is missing",
    ),
}


async def test_forged_and_signed_bundle_contradicts_itself(running: World) -> None:
    response = await ask(running)
    await pass_checkpoint_interval(running)
    bundle = await evidence_of(running, response["decision_id"])
    assert verify(sign_as_forger(body_of(bundle)))
    for forge, why in FORGERIES.values():
        body = body_of(bundle)
        forge(body)
        with pytest.raises(EvidenceRefused, match=why):
            verify(sign_as_forger(body))


def bare_python(folder: Path) -> Path:
    """Create a virtual environment with `cryptography` and its dependencies only."""
    venv.create(folder, with_pip=False)
    python = folder / "bin/python"
    responses = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(responses, check=True, capture_output=True, text=True).stdout.strip())
    for name in ("cryptography", "cffi"):
        tops = {item.parts[0]: item for item in files(name) or () if ".." not in item.parts}
        for top, item in tops.items():
            found = Path(str(item.locate()))
            (site / top).symlink_to(found.parents[len(item.parts) - 2] if len(item.parts) > 1 else found)
    return python


def run_alone(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in words], cwd=folder, env={}, capture_output=True, text=True, check=False
    )


async def test_verifier_needs_only_python_and_cryptography(running: World, tmp_path: Path) -> None:
    response = await ask(running)
    await pass_checkpoint_interval(running)
    content = await evidence_of(running, response["decision_id"])
    bundle, alone = tmp_path / "evidence.json", tmp_path / "verify_evidence.py"
    bundle.write_bytes(content)
    alone.write_bytes(SHOWN)
    python = bare_python(tmp_path / "bare")
    assert run_alone(tmp_path, python, "-c", "import msgspec").returncode == 1
    valid = run_alone(tmp_path, python, alone, bundle)
    assert (valid.returncode, valid.stdout.splitlines()[-1]) == (0, "The bundle is valid."), valid.stderr
    assert response["decision_id"] in valid.stdout
    bundle.write_bytes(content.replace(b'"format"', b'"Format"', 1))
    refused = run_alone(tmp_path, python, alone, bundle)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("REFUSED: the signature of the bundle is not valid")


# ---- commands --------------------------------------------------------------------------------------------------------


async def test_commands_make_checkpoint_and_evidence(running: World, tmp_path: Path) -> None:
    response = await ask(running)
    await pass_checkpoint_interval(running)
    environment = {**os.environ, "DIALGATE_CONFIG": str(tmp_path / "dialgate.yaml")}

    async def run(*words: object) -> Any:
        why = ("--purpose", "Garante, letter 4") if words[0] == "evidence" else ()
        return await asyncio.to_thread(run_command, "dialgate", "log", *words, *why, environment=environment)

    checkpoint, bundle, list_file = (
        tmp_path / name for name in ("checkpoint.json", "evidence.json", "asked.txt")
    )
    shown = await run("checkpoint", "--out", checkpoint, "--json")
    newest = last_checkpoint(running.app.config.data / "log")
    assert newest is not None
    assert (shown.code, shown.json["root"]) == (0, newest.checkpoint.root)
    refused = await run("checkpoint", "--new-key", "--url", "http://localhost:1")
    assert (refused.code, "No such option" in refused.err) == (2, True), (
        "the checkpoint is of this data folder"
    )
    verified = await run("verify", "--against", checkpoint, "--json")
    assert (verified.code, verified.json["ok"], verified.json["covered"]) == (0, True, newest.checkpoint.size)
    written = await run("evidence", response["decision_id"], "--out", bundle, "--with-verifier", "--json")
    assert written.code == 0, written.out
    assert verify(bundle.read_bytes(), frozenset({written.json["key"]}))
    assert (tmp_path / VERIFIER.name).read_bytes() == SHOWN
    list_file.write_text(f"{CLEAR}\n")
    assert (await run("evidence", "--numbers", list_file, "--out", bundle)).code == 0
    assert bundle.stat().st_mode & 0o077 == 0, "it contains unencrypted numbers"
    lookups = await running.app.subjects.lookups.find("acme", CLEAR)
    assert [(lookup.what, lookup.purpose) for lookup in lookups] == [("disclosure", "Garante, letter 4")] * 2
    assert f"{CLEAR}: 1 decisions" in verify(bundle.read_bytes())
    list_file.write_text(f"{CLEAR}\n06 87654321\n")
    refused = await run("evidence", "--numbers", list_file, "--out", bundle)
    assert refused.code == 2
    assert "line 2" in refused.err
    assert "87654321" not in refused.err
    list_file.write_text(f"\n{CLEAR[:3]} {CLEAR[3:]}\n{CLEAR}\n")
    assert (await run("evidence", "--numbers", list_file, "--out", bundle)).code == 0
    assert [asked["number"] for asked in body_of(bundle.read_bytes())["asked"]] == [CLEAR]
    bundle.unlink()
    list_file.write_text(
        "+330612345678\n"
    )  # the zero is not dialled from abroad, so no check accepts the number
    refused = await run("evidence", "--numbers", list_file, "--out", bundle)
    assert (refused.code, bundle.exists()) == (2, False)
    assert "line 1" in refused.err
    assert "trunk zero" in refused.err
    assert (await run("evidence", "--out", bundle)).code == 2
    assert (await run("evidence", "nothing-7", "--out", bundle)).code == 1
