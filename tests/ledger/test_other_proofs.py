"""Histories of a consent's proofs: what is sent again, rectified or lacks a part never permits more than the law accepts."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest
from msgspec import structs

from dialgate.core.ledger_events import ConsentGiven
from dialgate.core.ledger_state import stated_consent
from dialgate.core.model import HOUR
from tests.support import world
from tests.support.world import CALLER, LIST, NOW, World

GIVEN: Final = "2026-11-20T10:00:00+01:00"
CONSENT: Final[dict[str, Any]] = {
    "id": "form-1", "collected_at": GIVEN, "purposes": ["sale"], "goods": ["broadband"], "call_types": ["agent"],
}  # fmt: skip
FILE: Final = {"artefact": "recordings/1.wav", "artefact_sha256": "a" * 64}
CERTIFICATE: Final = {"certificate_url": "https://cert.trustedform.com/0f3a", "certificate_claim": "claim-77"}
REFERENCE: Final = {"crm_reference": "contact 4711", "attested_by": "Anna Bo, sales", "attested_at": GIVEN}
NONE: Final[dict[str, Any]] = {}
PROOF: Final = ["artefact_sha256"]

# Each history has the entries of one consent, and after the last of them whether it counts by a law that accepts only a
# hash, by one that accepts certificates too, and by one that accepts both.
HISTORIES: Final[dict[str, tuple[list[dict[str, Any]], tuple[bool, bool, bool]]]] = {
    "no proof": ([NONE], (False, False, False)),
    "no proof, then a reference": ([NONE, REFERENCE], (False, False, True)),
    "no proof, then a certificate": ([NONE, CERTIFICATE], (False, True, True)),
    "no proof, then a hash": ([NONE, FILE], (True, True, True)),
    "certificate, then a hash": ([CERTIFICATE, FILE], (True, True, True)),
    "hash, then a reference": ([FILE, REFERENCE], (True, True, True)),
    "hash, then nothing": ([FILE, NONE], (True, True, True)),
    "certificate, then a reference": ([CERTIFICATE, REFERENCE], (False, True, True)),
    "reference, then a certificate": ([REFERENCE, CERTIFICATE], (False, True, True)),
    "reference, then nothing": ([REFERENCE, NONE], (False, False, True)),
    "certificate and reference in one": ([CERTIFICATE | REFERENCE], (False, True, True)),
    "hash without its artefact": ([REFERENCE | {"artefact_sha256": "a" * 64}], (False, False, True)),
    "artefact without its hash": ([{"artefact": "contact 4711"}, CERTIFICATE], (False, True, True)),
    "certificate without its claim": ([{**CERTIFICATE, "certificate_claim": ""}], (False, False, False)),
    "certificate and claim in two": (
        [{**CERTIFICATE, "certificate_claim": ""}, {"certificate_claim": "claim-77"}], (False, False, False)),
    "reference that nobody attests": ([{**REFERENCE, "attested_by": ""}], (False, False, False)),
    "reference attested at no time": (
        [{"crm_reference": "contact 4711", "attested_by": "Anna Bo"}], (False, False, False)),
    "reference attested before the consent": (
        [REFERENCE | {"attested_at": "2026-11-20T09:59:59+01:00"}], (False, False, False)),
    "reference rectified away": ([REFERENCE, NONE | {"rectify": ["crm_reference"]}], (False, False, False)),
    "reference rectified away, sent again": (
        [REFERENCE, {"rectify": ["crm_reference"]}, REFERENCE], (False, False, False)),
    "reference rectified to another": (
        [REFERENCE, REFERENCE | {"crm_reference": "contact 12", "rectify": ["crm_reference"]}], (False, False, True)),
    "hash rectified to a reference": ([FILE, REFERENCE | {"rectify": PROOF}], (False, False, True)),
    "hash rectified away": ([FILE | CERTIFICATE, {"rectify": ["artefact"]}], (False, False, False)),
    "hash rectified away, sent again": ([FILE, {"rectify": PROOF}, FILE], (False, False, False)),
    "reference of an earlier consent": (
        [REFERENCE, {"collected_at": "2026-11-21T10:00:00+01:00"}], (False, False, False)),
    "old reference with a newer consent": (
        [NONE, REFERENCE | {"collected_at": "2026-11-21T10:00:00+01:00"}], (False, False, False)),
    "certificate of an entry that came late": (
        [{"collected_at": "2026-11-21T10:00:00+01:00"}, CERTIFICATE], (False, False, False)),
}  # fmt: skip
NUMBERS: Final = dict(zip(HISTORIES, (f"+39328987{place:04}" for place in range(1000)), strict=False))
LAWS: Final = {"hash": "[]", "certificates": "[certificate]", "both": "[certificate, crm_reference]"}


@pytest.fixture(params=LAWS)
async def gate(
    request: pytest.FixtureRequest, tmp_path: Path, store_settings: dict[str, Any]
) -> AsyncIterator[World]:
    def accept(folder: Path) -> None:
        path = folder / "countries/it.yaml"
        text = path.read_text("utf-8")
        assert text.count("other_proofs: []") == 1
        path.write_text(text.replace("other_proofs: []", f"other_proofs: {LAWS[request.param]}"), "utf-8")

    async with world.running(tmp_path, prepare=accept, **store_settings) as running:
        numbers = list(NUMBERS.values())
        world.publish_answers(running.app.config.data, dict.fromkeys(numbers, False), NOW - 2 * HOUR)
        await running.post("/v1/lists", {**LIST, "basis": "consent", "numbers": numbers})
        await running.app.tick()
        yield running


async def codes_of(gate: World, number: str) -> list[str]:
    call = {"to": number, "from": CALLER, "campaign": "acme-fibre"}
    return [reason["code"] for reason in (await gate.post("/v1/check", call, 200)).get("reasons", [])]


async def test_a_proof_counts_only_where_the_law_accepts_it(
    gate: World, request: pytest.FixtureRequest
) -> None:
    law = [*LAWS].index(request.node.callspec.params["gate"])
    found, wanted = {}, {}
    for name, (entries, counts) in HISTORIES.items():
        for entry in entries:
            receipt = await gate.post("/v1/consents", CONSENT | {"number": NUMBERS[name]} | entry)
        assert ("no artefact" in receipt.get("note", "")) == (not stated_is_accepted(entries[-1], law)), name
        view = await gate.get(f"/v1/consents?number={quote(NUMBERS[name])}&purpose=case")
        codes = await codes_of(gate, NUMBERS[name])
        assert codes == [reason for reason in [view["consents"][0]["reason"]] if reason], name
        found[name], wanted[name] = codes, [] if counts[law] else ["consent.void"]
    assert found == wanted


def stated_is_accepted(entry: dict[str, Any], law: int) -> bool:
    """Return whether the entry alone has a proof that the law accepts."""
    if "artefact" in entry and "artefact_sha256" in entry:
        return True
    return (law > 0 and entry.items() >= CERTIFICATE.items()) or (law > 1 and _is_attested(entry))


def _is_attested(entry: dict[str, Any]) -> bool:
    is_dated = entry.get("attested_at", "") >= entry.get("collected_at", GIVEN)
    return bool(entry.get("crm_reference") and entry.get("attested_by") and is_dated)


async def test_only_a_hash_lifts_a_revocation(gate: World) -> None:
    number = NUMBERS["no proof"]
    revoked = await gate.post("/v1/revocations", {"number": number, "at": "2026-11-19T10:00:00+01:00"})
    lift = {"ground": "new_consent", "reason": "a form", "consent": "form-1"}
    path = f"/v1/revocations/{revoked['seq']}/lift"
    await gate.post("/v1/consents", CONSENT | {"number": number} | CERTIFICATE | REFERENCE)
    await gate.post(path, lift, 400)
    await gate.post("/v1/consents", CONSENT | {"number": number} | FILE)
    await gate.post(path, lift)
    assert await codes_of(gate, number) == []


@pytest.mark.parametrize("url", ["http://cert.example/1", "cert.example/1", "https://cert.example/1 or so"])
async def test_a_certificate_is_an_https_url(running: World, url: str) -> None:
    body = CONSENT | {"number": world.CLEAR, "certificate_url": url}
    assert (await running.post("/v1/consents", body, 400))["error"]["field"] == "certificate_url"
    stored = ConsentGiven(id="c", collected_at=1, purposes=(), call_types=(), certificate_claim="1")
    assert stated_consent(structs.replace(stored, certificate_url="ftp://x")).other_proofs == ()


async def test_what_was_recorded_is_shown(running: World) -> None:
    await running.post("/v1/consents", CONSENT | {"number": world.CLEAR} | CERTIFICATE | REFERENCE)
    number = quote(world.CLEAR)
    view = await running.get(f"/v1/consents?number={number}&purpose=case")
    (consent,), (entry,) = view["consents"], view["entries"]
    stated = CERTIFICATE | REFERENCE | {"attested_at": "2026-11-20T09:00:00.000Z"}
    assert entry["details"].items() >= stated.items()
    assert entry["opens_nothing"] == "unproved"
    assert (consent["proved"], consent["other_proofs"]) == (False, ["certificate", "crm_reference"])
