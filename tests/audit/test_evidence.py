"""Promise: a sceptic checks a decision alone, with one file and nothing of ours; and a bundle that is not as it was made is
refused. DIALGATE_FLIPS sets how many bytes of a bundle are changed, one at a time; 0 is every one."""

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
from hashlib import sha256
from importlib.metadata import files
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509 import load_pem_x509_certificates
from msgspec import structs

from dialgate.audit import evidence
from dialgate.audit.evidence import Sources
from dialgate.audit.legal_holds import Holds
from dialgate.config import content_store
from dialgate.core.model import DAY
from dialgate.crypto.keys import Keys
from dialgate.crypto.log_signing import Signer, renew
from dialgate.decision_log import DecisionLog, chains, last_checkpoint, make_checkpoint, segments
from dialgate.decision_log.inclusion_proofs import NoEvidence
from dialgate.decision_log.records import Reader, Record
from dialgate.decision_log.timestamps import Stamper
from dialgate.store.sqlite import SqliteStore
from dialgate.subjects.rights import Subjects
from dialgate.tools.verifier import verify_evidence
from dialgate.tools.verifier.verify_evidence import Refused, checked
from tests.decision_log.test_timestamps import authority, serving
from tests.interfaces.cli.test_cli import command, ended
from tests.support import sample_log, world
from tests.support.world import CALL, CLEAR, LISTED, NOW, World

FLIPS = int(os.environ.get("DIALGATE_FLIPS", "1500"))
__all__ = ["authority"]

VERIFIER = Path(verify_evidence.__file__)
SHOWN = VERIFIER.read_bytes()


async def ask(world: World, **changes: str) -> dict[str, Any]:
    async with world.client.post("/v1/check", json={**CALL, **changes}) as answer:
        told: dict[str, Any] = await answer.json()
        assert answer.status == 200, told
        return told


async def covered(world: World) -> None:
    """As if the interval were over."""
    world.hand.at += 60_001
    await world.app.tick()


@asynccontextmanager
async def sources(world: World) -> AsyncIterator[Sources]:
    data = world.app.config.data
    store = SqliteStore.open(data / "store.db", patience=5)
    signer = Signer.open(data / "signing.json", NOW)
    try:
        yield Sources.of(data, keys=Keys.open(data / "keys.json"), signer=signer, store=store)
    finally:
        await store.close()


async def evidence_of(world: World, decision: str) -> bytes:
    async with sources(world) as opened:
        return await evidence.of_decision(opened, decision, NOW)


async def evidence_about(world: World, *numbers: str) -> bytes:
    async with sources(world) as opened:
        return await evidence.of_numbers(opened, numbers, NOW)


def body_of(bundle: bytes) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(bundle)["evidence"]
    return body


async def test_a_deny_is_proved_with_its_law_its_receipt_and_its_reason(running: World) -> None:
    told = await ask(running, to=LISTED)
    await covered(running)
    bundle = await evidence_of(running, told["decision_id"])
    line, signed = checked(bundle)
    assert told["decision_id"] in line
    for part in ("deny", LISTED, "registry.listed", "D.P.R. 26/2022", "receipt TICKET-1"):
        assert part in line, part
    body = body_of(bundle)
    assert [len(body[name]) for name in ("decisions", "entries", "checkpoints")] == [1, 2, 1]
    assert any("country: IT" in text for text in body["kept"].values())
    assert body["manifest"]["files"][0]["registry"] == "rpo"
    assert signed.startswith(f"signed by {next(iter(body['keys']))}")


async def test_an_allow_is_proved_with_the_consent_that_it_rests_on(running: World) -> None:
    given = {
        "number": CLEAR, "controller": "acme", "id": "c-1", "collected_at": "2026-11-23T10:00:00Z",
        "purposes": ["sale"], "call_types": ["agent"], "artefact": "forms/c-1.pdf", "artefact_sha256": "ab" * 32,
        "proof": "forms/c-1.pdf",
    }  # fmt: skip
    async with running.client.post("/v1/consents", json=given) as answer:
        assert answer.status == 201, await answer.text()
    told = await ask(running)
    await covered(running)
    bundle = await evidence_of(running, told["decision_id"])
    assert "allow" in checked(bundle)[0]
    assert [
        (each["artefact"], each["artefact_sha256"]) for each in body_of(bundle)["decisions"][0]["consents"]
    ] == [("forms/c-1.pdf", "ab" * 32)]


async def test_an_authoritys_list_is_answered_at_once_and_says_where_there_is_nothing(running: World) -> None:
    asked = [await ask(running, call_id=str(number)) for number in range(3)]
    await covered(running)
    asked.append(await ask(running, to=LISTED))
    await covered(running)
    bundle = await evidence_about(running, CLEAR, LISTED, "+390612345670")
    lines = checked(bundle)
    assert [line for line in lines if line.startswith("+")] == [
        f"{CLEAR}: 3 decisions",
        f"{LISTED}: 1 decisions",
        "+390612345670: 0 decisions",
    ]
    for told in asked:
        assert any(told["decision_id"] in line for line in lines)
    assert len(body_of(bundle)["checkpoints"]) == 2, "each by the first checkpoint that covers it"


async def test_a_decision_of_long_ago_is_proved_by_the_keys_and_checkpoints_of_its_day(
    running: World,
) -> None:
    first = await ask(running)
    await covered(running)
    renew(running.app.config.data / "signing.json", NOW)
    for number in range(40):
        await ask(running, call_id=str(number), to=LISTED)
        if not number % 7:
            await covered(running)
    bundle = await evidence_of(running, first["decision_id"])
    assert first["decision_id"] in checked(bundle)[0]
    newer, older = (
        verify_evidence.key_name(bytes.fromhex(json.loads(bundle)["key"])),
        next(iter(body_of(bundle)["keys"])),
    )
    assert newer != older
    assert checked(bundle, frozenset({newer, older}))
    with pytest.raises(Refused, match="which you did not name"):
        checked(bundle, frozenset({newer}))


async def test_what_is_not_covered_yet_or_not_there_is_no_evidence(running: World) -> None:
    first = await ask(running)
    await covered(running)
    second = await ask(running, to=LISTED)
    log = first["decision_id"].partition("-")[0]
    for decision in ("", "x", f"{log}-9", f"{log}-0", f"{log}-1", "00000000-2"):  # 1 holds grounds
        with pytest.raises(NoEvidence, match="there is no decision"):
            await evidence_of(running, decision)
    with pytest.raises(NoEvidence, match="not covered by a signed checkpoint yet"):
        await evidence_of(running, second["decision_id"])


async def test_a_log_that_contradicts_its_checkpoint_gives_no_evidence(running: World) -> None:
    told = await ask(running)
    await covered(running)
    path = segments(running.app.config.data / "log")[-1][1]
    path.write_bytes(path.read_bytes().replace(b'"allow":true', b'"allow":false'))
    with pytest.raises(NoEvidence, match="is not what its checkpoint signed"):
        await evidence_of(running, told["decision_id"])


async def test_a_number_whose_months_keys_are_destroyed_is_not_told(running: World) -> None:
    told = await ask(running)
    await covered(running)
    keys = Keys.open(running.app.config.data / "keys.json")
    keys.month(NOW + 10 * DAY)
    keys.retire("2026-11")
    bundle = await evidence_of(running, told["decision_id"])
    assert body_of(bundle)["decisions"][0]["number"] is None
    assert "a number whose keys are destroyed" in checked(bundle)[0]


async def report(world: World, decision: str, outcome: str) -> None:
    body = {"decision_id": decision, "outcome": outcome}
    async with world.client.post("/v1/outcomes", json=body) as answer:
        assert answer.status in {200, 201}, await answer.text()


async def test_what_became_of_the_call_is_proved_as_far_as_a_checkpoint_covers_it(running: World) -> None:
    told = await ask(running)
    await covered(running)
    for outcome in ("no_answer", "answered"):
        await report(running, told["decision_id"], outcome)
        if outcome == "no_answer":
            await covered(running)
    bundle = await evidence_of(running, told["decision_id"])
    line = checked(bundle)[0]
    assert "outcome no_answer, reported 2026-11-" in line
    assert "answered, reported" not in line.replace("no_answer", "")
    assert body_of(bundle)["covered"] == body_of(bundle)["decisions"][0]["outcomes"][0]
    await covered(running)
    assert "outcome answered, reported" in checked(await evidence_about(running, CLEAR))[0]


def reported_elsewhere(world: World, decision: str) -> str:
    """To the second worker. The name of its log."""
    data = world.app.config.data
    keys, folder = Keys.open(data / "keys.json", 2), chains.folder(data, 2)
    with closing(DecisionLog.open(folder, log=keys.log, now=NOW, gate={})) as log:
        for result in ("no_answer", "answered"):
            entry = sample_log.outcome(log.next_seq, decision, NOW)
            log.write([msgspec.json.encode(structs.replace(entry, result=result))])
    make_checkpoint(folder, log=keys.log, signer=Signer.open(data / "signing.json", NOW), now=NOW)
    return keys.log


async def test_what_was_reported_to_another_worker_is_proved_by_that_ones_log(running: World) -> None:
    told = await ask(running)
    await report(running, told["decision_id"], "busy")
    await covered(running)
    log = reported_elsewhere(running, told["decision_id"])
    bundle = await evidence_of(running, told["decision_id"])
    line = checked(bundle)[0]
    assert re.findall(r"outcome (\w+), reported [^;(]+(?:\((.*?)\))?", line) == [
        ("busy", ""),
        ("no_answer", f"record 1 of log {log}"),
        ("answered", f"record 2 of log {log}"),
    ]
    (part,) = body_of(bundle)["elsewhere"]
    forgeries = [
        ({"log": "00000000"}, "another log's"),
        ({"checkpoints": body_of(bundle)["checkpoints"]}, "another log's"),
        (
            {"entries": [{**part["entries"][0], "path": []}, part["entries"][1]]},
            "not in the log that was signed",
        ),
    ]
    for changed, why in forgeries:
        with pytest.raises(Refused, match=why):
            checked(resigned({**body_of(bundle), "elsewhere": [part | changed]}))
    other = await ask(running, to=LISTED)
    await covered(running)
    body = {**body_of(await evidence_of(running, other["decision_id"])), "elsewhere": [part]}
    with pytest.raises(Refused, match="another decision's"):
        checked(resigned(body))


async def test_of_a_list_of_numbers_and_dates_only_those_dates_are_answered(running: World) -> None:
    asked = []
    for number in range(3):
        asked.append((await ask(running, call_id=str(number)))["decision_id"])
        await covered(running)
    async with sources(running) as opened:
        records = [Reader(opened.folder).find(int(each.rpartition("-")[2])) for each in asked]
        first, second, third = (record.at for record in records if record)
        since, until = (
            await evidence_between(opened, second, third),
            await evidence_between(opened, None, second),
        )
    assert [each["id"] for each in body_of(since)["decisions"]] == asked[1:2]
    assert [each["id"] for each in body_of(until)["decisions"]] == asked[:1]
    assert first < second
    assert checked(since)[1].startswith(f"{CLEAR}: 1 decisions from 2026-11-2")
    assert " on before 2026-11-" in checked(since)[1]
    assert checked(until)[1].startswith(f"{CLEAR}: 1 decisions before 2026-11-2")
    assert "no other decisions about these numbers is the signer's word" in checked(until)[2]


async def evidence_between(opened: Sources, since: int | None, until: int | None) -> bytes:
    return await evidence.of_numbers(opened, [CLEAR], NOW, since, until)


async def test_what_a_legal_hold_keeps_of_a_retired_month_is_proved_with_its_number(running: World) -> None:
    told = await ask(running)
    await covered(running)
    data = running.app.config.data
    keys = Keys.open(data / "keys.json")
    keys.month(NOW + 10 * DAY)
    holds = Holds(data, keys)
    holds.add(CLEAR, at=NOW, by="dpo", reason="a case")
    holds.keep(lambda _: [told["decision_id"]], lambda: keys.retire("2026-11"))
    bundle = await evidence_about(running, CLEAR, LISTED)
    lines = checked(bundle)
    assert f"to {CLEAR};" in lines[0]
    assert [line for line in lines if line.startswith("+")] == [
        f"{CLEAR}: 1 decisions",
        f"{LISTED}: 0 decisions",
    ]
    assert evidence.numbers_in(bundle) == {CLEAR}


async def test_a_time_stamp_is_shown_and_checked_up_to_its_root(running: World, authority: Path) -> None:
    """By the first stamped checkpoint of the day after; else by the first."""
    told = await ask(running)
    await covered(running)
    await ask(running, to=LISTED)
    await covered(running)
    log = running.app.config.data / "log"
    async with serving(authority) as url:
        stamper = Stamper(log, url, authority / "root.pem", DAY)
        assert await asyncio.to_thread(stamper.stamp, NOW)
    later = await ask(running, to=LISTED, call_id="later")
    await covered(running)
    bundle = await evidence_of(running, told["decision_id"])
    newest = body_of(bundle)
    stamp, signed = checked(bundle)[1:]
    assert "time stamp of CN=Stamps" in stamp
    assert "NOT CHECKED" in stamp
    assert "bear no time stamp" not in signed
    root, other = (
        load_pem_x509_certificates((authority / f"{name}.pem").read_bytes()) for name in ("root", "other")
    )
    assert "NOT CHECKED" not in checked(bundle, roots=root)[1]
    with pytest.raises(Refused, match="leads to no root"):
        checked(bundle, roots=other)
    response = newest["stamps"][0]["response"]
    for other_response, why in ((flipped(response), "does not hold"), ("", "not as a bundle must be")):
        forged = newest | {"stamps": [{"checkpoint": 0, "response": other_response}]}
        with pytest.raises(Refused, match=why):
            checked(resigned(forged), roots=root)
    without = await evidence_of(running, later["decision_id"])
    assert "1 of 1 checkpoints bear no time stamp" in checked(without)[-1]
    body = {**body_of(without), "stamps": newest["stamps"]}
    with pytest.raises(Refused, match="is of another checkpoint"):
        checked(resigned(body))


def flipped(response: str) -> str:
    """With one bit of its signature, which comes last, changed."""
    raw = bytearray(b64decode(response))
    raw[-1] ^= 1
    return b64encode(raw).decode()


# ---- what it does not show -------------------------------------------------------------------------------------------

STRANGER = "beta"  # another tenant
SHOWN_HASHES = "of 4 files of the configuration 2 are shown by their hash alone"


@asynccontextmanager
async def two_tenants(folder: Path, *, older: bool = False) -> AsyncIterator[World]:
    """A gate whose configuration holds a client and a controller's file of somebody else. `older`: its records name the
    configuration as they did before the list of its files held hashes alone."""
    other = {
        "name": f"dialer-of-{STRANGER}",
        "controllers": [STRANGER],
        "scopes": ["check"],
        "sources": ["10.9.8.7/32"],
    }
    clients = [world.client("tests", world.KEY, *world.SCOPES), other]
    async with world.running(folder / "gate", clients=clients, prepare=add_stranger) as made:
        if older:
            config = made.app.config
            listing = b"\n".join(sorted(each for each in config.contents.values() if is_entry(each)))
            digest = sha256(listing).hexdigest()
            contents = config.contents | {digest: listing}
            made.app.reload(structs.replace(config, hash=digest, contents=contents))
        yield made


def is_entry(raw: bytes) -> bool:
    return re.fullmatch(rb"\S+ [0-9a-f]{64}", raw) is not None


def add_stranger(folder: Path) -> None:
    text = (folder / "controllers/acme.yaml").read_text()
    text = text.replace("acme", STRANGER).replace("Acme", "Beta").replace("0844123456", "0844999999")
    (folder / f"controllers/{STRANGER}.yaml").write_text(text)


async def test_a_bundle_shows_what_the_decision_rests_on_and_nothing_of_another_tenant(
    tmp_path: Path,
) -> None:
    async with two_tenants(tmp_path) as made:
        told = await ask(made, to=LISTED)
        await covered(made)
        bundle = await evidence_of(made, told["decision_id"])
    for secret in (STRANGER.encode(), b"10.9.8.7", b"clients"):
        assert secret not in bundle.lower()
    body = body_of(bundle)
    assert body["format"] == 2
    assert any("country: IT" in text for text in body["kept"].values())
    assert any("id: acme" in text for text in body["kept"].values())
    assert checked(bundle)[-1].endswith(SHOWN_HASHES)


async def test_a_record_of_before_is_proved_too_and_shows_no_other_file(tmp_path: Path) -> None:
    async with two_tenants(tmp_path, older=True) as made:
        told = await ask(made, to=LISTED)
        await covered(made)
        bundle = await evidence_of(made, told["decision_id"])
        data = made.app.config.data
        (record,) = (entry for _, entry in Reader(data / "log").entries() if isinstance(entry, Record))
        assert content_store.answer_seconds(data / "kept", record.config) == 900
    assert f"{STRANGER}.yaml " in bundle.decode(), "the record's own hash is of a list that holds the name"
    assert f"dialer-of-{STRANGER}" not in bundle.decode()
    assert checked(bundle)[-1].endswith(SHOWN_HASHES)


async def test_a_bundle_of_format_1_is_held_to_the_whole_configuration(tmp_path: Path) -> None:
    async with two_tenants(tmp_path, older=True) as made:
        told = await ask(made, to=LISTED)
        await covered(made)
        body = body_of(await evidence_of(made, told["decision_id"]))
        every = {path.name: path.read_text() for path in (made.app.config.data / "kept").iterdir()}
    older = {**body, "format": 1}
    with pytest.raises(Refused, match="a file of the configuration is missing"):
        checked(resigned(older))
    assert "hash alone" not in checked(resigned({**older, "kept": every}))[-1]


async def test_a_law_that_the_configuration_does_not_list_is_refused(running: World) -> None:
    told = await ask(running)
    await covered(running)
    body = body_of(await evidence_of(running, told["decision_id"]))
    (entry,) = (digest for digest, text in body["kept"].items() if text.startswith("it.yaml "))
    del body["kept"][entry]
    with pytest.raises(Refused, match="is not among its configuration's files"):
        checked(resigned(body))


async def test_a_bundle_lists_the_registry_answers_of_its_own_controller_alone(running: World) -> None:
    world.publish_answers(running.app.config.data, {CLEAR: False}, NOW - DAY, controller=STRANGER)
    await running.app.tick()
    told = await ask(running, to=LISTED)
    await covered(running)
    bundle = await evidence_of(running, told["decision_id"])
    assert [each["controller"] for each in body_of(bundle)["manifest"]["files"]] == ["acme"]
    assert STRANGER.encode() not in bundle


# ---- the sceptic -----------------------------------------------------------------------------------------------------


async def test_any_changed_byte_is_refused(running: World) -> None:
    told = await ask(running)
    await report(running, told["decision_id"], "answered")
    await covered(running)
    bundle = await evidence_of(running, told["decision_id"])
    assert "outcome answered" in checked(bundle)[0]
    framed = [*range(260), len(bundle) - 2, len(bundle) - 1]
    places = [*framed, *random.sample(range(260, len(bundle)), FLIPS)] if FLIPS else range(len(bundle))
    for at in places:
        changed = bytearray(bundle)
        changed[at] ^= 1 << random.randrange(8)
        with pytest.raises(Refused):
            checked(bytes(changed))
    for other in (bundle + b"\n", bundle[:-1], b" " + bundle, b"", bundle * 2):
        with pytest.raises(Refused):
            checked(other)


def resigned(body: dict[str, Any]) -> bytes:
    """As somebody would who has a key of their own."""
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


FORGERIES: dict[str, tuple[Any, str]] = {
    "another record": (other_record, "not in the log that was signed"),
    "another law": (other_law, "a text that was kept is not"),
    "no law": (lambda body: body["kept"].clear(), "is missing"),
    "another's receipt": (
        lambda body: body["decisions"][0]["consultations"][0].update(id="x"),
        "does not name",
    ),
    "another id": (lambda body: body["decisions"][0].update(id="9f2c01ab-7"), "has another id"),
    "another checkpoint": (lambda body: body["checkpoints"][0].update(signature="00" * 64), "does not hold"),
    "a record too few": (lambda body: body["entries"].pop(), "not as a bundle must be"),
    "another's outcome": (
        lambda body: body["decisions"][0].update(outcomes=[body["decisions"][0]["seq"]]),
        "an outcome is another decision's",
    ),
    "an answer too few": (
        lambda body: body["asked"].append({"number": CLEAR, "decisions": ["x"]}),
        "is missing",
    ),
}


@pytest.mark.parametrize(("forge", "why"), FORGERIES.values(), ids=FORGERIES)
async def test_a_bundle_that_was_forged_and_signed_anew_contradicts_itself(
    running: World, forge: Any, why: str
) -> None:
    told = await ask(running)
    await covered(running)
    body = body_of(await evidence_of(running, told["decision_id"]))
    assert checked(resigned(body))
    forge(body)
    with pytest.raises(Refused, match=why):
        checked(resigned(body))


def bare_python(folder: Path) -> Path:
    """A virtual environment that has `cryptography`, with what that needs, and nothing else."""
    venv.create(folder, with_pip=False)
    python = folder / "bin/python"
    asked = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip())
    for name in ("cryptography", "cffi"):
        tops = {each.parts[0]: each for each in files(name) or () if ".." not in each.parts}
        for top, each in tops.items():
            found = Path(str(each.locate()))
            (site / top).symlink_to(found.parents[len(each.parts) - 2] if len(each.parts) > 1 else found)
    return python


def run_alone(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in words], cwd=folder, env={}, capture_output=True, text=True, check=False
    )


async def test_the_verifier_needs_python_and_cryptography_alone(running: World, tmp_path: Path) -> None:
    told = await ask(running)
    await covered(running)
    made = await evidence_of(running, told["decision_id"])
    bundle, alone = tmp_path / "evidence.json", tmp_path / "verify_evidence.py"
    bundle.write_bytes(made)
    alone.write_bytes(SHOWN)
    python = bare_python(tmp_path / "bare")
    assert run_alone(tmp_path, python, "-c", "import msgspec").returncode == 1
    held = run_alone(tmp_path, python, alone, bundle)
    assert (held.returncode, held.stdout.splitlines()[-1]) == (0, "It holds."), held.stderr
    assert told["decision_id"] in held.stdout
    bundle.write_bytes(made.replace(b'"format"', b'"Format"', 1))
    refused = run_alone(tmp_path, python, alone, bundle)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("REFUSED: the signature of the bundle does not hold")


# ---- the commands ----------------------------------------------------------------------------------------------------


async def test_the_commands_prove_what_a_gate_did(running: World, tmp_path: Path) -> None:
    told = await ask(running)
    await covered(running)
    config = str(tmp_path / "dialgate.yaml")

    def run(*words: object) -> Any:
        why = ("--purpose", "Garante, letter 4") if words[0] == "evidence" else ()
        return ended(command("log", *words, *why, DIALGATE_CONFIG=config))

    checkpoint, bundle, asked = (
        tmp_path / name for name in ("checkpoint.json", "evidence.json", "asked.txt")
    )
    shown = run("checkpoint", "--out", checkpoint, "--json")
    newest = last_checkpoint(running.app.config.data / "log")
    assert newest is not None
    assert (shown.code, shown.json["root"]) == (0, newest.checkpoint.root)
    verified = run("verify", "--against", checkpoint, "--json")
    assert (verified.code, verified.json["ok"], verified.json["covered"]) == (0, True, newest.checkpoint.size)
    made = run("evidence", told["decision_id"], "--out", bundle, "--with-verifier", "--json")
    assert made.code == 0, made.out
    assert checked(bundle.read_bytes(), frozenset({made.json["key"]}))
    assert (tmp_path / VERIFIER.name).read_bytes() == SHOWN
    asked.write_text(f"{CLEAR}\n")
    assert run("evidence", "--numbers", asked, "--out", bundle).code == 0
    assert bundle.stat().st_mode & 0o077 == 0, "it holds numbers in clear"
    async with Subjects.beside(running.app.config, lambda: NOW) as subjects:
        seen = await subjects.lookups.seen("acme", CLEAR)
    assert [(each.what, each.purpose) for each in seen] == [("evidence", "Garante, letter 4")] * 2
    assert f"{CLEAR}: 1 decisions" in checked(bundle.read_bytes())
    asked.write_text(f"{CLEAR}\n06 87654321\n")
    refused = run("evidence", "--numbers", asked, "--out", bundle)
    assert refused.code == 2
    assert "line 2" in refused.err
    assert "87654321" not in refused.err
    assert run("evidence", "--out", bundle).code == 2
    assert run("evidence", "nothing-7", "--out", bundle).code == 1
