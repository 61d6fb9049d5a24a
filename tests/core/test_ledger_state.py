"""Tests of the fold of ledger entries: late or repeated entries do not undo earlier ones."""

from collections.abc import Sequence
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from dialgate.core.ledger_events import (
    ConsentConfirmed,
    ConsentGiven,
    ConsentsVoided,
    ConsentWithdrawn,
    ContractEnded,
    ContractMade,
    Draft,
    Entry,
    Event,
    Lifted,
    Revoked,
)
from dialgate.core.ledger_state import Ending, as_entry, find_ending, find_repeated, fold, merge
from dialgate.core.model import Consent, Contract, Known, Objection, Revocation

MAY, JUNE, JULY = date(2026, 5, 31), date(2026, 6, 30), date(2026, 7, 1)


def entries(events: Sequence[Event]) -> list[Entry]:
    return [
        Entry(seq=seq, at=0, controller="acme", subject=b"", event=event, actor="anna", channel="web")
        for seq, event in enumerate(events, 1)
    ]


def given_at(at: int, key: str = "c1", artefact: str = "form.pdf", sha256: str = "00") -> ConsentGiven:
    return ConsentGiven(
        id=key,
        collected_at=at,
        purposes=("sale",),
        call_types=("agent",),
        artefact=artefact,
        artefact_sha256=sha256,
    )


def consent(
    at: int, key: str = "c1", *, proved: bool = True, withdrawn_at: int = 0, voided_at: int = 0
) -> Consent:
    return Consent(
        id=key,
        collected_at=at,
        purposes=("sale",),
        call_types=("agent",),
        proved=proved,
        withdrawn_at=withdrawn_at,
        voided_at=voided_at,
    )


def make_contract(starts: date = MAY, ends: date | None = None) -> ContractMade:
    return ContractMade(id="k1", starts=starts, ends=ends)


def end_contract(ends: date) -> ContractEnded:
    return ContractEnded(id="k1", ends=ends)


def contract(starts: date = MAY, ends: date | None = None) -> Contract:
    return Contract(id="k1", starts=starts, ends=ends)


def test_without_entries_nothing_is_known() -> None:
    assert fold([]) == Known()


@pytest.mark.parametrize(
    ("events", "revocations"),
    [
        ([Revoked(at=5)], [Revocation(seq=1, at=5, scope="controller", channel="web")]),
        (
            [Revoked(at=5, scope="campaign", campaign="spring")],
            [Revocation(seq=1, at=5, scope="campaign", campaign="spring", channel="web")],
        ),
        (
            [Revoked(at=5), Lifted(of=1, ground="error", reason="typing")],
            [Revocation(seq=1, at=5, scope="controller", channel="web", lifted="error")],
        ),
        (
            [Revoked(at=5), Lifted(of=1, ground="new_consent", reason="c2"), Revoked(at=6)],
            [
                Revocation(seq=1, at=5, scope="controller", channel="web", lifted="new_consent"),
                Revocation(seq=3, at=6, scope="controller", channel="web"),
            ],
        ),
        (
            [Lifted(of=2, ground="error", reason="too early"), Revoked(at=5)],
            [Revocation(seq=2, at=5, scope="controller", channel="web")],
        ),
    ],
)
def test_a_lift_ends_only_the_revocation_that_it_names(
    events: list[Event], revocations: list[Revocation]
) -> None:
    known = fold(entries(events))
    assert known == Known(seq=len(events), revocations=tuple(revocations))


@pytest.mark.parametrize(
    ("events", "consents"),
    [
        ([given_at(5)], [consent(5)]),
        ([given_at(5, artefact="")], [consent(5, proved=False)]),
        ([given_at(5, sha256="")], [consent(5, proved=False)]),
        ([given_at(5), ConsentWithdrawn(id="c1", at=9)], [consent(5, withdrawn_at=9)]),
        ([given_at(5), ConsentWithdrawn(id="c2", at=9)], [consent(5)]),
        # withdrawn, and entered again: only what was collected after the withdrawal is a new consent
        ([given_at(5), ConsentWithdrawn(id="c1", at=9), given_at(5)], [consent(5, withdrawn_at=9)]),
        ([ConsentWithdrawn(id="c1", at=9), given_at(9)], [consent(9, withdrawn_at=9)]),
        ([given_at(5), ConsentWithdrawn(id="c1", at=9), given_at(10)], [consent(10)]),
        # a withdrawal that claims to be older than the consent it is entered after still withdraws it
        ([given_at(9), ConsentWithdrawn(id="c1", at=5)], [consent(9, withdrawn_at=9)]),
        ([given_at(5), ConsentsVoided(before=4, registry="rpo")], [consent(5)]),
        ([given_at(5), ConsentsVoided(before=5, registry="rpo")], [consent(5, voided_at=5)]),
        ([ConsentsVoided(before=5, registry="rpo"), given_at(5)], [consent(5, voided_at=5)]),
        ([ConsentsVoided(before=5, registry="rpo"), given_at(6)], [consent(6)]),
        (
            [
                given_at(5),
                ConsentsVoided(before=9, registry="rpo"),
                ConsentsVoided(before=7, registry="rpo"),
                given_at(8, "c2"),
            ],
            [consent(5, voided_at=7), consent(8, "c2", voided_at=9)],
        ),
    ],
)
def test_a_withdrawn_or_voided_consent_stays_so(events: list[Event], consents: list[Consent]) -> None:
    known = fold(entries(events))
    assert structs.replace(known, objections=()) == Known(seq=len(events), consents=tuple(consents))


SALE, ALL = Objection(purposes=("sale",), consent="c1", at=9), Objection(consent="c1", at=9)
STATISTICS = structs.replace(given_at(5), purposes=("statistics",))


@pytest.mark.parametrize(
    ("events", "objections"),
    [
        ([given_at(5), ConsentWithdrawn(id="c1", at=9)], []),  # its consent shows it
        ([ConsentWithdrawn(id="c1", at=9), given_at(9)], []),
        ([given_at(9), ConsentWithdrawn(id="c1", at=5)], []),
        ([given_at(5), ConsentWithdrawn(id="c1", at=9), given_at(10)], [SALE]),
        # the consent shows its first form
        (
            [given_at(5), ConsentWithdrawn(id="c1", at=9), STATISTICS],
            [structs.replace(SALE, purposes=("statistics",))],
        ),
        (
            [
                given_at(9),
                ConsentWithdrawn(id="c1", at=4),
                structs.replace(STATISTICS, collected_at=9),
                given_at(9),
            ],
            [structs.replace(SALE, purposes=("statistics",))],
        ),  # withdrawn until it was replaced
        ([ConsentWithdrawn(id="c1", at=9), given_at(10)], [ALL]),
        ([ConsentWithdrawn(id="c1", at=9)], [ALL]),  # its consent was removed
    ],
)
def test_a_withdrawal_remains_an_objection(events: list[Event], objections: list[Objection]) -> None:
    assert list(fold(entries(events)).objections) == objections


def doubly(at: int) -> ConsentGiven:
    return structs.replace(given_at(at), double_opt_in=True)


@pytest.mark.parametrize(
    ("events", "confirmed_at"),
    [
        ([doubly(5)], 0),
        ([doubly(5), ConsentConfirmed(id="c1", at=5)], 5),
        ([doubly(5), ConsentConfirmed(id="c1", at=4)], 0),
        ([doubly(5), ConsentConfirmed(id="c2", at=6)], 0),
        ([ConsentConfirmed(id="c1", at=6), doubly(5)], 6),
        # collected again under the same id: it needs a new confirmation
        ([doubly(5), ConsentConfirmed(id="c1", at=6), doubly(7)], 0),
        ([doubly(5), ConsentConfirmed(id="c1", at=6), doubly(5)], 6),
        ([given_at(5), ConsentConfirmed(id="c1", at=6)], 0),
    ],
)
def test_a_double_opt_in_is_confirmed_after_it_was_collected(events: list[Event], confirmed_at: int) -> None:
    assert [consent.confirmed_at for consent in fold(entries(events)).consents] == [confirmed_at]


@pytest.mark.parametrize(
    ("events", "event", "seq"),
    [
        ([given_at(5), ConsentWithdrawn(id="c1", at=6)], ConsentWithdrawn(id="c1", at=6), 2),
        ([given_at(5), ConsentWithdrawn(id="c1", at=6)], ConsentWithdrawn(id="c1", at=7), None),
        ([given_at(5), ConsentWithdrawn(id="c2", at=6)], ConsentWithdrawn(id="c1", at=9), None),
        ([given_at(5), ConsentWithdrawn(id="c1", at=6), given_at(7)], ConsentWithdrawn(id="c1", at=9), None),
        ([doubly(5)], ConsentConfirmed(id="c1", at=6), None),
        ([doubly(5), ConsentConfirmed(id="c1", at=6)], ConsentConfirmed(id="c1", at=7), 2),
        ([make_contract(), end_contract(JUNE)], end_contract(JUNE), 2),
        ([make_contract(), end_contract(JUNE)], end_contract(MAY), None),
    ],
)
def test_an_entry_that_is_in_force_is_not_recorded_again(
    events: list[Event], event: Ending, seq: int | None
) -> None:
    found = find_ending(entries(events), event)
    assert (found and found.seq) == seq


@pytest.mark.parametrize(
    ("events", "contracts"),
    [
        ([make_contract()], [contract()]),
        ([end_contract(JUNE)], []),
        ([make_contract(), end_contract(JUNE)], [contract(ends=JUNE)]),
        ([make_contract(), end_contract(JUNE), end_contract(JULY)], [contract(ends=JUNE)]),
        # ended, and entered again: only a contract that begins after the end is new
        ([make_contract(), end_contract(JUNE), make_contract()], [contract(ends=JUNE)]),
        ([make_contract(), end_contract(JUNE), make_contract(ends=JULY)], [contract(ends=JUNE)]),
        ([make_contract(), end_contract(JUNE), make_contract(ends=MAY)], [contract(ends=MAY)]),
        (
            [make_contract(), end_contract(JUNE), make_contract(starts=JUNE)],
            [contract(starts=JUNE, ends=JUNE)],
        ),
        ([make_contract(), end_contract(JUNE), make_contract(starts=JULY)], [contract(starts=JULY)]),
    ],
)
def test_an_ended_contract_stays_ended(events: list[Event], contracts: list[Contract]) -> None:
    assert fold(entries(events)) == Known(seq=len(events), contracts=tuple(contracts))


@pytest.mark.parametrize(
    ("starts", "entered_at"),
    [((MAY, MAY), 5), ((MAY, MAY + timedelta(days=1)), 9)],
    ids=["the same contract", "another start"],
)
def test_a_repeated_contract_keeps_the_age_of_its_first_entry(
    starts: tuple[date, date], entered_at: int
) -> None:
    history = [
        structs.replace(entry, at=at)
        for entry, at in zip(entries([make_contract(day) for day in starts]), (5, 9), strict=True)
    ]
    (held,) = fold(history).contracts
    assert (held.starts, held.entered_at) == (starts[1], entered_at)


OWN = fold(entries([Revoked(at=1), given_at(5)]))
EVERYONE = Known(seq=7, revocations=(Revocation(seq=7, at=3, scope="everyone"),))


@pytest.mark.parametrize(
    ("own", "everyone", "merged"),
    [
        (OWN, Known(), OWN),
        (OWN, Known(seq=7), Known(seq=7, revocations=OWN.revocations, consents=OWN.consents)),
        (Known(), EVERYONE, EVERYONE),
        (
            OWN,
            EVERYONE,
            Known(seq=7, revocations=OWN.revocations + EVERYONE.revocations, consents=OWN.consents),
        ),
        (
            Known(seq=9),
            EVERYONE,
            Known(seq=9, revocations=EVERYONE.revocations),
        ),
    ],
)
def test_an_entry_for_every_controller_binds_each_of_them(own: Known, everyone: Known, merged: Known) -> None:
    assert merge(own, everyone) == merged


instants = st.integers(1, 9)
keys = st.sampled_from(["c1", "c2", "c3"])
consent_events = st.one_of(
    st.builds(given_at, instants, keys),
    st.builds(ConsentsVoided, before=instants, registry=st.just("rpo")),
    st.builds(ConsentWithdrawn, id=keys, at=instants),
)
revocation_events = st.one_of(
    st.builds(Revoked, at=instants),
    st.builds(
        Lifted,
        of=st.integers(1, 12),
        ground=st.sampled_from(["error", "new_consent"]),
        reason=st.just("r"),
    ),
)


@given(st.lists(consent_events, max_size=12))
def test_a_void_affects_only_consents_collected_until_then(events: list[Event]) -> None:
    """A consent is voided by the earliest void at or after its collection, whatever the order of the ledger entries."""
    voids = [event.before for event in events if isinstance(event, ConsentsVoided)]
    given = fold(entries(events)).consents
    assert {consent.id for consent in given} == {
        event.id for event in events if isinstance(event, ConsentGiven)
    }
    for consent in given:
        assert consent.voided_at == min((at for at in voids if consent.collected_at <= at), default=0)


@given(st.lists(consent_events, max_size=12), st.permutations(["c1", "c2", "c3"]))
def test_a_consent_counts_only_if_collected_after_all_its_withdrawals(
    events: list[Event], order: list[str]
) -> None:
    """If a client sends all its consents again, no withdrawn consent becomes valid."""
    known = fold(entries(events))
    withdrawn = [event for event in events if isinstance(event, ConsentWithdrawn)]
    for each in known.consents:
        latest = max((at.at for at in withdrawn if at.id == each.id), default=0)
        assert each.withdrawn_at or each.collected_at > latest
    held = {consent.id: given_at(consent.collected_at, consent.id) for consent in known.consents}
    again = fold(entries([*events, *(held[key] for key in order if key in held)]))
    assert {consent.id for consent in again.consents if not consent.withdrawn_at} <= {
        each.id for each in known.consents if not each.withdrawn_at
    }


@given(st.lists(revocation_events, max_size=12))
def test_a_revocation_binds_until_it_is_lifted(events: list[Event]) -> None:
    """A revocation is never lost. Only a later entry that names the revocation can lift it."""
    bound = {revocation.seq: revocation.lifted for revocation in fold(entries(events)).revocations}
    for seq, event in enumerate(events, 1):
        assert (seq in bound) == isinstance(event, Revoked)
    for seq, lifted in bound.items():
        lifts = [event.ground for event in events[seq:] if isinstance(event, Lifted) and event.of == seq]
        assert lifted == (lifts[-1] if lifts else "")


some_beginnings = st.one_of(
    st.builds(
        ConsentGiven,
        id=st.sampled_from("ab"),
        collected_at=st.integers(1, 2),
        purposes=st.sampled_from((("sale",), ("statistics",), ("sale", "statistics"))),
        call_types=st.just(("agent",)),
        goods=st.sampled_from(((), ("gas",))),
        rectify=st.sampled_from(((), ("purposes",), ("goods",))),
    ),
    st.builds(
        ContractMade,
        id=st.sampled_from("ab"),
        starts=st.sampled_from((MAY, JUNE)),
        sector=st.sampled_from(("", "energy")),
    ),
)
some_events = st.one_of(
    some_beginnings,
    st.builds(ConsentWithdrawn, id=st.sampled_from("ab"), at=st.integers(1, 3)),
    st.builds(ConsentsVoided, before=st.integers(1, 2), registry=st.just("rpo")),
    st.builds(ContractEnded, id=st.sampled_from("ab"), ends=st.sampled_from((MAY, JUNE))),
)


@given(st.lists(some_events, max_size=7), some_beginnings, st.sampled_from(("crm", "rectification")))
def test_an_entry_is_repeated_if_an_equal_one_exists_and_it_changes_nothing(
    events: list[Event], event: Event, channel: str
) -> None:
    history = entries(events)
    draft = Draft(
        **{name: getattr(entries([event])[0], name) for name in Draft.__struct_fields__}
        | {"channel": channel}
    )
    after = as_entry(draft, history)
    changes = fold([*history, after]) != structs.replace(fold(history), seq=after.seq)
    expected = event in events and (events[-1] == event or not changes)
    assert (find_repeated(history, draft) is not None) == expected


_TIMES = st.integers(1, 6)
_DATED = st.builds(given_at, _TIMES) | st.builds(
    ConsentWithdrawn, id=st.just("c1"), at=_TIMES, dated=st.just(True)
)


@given(
    st.lists(_DATED, max_size=6).flatmap(lambda events: st.tuples(st.just(events), st.permutations(events)))
)
def test_dated_withdrawals_and_consents_give_the_same_state_in_any_order(
    orders: tuple[list[Event], list[Event]],
) -> None:
    first, second = (structs.replace(fold(entries(events)), seq=0) for events in orders)
    assert structs.replace(first, objections=()) == structs.replace(second, objections=())
    assert set(first.objections) == set(second.objections)


def test_a_repeated_dated_withdrawal_is_found_even_if_a_later_consent_is_in_force() -> None:
    event = ConsentWithdrawn(id="c1", at=7, dated=True)
    history = entries([given_at(5), given_at(9), event])
    assert find_ending(history, event) == history[-1]
    assert find_ending(history[:-1], event) is None
