"""Evidence encloses the files that prove consents. Its verifier writes them out, and finds each changed byte."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from dialgate.audit.enclosed_files import enclose
from dialgate.audit.evidence_files import EvidenceOrder, make_evidence
from dialgate.tools.verifier.verify_evidence import EvidenceRefused, verify
from tests.audit.test_evidence import (
    VERIFIER,
    ask,
    body_of,
    evidence_about,
    evidence_of,
    pass_checkpoint_interval,
    run_alone,
    sign_as_forger,
    sources,
)
from tests.cluster.test_peers import call, two_gates
from tests.cluster.test_shipped_logs import ship
from tests.shipping.test_shipping import a_folder
from tests.subjects.test_consent_proofs import (
    CONSENT,
    FORM,
    SHA256,
    erase,
    find,
    record,
    running,
    stored,
    upload,
)
from tests.support.damage import flip
from tests.support.world import CALL, CLEAR, World


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path) as made:
        yield made


async def bundle_of_call(gate: World) -> bytes:
    response = await ask(gate)
    assert response["decision"] == "allow"
    await pass_checkpoint_interval(gate)
    return await evidence_of(gate, response["decision_id"])


async def test_evidence_encloses_the_file_and_the_verifier_writes_it(gate: World, tmp_path: Path) -> None:
    await record(gate)
    bundle, folder = tmp_path / "evidence.json", tmp_path / "files"
    bundle.write_bytes(await bundle_of_call(gate))
    done = run_alone(tmp_path, sys.executable, VERIFIER, bundle, "--files", folder)
    line = f"file {SHA256}: enclosed, {len(FORM)} bytes; its SHA-256 is the one recorded with the consent"
    assert line in done.stdout.splitlines()
    assert [(path.name, path.read_bytes()) for path in folder.iterdir()] == [(SHA256, FORM)]


async def test_evidence_after_an_erasure_encloses_the_restricted_file_once(gate: World) -> None:
    await record(gate)
    for _ in range(2):
        await gate.post("/v1/check", CALL, 200)
        gate.hand.at += 1_000
    await erase(gate)
    assert await find(gate) == (200, FORM)
    await pass_checkpoint_interval(gate)
    bundle = await evidence_about(gate, CLEAR)
    assert [len(body_of(bundle)[name]) for name in ("decisions", "proofs", "left_out")] == [2, 1, 0]
    assert sum(line.startswith("file ") for line in verify(bundle)) == 1


async def test_evidence_without_the_file_names_only_its_hash(gate: World) -> None:
    """The file is on another gate, or the CRM kept it."""
    await gate.post("/v1/consents", CONSENT)
    bundle = await bundle_of_call(gate)
    assert SHA256 in verify(bundle)[0]
    assert (body_of(bundle)["proofs"], body_of(bundle)["left_out"]) == ({}, {})


async def test_the_gate_that_has_the_file_encloses_it_for_a_call_that_another_allowed(tmp_path: Path) -> None:
    async with two_gates(tmp_path, shipping=a_folder(tmp_path).to) as (rome, milan):
        await record(milan)
        name = await call(rome)
        await ship(rome, milan)
        bundles = []
        for gate in (rome, milan):
            order = gate.app.config, EvidenceOrder(decision=name), gate.hand.at
            (bundle,), _ = await asyncio.to_thread(make_evidence, *order)
            bundles.append(body_of(bundle))
    assert [bundle["decisions"][0]["consents"][0]["artefact_sha256"] for bundle in bundles] == [SHA256] * 2
    assert [list(bundle["proofs"]) for bundle in bundles] == [[], [SHA256]]


async def test_evidence_with_a_damaged_file_says_so(gate: World) -> None:
    await record(gate)
    (path,) = stored(gate)
    flip(path)
    bundle = await bundle_of_call(gate)
    assert f"file {SHA256}: NOT ENCLOSED: damaged on the gate" in verify(bundle)
    await upload(gate)
    assert body_of(await bundle_of_call(gate))["left_out"] == {}


async def test_what_does_not_fit_into_a_bundle_is_named(gate: World) -> None:
    await upload(gate)
    other = (await upload(gate, b"a longer form, signed by another person"))["sha256"]
    async with sources(gate) as opened:
        enclosed, left_out = enclose(opened, [("acme", SHA256), ("acme", other)], room=len(FORM))
        assert enclose(opened, [("beta", SHA256)]) == ({}, {})  # another controller's
    assert enclosed == {SHA256: FORM}
    assert "request fewer decisions" in left_out[other]


def another_content(body: dict[str, Any]) -> None:
    body["proofs"][SHA256] = "Zm9yZ2Vk"


def another_file(body: dict[str, Any]) -> None:
    body["proofs"][sha256(b"forged").hexdigest()] = "Zm9yZ2Vk"


def no_base64(body: dict[str, Any]) -> None:
    body["proofs"][SHA256] += "!"


FORGERIES: dict[str, tuple[Any, str]] = {
    "another content": (another_content, "a file that proves a consent was changed"),
    "a file of no consent": (another_file, "a file is enclosed that no consent names"),
    "no base64": (no_base64, "wrong structure"),
}


async def test_a_forged_file_is_refused(gate: World) -> None:
    await record(gate)
    bundle = await bundle_of_call(gate)
    text = json.dumps(body_of(bundle)["proofs"][SHA256]).encode()
    at = bundle.index(text) + 3
    with pytest.raises(EvidenceRefused, match="signature"):
        verify(bundle[:at] + bytes([bundle[at] ^ 1]) + bundle[at + 1 :])
    for forge, why in FORGERIES.values():
        body = body_of(bundle)
        forge(body)
        with pytest.raises(EvidenceRefused, match=why):
            verify(sign_as_forger(body))
