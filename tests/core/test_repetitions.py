"""Tests of entries that repeat a consent or a call request: what they can narrow, and what a law requires of the first."""

from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from dialgate.core.model import CallRequest, Consent, Origin, Transfer
from dialgate.core.repetitions import Recorded, record

CONSENT = Consent(id="c", collected_at=5, purposes=("sale", "advertising"), call_types=("agent", "automated"))
OWN = Origin(collected_by="acme", collected_on=date(2026, 1, 1))
CEDED = structs.replace(OWN, transfers=(Transfer(by="acme", to="beta", on=date(2026, 2, 1)),))
NIGHT = CallRequest(id="r", requested_at=1, expires_at=100, begins=50, goods="gas", appointment=True)


def repeat(*items: Any) -> Any:
    recorded: Recorded[Any] | None = None
    for item in items:
        recorded = record(recorded, item)
    assert recorded is not None
    return recorded.item


@pytest.mark.parametrize(
    ("first", "again", "wanted"),
    [
        ({"form": "written"}, {"form": "oral"}, {"form": "oral"}),
        ({"form": "oral"}, {"form": "written"}, {"form": "oral"}),
        ({"form": ""}, {"form": "written"}, {"form": ""}),
        ({"states": ("caller", "timestamp")}, {"states": ("caller",)}, {"states": ("caller",)}),
        ({"states": ()}, {"states": ("caller",)}, {"states": ()}),
        ({"third_party": False}, {"third_party": True}, {"third_party": False}),
        ({"profiling": True}, {"profiling": False}, {"profiling": False}),
        ({"origin": None}, {"origin": CEDED}, {"origin": CEDED}),
        ({"origin": CEDED}, {"origin": None}, {"origin": CEDED}),
        ({"origin": OWN}, {"origin": CEDED}, {"origin": OWN, "contradicted": ("origin",)}),
        ({"purposes": ("sale",)}, {"purposes": ("service",)}, {"purposes": ("sale",), "contradicted": ("purposes",)}),
        # A law may require what the first entry did not state, or end a consent without an end sooner.
        ({"goods": ()}, {"goods": ("gas",)}, {"goods": ("gas",), "supplied": ("goods",)}),
        ({"expires_at": 0}, {"expires_at": 9}, {"expires_at": 9, "supplied": ("expires_at",)}),
        ({"goods": ("gas",)}, {"goods": ()}, {"goods": ("gas",)}),
        # What happened later is added.
        ({"other_proofs": ("crm_reference",)}, {"other_proofs": ("certificate",)}, {"other_proofs": ("certificate", "crm_reference")}),
        ({"other_proofs": ("certificate",)}, {"proved": True}, {"other_proofs": ("certificate",), "proved": True}),
        ({"renewed_at": 0}, {"renewed_at": 9}, {"renewed_at": 9}),
        ({"place": "US-FL"}, {"place": "US-NY"}, {"place": "US-NY"}),
        ({"place": "US-FL"}, {"place": ""}, {"place": "US-FL"}),
    ],
)  # fmt: skip
def test_a_repetition_only_narrows(
    first: dict[str, Any], again: dict[str, Any], wanted: dict[str, Any]
) -> None:
    recorded = repeat(structs.replace(CONSENT, **first), structs.replace(CONSENT, **again))
    assert recorded == structs.replace(CONSENT, **{**first, **wanted})


def test_a_shorter_appointment_opens_no_hours() -> None:
    """A span that was too long to open the hours would open them if a repetition could shorten it."""
    assert not repeat(NIGHT, structs.replace(NIGHT, expires_at=60)).appointment
    assert not repeat(NIGHT, structs.replace(NIGHT, begins=90)).appointment
    assert repeat(NIGHT, structs.replace(NIGHT, expires_at=200)).appointment


def test_a_rectified_field_is_no_longer_contradicted_or_supplied() -> None:
    recorded = record(None, structs.replace(CONSENT, goods=("gas",)))
    recorded = record(recorded, structs.replace(CONSENT, goods=("water",)))
    assert recorded.item.contradicted == ("goods",)
    recorded = record(recorded, structs.replace(CONSENT, goods=("water",)), ["goods"])
    assert (recorded.item.goods, recorded.item.contradicted) == (("water",), ())
    recorded = record(record(None, CONSENT), structs.replace(CONSENT, expires_at=9))
    assert record(recorded, structs.replace(CONSENT, expires_at=9), ["expires_at"]).item.supplied == ()


def subsets(*names: str) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(names), unique=True).map(tuple)


consents = st.builds(
    Consent,
    id=st.just("c"),
    collected_at=st.integers(1, 3),
    purposes=subsets("sale", "service"),
    call_types=subsets("agent", "automated"),
    goods=subsets("gas", "water"),
    proved=st.booleans(),
    other_proofs=st.sampled_from(
        [(), ("certificate",), ("crm_reference",), ("certificate", "crm_reference")]
    ),
    expires_at=st.sampled_from([0, 5, 9]),
    double_opt_in=st.booleans(),
    origin=st.sampled_from([None, OWN, CEDED]),
)


@given(st.lists(consents, min_size=1, max_size=6), st.data())
def test_how_often_an_entry_is_repeated_does_not_matter(entries: list[Consent], data: st.DataObject) -> None:
    again = data.draw(st.lists(st.sampled_from(entries), max_size=6))
    assert repeat(*entries, *again) == repeat(*entries)


def test_the_date_of_a_rectified_entry_never_makes_a_new_one() -> None:
    """Its date was wrong. Sent again, it would replace what was recorded and rectified since."""
    recorded = record(None, structs.replace(CONSENT, collected_at=50))
    recorded = record(recorded, structs.replace(CONSENT, collected_at=5), ["collected_at"])
    recorded = record(recorded, structs.replace(CONSENT, collected_at=40))
    recorded = record(recorded, structs.replace(CONSENT, collected_at=40, goods=("gas",)), ["goods"])
    for again in (50, 5, 40):
        assert record(recorded, structs.replace(CONSENT, collected_at=again)).item == recorded.item
    assert record(recorded, structs.replace(CONSENT, collected_at=51)).item.collected_at == 51
