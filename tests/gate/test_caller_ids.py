"""Tests of caller IDs and their proofs.

A proof counts only if it belongs to the campaign's controller. The facts contain at most the reserved prefix of a
phone number that is not assigned to the campaign.
"""

from pathlib import Path

import pytest
from msgspec import structs

from dialgate.config import loader
from dialgate.config.configuration import Config
from dialgate.config.controllers import Line
from dialgate.core.model import CallerId
from dialgate.gate.caller_ids import CallerIdFacts
from dialgate.store import CallerIdProof
from tests.support import world
from tests.support.casebook import law_of
from tests.support.world import CALLER, NOW

STRANGER = "+390612345670"  # assigned to no campaign
FRENCH = "+33844123456"
PROOF = CallerIdProof(controller="acme", caller_id=CALLER, at=NOW, kind="call_back", evidence="recording 7")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return loader.load(world.write_folder(tmp_path))


@pytest.fixture
def line(config: Config) -> Line:
    return config.lines["acme-fibre"]


@pytest.fixture
def caller_ids(config: Config) -> CallerIdFacts:
    return CallerIdFacts(config.laws.values())


def test_an_assigned_caller_id_is_presented_in_full(caller_ids: CallerIdFacts, line: Line) -> None:
    presentation = caller_ids.look_up(CALLER, line)
    assert (presentation.number, presentation.fact.number, presentation.sealed) == (CALLER, CALLER, False)
    assert presentation.fact.assigned


def test_a_caller_id_of_no_campaign_is_sealed(caller_ids: CallerIdFacts, line: Line) -> None:
    presentation = caller_ids.look_up(STRANGER, line)
    assert (presentation.number, presentation.fact.number, presentation.sealed) == (STRANGER, "", True)


def test_only_the_prefix_of_a_reserved_class_is_left_of_a_sealed_number(
    caller_ids: CallerIdFacts, line: Line
) -> None:
    presentation = caller_ids.look_up("+390844999999", line)
    assert presentation.fact.number == "+390844"
    assert presentation.sealed


@pytest.mark.parametrize(
    ("country", "prefix"), [("ES", "+34400"), ("FR", "+33162"), ("IN", "+91140"), ("BR", "+55303")]
)
def test_the_longest_prefix_is_left_of_a_sealed_number(country: str, prefix: str) -> None:
    """The country files also have classes for the shorter prefixes of these numbers, such as +34."""
    caller_ids = CallerIdFacts([law_of(country)])
    assert (
        caller_ids._seal(CallerId(number=prefix + "123456", form="number", region=country)).number == prefix
    )


def test_a_short_code_is_not_sealed(caller_ids: CallerIdFacts, line: Line) -> None:
    presentation = caller_ids.look_up("4545", line)
    assert (presentation.fact.number, presentation.sealed) == ("4545", False)


@pytest.mark.parametrize(
    ("dial_region", "home", "number"),
    [("IT", "FR", CALLER), ("", "IT", CALLER), ("FR", "IT", FRENCH), ("", "FR", FRENCH)],
)
def test_national_notation_is_read_in_the_dial_region_or_else_at_home(
    caller_ids: CallerIdFacts, line: Line, dial_region: str, home: str, number: str
) -> None:
    line = structs.replace(line, dial_region=dial_region, home=home)
    assert caller_ids.look_up("0844 123456", line).number == number


def test_a_proof_of_its_controller_proves_a_caller_id(caller_ids: CallerIdFacts, line: Line) -> None:
    caller_ids.load_proofs([PROOF, structs.replace(PROOF, controller="other", at=NOW + 1)])
    fact = caller_ids.look_up(CALLER, line).fact
    assert (fact.proved_at, fact.proof) == (NOW, "call_back:recording 7")


def test_a_proof_of_a_different_controller_proves_nothing(caller_ids: CallerIdFacts, line: Line) -> None:
    caller_ids.load_proofs([structs.replace(PROOF, controller="other")])
    assert caller_ids.look_up(CALLER, line).fact.proved_at == 0


def test_an_unanswered_call_back_proves_nothing(caller_ids: CallerIdFacts, line: Line) -> None:
    caller_ids.load_proofs([structs.replace(PROOF, answered=False)])
    assert caller_ids.look_up(CALLER, line).fact.proved_at == 0


def test_new_proofs_apply_to_caller_ids_that_were_presented_before(
    caller_ids: CallerIdFacts, line: Line
) -> None:
    assert caller_ids.look_up(CALLER, line).fact.proved_at == 0
    caller_ids.load_proofs([PROOF])
    assert caller_ids.look_up(CALLER, line).fact.proved_at == NOW
    caller_ids.load_proofs([structs.replace(PROOF, answered=False, at=NOW + 1)])
    assert caller_ids.look_up(CALLER, line).fact.proved_at == 0


def test_equal_proofs_change_nothing(caller_ids: CallerIdFacts, line: Line) -> None:
    caller_ids.load_proofs([PROOF])
    presentation = caller_ids.look_up(CALLER, line)
    caller_ids.load_proofs([PROOF])
    assert caller_ids.look_up(CALLER, line) is presentation
    assert caller_ids.proofs == {("acme", CALLER): PROOF}


def test_the_proof_of_a_sealed_caller_id_does_not_contain_its_number(
    caller_ids: CallerIdFacts, line: Line
) -> None:
    evidence = f"called {STRANGER} at noon"
    caller_ids.load_proofs([structs.replace(PROOF, caller_id=STRANGER, evidence=evidence)])
    fact = caller_ids.look_up(STRANGER, line).fact
    assert fact.proof == "call_back:called # at noon"


def test_equal_sealed_caller_ids_share_one_object(caller_ids: CallerIdFacts, line: Line) -> None:
    """The cache of verdicts compares facts by identity."""
    first, second = (caller_ids.look_up(number, line).fact for number in (STRANGER, "+390612345671"))
    assert first is second


def test_a_presentation_is_computed_once(caller_ids: CallerIdFacts, line: Line) -> None:
    assert caller_ids.look_up(CALLER, line) is caller_ids.look_up(CALLER, line)


def test_ten_thousand_presentations_are_kept_at_most(caller_ids: CallerIdFacts, line: Line) -> None:
    kept = [caller_ids.look_up(f"+39061{number:07}", line) for number in range(10_000)]
    assert caller_ids.look_up("+390610000000", line) is kept[0]
    caller_ids.look_up(CALLER, line)  # one more, so all are discarded
    assert caller_ids.look_up("+390610000000", line) is not kept[0]
