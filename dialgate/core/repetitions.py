"""Consents, contracts and call requests that are recorded again under the same id.

Clients send their records again every night, so an entry can be older than what is known. One rule keeps that safe:

- An entry with a later date (`collected_at`, `starts`, `requested_at`) is a new consent, contract or request.
- An entry with the same date can only narrow what is known. If two entries contradict each other, no call can rely on
  either. Only what happened later is added: a proof, a renewal, a purchase, a new address.
- An entry with an earlier date changes nothing. Nor does an entry with a wrong date that a rectification has corrected since,
  once another consent, contract or request has followed.
- A field that an entry names in `rectify` is corrected, and no repetition changes it again.
"""

from collections.abc import Callable, Collection, Mapping
from datetime import date
from typing import Any, Final, Generic, TypeVar

from msgspec import Struct, structs

from dialgate.core.model import CallRequest, Consent, Contract

T = TypeVar("T", Consent, Contract, CallRequest)

_DATE: Final[Mapping[type[Struct], str]] = {
    Consent: "collected_at",
    Contract: "starts",
    CallRequest: "requested_at",
}
_PROVED: Final = frozenset({"proved", "other_proofs"})
# Fields of an entry that become `_PROVED`. A rectification of one states the whole proof.
PROOF: Final = frozenset(
    {
        "artefact",
        "artefact_sha256",
        "certificate_url",
        "certificate_claim",
        "crm_reference",
        "attested_by",
        "attested_at",
    }
)
_FORMS: Final = ("", "oral", "written")  # the later, the more a law can demand
_SCOPES: Final = frozenset({"purposes", "call_types", "goods"})
# Fields of a consent that permit more if they are empty, unless the law requires them.
_SUPPLIED: Final = ("goods", "expires_at")
_DERIVED: Final = frozenset({"contradicted", "supplied"})
_UNSTATED: Final = _DERIVED | {"entered_at", "withdrawn_at", "voided_at", "confirmed_at"}
# Fields that a later entry may change.
_CHANGEABLE: Final = _PROVED | {"place", "renewed_at", "last_purchase"}


class Recorded(Struct, Generic[T], frozen=True):
    """An item with the dates of its entries, the fields that were rectified, and the dates of the items before it."""

    item: T
    dates: frozenset[int | date]
    rectified: frozenset[str]
    former: frozenset[int | date] = frozenset()


def record(known: Recorded[T] | None, entered: T, rectify: Collection[str] = ()) -> Recorded[T]:
    """Return what is known of an item after one more entry with its id. `rectify` names fields of the entry."""
    dated = _DATE[type(entered)]
    at = getattr(entered, dated)
    corrected = _item_fields(entered, rectify)
    if known is None:
        return Recorded(entered, frozenset({at}), corrected)
    if at not in known.dates and dated not in corrected:
        is_new = at > getattr(known.item, dated) and at not in known.former
        return Recorded(entered, frozenset({at}), corrected, known.former | known.dates) if is_new else known
    item = _narrow(known.item, entered, known.rectified | corrected)
    item = structs.replace(item, **{name: getattr(entered, name) for name in corrected})
    return Recorded(item, known.dates | {at}, known.rectified | corrected, known.former)


def rectified_fields(known: T, entered: T) -> tuple[str, ...]:
    """Return the fields that a rectification without a list of fields changes: all that differ."""
    stated = (name for name in entered.__struct_fields__ if name not in _UNSTATED)
    return tuple(name for name in stated if getattr(entered, name) != getattr(known, name))


def outranked_fields(known: T, entered: T) -> tuple[str, ...]:
    """Return the fields in which an entry states something else than what is known after it."""
    return tuple(name for name in rectified_fields(known, entered) if name not in _CHANGEABLE)


def _item_fields(item: Struct, rectify: Collection[str]) -> frozenset[str]:
    names = {*rectify} if PROOF.isdisjoint(rectify) else {*rectify, *_PROVED}
    return frozenset(names.intersection(item.__struct_fields__))


def _narrow(known: T, entered: T, corrected: frozenset[str]) -> T:
    """Return `known` with the narrower of both values in each field that is not in `corrected`."""
    changes: dict[str, Any] = {}
    contradicted = set(known.contradicted) - corrected
    for name in known.__struct_fields__:
        was, now = getattr(known, name), getattr(entered, name)
        if name in _DERIVED or name in corrected or was == now:
            continue
        contradicted |= {name} if _contradict(name, was, now) else set()
        narrower = _NARROWER.get(name, _first)(was, now)
        if narrower != was:
            changes[name] = narrower
    if isinstance(known, Consent):
        supplied = {name for name in _SUPPLIED if name in changes and not getattr(known, name)}
        changes["supplied"] = tuple(sorted(supplied.union(known.supplied) - corrected))
    if not {"begins", "expires_at"}.isdisjoint(changes) and isinstance(known, CallRequest):
        changes["appointment"] = False  # a shorter span could open hours that the longer one did not
    return structs.replace(known, **changes, contradicted=tuple(sorted(contradicted)))


def _contradict(name: str, was: Any, now: Any) -> bool:
    """Return whether two values have nothing in common, so that neither of them is the narrower one."""
    if not was or not now:
        return False
    if isinstance(was, tuple):
        return name in _SCOPES and set(was).isdisjoint(now)
    return name in {"goods", "sector", "origin"}


def _first(was: Any, _now: Any) -> Any:
    return was


def _both(was: Any, now: Any) -> Any:
    return was and now


def _either(was: Any, now: Any) -> Any:
    return was or now


def _common(was: tuple[str, ...], now: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in was if name in now)


def _all(was: tuple[str, ...], now: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted({*was, *now}))


def _scope(was: tuple[str, ...], now: tuple[str, ...]) -> tuple[str, ...]:
    return _common(was, now) or was


def _goods(was: Any, now: Any) -> Any:
    """Return the goods in both. A request is about one kind of goods; of a consent or contract, none means all."""
    if isinstance(was, str):
        return was
    return _scope(was, now) if was and now else was or now


def _earliest(was: Any, now: Any) -> Any:
    return min(was, now) if was and now else was or now


def _latest(was: Any, now: Any) -> Any:
    return max(was, now) if was and now else was or now


def _less_formal(was: str, now: str) -> str:
    return min(was, now, key=_FORMS.index)


def _newest(was: str, now: str) -> str:
    return now or was


_NARROWER: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "purposes": _scope,
    "call_types": _scope,
    "goods": _goods,
    "states": _common,
    "form": _less_formal,
    "expires_at": _earliest,
    "ends": _earliest,
    "begins": _latest,
    "profiling": _both,
    "third_party": _both,
    "marketing": _both,
    "own_interface": _both,
    "appointment": _both,
    "double_opt_in": _either,
    "origin": _either,
    # What happened since the first entry.
    "proved": _either,
    "other_proofs": _all,
    "renewed_at": _latest,
    "last_purchase": _latest,
    "place": _newest,
}
