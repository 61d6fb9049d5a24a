"""Tests that the text fields of requests are never stored with the called number in plain text."""

import re
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialgate.core.model import Origin
from dialgate.crypto.keys import Keys
from dialgate.crypto.masking import Masker
from dialgate.ledger.schemas import ConsentRequest, ContractRequest

NUMBER = "+393281234567"
WRITTEN = [
    "+393281234567",
    "00393281234567",
    "3281234567",
    "328 123 4567",
    "(328) 123-45.67",
    "39/328/1234567",
]
CONSENT = {"number": NUMBER, "collected_at": "2026-01-01T00:00:00Z", "purposes": ("sale",), "call_types": ("agent",)}  # fmt: skip


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys.open(tmp_path_factory.mktemp("keys") / "keys.json")


def digits(text: str) -> str:
    return re.sub(r"\D", "", re.sub(r"\[(sealed|hidden):[^]]*\]", "|x|", text))


@given(before=st.text(max_size=20), written=st.sampled_from(WRITTEN), after=st.text(max_size=20))
def test_any_text_around_the_number_is_restored(keys: Keys, before: str, written: str, after: str) -> None:
    masker = Masker(keys, "acme")
    stored = masker.text(f"{before} {written} {after}", NUMBER)
    assert "1234567" not in digits(stored)
    if "[sealed:" not in before + after:
        assert masker.unseal(stored) == f"{before} {written} {after}"


def test_an_id_is_always_hidden_in_the_same_way_so_that_it_can_be_ended(keys: Keys) -> None:
    """The masked id is constant for one controller, and differs between controllers so that their data cannot be joined."""
    names = [
        Masker(keys, owner).mask(_consent(id=f"form-{NUMBER}"), NUMBER).id
        for owner in ("acme", "acme", "beta")
    ]
    assert names[0] == names[1] != names[2]
    assert re.fullmatch(r"form-\+\[hidden:[0-9a-f]{16}\]", names[0])


def test_a_sector_does_not_hold_the_number(keys: Keys) -> None:
    """If a country file lists no sectors, a contract's sector can be any text, even one that contains the number."""
    contract = ContractRequest(number=NUMBER, id="k", starts=date(2026, 1, 1), sector=f"lead {NUMBER}")
    assert "1234567" not in digits(Masker(keys, "acme").mask(contract, NUMBER).sector)


def test_the_origin_of_a_consent_keeps_its_length_when_the_number_is_removed(keys: Keys) -> None:
    origin = Origin(collected_by=f"{'x' * 244} 3281234567", collected_on="2026-01-01")  # type: ignore[arg-type]  # not looked at
    masked = Masker(keys, "acme").mask(_consent(id="a", origin=origin), NUMBER)
    assert masked.origin is not None
    assert len(masked.origin.collected_by) <= 256
    assert "1234567" not in masked.origin.collected_by


def test_another_controllers_sealed_text_is_not_opened(keys: Keys) -> None:
    stored = Masker(keys, "acme").text(NUMBER, NUMBER)
    assert Masker(keys, "beta").unseal(stored) == stored
    assert Masker(keys, "acme").unseal("[sealed:AAAA]") == "[sealed:AAAA]"


def test_a_checksum_is_never_changed(keys: Keys) -> None:
    sha = "1234567" + "a" * 57
    assert Masker(keys, "acme").mask(_consent(id="a", artefact_sha256=sha), NUMBER).artefact_sha256 == sha


def test_a_text_without_the_number_is_not_changed(keys: Keys, tmp_path: Path) -> None:
    assert Masker(keys, "acme").text(f"{tmp_path} 3281234568", NUMBER) == f"{tmp_path} 3281234568"


def _consent(**fields: object) -> ConsentRequest:
    return ConsentRequest(**{**CONSENT, **fields})  # type: ignore[arg-type]  # as a test's table has them
