"""The origin of a number: who collected it, and whether every cession led to this controller.

A list or consent that another company collected needs the chain of its cessions (GDPR art. 14(2)(f)).
"""

from typing import NamedTuple

from dialgate.core import objections
from dialgate.core.law import Binding
from dialgate.core.law_sections import CededLists, cited
from dialgate.core.model import Controller, Facts, Origin


class Breach(NamedTuple):
    """A defect in a chain of cessions, with the section that a denial cites."""

    text: str
    section: CededLists | None


def void_origin(origin: Origin, facts: Facts, law: Binding) -> Breach | None:
    """Return the defect in the origin of a call list, or None.

    A list that another company collected was ceded to the controller (GDPR art. 14(2)(f)). Without its chain, it is void.
    """
    if origin.transfers:
        return broken_chain(origin, facts, law)
    if origin.kind == "public_directory" or is_own(origin, facts.controller):
        return None
    stating = [section for section in law.lists if section.origin_stated]
    if not stating:
        return None
    section = cited(stating, "cession") or cited(law.lists, "cession")
    if origin.kind == "acquired":
        return Breach("the list was acquired, and states no cession; load it with its transfers", section)
    text = f"the list was collected by {origin.collected_by}, and states no cession; load it with its origin"
    return Breach(text, section)


def is_own(origin: Origin, controller: Controller) -> bool:
    """Return whether data that was never ceded was collected by the controller or for it, as its origin says."""
    return origin.kind in {"", "own"} and (
        origin.collected_by == controller.id or fold_company(origin.collected_by) in controller.collectors
    )


def fold_company(name: str) -> str:
    """Return a company's name for comparison, without case and surrounding blanks."""
    return name.strip().casefold()


def broken_chain(origin: Origin, facts: Facts, law: Binding) -> Breach | None:
    """Return the defect in a chain of cessions, or None. Data that was never ceded has no defect.

    L. 5/2018 art. 1 c. 5: enrolment bars the use of numbers that were ceded earlier. Art. 1 c. 8: the data subjects
    must be informed of every cession.
    """
    if not origin.transfers:
        return None
    if text := _missing_link(origin, facts):
        return Breach(text, cited(law.lists, "cession"))
    barring = [section for section in law.lists if section.ceded_void_by_enrolment]
    if not barring or objections.listed_at(facts) < 0:
        return None
    section = cited(barring, "cession") or cited(law.lists, "cession")
    return Breach("the number was ceded, and has been enrolled with the registry", section)


def _missing_link(origin: Origin, facts: Facts) -> str:
    """Return where a chain of cessions does not lead from the collector to this controller, or ""."""
    holder, day = origin.collected_by, origin.collected_on
    for transfer in origin.transfers:
        if transfer.by != holder or not day <= transfer.on <= facts.today or not transfer.subjects_told:
            return f"the chain of origin breaks at the cession to {transfer.to} on {transfer.on}"
        holder, day = transfer.to, transfer.on
    return (
        "" if holder == facts.controller.id else f"the last cession was to {holder}, not to this controller"
    )
